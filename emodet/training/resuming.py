"""``resume=RUN_FOLDER``: the configuration that the run had, in the folder that it had, a global batch as it had it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from emodet.commands import conf_folder
from emodet.errors import EmodetError
from emodet.training.folder import RunFolder

__all__ = ["batch_size_for", "resumed_arguments", "unquoted"]

_NAME = "resumed"


def resumed_arguments(arguments: Sequence[str]) -> list[str]:
    """The command line to compose from.

    A resumed run is composed of what its folder holds, ``config.yaml``, so that neither an edited file in ``conf/`` nor
    a newer version of it changes a run that is under way.

    Args:
        arguments: What was typed after the command.

    Returns:
        The same where nothing is resumed. Else: to take the run's own configuration, then the values that were typed,
        which may change what does not alter the training so far (``trainer.max_epochs=60``), and the run's folder.

    Raises:
        EmodetError: The folder is none of a run, or holds no checkpoint to resume from; or a file of ``conf/`` was
            chosen, which would replace parts of the run's configuration.
    """
    wanted = [argument.removeprefix("resume=") for argument in arguments if argument.startswith("resume=")]
    if not wanted:
        return list(arguments)
    folder = Path(unquoted(wanted[-1])).expanduser().resolve()
    run, config = RunFolder(folder), folder / "config.yaml"
    if not config.is_file():
        raise EmodetError(f"resume={folder}: not a run's folder (it has no config.yaml)")
    if not run.last.is_file():
        raise EmodetError(f"resume={folder}: there is no checkpoint to resume from ({run.last})")
    typed = [argument for argument in arguments if not argument.startswith("resume=")]
    for argument in typed:
        group, given, _ = argument.lstrip("+~").partition("=")
        if given and (Path(conf_folder()) / group).is_dir():
            raise EmodetError(
                f"resume={folder}: {argument} chooses a file of conf/{group}, and a resumed run keeps what it was "
                "composed of. Single values may be changed, as in trainer.max_epochs=60, trainer.devices=2 or "
                "logger.name=wandb; init_from=CHECKPOINT starts a new run from the weights"
            )
    _store(config)
    # The run's copy, wherever the folder lies now.
    own = [f"data.corrections='{run.corrections}'"] if run.corrections.is_file() else []
    return ["--config-name", _NAME, *own, *typed, f"resume='{folder}'", f"hydra.run.dir='{folder}'"]


def unquoted(value: str) -> str:
    """A value as it was before it was quoted for Hydra."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def batch_size_for(facts: Mapping[str, Any], batch_size: int, processes: int) -> int:
    """Faces per process with which a resumed run makes the global batches that it made before.

    The order of the faces, the place in the epoch and the learning-rate schedule are all counted in global batches; so
    a run can go on with another number of processes, and not with another global batch.

    Args:
        facts: What ``run.json`` says.
        batch_size: As configured.
        processes: That train from now on.

    Raises:
        EmodetError: Another global batch was asked for, or the processes cannot share it evenly.
    """
    before = facts.get("batch")
    if before is None or batch_size * processes == before["processes"] * before["per_process"]:
        return batch_size
    whole = before["processes"] * before["per_process"]
    if batch_size != before["per_process"]:
        raise EmodetError(
            f"data.batch_size={batch_size} on {processes} process(es): this run takes {whole} faces a step, and its "
            "schedule and its place in the epoch are counted in such steps. Leave data.batch_size out to keep them, or "
            "start a new run with init_from=CHECKPOINT"
        )
    if whole % processes:
        raise EmodetError(
            f"trainer.devices: {processes} processes cannot share this run's {whole} faces a step evenly; it was "
            f"started on {before['processes']}"
        )
    return int(whole // processes)


def _store(config: Path) -> None:
    """Make the run's configuration the primary one, under the schema and with what Hydra itself needs."""
    own: Any = OmegaConf.to_container(OmegaConf.load(config))
    of_hydra: Any = OmegaConf.to_container(OmegaConf.load(Path(conf_folder()) / "train.yaml"))
    # An interrupted resumption is resumed from the folder that is named now.
    own["resume"] = None
    node = {"defaults": ["train_schema", "_self_"], **own, "hydra": of_hydra["hydra"]}
    ConfigStore.instance().store(name=_NAME, node=node)
