"""The processes that train one run together: they meet, take turns, and end together.

Lightning starts them (or torchrun or SLURM did) and torch's collectives carry the gradients. Beside those runs a small
store of keys (`torch.distributed.TCPStore`) in the first process: a process that waits in a collective for one that has
ended cannot be told so by the collective.
"""

import json
import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.strategies import ParallelStrategy
from omegaconf import read_write
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from emodet.commands import in_sweep
from emodet.errors import EmodetError
from emodet.training.interruption import Interrupted
from emodet.training.starting import PARENT, RUN_OF_SWEEP, is_started_by_parent

__all__ = ["Processes", "fair_share", "together"]

log = logging.getLogger(__name__)

# What Lightning and torch leave in the environment for the processes that they start.
_LEFT_BEHIND = (
    "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE", "OMP_NUM_THREADS", PARENT,
    RUN_OF_SWEEP,
)  # fmt: skip
_LOOKS_S = 0.3  # between two looks at the store
_READING_S = 10.0  # for the others to read how the run ended
_GRACE_S = 60.0  # for a process to end by itself after another failed


class Processes:
    """This process's place among those of its run.

    Attributes:
        rank: Its number over all nodes; 0 makes all files.
        count: How many there are.
        nodes: On how many machines they are.
        cores: Its share of the cores that it may use.
        threads: For torch to compute with: the same, unless the environment says how many.
    """

    def __init__(
        self, rank: int = 0, count: int = 1, local_rank: int = 0, store: Any = None, threads_given: bool = True
    ) -> None:
        self.rank, self.count, self.local_rank = rank, count, local_rank
        self._store = store
        self._turns = 0
        self._parent = os.getppid() if is_started_by_parent(os.environ) else None
        self._ending = threading.Event()
        self._failure: int | None = None
        self.cores, self.threads, self.nodes = len(_own_cores()), torch.get_num_threads(), 1
        if store is not None:
            threading.Thread(target=self._watch, name="emodet-processes", daemon=True).start()
            own = json.dumps([socket.gethostname(), _own_cores(), local_rank])
            places = [json.loads(place) for place in self.all_of("place", own)]
            self.cores = fair_share(rank, [(machine, cores) for machine, cores, _ in places])
            self.threads = torch.get_num_threads() if threads_given else self.cores
            self.nodes = sum(first == 0 for *_, first in places)

    def in_turn(self, task: Callable[[], None]) -> None:
        """Do what makes files: the first process before the first one of each other node, and these before the rest.

        So it is done once where nodes share a file system, and once a node where they do not, if `task` does nothing
        where it has been done.
        """
        self._turns += 1
        group = 0 if self.rank == 0 else 1 if self.local_rank == 0 else 2
        before = [(f"turn/{self._turns}/0", 1), (f"turn/{self._turns}/1", self.nodes - 1)][:group]
        self._wait(lambda: all(self._store.add(key, 0) >= wanted for key, wanted in before))
        task()
        if self._store is not None:
            self._store.add(f"turn/{self._turns}/{group}", 1)

    def all_of(self, name: str, value: str) -> list[str]:
        """What each process said under a name, by rank."""
        if self._store is None:
            return [value]
        self._store.set(f"{name}/{self.rank}", value)
        keys = [f"{name}/{rank}" for rank in range(self.count)]
        self._wait(lambda: self._store.check(keys))
        return [self._store.get(key).decode() for key in keys]

    def of_first(self, name: str, make: Callable[[], str]) -> str:
        """What the first process says under a name, in all."""
        if self._store is None or self.rank == 0:
            value = make()
            if self._store is not None:
                self._store.set(name, value)
            return value
        self._wait(lambda: self._store.check([name]))
        return str(self._store.get(name).decode())

    def require_same(self, what: str, value: str, way_out: str) -> None:
        """Compare a value with that of the first process.

        Raises:
            EmodetError: They differ.
        """
        values = self.all_of(f"same/{what}", value)
        if value != values[0]:
            raise EmodetError(
                f"process {self.rank} on {socket.gethostname()} has another {what} ({value}) than the first process "
                f"({values[0]}): {way_out}"
            )

    def part(self) -> None:
        """Close what carried the gradients: from here on each process computes for itself."""
        if self._store is not None and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    def end(self, status: int = 0) -> None:
        """Leave together: the others wait here for the first process, which evaluates alone, and take its status."""
        if self._store is None:
            return
        if self.rank == 0:
            self._store.set("ended", str(status))
            self._wait_for_the_others()
            self._ending.set()
            return
        try:
            self._wait(lambda: self._store.check(["ended"]))
            status = int(self._store.get("ended"))
            self._store.set(f"read/{self.rank}", "")
        except RuntimeError as problem:  # the first process, which keeps the store, has gone
            if self.rank == 1:
                raise _without_a_word("the first process", problem) from None
            status = 2
        finally:
            self._ending.set()
        if status:
            raise SystemExit(self._own_status(status))

    def fail(self, problem: BaseException) -> BaseException:
        """End the others too.

        Returns:
            What to raise: the problem, where this process is the one to tell it, or else an exit without a word.
        """
        if self._store is None:
            return problem
        if _is_cut_off(problem):
            # Very likely another process ended first and says why.
            with suppress(SystemExit):
                self._wait(lambda: False, 3)
            problem = _without_a_word("another process", problem)
        status = _status_of(problem)
        own = json.dumps([self.rank, status])
        try:
            told = json.loads(self._store.compare_set("failure", "", own))
        except Exception:  # the first process, which keeps the store, has gone
            told = json.loads(own) if self.rank in (0, 1) else [1, status]
        with suppress(Exception):
            self._store.set(f"read/{self.rank}", "")
        if self.rank == 0:
            self._wait_for_the_others()
        self._ending.set()
        if told[0] != self.rank:
            if HydraConfig.initialized() and in_sweep():
                return EmodetError(f"process {told[0]} of this run failed, and said why")
            return SystemExit(self._own_status(told[1]))
        if self._parent is None:
            return problem
        # Lightning ends the parent without a word for a child with another status than 0, in the midst of its ending.
        if isinstance(problem, EmodetError):
            print(f"error: {problem}", file=sys.stderr)
        elif not isinstance(problem, Interrupted | SystemExit | KeyboardInterrupt):
            traceback.print_exception(problem)
        return SystemExit(0)

    def _own_status(self, status: int) -> int:
        return 0 if self._parent is not None else status

    def _wait(self, until: Callable[[], bool], seconds: float | None = None) -> None:
        started = time.monotonic()
        while not until():
            if self._failure is not None:
                raise SystemExit(self._own_status(self._failure))
            if seconds is not None and time.monotonic() - started > seconds:
                return
            time.sleep(_LOOKS_S / 3)

    def _wait_for_the_others(self) -> None:
        """Keep the store until all have read how the run ended."""
        keys = [f"read/{rank}" for rank in range(1, self.count)]
        started = time.monotonic()
        with suppress(Exception):
            while not self._store.check(keys) and time.monotonic() - started < _READING_S:
                time.sleep(_LOOKS_S / 3)

    def _watch(self) -> None:
        while not self._ending.wait(_LOOKS_S):
            if self._parent is not None and os.getppid() != self._parent:
                os._exit(1)
            try:
                if not self._store.check(["failure"]):
                    continue
                told = json.loads(self._store.get("failure"))
                if told[0] != self.rank:
                    self._failure = told[1]
                    self._store.set(f"read/{self.rank}", "")
            except Exception:  # the first process has gone
                self._failure = 1
            if self._failure is not None and not self._ending.wait(_GRACE_S):
                # The main thread waits in a collective that will never end.
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(self._own_status(self._failure))
            return


