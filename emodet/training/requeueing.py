"""SLURM: a job that is told to end goes back into the queue, and goes on in the same folder when it runs again."""

import hashlib
import logging
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

__all__ = ["find", "folder_name", "job_of", "requeue", "was_requeued"]

log = logging.getLogger(__name__)


def job_of(environ: Mapping[str, str]) -> str | None:
    """The SLURM batch job that this process belongs to, as ``scontrol`` takes it; None where there is none to requeue.

    Interactive jobs cannot be requeued, and submitit puts its jobs back itself.
    """
    if "SUBMITIT_EXECUTOR" in environ or environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return None
    if "SLURM_ARRAY_JOB_ID" in environ:
        # The plain id of one task of an array is that of the whole array.
        return f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"
    return environ.get("SLURM_JOB_ID")


def was_requeued(environ: Mapping[str, str]) -> bool:
    """Whether SLURM runs this job again."""
    return int(environ.get("SLURM_RESTART_COUNT") or 0) > 0


def folder_name(job: str, arguments: Sequence[str]) -> str:
    """What a run's folder is called that a job makes with a command line: the same when the job runs again."""
    digest = hashlib.sha256("\0".join(arguments).encode()).hexdigest()
    return f"slurm-{job}-{digest[:6]}"


def requeue() -> bool:
    """Put this process's job back into the queue, unless somebody cancelled it. Returns whether that was done."""
    job = job_of(os.environ)
    if job is None or (HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN):
        return False
    try:
        # `scancel` sends the same signal as a preemption does.
        state = re.search(r"\bJobState=(\w+)", _scontrol("show", "job", "--oneliner", job))
        if state is not None and state[1] == "CANCELLED":
            log.info("job %s was cancelled, so it does not go back into the queue", job)
            return False
        _scontrol("requeue", job)
    except (OSError, subprocess.SubprocessError) as problem:
        said = getattr(problem, "stderr", None) or str(problem)
        log.warning("job %s could not go back into the queue (%s)", job, said.strip())
        return False
    log.info("job %s is back in the queue", job)
    return True


def _scontrol(*arguments: str) -> str:
    command = ["scontrol", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout


def find(name: str, outputs: Path) -> Path | None:
    """The folder of that name in the folder for outputs, below one or two that are called as the run is."""
    places = (folder for pattern in ("*", "*/*") for folder in outputs.glob(f"{pattern}/{name}"))
    return next((folder for folder in places if folder.is_dir()), None)
