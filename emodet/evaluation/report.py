"""The evaluation report: a folder with scores as JSON, figures, predictions as CSV, and one self-contained page."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from emodet.arrays import Int64, UInt8
from emodet.data.corrections import in_words
from emodet.data.datamodule import EmotionDataModule
from emodet.errors import require
from emodet.evaluation import corruptions, plots
from emodet.evaluation.outputs import ALL_FACES, Predict
from emodet.evaluation.pages import contact_sheet, encode_image, render
from emodet.evaluation.predictions import Predictions
from emodet.evaluation.scores import MAIN_SCORES, Evaluation, evaluate_predictions
from emodet.evaluation.table import TITLES, coverages, format_interval, format_score, method
from emodet.files import csv_text, write_files
from emodet.models.agreement import DIMENSIONS
from emodet.palette import class_colours

_CONFUSIONS = 8  # that the page lists

Details = Mapping[str, str | int | float | None]


def worst_errors(predictions: Predictions, count: int) -> tuple[Int64, list[dict[str, Any]]]:
    """Return at most `count` wrong predictions, the most confident first: int64 indices, and a description of each.

    A description has the face's key, true and predicted class, and probabilities.
    """
    names, wrong = predictions.class_names, np.flatnonzero(predictions.predicted != predictions.emotion)
    worst = wrong[np.argsort(-predictions.confidence[wrong], kind="stable")][:count].astype(np.int64)
    rows = [
        {
            "key": predictions.keys[index],
            "emotion": names[predictions.emotion[index]],
            "answer": names[predictions.predicted[index]],
            "confidence": float(predictions.confidence[index]),
            "probabilities": dict(zip(names, predictions.probabilities[index].tolist(), strict=True)),
        }
        for index in worst.tolist()
    ]
    return worst, rows


def write_report(
    evaluation: Evaluation,
    predictions: Predictions,
    images: Callable[[Int64], UInt8],
    folder: Path,
    *,
    details: Details,
    errors: int = 48,
    robustness: corruptions.Robustness | None = None,
) -> Path:
    """Write the report's folder; a report that is already there is replaced. Returns the path of ``report.html``.

    It holds ``report.html``, ``report.json``, ``predictions.csv`` and figures as PNG. `images` gives crops, uint8
    (N, H, W, 3) RGB, of faces by their indices in `predictions`. `details` are what it takes to repeat the evaluation:
    checkpoint, commit, pack fingerprint, seeds, temperature. `errors` is the number of most confident mistakes to show.
    """
    require(errors >= 0, "errors", errors, "the number of faces to show, 0 or more")
    names = evaluation.class_names
    figures = {
        "confusion_matrix": plots.plot_confusion(evaluation),
        "reliability": plots.plot_reliability(evaluation),
        "per_class": plots.plot_per_class(evaluation),
        "coverage": plots.plot_coverage(predictions, evaluation),
        "valence_arousal": plots.plot_valence_arousal(predictions, evaluation) if evaluation.dimensions else None,
        "robustness": corruptions.plot_robustness(evaluation, robustness) if robustness else None,
    }
    worst, rows = worst_errors(predictions, errors)
    crops = images(worst)
    content = {"details": dict(details), **evaluation.as_dict(), "errors": rows}
    page = render(
        "report.html",
        evaluation=evaluation,
        text=lambda score: format_score(score).replace(" ", "\u00a0"),
        interval=format_interval,
        method=method(evaluation),
        colours=dict(zip(names, class_colours(names), strict=True)),
        titles=TITLES,
        main=MAIN_SCORES,
        confusions=_confusions(evaluation),
        coverages=coverages(evaluation),
        figures=figures,
        robustness=robustness,
        corruptions=corruptions.CORRUPTIONS,
        mean_accuracy=corruptions.mean_accuracy,
        wrong=int(evaluation.confusion.sum() - evaluation.confusion.trace()),
        images=crops,
        details={"data": evaluation.data, "split": evaluation.split, **details},
        errors=rows,
    )
    files: dict[str, str | bytes | None] = {
        "report.json": json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        "report.html": page,
        "predictions.csv": csv_text(_prediction_rows(predictions)),
        "errors.png": encode_image(error_sheet(rows, crops), ".png") if rows else None,
        "robustness.csv": corruptions.robustness_csv(evaluation, robustness) if robustness else None,
        **{f"{name}.png": png for name, png in figures.items()},
    }
    write_files(folder, files)
    return folder / "report.html"


def error_sheet(rows: Sequence[Mapping[str, Any]], crops: Sequence[UInt8] | UInt8) -> UInt8:
    """The faces of `worst_errors` as one image, uint8 (H, W, 3) RGB."""
    captions = [f"{row['emotion']}\nas {row['answer']} {100 * row['confidence']:.0f} %" for row in rows]
    return contact_sheet(crops, captions, 8, tile=128)


def _prediction_rows(predictions: Predictions) -> Iterator[Sequence[str]]:
    names = predictions.class_names
    columns = ["key", "emotion", "answer", *(f"p_{name}" for name in names)]
    numbers = predictions.probabilities
    if predictions.valence_arousal is not None and predictions.annotated is not None:
        columns += [*DIMENSIONS, *(f"annotated_{name}" for name in DIMENSIONS)]
        numbers = np.concatenate([numbers, predictions.valence_arousal, predictions.annotated], axis=1)
    yield columns
    rows = zip(predictions.keys, predictions.emotion, predictions.predicted, numbers.tolist(), strict=True)
    for key, emotion, predicted, values in rows:
        cells = ("" if math.isnan(value) else f"{value:.6f}" for value in values)
        yield [key, names[emotion], names[predicted], *cells]


def _confusions(evaluation: Evaluation) -> list[tuple[str, str, int, float]]:
    """True class, predicted class, faces, share of the true class: the most frequent confusions first."""
    names = evaluation.class_names
    found = [
        (names[true], names[predicted], count, count / sum(counts))
        for true, counts in enumerate(evaluation.confusion.tolist())
        for predicted, count in enumerate(counts)
        if count and true != predicted
    ]
    return sorted(found, key=lambda each: -each[2])[:_CONFUSIONS]


def report(
    predictions: Predictions,
    data: EmotionDataModule,
    folder: Path,
    details: Details,
    *,
    resamples: int = 2000,
    errors: int = 48,
    predict: Predict | None = None,
) -> Evaluation:
    """Evaluate predictions and write the report's folder; see `evaluate_predictions` and `write_report`.

    With `predict`, which runs the model on the same faces with changed crops, the report includes robustness.
    """
    evaluation, index = evaluate_predictions(predictions, resamples=resamples), predictions.index
    assert index is not None
    selected = int(np.isin(index, data.splits.val).sum())
    if predictions.split == ALL_FACES:
        evaluation = evaluation.with_notes("All faces, those of train too: for a model that was not trained on them.")
    elif selected:
        # In a mix, some data sets may select and report on the same faces.
        which = "These faces" if selected == len(index) else f"{selected:,} of these faces"
        # A model file, which has no temperature of its own, does not say which data it was trained on.
        words: Mapping[Any, str] = {None: "epoch of a model that was trained on this data", 1.0: "epoch"}
        chosen = words.get(details.get("temperature"), "temperature and the epoch")
        evaluation = evaluation.with_notes(
            f"{which} chose the {chosen}, unless the last one was kept: scores are optimistic."
        )
    described = {**details, "pack fingerprint": data.pack.fingerprint}
    if (facts := data.correction_facts) is not None:
        described["corrections"] = f"{facts['file']}, SHA-256 {facts['sha256']}: {in_words(facts['faces'])}"
        split = data.pack.table.split[index[0]]
        if split in facts["faces"]:
            evaluation = evaluation.with_notes(
                f"Corrections changed the faces measured here ({in_words({split: facts['faces'][split]})}): the "
                "scores cannot be compared with those of others on this split."
            )
    robustness: dict[tuple[str, float], Evaluation] = {}
    if predict is not None:
        for name, corruption in corruptions.CORRUPTIONS.items():
            for level in corruption.levels:
                changed = predict(partial(corruptions.corrupt, corruption=corruption, level=level))
                robustness[name, level] = evaluate_predictions(changed, resamples=resamples)
        mean = format_score(corruptions.mean_accuracy(robustness))
        print(f"mean accuracy over all corruptions and levels: {mean}", end="\n\n")
    options: dict[str, Any] = {"details": described, "errors": errors, "robustness": robustness or None}
    write_report(evaluation, predictions, lambda rows: data.pack.images(index[rows]), folder, **options)
    return evaluation
