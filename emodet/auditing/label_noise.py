"""Label issues by confident learning (Northcutt, Jiang and Chuang 2021) on out-of-fold probabilities.

Short trainings on parts of train compute the probabilities, so that no net predicts a face of its own training data.
Each fold is an ordinary run with its own folder. A finished fold is reused; an interrupted fold is resumed.
"""

import hashlib
import json
import logging
import shutil
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import lightning as L
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from lightning.pytorch.loggers import CSVLogger

from emodet.arrays import Bools, Float64, Int64
from emodet.auditing.duplicates import connected
from emodet.auditing.options import OutOfFoldOptions
from emodet.data.datamodule import EmotionDataModule
from emodet.data.pack import Table
from emodet.data.splits import Splits
from emodet.errors import EmodetError, os_errors
from emodet.evaluation.calibration import fit_temperature, softmax
from emodet.evaluation.outputs import predict_split
from emodet.files import atomic_path
from emodet.training.assembly import build_classifier, build_trainer
from emodet.training.folder import RunFolder

log = logging.getLogger(__name__)

# Trainer settings that do not change the result.
_IRRELEVANT = ("accelerator", "devices", "enable_progress_bar", "num_nodes", "profiler")


@dataclass(frozen=True, slots=True, eq=False)
class OutOfFoldProbs:
    """Out-of-fold probabilities of a pack's faces."""

    probabilities: Float64  # (N, K), one row per face of the pack, NaN without a prediction
    made_by: str  # description of their origin

    @property
    def known(self) -> Bools:
        """Which faces have probabilities: bool (N,)."""
        return ~np.isnan(self.probabilities[:, 0])


def write_probabilities(out_of_fold: OutOfFoldProbs, table: Table, class_names: Sequence[str], path: Path) -> None:
    """Write ``key``, ``split`` and a column ``p_CLASS`` for each class as Parquet."""
    rows = np.flatnonzero(out_of_fold.known)
    columns: dict[str, Any] = {"key": table.key[rows].tolist(), "split": table.split[rows].tolist()}
    for number, name in enumerate(class_names):
        columns[f"p_{name}"] = out_of_fold.probabilities[rows, number].astype(np.float32)
    with os_errors(f"{path}: cannot be written"), atomic_path(path) as unfinished:
        pq.write_table(pa.table(columns).replace_schema_metadata({"made_by": out_of_fold.made_by}), unfinished)


class Candidate(NamedTuple):
    """A face whose label may be wrong."""

    row: int  # in the pack's table
    given: int  # class number of its label
    suggested: int  # number of the most probable class, which differs from the label
    p_given: float  # probability of the label, 0 to 1; a low value indicates a wrong label
    p_suggested: float


@dataclass(frozen=True, slots=True)
class LabelNoise:
    """Label issues of one split."""

    split: str
    judged: int  # number of faces with a label and probabilities
    agree: float  # share of these faces whose most probable class is their label
    majority: float  # share of these faces with the most frequent label
    candidates: tuple[Candidate, ...]  # sorted by ascending probability of the label

    @property
    def informative(self) -> bool:
        """Whether the predictions are more accurate than always predicting the most frequent label."""
        return self.agree > self.majority

    @property
    def pairs(self) -> list[tuple[tuple[int, int], int]]:
        """Pairs of (given, suggested) and their number of candidates, most frequent first."""
        return Counter((each.given, each.suggested) for each in self.candidates).most_common()


