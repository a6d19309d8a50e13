"""Processor cores that this process may use."""

import os


def available_cores() -> int:
    """Number of cores in the process's affinity mask (containers, `taskset`); all cores where there is no mask."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
