"""What a run tells its trackers, from its beginning to its end, and which pictures they may be shown."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from lightning.pytorch.loggers import Logger

from emodet.data.mixed import MixedPack
from emodet.data.pack import Pack
from emodet.errors import EmodetError
from emodet.evaluation.predictions import Predictions
from emodet.evaluation.report import worst_errors
from emodet.evaluation.scores import Evaluation
from emodet.training.loggers import close_loggers
from emodet.training.tracker import Tracker, final_figures

__all__ = ["Tracking", "may_show_pictures"]

log = logging.getLogger(__name__)

UInt8 = npt.NDArray[np.uint8]

_WORST = 32
# What a person made out of pictures of their own; everything else has an owner with terms.
_OWN = ("own_csv", "class_folders")


class Tracking:
    """What goes to the trackers beside the metrics of each epoch. With none of them it does nothing.

    As a context it ends the trackers' runs, with the exit status that an exception brings.

    Args:
        loggers: As `emodet.training.loggers.build_loggers` made them.
        pack: What the run is trained on.
        pictures: Whether faces of it may be shown, see `may_show_pictures`.
    """

    def __init__(self, loggers: Sequence[Logger], pack: Pack, pictures: bool) -> None:
        self.loggers, self.pack, self.pictures = loggers, pack, pictures
        self.trackers = [logger for logger in loggers if isinstance(logger, Tracker)]
        self._figures: dict[str, float] = {}

    @property
    def keeps_files(self) -> bool:
        """Whether a tracker takes checkpoints and model files."""
        return any(tracker.keeps_files for tracker in self.trackers)

    def begin(self, made_of: Mapping[str, Any], augmentation: UInt8) -> None:
        """Tell what the run is made of, nested plain values, and show the sheet of augmented faces."""
        for tracker in self.trackers:
            tracker.describe(made_of)
            for pack in _packs_of(self.pack):
                tracker.use_pack(pack)
            if self.pictures:
                tracker.add_picture("augmentation", augmentation)

    def evaluated(
        self, split: str, evaluation: Evaluation, predictions: Predictions, index: npt.NDArray[np.int64]
    ) -> None:
        """Tell the evaluation of the best epoch.

        Args:
            split: ``val`` or ``test``.
            evaluation: The figures.
            predictions: The answers that they were made from.
            index: int64 (N,), the positions of their faces in the pack.
        """
        if not self.trackers:
            return
        prefix = f"final/{split}"  # val/ alone is the epochs'
        self._figures.update(final_figures(prefix, evaluation))
        worst = worst_errors(predictions, _WORST)
        pictures = list(self.pack.images(index[worst])) if self.pictures else None
        for tracker in self.trackers:
            tracker.add_evaluation(prefix, evaluation, predictions)
            tracker.add_errors(prefix, predictions, worst.tolist(), pictures)

    def end(self, figures: Mapping[str, Any]) -> None:
        """Tell the run's final figures: these, and those of the evaluations."""
        if not any(name.startswith("final/val/") for name in self._figures):
            # The same faces select and report; runs are compared by what they were selected on.
            own = {name: value for name, value in self._figures.items() if name.startswith("final/test/")}
            self._figures.update(
                {f"final/val/{name.removeprefix('final/test/')}": value for name, value in own.items()}
            )
        for tracker in self.trackers:
            tracker.finish({**figures, **self._figures})

    def keep(self, kind: str, files: Sequence[Path], about: Mapping[str, Any], aliases: Sequence[str] = ()) -> None:
        """Give files of the run to the trackers that keep some; see `Tracker.add_files`."""
        for tracker in self.trackers if files else ():
            tracker.add_files(kind, files, about, aliases)

    def __enter__(self) -> "Tracking":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = 0 if problem is None else 1
        if isinstance(problem, SystemExit) and isinstance(problem.code, int):
            status = problem.code
        close_loggers(self.loggers, status)


def may_show_pictures(choice: Any, pack: Pack) -> bool:
    """Whether trackers may be shown faces of a pack.

    Args:
        choice: ``auto`` shows them where the data set's terms allow it, as the pack's manifest says; False never does;
            True insists, which is taken as the user's own word for data of their own, and refused for any other.
        pack: What the run is trained on.

    Raises:
        EmodetError: It is none of these, or the terms do not allow it.
    """
    if choice is False:
        return False
    if choice not in ("auto", True):
        raise EmodetError(f"logger.pictures={choice!r}: there are auto, true and false")
    closed = [each.manifest for each in _packs_of(pack) if not each.manifest.get("redistributable", False)]
    if choice == "auto" or not closed:
        return not closed
    foreign = [str(manifest.get("title")) for manifest in closed if manifest.get("reader") not in _OWN]
    if foreign:
        raise EmodetError(
            f"logger.pictures=true: the terms of {', '.join(foreign)} do not let its pictures leave this machine; use "
            "logger.pictures=auto, which sends everything else"
        )
    log.warning(
        "logger.pictures=true: faces of %s WILL BE SENT to the tracker, because you say that you may pass them on",
        ", ".join(str(manifest.get("title")) for manifest in closed),
    )
    return True


def _packs_of(pack: Pack) -> Sequence[Pack]:
    return pack.packs if isinstance(pack, MixedPack) else (pack,)
