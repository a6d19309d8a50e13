"""Train short runs of our own net on parts of train, so that every face is answered by a net that never saw it.

Each fold is a run like any other: data module, classifier and trainer are those of `emodet.train`. A fold that is done
is kept, one that was stopped is resumed.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import numpy.typing as npt
from lightning.pytorch.loggers import CSVLogger

from emodet.auditing.folds import assign_folds, with_subjects
from emodet.auditing.probabilities import Held
from emodet.data.datamodule import EmotionDataModule
from emodet.data.pack import Pack, Table
from emodet.data.splits import Splits
from emodet.errors import EmodetError
from emodet.evaluation.calibration import fit_temperature, softmax
from emodet.evaluation.outputs import predict_split
from emodet.training.assembly import build_classifier, build_trainer
from emodet.training.folder import RunFolder

__all__ = ["Plan", "ReducedPack", "out_of_fold"]

log = logging.getLogger(__name__)

Int64 = npt.NDArray[np.int64]

# What changes how a training runs but not what comes out.
_IRRELEVANT = frozenset({"accelerator", "devices", "enable_progress_bar", "num_nodes", "profiler"})


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is spent on the nets.

    Attributes:
        folds: Parts that train is cut into, and nets that are trained.
        epochs: Of each.
        side: Pixels that crops are reduced to before a net sees them; at least 16. A third of the side costs a ninth.
    """

    folds: int = 5
    epochs: int = 6
    side: int = 32

    def __post_init__(self) -> None:
        for name, value, least in (("folds", self.folds, 2), ("epochs", self.epochs, 1), ("side", self.side, 16)):
            if value < least:
                raise EmodetError(f"out_of_fold.{name}={value}: at least {least}")


class ReducedPack(Pack):
    """A pack whose crops are reduced as they are fetched; table, folder and fingerprint are the pack's own.

    Args:
        pack: Opened.
        side: Pixels; not more than its crops have.
    """

    def __init__(self, pack: Pack, side: int) -> None:
        self.pack = pack
        self.folder, self.manifest = pack.folder, pack.manifest
        self.preprocessing = replace(pack.preprocessing, size=side)

    @property
    def table(self) -> Table:
        """See `Pack.table`."""
        return self.pack.table

    def __len__(self) -> int:
        return len(self.pack)

    def images(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint8]:
        """See `Pack.images`."""
        size = (self.preprocessing.size,) * 2
        reduced = [cv2.resize(crop, size, interpolation=cv2.INTER_AREA) for crop in self.pack.images(indices)]
        return np.asarray(reduced, dtype=np.uint8).reshape(-1, *size, 3)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__


def out_of_fold(
    settings: Mapping[str, Any], data: EmotionDataModule, photographs: Int64, folder: Path, plan: Plan
) -> Held:
    """Answer every labelled face by nets that were not trained on it, nor on a copy of its picture.

    A face of train is answered by the one net whose fold holds it out. Faces of val and test are answered by the mean
    of all nets, and their copies in train train none. All answers are calibrated by one temperature, fitted to the
    answers of train.

    Args:
        settings: As for `build_classifier` and `build_trainer`.
        data: Set up.
        photographs: int64 (N,), equal for faces whose pictures are copies, see `group_numbers`.
        folder: Where the runs and their answers are kept, in a folder of their own for each combination of data and
            settings.
        plan: How much is spent.

    Raises:
        EmodetError: A class is missing, a value does not fit, or the loss is not finite.
        Interrupted: A signal stopped it; calling it again goes on from there.
    """
    table = data.pack.table
    labelled = (table.emotion >= 0) & (table.emotion < len(data.class_names))
    train = np.flatnonzero(labelled & (table.split == "train"))
    others = np.flatnonzero(labelled & (table.split != "train"))
    if not train.size:
        raise EmodetError("there are no labelled faces in train, so no net can be trained; quick=true leaves it out")
    groups = with_subjects(photographs, table.subject)
    fold_of = assign_folds(table.emotion[train], groups[train], plan.folds, settings["seed"])
    copies = np.isin(photographs[train], photographs[others])
    side = min(plan.side, data.preprocessing.size)
    pack = ReducedPack(data.pack, side) if side < data.preprocessing.size else data.pack
    chosen = _short(settings, plan)
    place = folder / f"folds-{_identity(chosen, data, pack, train, fold_of, copies)[:12]}"
    answers = np.zeros((len(table), len(data.class_names)))
    by_net: list[npt.NDArray[np.float64]] = []
    for number in range(plan.folds):
        held_out = train[fold_of == number]
        asked = np.concatenate([held_out, others])
        splits = Splits(
            train=train[(fold_of != number) & ~copies],
            val=held_out,
            test=asked,
            val_name=f"fold {number + 1} of train",
            test_name="not trained on",
            dropped={},
        )
        name = f"{number + 1} of {plan.folds}"
        logits = _answers_of_fold(chosen, data.with_splits(splits, pack), RunFolder(place / f"fold-{number + 1}"), name)
        answers[held_out] = logits[: len(held_out)]
        by_net.append(logits[len(held_out) :])
        right = float((answers[held_out].argmax(axis=1) == table.emotion[held_out]).mean())
        log.info("fold %s: %.1f %% of %d faces answered as labelled", name, 100 * right, len(held_out))
    temperature = fit_temperature(answers[train], table.emotion[train])
    probabilities = np.full((len(table), len(data.class_names)), np.nan)
    probabilities[train] = softmax(answers[train], temperature)
    if others.size:
        probabilities[others] = np.mean([softmax(logits, temperature) for logits in by_net], axis=0)
    return Held(
        probabilities,
        f"{plan.folds} nets ({chosen['net']['name']}) of {plan.epochs} epochs at {side} pixels, each answering for the "
        f"part of train that it was not trained on; for other splits their mean. Temperature {temperature:.2f}",
    )


