"""Where a run's metrics go."""

import logging
import os
from collections.abc import Iterable, Mapping
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger

from emodet.errors import EmodetError

__all__ = ["build_loggers", "close_loggers"]

log = logging.getLogger(__name__)

_KINDS = ("csv", "wandb")


def build_loggers(settings: Mapping[str, Any], folder: Path, name: str, attempt: int) -> list[Logger]:
    """The CSV logger, and the one that the configuration names.

    Args:
        settings: `LoggerConfig`'s values.
        folder: The run's folder.
        name: The run's name.
        attempt: How often the run was started before; each writes its own CSV file.

    Raises:
        EmodetError: The name is not known, or wandb is not installed.
    """
    kind = settings["name"]
    if kind not in _KINDS:
        raise EmodetError(f"logger.name={kind!r}: there are {', '.join(_KINDS)}")
    loggers: list[Logger] = [CSVLogger(folder, name="csv", version=str(attempt))]
    if kind == "wandb":
        loggers.append(_wandb(settings, folder, name))
    return loggers


def close_loggers(loggers: Iterable[Logger]) -> None:
    """End the runs of trackers that would go on into the next training of this process, as in a multirun."""
    if any(isinstance(logger, WandbLogger) for logger in loggers):
        import wandb

        wandb.finish()


def _wandb(settings: Mapping[str, Any], folder: Path, name: str) -> WandbLogger:
    try:
        import wandb
    except ModuleNotFoundError:
        raise EmodetError("logger=wandb needs wandb: pip install 'emodet[train]', or use logger=csv") from None
    arguments: dict[str, Any] = {
        "project": settings["project"],
        "group": settings.get("group"),
        "tags": settings.get("tags"),
        "name": name,
        "save_dir": str(folder),
    }
    mode = os.environ.get("WANDB_MODE") or ("online" if _has_credentials() else "offline")
    if mode == "online":
        logger = WandbLogger(**arguments, settings=wandb.Settings(init_timeout=20))
        try:
            _ = logger.experiment
        except Exception as problem:  # wandb raises several kinds, some of them its transport's
            log.warning("Weights & Biases cannot be reached (%s); this run is logged offline", problem)
            mode = "offline"
        else:
            return logger
    logger = WandbLogger(**arguments, offline=mode == "offline")
    if mode == "offline":
        log.info(
            "Weights & Biases is offline: send this run later with  wandb sync %s", folder / "wandb" / "latest-run"
        )
    return logger


def _has_credentials() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc().authenticators("api.wandb.ai") is not None
    except (OSError, NetrcParseError):
        return False
