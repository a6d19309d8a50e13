"""The processor: cores that this process may use, name and features."""

import os
from pathlib import Path


def available_cores() -> int:
    """Number of cores in the process's affinity mask (containers, `taskset`); all cores where there is no mask."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_info() -> dict[str, str]:
    """What ``/proc/cpuinfo`` has of the last core, such as ``model name`` and ``flags``; empty where there is none."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