@contextmanager
def together(trainer: L.Trainer) -> Iterator[Processes]:
    """Meet the other processes of a run, which are started first where nobody else starts them.

    An error in one of them ends all: with its message, once, and with its status.

    Args:
        trainer: As `emodet.training.assembly.build_trainer` makes it.

    Raises:
        EmodetError: The processes do not find each other.
    """
    before = {name: os.environ.get(name) for name in _LEFT_BEHIND}
    try:
        if trainer.world_size == 1:
            yield Processes()
            return
        processes = _meet(trainer)
        try:
            yield processes
        except BaseException as problem:
            if isinstance(problem.__cause__, Interrupted) and problem.__cause__.agreed:
                processes.end(problem.__cause__.exit_status)
                raise
            told = processes.fail(problem)
            if told is problem:
                raise
            raise told from None
        else:
            processes.end()
        finally:
            # The next run of a sweep begins in this process.
            with suppress(Exception):
                processes.part()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def fair_share(rank: int, places: Sequence[tuple[str, Sequence[int]]]) -> int:
    """How many of its cores a process may keep busy, where others may use the same ones.

    Args:
        rank: Which process.
        places: For each process its machine and the cores that it may use.
    """
    machine, cores = places[rank]
    users = [sum(machine == other and core in theirs for other, theirs in places) for core in cores]
    return max(1, int(sum(1 / count for count in users) + 1e-6))


