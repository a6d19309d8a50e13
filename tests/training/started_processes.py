"""Two processes as torchrun or srun would start them, without either."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Outcome", "free_port", "start_two"]

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Outcome:
    """Exit statuses by rank, and what both said together on standard output and standard error."""

    statuses: list[int]
    out: str
    error: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_two(
    program: Sequence[str], arguments: Sequence[str], plan: Mapping[str, Any] | None = None, *, by: str = "torchrun"
) -> Outcome:
    """Run a program in two processes and wait for both.

    Args:
        program: As after ``python``.
        arguments: Of the program.
        plan: See `conducted_training.py`.
        by: Whose environment variables they get: ``torchrun`` or ``srun``.
    """
    port = str(free_port())
    running = []
    for rank in range(2):
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "CONDUCT": json.dumps(plan or {}),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        if by == "torchrun":
            environment |= {"TORCHELASTIC_RUN_ID": "made", "RANK": str(rank), "LOCAL_RANK": str(rank)}
            environment |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        else:
            environment |= {"SLURM_JOB_ID": "1234", "SLURM_JOB_NAME": "made", "SLURM_NODEID": "0"}
            environment |= {"SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
            environment |= {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_NNODES": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen([sys.executable, *program, *arguments], env=environment, **pipes))
    try:
        said = [process.communicate(timeout=900) for process in running]
    finally:
        for process in running:
            process.kill()
    return Outcome([process.returncode for process in running], *("".join(parts) for parts in zip(*said, strict=True)))
