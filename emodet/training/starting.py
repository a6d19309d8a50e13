"""Who started this process and others like it: torchrun, SLURM's srun, or the first process of its run."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from emodet.errors import EmodetError

__all__ = ["PARENT", "RUN_OF_SWEEP", "Started", "is_started_by_parent", "started_by"]

PARENT = "EMODET_PARENT"
"""The environment variable in which a process that starts others leaves them its id."""

RUN_OF_SWEEP = "EMODET_RUN_OF_SWEEP"
"""The one in which it leaves them the folder of its sweep and its number in it, as JSON, where it is a run of one."""


@dataclass(frozen=True, slots=True)
class Started:
    """Processes that torchrun or srun has started.

    Attributes:
        by: Who.
        rank: The number of this one.
        per_node: How many there are on each node.
        nodes: On how many nodes.
    """

    by: str
    rank: int
    per_node: int
    nodes: int


def started_by(environ: Mapping[str, str] | None = None) -> Started | None:
    """Who started this process and others like it; None where it is alone, or starts the others itself.

    Raises:
        EmodetError: srun was told how many tasks in all, and not how many on a node.
    """
    environ = os.environ if environ is None else environ
    if "TORCHELASTIC_RUN_ID" in environ:
        count, per_node = int(environ["WORLD_SIZE"]), int(environ["LOCAL_WORLD_SIZE"])
        return Started("torchrun", int(environ["RANK"]), per_node, count // per_node)
    # Of the step, which only srun has: a batch script that starts python without it has the job's numbers.
    tasks = int(environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if tasks == 1:
        return None
    if "SLURM_NTASKS_PER_NODE" not in environ:
        raise EmodetError(
            f"srun started {tasks} tasks, and it is not said how many on a node: give the job --ntasks-per-node and "
            "leave --ntasks out"
        )
    per_node = int(environ["SLURM_NTASKS_PER_NODE"])
    return Started("srun", int(environ["SLURM_PROCID"]), per_node, -(-tasks // per_node))


def is_started_by_parent(environ: Mapping[str, str]) -> bool:
    """Whether Lightning started this process from within the first one of its run."""
    return environ.get(PARENT) == str(os.getppid())
