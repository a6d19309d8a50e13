"""``resume=RUN_FOLDER``: compose the configuration that the run had, in the folder that it had."""

import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from emodet.errors import EmodetError
from emodet.runs.folder import RunFolder

__all__ = ["resumed_arguments"]


def resumed_arguments(arguments: Sequence[str]) -> list[str]:
    """The command line to compose from.

    Args:
        arguments: What was typed after the command.

    Returns:
        The same where nothing is resumed. Else the overrides that the run was started with, then the typed ones, which
        may change what does not alter the training so far (``trainer.max_epochs=60``), and the run's folder.

    Raises:
        EmodetError: The folder is none of a run, or holds no checkpoint to resume from.
    """
    wanted = [argument.removeprefix("resume=") for argument in arguments if argument.startswith("resume=")]
    if not wanted:
        return list(arguments)
    folder = Path(wanted[-1]).expanduser().resolve()
    run, overrides = RunFolder(folder), folder / ".hydra" / "overrides.yaml"
    if not overrides.is_file():
        raise EmodetError(f"resume={folder}: not a run's folder (it has no .hydra/overrides.yaml)")
    if not run.last.is_file():
        raise EmodetError(f"resume={folder}: there is no checkpoint to resume from ({run.last})")
    before = [str(item) for item in OmegaConf.to_container(OmegaConf.load(overrides)) or []]
    kept = [item for item in before if not item.startswith(("resume=", "hydra.run.dir="))]
    typed = [argument for argument in arguments if not argument.startswith("resume=")]
    return [*kept, *typed, f"resume='{folder}'", f"hydra.run.dir='{folder}'"]


def use_resumed_arguments() -> None:
    """Put `resumed_arguments` in place of the process's command line, or exit with status 2."""
    try:
        sys.argv[1:] = resumed_arguments(sys.argv[1:])
    except EmodetError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