def find_label_noise(table: Table, out_of_fold: OutOfFoldProbs) -> tuple[LabelNoise, ...]:
    """Find label issues in each split with labels and probabilities."""
    from cleanlab.filter import find_label_issues

    labelled = (table.emotion >= 0) & (table.emotion < out_of_fold.probabilities.shape[1]) & out_of_fold.known
    by_split = []
    for split in ("train", "val", "test"):
        rows = np.flatnonzero((table.split == split) & labelled)
        if not rows.size:
            continue
        given, shares = table.emotion[rows], out_of_fold.probabilities[rows]
        predicted, ranked = shares.argmax(axis=1), np.empty(0, dtype=np.int64)
        if (given != given[0]).any():  # cleanlab needs two classes
            ranked = find_label_issues(
                given, shares, filter_by="confident_learning", return_indices_ranked_by="self_confidence", n_jobs=1
            )
        # A face whose prediction equals its label is no issue, even at a low probability.
        ranked = ranked[predicted[ranked] != given[ranked]]
        columns = (rows[ranked], given[ranked], predicted[ranked], shares[ranked, given[ranked]], shares[ranked].max(1))
        candidates = [Candidate(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
        agree, majority = float((predicted == given).mean()), float(np.bincount(given).max() / len(given))
        by_split.append(LabelNoise(split, len(rows), agree, majority, tuple(candidates)))
    return tuple(by_split)


def predict_out_of_fold(
    settings: Mapping[str, Any], data: EmotionDataModule, photographs: Int64, folder: Path, options: OutOfFoldOptions
) -> OutOfFoldProbs:
    """Predict every labelled face with nets that were trained neither on the face nor on a copy of its image.

    The net of its fold predicts a face of train, the mean of all nets a face of val or test; copies of val and test
    faces are excluded from training. One temperature, fitted on train, calibrates all predictions. Each combination of
    data and settings has its own folder of runs in `folder`.

    Raises:
        EmodetError: A class is missing, a value is invalid, or the loss is not finite.
        Interrupted: A signal stopped the training.
    """
    table, classes = data.pack.table, len(data.class_names)
    labelled = (table.emotion >= 0) & (table.emotion < classes)
    train = np.flatnonzero(labelled & (table.split == "train"))
    others = np.flatnonzero(labelled & (table.split != "train"))
    if not train.size:
        raise EmodetError("train has no labelled faces to train nets on; quick=true skips the label issues")
    groups = with_subjects(photographs, table.subject)[train]
    fold_of = assign_folds(table.emotion[train], groups, options.folds, settings["seed"])
    copies = np.isin(photographs[train], photographs[others])
    side = min(options.side, data.preprocessing.size)
    pack = data.pack.resized(side)
    chosen = _short(settings, options)
    place = folder / f"folds-{_identity(chosen, data, side, (train, fold_of, copies))[:12]}"
    logits, of_others = np.zeros((len(table), classes)), []
    for number in range(options.folds):
        held_out = train[fold_of == number]
        names = (f"fold {number + 1} of train", f"all but the training faces of fold {number + 1}")
        kept = train[(fold_of != number) & ~copies]
        splits = Splits(kept, held_out, np.concatenate([held_out, others]), *names, dropped={})
        predicted = _run_fold(chosen, data.with_splits(splits, pack), RunFolder(place / f"fold-{number + 1}"))
        logits[held_out] = predicted[: len(held_out)]
        of_others.append(predicted[len(held_out) :])
        agree = float((logits[held_out].argmax(axis=1) == table.emotion[held_out]).mean())
        log.info("fold %d of %d: %.1f %% of %d labels agree", number + 1, options.folds, 100 * agree, len(held_out))
    temperature = fit_temperature(logits[train], table.emotion[train])
    probabilities = np.full((len(table), classes), np.nan)
    probabilities[train] = softmax(logits[train], temperature)
    if others.size:
        probabilities[others] = np.mean([softmax(each, temperature) for each in of_others], axis=0)
    return OutOfFoldProbs(
        probabilities,
        f"{options.folds} nets of {options.epochs} epochs at {side} pixels, temperature {temperature:.2f}; train by "
        "the net of the face's fold, val and test by the mean of all nets",
    )


def with_subjects(photographs: Int64, subject: npt.NDArray[np.str_]) -> Int64:
    """Join photographs, int64 (N,), of the same person, str (N,), empty where unknown: int64 (N,), equal for faces that
    must be in one fold.
    """
    known = subject != ""
    if not known.any():
        return photographs
    of_person = np.unique(subject[known], return_inverse=True)[1] + photographs.max() + 1
    return connected(np.stack([photographs[known], of_person]), int(of_person.max()) + 1)[photographs]


def assign_folds(emotion: Int64, groups: Int64, folds: int, seed: int) -> Int64:
    """Assign whole groups to stratified folds: int64 (N,), 0 to folds - 1."""
    from sklearn.model_selection import StratifiedGroupKFold

    available = len(np.unique(groups))
    if not 2 <= folds <= available:
        raise EmodetError(f"out_of_fold.folds={folds}: expected 2 to {available}, the number of photographs or people")
    fold_of = np.empty(len(emotion), dtype=np.int64)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer faces than folds
        try:
            for number, (_, held_out) in enumerate(splitter.split(np.zeros(len(emotion)), emotion, groups)):
                fold_of[held_out] = number
        except ValueError:
            message = f"out_of_fold.folds={folds}: every class of train has fewer faces; quick=true trains no nets"
            raise EmodetError(message) from None
    return fold_of


def _short(settings: Mapping[str, Any], options: OutOfFoldOptions) -> dict[str, Any]:
    """Return the settings of a short training that uses its last epoch, so that held-out faces select no epoch."""
    trainer = {key: value for key, value in settings["trainer"].items() if key not in ("max_steps", "max_time")}
    trainer |= {"max_epochs": options.epochs, "check_val_every_n_epoch": options.epochs, "num_sanity_val_steps": 0}
    callbacks = {name: spec for name, spec in settings["callbacks"].items() if name in ("best", "last")}
    training = {**settings["training"], "progressive_sizes": []}
    return {**settings, "trainer": trainer, "training": training, "callbacks": callbacks}


def _identity(settings: Mapping[str, Any], data: EmotionDataModule, side: int, arrays: Sequence[Any]) -> str:
    kept = ("net", "optimizer", "scheduler", "loss", "training", "augmentation", "seed")
    labels = [source.labels for source in data.sources.values()]
    parts = {
        **{name: settings.get(name) for name in kept},
        "trainer": {key: value for key, value in settings["trainer"].items() if key not in _IRRELEVANT},
        "data": data.fingerprint,
        "batches": [data.batch_size, data.sampling, labels, list(data.class_names)],
        "side": side,
        "folds": [hashlib.sha256(np.ascontiguousarray(each).tobytes()).hexdigest() for each in arrays],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _run_fold(settings: Mapping[str, Any], data: EmotionDataModule, run: RunFolder) -> Float64:
    """Return the logits of the test faces of `data`, stored or from a training of the fold: float64 (len(test), K)."""
    file, test = run.path / "predictions.npz", data.splits.test
    with suppress(OSError, EOFError, ValueError, KeyError, BadZipFile):  # missing, or damaged by a crash
        stored = np.load(file, allow_pickle=False)
        if np.array_equal(stored["index"], test):
            log.info("%s: finished before", run.path.name)
            return np.asarray(stored["logits"], dtype=np.float64)
    run.path.mkdir(parents=True, exist_ok=True)
    log.info("%s: training on %d faces in %s", run.path.name, len(data.splits.train), run.path)
    L.seed_everything(settings["seed"], verbose=False)
    classifier = build_classifier(settings, data)
    trainer = build_trainer(settings, run, [CSVLogger(run.path, name="csv", version=str(run.attempts))])
    trainer.fit(classifier, data, ckpt_path=run.last if run.last.is_file() else None, weights_only=True)
    outputs = predict_split(classifier, data, "test", settings["trainer"].get("accelerator", "auto"))
    with atomic_path(file) as unfinished:
        np.savez(unfinished, index=test, logits=outputs.logits)
    shutil.rmtree(run.best.parent, ignore_errors=True)
    return np.asarray(outputs.logits, dtype=np.float64)
