"""Where a run's metrics go."""

from collections.abc import Iterable, Mapping
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger

from emodet.errors import EmodetError
from emodet.training.folder import RunFolder
from emodet.training.tensorboard_tracker import open_tensorboard
from emodet.training.tracker import Tracker
from emodet.training.wandb_tracker import open_wandb

__all__ = ["build_loggers", "close_loggers"]

_KINDS = ("csv", "wandb", "tensorboard")


def build_loggers(settings: Mapping[str, Any], run: RunFolder, name: str) -> list[Logger]:
    """The CSV logger, and the tracker that the configuration names.

    Args:
        settings: `LoggerConfig`'s values.
        run: The run's folder; each attempt writes its own CSV file in it.
        name: The run's name.

    Raises:
        EmodetError: The name is not known, or what it needs is not installed.
    """
    kind = settings["name"]
    if kind not in _KINDS:
        raise EmodetError(f"logger.name={kind!r}: there are {', '.join(_KINDS)}")
    loggers: list[Logger] = [CSVLogger(run.path, name="csv", version=str(run.attempts))]
    if kind == "wandb":
        loggers.append(open_wandb(settings, run, name))
    elif kind == "tensorboard":
        loggers.append(open_tensorboard(run))
    return loggers


def close_loggers(loggers: Iterable[Logger], status: int = 0) -> None:
    """End the runs of trackers, which would go on into the next training of this process, as in a multirun.

    Args:
        loggers: As `build_loggers` made them.
        status: The process's exit status.
    """
    for logger in loggers:
        if isinstance(logger, Tracker):
            logger.close(status)