def _meet(trainer: L.Trainer) -> Processes:
    strategy = trainer.strategy
    if not isinstance(strategy, ParallelStrategy) or strategy.launcher is None:
        raise RuntimeError(f"{type(strategy).__name__} does not start processes")
    threads_given = "OMP_NUM_THREADS" in os.environ
    patience = threading.Timer(60, log.warning, ["still waiting for the other of %d processes", trainer.world_size])
    patience.daemon = True
    patience.start()
    try:
        started = strategy.cluster_environment is None or strategy.cluster_environment.creates_processes_externally
        with nullcontext() if started else _as_this_job():
            strategy.launcher.launch(strategy.setup_environment)
        address = os.environ["MASTER_ADDR"]
        wait = timedelta(seconds=60)
        store = None
        if trainer.global_rank == 0:
            store = TCPStore(address, 0, is_master=True, wait_for_workers=False, timeout=wait)
        port = strategy.broadcast(0 if store is None else store.port)
        if store is None:
            store = TCPStore(address, port, is_master=False, timeout=wait)
    except (RuntimeError, ValueError, OSError) as problem:
        raise EmodetError(
            f"the {trainer.world_size} processes of this run did not find each other ({problem}). All must be started "
            "with the same command, and reach the first node by MASTER_ADDR and MASTER_PORT"
        ) from None
    finally:
        patience.cancel()
    processes = Processes(trainer.global_rank, trainer.world_size, trainer.local_rank, store, threads_given)
    if processes.rank == 0:
        backend = torch.distributed.get_backend()
        log.info("%d processes on %d node(s) train together (%s)", processes.count, processes.nodes, backend)
    return processes


@contextmanager
def _as_this_job() -> Iterator[None]:
    """Let Lightning repeat the command line that makes this one run, in this run's folder, also out of a sweep."""
    import __main__

    if getattr(__main__.__spec__, "name", None) != "emodet.train" or not HydraConfig.initialized():
        raise EmodetError(
            "several processes on this machine are started as  python -m emodet.train  and this one was not; use "
            "launcher=local, or one process per run (trainer.devices=1)"
        )
    hydra, typed = HydraConfig.instance().cfg.hydra, sys.argv  # type: ignore[union-attr]
    os.environ[PARENT] = str(os.getpid())
    if hydra.mode == RunMode.MULTIRUN:
        os.environ[RUN_OF_SWEEP] = json.dumps([str(Path(hydra.sweep.dir).resolve()), int(hydra.job.num)])
    folder = hydra.run.dir
    with read_write(hydra):
        hydra.run.dir = str(Path(hydra.runtime.output_dir).resolve())
    sys.argv = [typed[0], *hydra.overrides.task, "hydra.mode=RUN"]
    try:
        yield
    finally:
        sys.argv = typed
        with read_write(hydra):
            hydra.run.dir = folder


def _without_a_word(who: str, problem: BaseException) -> EmodetError:
    said = next(iter(str(problem).splitlines()), type(problem).__name__)
    return EmodetError(
        f"{who} of this run ended without a word: it was killed, perhaps for want of memory, or cannot be reached "
        f"({said[:200]}). Continue from the last checkpoint with resume=RUN_FOLDER"
    )


def _own_cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def _status_of(problem: BaseException) -> int:
    if isinstance(problem, SystemExit):
        return problem.code if isinstance(problem.code, int) else int(problem.code is not None)
    if isinstance(problem, Interrupted):
        return problem.exit_status
    if isinstance(problem, KeyboardInterrupt):
        return 130
    return 2 if isinstance(problem, EmodetError) else 1


def _is_cut_off(problem: BaseException) -> bool:
    """Whether this is what a collective says when another process has gone."""
    if isinstance(problem, torch.distributed.DistError):
        return True
    words = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
    return isinstance(problem, RuntimeError) and any(word in str(problem) for word in words)
