"""What a run knows of the sweep that it is part of."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

__all__ = ["Membership", "join_sweep", "membership", "stop_file"]


@dataclass(frozen=True, slots=True)
class Membership:
    """A run's place in a sweep.

    Attributes:
        folder: The sweep's.
        number: Of the run.
        study: The search's file; None where the sweep is no search.
        trial: The trial's number in it.
    """

    folder: Path
    number: int
    study: Path | None = None
    trial: int | None = None

    @property
    def name(self) -> str:
        """The sweep's name: the last two parts of its folder, experiment and date."""
        return "/".join(self.folder.parts[-2:])

    @property
    def stopping(self) -> bool:
        """Whether the sweep was asked to stop."""
        return stop_file(self.folder).exists()


def membership(settings: Mapping[str, Any]) -> Membership | None:
    """The sweep that this process's job is a run of; None outside a multirun.

    Args:
        settings: The run's composed configuration as plain values.
    """
    hydra_config = HydraConfig.get()
    if hydra_config.mode == RunMode.MULTIRUN:
        folder, number = hydra_config.sweep.dir, hydra_config.job.num
    else:
        return None
    sweep = settings.get("sweep", {})
    trial, study = sweep.get("trial"), sweep.get("study")
    return Membership(
        folder=Path(folder).resolve(),
        number=int(number),
        study=None if trial is None or study is None else Path(study),
        trial=trial,
    )


def join_sweep(settings: dict[str, Any]) -> None:
    """Do as a run of a sweep does: not start once that was asked to stop, and log under its name; else nothing.

    Args:
        settings: The run's composed configuration as plain values; name and group are set for the logger.

    Raises:
        SystemExit: The sweep was asked to stop.
    """
    sweep = membership(settings)
    if sweep is None:
        return
    if sweep.stopping:
        sys.exit(128 + signal.SIGTERM)
    if multiprocessing.get_start_method(allow_none=True) == "loky":
        # joblib leaves its own way of starting processes in its workers, which no process of theirs knows.
        multiprocessing.set_start_method(None, force=True)
    settings["name"] = f"{settings['name']}/{sweep.number}"
    settings["logger"].setdefault("group", sweep.name)


def stop_file(sweep: Path) -> Path:
    """The file whose presence asks all runs of a sweep to write a checkpoint and end, wherever they run."""
    return sweep / ".stop"
