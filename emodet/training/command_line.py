"""What happens to the command line of a training before Hydra sees it: resuming, SLURM's folders, quiet processes."""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from emodet.errors import EmodetError
from emodet.training.folder import RunFolder
from emodet.training.requeueing import find, folder_name, job_of, was_requeued
from emodet.training.resuming import resumed_arguments, unquoted
from emodet.training.starting import is_started_by_parent, started_by

__all__ = ["take_over_arguments", "training_arguments"]

_RUN_DIR = "hydra.run.dir="
# The first process writes Hydra's files and its log; the others say nothing unless it is their own error.
_QUIET = ("hydra.output_subdir=null", "hydra/job_logging=disabled", "hydra/hydra_logging=disabled")


def training_arguments(arguments: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """The command line for Hydra.

    Args:
        arguments: What was typed after the command.
        environ: The environment, which says what torchrun and SLURM have started.

    Raises:
        EmodetError: The run cannot be resumed; several processes would each run a sweep of their own; or the same
            command was run in this job already.
        SystemExit: The job runs again, and this run had ended.
    """
    arguments = list(arguments)
    started = started_by(environ)
    rank = started.rank if started else 0
    sweeps = "-m" in arguments or "--multirun" in arguments or "hydra.mode=MULTIRUN" in arguments
    if sweeps and started is not None and started.per_node * started.nodes > 1:
        raise EmodetError(
            f"--multirun in processes of {started.by}: each would run a sweep of its own. Start the sweep once, with "
            "trainer.devices=N for the processes of each run, or launcher=submitit_slurm"
        )
    job = job_of(environ)
    if job is not None and not sweeps and not any(argument.startswith("resume=") for argument in arguments):
        arguments = _in_job(job, arguments, environ, rank)
    arguments = resumed_arguments(arguments)
    if rank > 0 and not any(argument.startswith(_RUN_DIR) for argument in arguments):
        arguments.append(f"{_RUN_DIR}'{_own_folder()}'")
    if rank > 0 or is_started_by_parent(environ):
        arguments.extend(_QUIET)
    return arguments


def take_over_arguments() -> None:
    """Put `training_arguments` in place of the process's command line, or exit with status 2."""
    try:
        sys.argv[1:] = training_arguments(sys.argv[1:], os.environ)
    except EmodetError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)


def _in_job(job: str, arguments: list[str], environ: Mapping[str, str], rank: int) -> list[str]:
    """A folder that is found again when the job runs again; then, what it takes to go on in it."""
    outputs = Path(environ.get("EMODET_OUTPUTS", "outputs"))
    named = [unquoted(argument.removeprefix(_RUN_DIR)) for argument in arguments if argument.startswith(_RUN_DIR)]
    name = folder_name(job, arguments)
    folder = Path(named[-1]) if named else find(name, outputs)
    if folder is not None and was_requeued(environ):
        run = RunFolder(folder)
        if run.has_ended:
            print(f"{folder}: this run had ended before job {job} was put back into the queue")
            sys.exit(0)
        if run.last.is_file():
            return [f"resume={folder}"]
    elif folder is not None and not named and rank == 0:
        raise EmodetError(f"{folder}: this job ran the same command before; hydra.run.dir=FOLDER names another folder")
    if named or rank > 0:
        return arguments
    return [*arguments, f"{_RUN_DIR}'${{oc.env:EMODET_OUTPUTS,outputs}}/${{name}}/{name}'"]


def _own_folder() -> str:
    """An empty folder for Hydra, for the time of this process: what the run leaves is the first process's."""
    folder = tempfile.mkdtemp(prefix="emodet-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
