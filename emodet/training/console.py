"""Lightning's messages on the console."""

import logging
import warnings

_MESSAGES = (
    "💡 Tip",
    "Initializing distributed",
    "-" * 100,
    "TPU available",
    "Loading `train_dataloader` to estimate",
)

_WARNINGS = (
    # Lightning's own use of a deprecated torch function.
    r".*isinstance\(treespec, LeafSpec\)",
    # Everything is logged once an epoch; nothing waits for the interval.
    r".*is smaller than the logging interval",
    # The order of the faces is a function of the epoch and the batch: see `emodet.data.splits.TrainingBatches`.
    r".*your dataloader is not resumable",
    # torchmetrics has summed over all processes already.
    r"It is recommended to use `self\.log\(.*sync_dist=True",
    # A resumed run, and two checkpoints that share a folder.
    r"Checkpoint directory .* exists and is not empty",
)


def quiet_lightning() -> None:
    """Filter messages and warnings of Lightning that do not help a user; may be called more than once."""
    fabric = "lightning.fabric.utilities"
    for name in ("lightning.pytorch.utilities.rank_zero", f"{fabric}.rank_zero", f"{fabric}.distributed"):
        logger = logging.getLogger(name)
        if _is_of_use not in logger.filters:
            logger.addFilter(_is_of_use)
    for pattern in _WARNINGS:
        warnings.filterwarnings("ignore", pattern)


def _is_of_use(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_MESSAGES)
