"""CPU: available cores, worker processes, model name and features."""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor


def available_cores() -> int:
    """Return the number of cores in the process's affinity mask (containers, `taskset`), or of all cores."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def worker_pool(count: int, start: Callable[..., None], *arguments: object) -> Iterator["ProcessPoolExecutor"]:
    """Pool of `count` processes that first call `start`; terminated if the block raises or this process is killed."""
    import multiprocessing  # deferred: slow to import
    from concurrent.futures import ProcessPoolExecutor

    others = set(multiprocessing.active_children())
    # Fork would copy the threads of whatever library the caller has loaded in an unknown state.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, spawn, initializer=functools.partial(_start_worker, start, *arguments))
    try:
        yield pool
    except BaseException:
        # `shutdown` would wait for the pool's processes, including those that are still starting.
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(start: Callable[..., None], *arguments: object) -> None:
    end_with_parent()
    start(*arguments)


def end_with_parent() -> None:
    """Exit this `multiprocessing` process when its parent exits or is killed, even while this process is blocked."""
    import multiprocessing
    import threading

    def end() -> None:
        if (parent := multiprocessing.parent_process()) is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=end, daemon=True).start()


def cpu_info() -> dict[str, str]:
    """Return the fields of the last core in ``/proc/cpuinfo``, such as ``flags``; empty without that file."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