def _short(settings: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """The settings of a short training that ends with its last epoch: nothing is selected on what is held out."""
    trainer = {key: value for key, value in settings["trainer"].items() if key not in ("max_steps", "max_time")}
    trainer |= {"max_epochs": plan.epochs, "check_val_every_n_epoch": plan.epochs, "num_sanity_val_steps": 0}
    training = {**settings["training"], "progressive_sizes": []}
    callbacks = {name: settings["callbacks"][name] for name in ("best", "last")}
    return {**settings, "trainer": trainer, "training": training, "callbacks": callbacks}


def _identity(
    settings: Mapping[str, Any], data: EmotionDataModule, pack: Pack, train: Int64, fold_of: Int64, copies: Any
) -> str:
    kept = ("net", "optimizer", "scheduler", "loss", "training", "augmentation", "seed")
    parts = {
        **{name: settings.get(name) for name in kept},
        "trainer": {key: value for key, value in settings["trainer"].items() if key not in _IRRELEVANT},
        "data": data.fingerprint,
        "batches": [data.batch_size, data.sampling, [source.labels for source in data.sources.values()], list(data.class_names)],
        "side": pack.preprocessing.size,
        "folds": hashlib.sha256(
            b"".join(np.ascontiguousarray(each).tobytes() for each in (train, fold_of, copies))
        ).hexdigest(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _answers_of_fold(
    settings: Mapping[str, Any], data: EmotionDataModule, run: RunFolder, name: str
) -> npt.NDArray[np.float64]:
    """Logits of the test faces of `data`, from the fold's file or from its training: float64 (len(test), K)."""
    file = run.path / "answers.npz"
    with suppress(OSError, ValueError, KeyError):
        stored = np.load(file, allow_pickle=False)
        if np.array_equal(stored["index"], data.splits.test):
            log.info("fold %s: its answers are there (%s)", name, file)
            return np.asarray(stored["logits"], dtype=np.float64)
    run.path.mkdir(parents=True, exist_ok=True)
    log.info("fold %s: training on %d faces, %s", name, len(data.splits.train), run.path)
    L.seed_everything(settings["seed"], verbose=False)
    classifier = build_classifier(settings, data)
    trainer = build_trainer(settings, run, [CSVLogger(run.path, name="csv", version=str(run.attempts))])
    trainer.fit(classifier, data, ckpt_path=run.last if run.last.is_file() else None, weights_only=True)
    answers = predict_split(classifier, data, "test", settings["trainer"].get("accelerator", "auto"))
    logits = answers.logits[np.argsort(answers.index)][np.argsort(np.argsort(data.splits.test))]
    unfinished = file.with_name("answers.unfinished.npz")
    np.savez(unfinished, index=data.splits.test, logits=logits)
    unfinished.replace(file)
    shutil.rmtree(run.best.parent, ignore_errors=True)
    return np.asarray(logits, dtype=np.float64)
