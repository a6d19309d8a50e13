"""Hand runs to whatever launcher is configured, and live through what can happen to them.

A launcher of Hydra returns what all its runs returned, or raises. Here one run's failure is that run's, a process that
was killed leaves the others' results standing, and a signal lets the runs under way write their checkpoints.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

SWEEPER = "EMODET_SWEEPER"
from emodet.training.folder import RunFolder, now
from emodet.sweeps.membership import stop_file

__all__ = ["Ended", "Job", "Stopping", "launch"]


@dataclass(frozen=True, slots=True)
class Job:
    """A run to start.

    Attributes:
        number: Its number in the sweep, and its folder's name.
        overrides: What it is configured by.
    """

    number: int
    overrides: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended.

    Attributes:
        job: The run.
        value: What it returned; None where it did not come to that.
        problem: Why not.
    """

    job: Job
    value: float | None
    problem: str | None


@dataclass(slots=True)
class Stopping:
    """Turns the first SIGINT or SIGTERM of a sweep into a wish that its runs hear, and the second into an end.

    Runs hear it through a file in the sweep's folder (`stop_file`), as they may be in other processes and on other
    machines. A run in this process takes the signals over while it trains.

    Attributes:
        folder: The sweep's.
        received: The signal's number; None as long as there was none.
    """

    folder: Path
    received: int | None = None
    _before: dict[int, Any] = field(default_factory=dict)

    def __enter__(self) -> "Stopping":
        stop_file(self.folder).unlink(missing_ok=True)
        os.environ[SWEEPER] = str(os.getpid())
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.environ.pop(SWEEPER, None)
        stop_file(self.folder).unlink(missing_ok=True)

    def note(self, number: int) -> None:
        """A run in this process was stopped by this signal."""
        self.received = self.received or number
        stop_file(self.folder).touch()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.note(number)
        name = signal.Signals(number).name
        print(f"\n{name}: the runs under way write a checkpoint and end (again: end at once)", file=sys.stderr)


def launch(launcher: Launcher, jobs: Sequence[Job], stopping: Stopping) -> list[Ended]:
    """Start runs and wait for all of them.

    Args:
        launcher: Set up.
        jobs: To start together.
        stopping: The sweep's.

    Returns:
        One for each of `jobs` that was started, in their order. Fewer where the sweep was stopped.
    """
    ended: dict[int, Ended] = {}
    for stretch in _stretches(jobs):
        waiting = stretch
        while waiting and stopping.received is None:
            found = _launched(launcher, waiting, stopping)
            ended.update({each.job.number: each for each in found})
            # Only what was never started is started again: what killed a run might do so a second time.
            left = [job for job in waiting if job.number not in ended]
            if len(left) == len(waiting):
                break
            waiting = left
    return [ended[job.number] for job in jobs if job.number in ended]


def _stretches(jobs: Sequence[Job]) -> list[list[Job]]:
    """Launchers number their runs from a first one on: consecutive numbers together."""
    stretches: list[list[Job]] = []
    for job in jobs:
        if stretches and stretches[-1][-1].number + 1 == job.number:
            stretches[-1].append(job)
        else:
            stretches.append([job])
    return stretches


def _launched(launcher: Launcher, jobs: list[Job], stopping: Stopping) -> list[Ended]:
    try:
        with _one_death_is_one_failure():
            returns = launcher.launch([list(job.overrides) for job in jobs], initial_job_idx=jobs[0].number)
    except SystemExit as leaving:  # a run in this process was stopped
        status = leaving.code if isinstance(leaving.code, int) else 1
        stopping.note(status - 128 if status > 128 else signal.SIGTERM)
        return _as_their_folders_say(jobs, stopping.folder, "interrupted")
    except KeyboardInterrupt:
        stopping.note(signal.SIGINT)
        return _as_their_folders_say(jobs, stopping.folder, "interrupted")
    except Exception as problem:
        first = next(iter(str(problem).splitlines()), "")
        told = f"its process ended, or was ended with another of this pool ({type(problem).__name__}: {first})"
        print(f"error: the launcher lost its runs: {type(problem).__name__}: {first}", file=sys.stderr)
        found = _as_their_folders_say(jobs, stopping.folder, told)
        # Without a single folder no run was lost: the launcher itself does not work.
        return found or [Ended(job, None, f"{type(problem).__name__}: {first}") for job in jobs]
    return [_of_return(job, each, stopping.folder) for job, each in zip(jobs, returns, strict=True)]


def _of_return(job: Job, returned: JobReturn, sweep: Path) -> Ended:
    result = returned._return_value
    if returned.status == JobStatus.COMPLETED:
        return Ended(job, float(result), None)
    said = str(result) or type(result).__name__
    problem = next(iter(said.splitlines()), said)
    _note_in_folder(sweep / str(job.number), problem)
    return Ended(job, None, problem)


def _as_their_folders_say(jobs: Sequence[Job], sweep: Path, otherwise: str) -> list[Ended]:
    """What became of runs whose launcher did not return: one for each that has a folder."""
    found = []
    for job in jobs:
        folder = sweep / str(job.number)
        if not folder.is_dir():
            continue
        facts = _facts(folder)
        if facts.get("ended"):
            found.append(Ended(job, facts.get("selected", {}).get("value"), None))
        else:
            problem = facts.get("failed") or (f"stopped by {facts['interrupted']}" if facts.get("interrupted") else "")
            if not problem:
                _note_in_folder(folder, otherwise)
            found.append(Ended(job, None, problem or otherwise))
    return found


def _note_in_folder(folder: Path, problem: str) -> None:
    """Note a failure that the run could not note itself."""
    facts = _facts(folder)
    if folder.is_dir() and not (facts.get("failed") or facts.get("interrupted") or facts.get("ended")):
        RunFolder(folder).write_facts({"failed": problem, "left": now()})


def _facts(folder: Path) -> Mapping[str, Any]:
    try:
        facts: Mapping[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts


@contextmanager
def _one_death_is_one_failure() -> Iterator[None]:
    """Let submitit's launcher wait for all of its jobs, where one was killed.

    It asks job after job for its result, and the first that has none ends the waiting for the others.
    """
    try:
        import submitit
    except ModuleNotFoundError:
        yield
        return

    class Patient(submitit.AutoExecutor):
        def map_array(self, *arguments: Any) -> list[Any]:
            return [_Awaited(job) for job in super().map_array(*arguments)]

    with patch.object(submitit, "AutoExecutor", Patient):
        yield


class _Awaited:
    """A job of submitit that answers with a failed `JobReturn` where its process left no result."""

    def __init__(self, job: Any) -> None:
        self._job = job

    def results(self) -> list[Any]:
        try:
            return list(self._job.results())
        except Exception as problem:  # submitit raises several kinds
            first = next(iter(str(problem).splitlines()), "")
            lost = RuntimeError(f"its process ended without a result ({first})")
            return [JobReturn(status=JobStatus.FAILED, _return_value=lost)]
