"""Processes (ranks) of a training, started by Lightning, torchrun or srun, and their threads."""

import atexit
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import timedelta

import cv2
import torch
from lightning.pytorch.strategies import DDPStrategy

from emodet.errors import os_errors
from emodet.files import default_outputs

_FIRST = "_EMODET_FIRST_RANK"


def rank() -> int:
    """Return the rank of this process; rank 0 writes all files."""
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if name in os.environ and (name != "SLURM_PROCID" or int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1):
            return int(os.environ[name])
    return 0


def rank_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the arguments for Hydra, with which ranks other than the first write no log and no folder."""
    arguments = list(arguments)
    if rank() == 0:
        _require_outputs(arguments)
        os.environ[_FIRST] = str(os.getpid())  # for the ranks that Lightning starts from here
        return arguments
    if (first := os.environ.get(_FIRST)) is not None:
        threading.Thread(target=_end_with, args=(int(first),), daemon=True).start()
    arguments += ["hydra.output_subdir=null", "hydra/job_logging=disabled", "hydra/hydra_logging=disabled"]
    if not any(argument.startswith("hydra.run.dir=") for argument in arguments):
        folder = tempfile.mkdtemp(prefix="emodet-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        arguments.append(f"hydra.run.dir='{folder}'")
    return arguments


def _end_with(first: int) -> None:
    """Exit this process with its parent, the first rank; otherwise it would wait for a killed first rank."""
    while os.getppid() == first:
        time.sleep(1)
    sys.stderr.write(f"rank {rank()}: the first process ended unexpectedly (out of memory?); stopping\n")
    os._exit(1)


def _require_outputs(arguments: Sequence[str]) -> None:
    """Raise `EmodetError` if the folder for outputs cannot be created; Hydra would print a traceback."""
    if any(argument.startswith(("hydra.run.dir=", "hydra.sweep.dir=")) for argument in arguments):
        return
    outputs = default_outputs()
    os.environ["EMODET_OUTPUTS"] = str(outputs)  # for Hydra: not empty, and with ~ expanded
    with os_errors(f"EMODET_OUTPUTS={outputs}: cannot be made", "; hydra.run.dir=FOLDER names another place"):
        outputs.mkdir(parents=True, exist_ok=True)


def set_threads(threads: int | None) -> None:
    """Set the number of threads of torch and OpenCV; None changes nothing."""
    if threads is not None:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)


def ddp(timeout_minutes: float = 5.0) -> DDPStrategy:
    """DistributedDataParallel whose processes exit if one does not respond for this time, for example after a kill."""
    return DDPStrategy(timeout=timedelta(minutes=timeout_minutes))


def leave_process_group() -> None:
    """End the communication between ranks; the first rank evaluates alone."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
