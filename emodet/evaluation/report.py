"""The evaluation report: a folder with figures as JSON, pictures, every answer as CSV, and one page that shows it all.

The page is a single HTML file that asks for nothing: pictures, style and figures are inside it, and its own policy
forbids any request. It can be mailed, attached to a run, or opened ten years from now.
"""

import csv
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emodet.errors import EmodetError
from emodet.evaluation.contact_sheet import contact_sheet
from emodet.evaluation.markup import data_uri, document, encoded, percent, small, swatch, text
from emodet.evaluation.plots import (
    plot_confusion,
    plot_coverage,
    plot_per_class,
    plot_reliability,
    plot_valence_arousal,
)
from emodet.evaluation.predictions import Predictions
from emodet.evaluation.robustness import Robustness, plot_robustness
from emodet.evaluation.statistics import Estimate, Evaluation
from emodet.models.agreement import DIMENSIONS
from emodet.palette import class_colours

__all__ = ["most_uncertain", "worst_errors", "write_report"]

UInt8 = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]
Faces = Callable[[int], UInt8]
Details = Mapping[str, str | int | float | None]

_FILES = frozenset(
    {
        "report.html",
        "report.json",
        "predictions.csv",
        "confusion_matrix.png",
        "reliability.png",
        "per_class.png",
        "coverage.png",
        "valence_arousal.png",
        "robustness.png",
        "robustness.csv",
        "errors.png",
        "uncertain.png",
    }
)
_LEGIBLE_SHARE = 0.02


def worst_errors(predictions: Predictions, count: int) -> Int64:
    """Indices of the wrong answers, the surest first, at most `count`; int64."""
    wrong = np.flatnonzero(predictions.predicted != predictions.emotion)
    return wrong[np.argsort(-predictions.confidence[wrong], kind="stable")][:count].astype(np.int64)


def most_uncertain(predictions: Predictions, count: int) -> Int64:
    """Indices of the answers with the lowest confidence, right or wrong, at most `count`; int64."""
    return np.argsort(predictions.confidence, kind="stable")[:count].astype(np.int64)


def write_report(
    evaluation: Evaluation,
    predictions: Predictions,
    faces: Faces | None,
    folder: Path,
    *,
    details: Details,
    errors: int = 48,
    robustness: Robustness | None = None,
) -> Path:
    """Write the report's folder, whole or not at all.

    It holds ``report.html``, ``report.json``, ``predictions.csv``, ``confusion_matrix.png``, ``reliability.png``,
    ``per_class.png``, ``coverage.png``, and with faces ``errors.png`` and ``uncertain.png``, and
    where it was measured ``valence_arousal.png``, ``robustness.png`` and ``robustness.csv``.

    Args:
        evaluation: The figures.
        predictions: The answers they were made from.
        faces: Gives the picture of a face by its index in `predictions`: uint8, (H, W, 3), RGB. None where pictures
            may not leave the data set, or there are none: the galleries then list keys, and say so.
        folder: Where the report goes. A report that is already there is replaced as a whole.
        details: What the reader needs to repeat it: checkpoint, commit, pack fingerprint, seeds, temperature.
        errors: How many of the worst errors to show; half as many of the most uncertain answers.
        robustness: The figures as pictures get worse, where they were measured.

    Returns:
        The path of ``report.html``.

    Raises:
        EmodetError: `folder` is a file, holds something that is no report, or cannot be written; `errors` is negative.
    """
    if errors < 0:
        raise EmodetError(f"errors={errors}: how many faces to show, 0 or more")
    _check_replaceable(folder)
    worst, uncertain = worst_errors(predictions, errors), most_uncertain(predictions, (errors + 1) // 2)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
        try:
            _fill(partial, evaluation, predictions, faces, details, worst, uncertain, robustness)
            partial.chmod(0o755)  # mkdtemp makes it private
            _put_in_place(partial, folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    except OSError as problem:
        raise EmodetError(f"report folder {folder}: cannot be written ({problem})") from problem
    return folder / "report.html"


def _check_replaceable(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise EmodetError(f"report folder {folder}: is a file; name a folder")
    foreign = sorted(each.name for each in folder.iterdir() if each.name not in _FILES)
    if foreign:
        raise EmodetError(
            f"report folder {folder}: holds {', '.join(foreign[:3])}{' and more' if len(foreign) > 3 else ''}, which "
            "no report writes, and the whole folder would be replaced; name another, or an empty one"
        )


def _put_in_place(partial: Path, folder: Path) -> None:
    if not folder.exists():
        partial.rename(folder)
        return
    old = partial.with_suffix(".old")
    folder.rename(old)
    try:
        partial.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _fill(
    folder: Path,
    evaluation: Evaluation,
    predictions: Predictions,
    faces: Faces | None,
    details: Details,
    worst: Int64,
    uncertain: Int64,
    robustness: Robustness | None,
) -> None:
    pictures = {
        "confusion_matrix": (plot_confusion(evaluation), plot_confusion(evaluation, dark=True)),
        "reliability": (plot_reliability(evaluation), plot_reliability(evaluation, dark=True)),
        "per_class": (plot_per_class(evaluation), plot_per_class(evaluation, dark=True)),
        "coverage": (plot_coverage(predictions, evaluation), plot_coverage(predictions, evaluation, dark=True)),
    }
    if evaluation.per_dimension:
        pictures["valence_arousal"] = (
            plot_valence_arousal(predictions, evaluation),
            plot_valence_arousal(predictions, evaluation, dark=True),
        )
    if robustness is not None:
        pictures["robustness"] = (plot_robustness(robustness), plot_robustness(robustness, dark=True))
        (folder / "robustness.csv").write_text(robustness.as_csv(), encoding="utf-8")
    for name, (light, _) in pictures.items():
        (folder / f"{name}.png").write_bytes(light)
    shown: dict[int, UInt8] = {}
    if faces is not None:
        shown = {int(index): faces(int(index)) for index in (*worst, *uncertain)}
        for name, indices in (("errors", worst), ("uncertain", uncertain)):
            if len(indices):
                captions = [_caption(predictions, int(index)) for index in indices]
                sheet = contact_sheet([shown[int(index)] for index in indices], captions, 8, tile=128)
                (folder / f"{name}.png").write_bytes(encoded(sheet, ".png"))
    content = {
        "details": {key: _plain(value) for key, value in details.items()},
        **evaluation.as_dict(),
        "errors": [_answer(predictions, int(index)) for index in worst],
        "uncertain": [_answer(predictions, int(index)) for index in uncertain],
    }
    figures = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "report.json").write_text(figures + "\n", encoding="utf-8")
    _write_answers(folder / "predictions.csv", predictions)
    seen = shown if faces is not None else None
    page = _page(evaluation, predictions, pictures, seen, details, worst, uncertain, robustness)
    (folder / "report.html").write_text(page, encoding="utf-8")


def _plain(value: str | int | float | None) -> str | int | float | None:
    """JSON has no word for a number that is not finite, so it becomes its name."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _answer(predictions: Predictions, index: int) -> dict[str, Any]:
    names = predictions.class_names
    return {
        "key": predictions.keys[index],
        "emotion": names[predictions.emotion[index]],
        "answer": names[predictions.predicted[index]],
        "confidence": float(predictions.confidence[index]),
        "probabilities": {
            name: float(share) for name, share in zip(names, predictions.probabilities[index], strict=True)
        },
    }


def _caption(predictions: Predictions, index: int) -> str:
    answer = _answer(predictions, index)
    return f"{answer['emotion']}\nas {answer['answer']} {100 * answer['confidence']:.0f} %"


def _write_answers(path: Path, predictions: Predictions) -> None:
    names = predictions.class_names
    beside: list[list[str]] = [[] for _ in predictions.keys]
    columns: list[str] = []
    if predictions.valence_arousal is not None and predictions.annotated is not None:
        columns = [*DIMENSIONS, *(f"annotated_{name}" for name in DIMENSIONS)]
        both = np.concatenate([predictions.valence_arousal, predictions.annotated], axis=1)
        beside = [["" if math.isnan(value) else f"{value:.6f}" for value in row] for row in both.tolist()]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["key", "emotion", "answer", *(f"p_{name}" for name in names), *columns])
        for key, emotion, answer, shares, more in zip(
            predictions.keys,
            predictions.emotion.tolist(),
            predictions.predicted.tolist(),
            predictions.probabilities.tolist(),
            beside,
            strict=True,
        ):
            writer.writerow([key, names[emotion], names[answer], *(f"{share:.6f}" for share in shares), *more])


# The page. Every value from outside passes `text`.


def _hundred(value: float | None) -> str:
    """In percent without the sign, for columns that name it."""
    return "–" if value is None else f"{100 * value:.1f}"


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _interval(each: Estimate, *, percent: bool = True) -> str:
    if each.low is None or each.high is None:
        return "no interval"
    if percent:
        return f"[{100 * each.low:.1f}, {100 * each.high:.1f}]"
    return f"[{each.low:.3f}, {each.high:.3f}]"


def _picture(pair: tuple[bytes, bytes], alt: str) -> str:
    light, dark = (data_uri(data, "png") for data in pair)
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{text(alt)}"></picture>'
    )


def _page(
    evaluation: Evaluation,
    predictions: Predictions,
    pictures: Mapping[str, tuple[bytes, bytes]],
    shown: Mapping[int, UInt8] | None,
    details: Details,
    worst: Int64,
    uncertain: Int64,
    robustness: Robustness | None,
) -> str:
    title = f"{evaluation.data}, split {evaluation.split}"
    notes = "".join(f"<li>{text(note)}</li>" for note in evaluation.notes)
    body = f"""<header>
<h1>{text(title)}</h1>
<p>{_lead(evaluation, details)}</p>
<nav aria-label="Sections"><a href="#classes">Classes</a><a href="#confusions">Confusions</a>
<a href="#confidence">Confidence</a>
{_dimensions_link(evaluation)}<a href="#errors">Errors</a><a href="#details">Details</a></nav>
</header>
<main>
{f'<div class="callout" role="note"><ul>{notes}</ul></div>' if notes else ""}
<section aria-labelledby="figures"><h2 id="figures">Figures</h2>
{_tiles(evaluation)}
<p>{_in_words(evaluation)}</p>
{_source_table(evaluation)}
</section>
<section aria-labelledby="classes"><h2 id="classes">Classes</h2>
<div class="pair"><div>{_class_table(evaluation)}</div>
{_picture(pictures["per_class"], _alt_classes(evaluation))}</div>
</section>
<section aria-labelledby="confusions"><h2 id="confusions">Confusions</h2>
<div class="pair">{_picture(pictures["confusion_matrix"], "Confusion matrix; the counts follow as a table.")}
<div>{_confusions(evaluation)}</div></div>
</section>
<section aria-labelledby="confidence"><h2 id="confidence">Confidence</h2>
<div class="pair"><div>{_picture(pictures["reliability"], _alt_reliability(evaluation))}
{_calibration_words(evaluation)}</div>
<div>{_picture(pictures["coverage"], "Accuracy by the share of faces answered; the figures follow as a table.")}
{_coverage_table(evaluation)}</div></div>
</section>
{_dimensions_section(evaluation, pictures)}{_robustness_section(robustness, pictures)}
<section aria-labelledby="errors"><h2 id="errors">Errors</h2>
{_galleries(predictions, shown, worst, uncertain)}
</section>
<section aria-labelledby="details"><h2 id="details">Details</h2>
{_details_table(evaluation, details)}
</section>
</main>
<footer><p>{_method_words(evaluation)}</p>
<p>The classes say what a face shows to the people who labelled it, not what somebody feels.</p></footer>
"""
    return document(f"{title}: emodet evaluation", body)


def _dimensions_link(evaluation: Evaluation) -> str:
    return '<a href="#dimensions">Valence and arousal</a>' if evaluation.per_dimension else ""


def _dimensions_section(evaluation: Evaluation, pictures: Mapping[str, tuple[bytes, bytes]]) -> str:
    if not evaluation.per_dimension:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{row.name}</th><td>{row.faces:,}</td>'
        + "".join(
            f'<td>{_three(each.value)} <span class="interval">{_interval(each, percent=False)}</span></td>'
            for each in (row.ccc, row.rmse)
        )
        + f'<td>{percent(row.sagr.value)} <span class="interval">{_interval(row.sagr)}</span></td></tr>'
        for row in evaluation.per_dimension
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("", "Faces", "CCC", "RMSE", "Same sign"))
    alt = "Predicted valence and arousal by the annotated ones; the figures stand in the table."
    return (
        '<section aria-labelledby="dimensions"><h2 id="dimensions">Valence and arousal</h2><div class="pair">'
        '<div class="wide"><table class="scores"><caption>On the faces that have them annotated, with 95&nbsp;% '
        "intervals. CCC: concordance correlation coefficient, 1 where both are the same, 0 where they have nothing to "
        "do with each other. RMSE: root mean squared error on the scale from -1 to 1.</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        f"{_picture(pictures['valence_arousal'], alt)}</div></section>\n"
    )


def _robustness_section(robustness: Robustness | None, pictures: Mapping[str, tuple[bytes, bytes]]) -> str:
    if robustness is None:
        return ""
    rows = "".join(
        f"<tr><td>{text(row.corruption)}</td><td>{text(row.label)}</td>"
        f'<td>{percent(row.accuracy)} <span class="interval">[{_hundred(row.low)}, {_hundred(row.high)}]</span></td>'
        f"<td>{percent(row.macro_f1)}</td><td>{_three(row.calibration_error)}</td></tr>"
        for row in robustness.rows
    )
    return (
        '<section aria-labelledby="robustness"><h2 id="robustness">Worse pictures</h2><div class="pair">'
        f"<div>{_picture(pictures['robustness'], 'Accuracy by corruption and level; the figures stand beside it.')}"
        f'<p class="quiet">Mean over all levels: {percent(robustness.mean)}; as they are: '
        f"{percent(robustness.clean)}.</p></div>"
        '<table class="scores"><thead><tr><th scope="col">Corruption</th><th scope="col">Level</th>'
        '<th scope="col">Accuracy [95&nbsp;%]</th><th scope="col">Macro F1</th>'
        f'<th scope="col">Calibration error</th></tr></thead><tbody>{rows}</tbody></table></div></section>\n'
    )


def _lead(evaluation: Evaluation, details: Details) -> str:
    parts = [f"{evaluation.faces:,} faces", f"{len(evaluation.class_names)} classes"]
    for key in ("checkpoint", "model"):
        if details.get(key):
            parts.append(text(details[key]))
    return " · ".join(parts)


def _tiles(evaluation: Evaluation) -> str:
    scores = evaluation.calibrated
    tiles = [
        ("Accuracy", evaluation.accuracy, True),
        ("Macro F1", evaluation.macro_f1, True),
        ("Balanced accuracy", evaluation.balanced_accuracy, True),
        ("Calibration error", scores.ece, False),
        ("NLL", scores.nll, False),
        ("Brier score", scores.brier, False),
    ]
    cells = "".join(
        f'<div><dt>{name}</dt><dd class="value">{percent(each.value) if shares else _three(each.value)}</dd>'
        f'<dd class="interval">{_interval(each, percent=shares)}</dd></div>'
        for name, each, shares in tiles
    )
    return f'<dl class="tiles">{cells}</dl>'


def _in_words(evaluation: Evaluation) -> str:
    name, share = evaluation.majority
    sentences = [f"Always answering {text(name)} would be right for {percent(share)}."]
    known = [row for row in evaluation.per_class if row.recall.value is not None]
    hardest = min(known, key=lambda row: row.recall.value or 0.0)
    sentences.append(f"Least often found: {text(hardest.name)}, {percent(hardest.recall.value)} of its faces.")
    return " ".join(sentences)


def _source_table(evaluation: Evaluation) -> str:
    if not evaluation.per_source:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{text(row.name)}</th><td>{row.faces:,}</td>'
        + "".join(
            f'<td>{_hundred(each.value)} <span class="interval">{_interval(each)}</span></td>'
            for each in (row.accuracy, row.macro_f1, row.balanced_accuracy)
        )
        + "</tr>"
        for row in evaluation.per_source
    )
    head = "".join(
        f'<th scope="col">{name}</th>' for name in ("Data set", "Faces", "Accuracy", "Macro F1", "Balanced accuracy")
    )
    return (
        '<div class="wide"><table class="scores"><caption>The data sets of the mix, in percent with 95&nbsp;% '
        f"intervals. Means are over the classes that have faces there.</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _class_table(evaluation: Evaluation) -> str:
    rows = []
    for row, colour in zip(evaluation.per_class, class_colours(evaluation.class_names), strict=True):
        recall = row.recall
        reach = ""
        if recall.value is not None and recall.low is not None and recall.high is not None:
            reach = (
                f'<span class="reach" aria-hidden="true"><i style="left:{100 * recall.low:.1f}%;'
                f'width:{100 * (recall.high - recall.low):.1f}%"></i>'
                f'<b style="left:{100 * recall.value:.1f}%"></b></span>'
            )
        interval = f' <span class="interval">{_interval(recall)}</span>' if recall.value is not None else ""
        rows.append(
            f'<tr><th scope="row">{swatch(colour)}{text(row.name)}</th><td>{row.faces:,}</td>'
            f"<td>{_hundred(recall.value)}{interval}{reach}</td>"
            f"<td>{_hundred(row.precision)}</td><td>{_hundred(row.f1)}</td></tr>"
        )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Class", "Faces", "Recall", "Precision", "F1"))
    return (
        '<div class="wide"><table class="scores"><caption>In percent, recall with its 95&nbsp;% interval. Recall: '
        "of a class's faces, the share found. Precision: of the answers, the share right.</caption>"
        f"<thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _alt_classes(evaluation: Evaluation) -> str:
    parts = [
        f"{row.name} {100 * row.recall.value:.1f} %" if row.recall.value is not None else f"{row.name} no faces"
        for row in evaluation.per_class
    ]
    return "Recall per class: " + ", ".join(parts)


def _confusions(evaluation: Evaluation, most: int = 8) -> str:
    counts, names = evaluation.confusion, evaluation.class_names
    off = counts * (1 - np.eye(len(names), dtype=np.int64))
    order = np.argsort(-off, axis=None, kind="stable")[:most]
    colours = class_colours(tuple(names))
    rows = []
    for true, answer in zip(*np.unravel_index(order, off.shape), strict=True):
        if not off[true, answer]:
            break
        rows.append(
            f'<tr><td>{swatch(colours[true])}{text(names[true])}</td><td style="text-align:left">'
            f"{swatch(colours[answer])}{text(names[answer])}</td><td>{off[true, answer]:,}</td>"
            f"<td>{percent(float(off[true, answer] / counts[true].sum()))}</td></tr>"
        )
    top = (
        '<table><caption>The most frequent confusions</caption><thead><tr><th scope="col">True class</th>'
        '<th scope="col" style="text-align:left">Answer</th><th scope="col">Faces</th>'
        f'<th scope="col">Of the class</th></tr></thead><tbody>{"".join(rows)}</tbody></table>'
        if rows
        else "<p>There are none: every answer is right.</p>"
    )
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{text(name)}</th>{"".join(f"<td>{count:,}</td>" for count in row)}</tr>'
        for name, row in zip(names, counts.tolist(), strict=True)
    )
    return (
        f'{top}<details><summary>All counts as a table</summary><div class="wide"><table class="counts">'
        f'<caption>Rows: true class. Columns: answer.</caption><thead><tr><th scope="col">true</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></details>"
    )


def _alt_reliability(evaluation: Evaluation) -> str:
    parts = [
        f"{100 * each.confidence:.0f} % sure, {100 * each.accuracy:.0f} % right ({each.faces:,} faces)"
        for each in evaluation.bins
        if each.confidence is not None and each.accuracy is not None
    ]
    return "Reliability diagram. " + "; ".join(parts)


def _calibration_words(evaluation: Evaluation) -> str:
    scores, before = evaluation.calibrated, evaluation.uncalibrated
    words = (
        f"The gap between confidence and accuracy is {_three(scores.ece.value)} on average "
        f"{_interval(scores.ece, percent=False)}."
    )
    if before is not None:
        words += (
            f" Without the fitted temperature it is {_three(before.ece.value)} "
            f"{_interval(before.ece, percent=False)}, and the NLL {_three(before.nll.value)}."
        )
    return f'<p class="quiet">{words}</p>'


def _coverage_table(evaluation: Evaluation) -> str:
    rows = "".join(
        f"<tr><td>{percent(point.coverage)}</td><td>{_three(point.threshold)}</td>"
        f'<td>{percent(point.accuracy.value)} <span class="interval">{_interval(point.accuracy)}</span></td></tr>'
        for point in evaluation.coverage
    )
    return (
        '<table class="scores"><caption>Below the threshold the answer is "uncertain".</caption><thead><tr>'
        '<th scope="col">Answered</th><th scope="col">Threshold</th><th scope="col">Accuracy [95&nbsp;%]</th>'
        f"</tr></thead><tbody>{rows}</tbody></table>"
    )


def _galleries(predictions: Predictions, shown: Mapping[int, UInt8] | None, worst: Int64, uncertain: Int64) -> str:
    wrong = int((predictions.predicted != predictions.emotion).sum())
    parts = [f"<p>{wrong:,} of {len(predictions.keys):,} answers are wrong.</p>"]
    if shown is None:
        parts.append(
            '<p class="quiet">Pictures are not shown: they are not at hand, or may not leave the data set. '
            "Keys are listed.</p>"
        )
    elif len(worst) or len(uncertain):
        colours = class_colours(tuple(predictions.class_names))
        legend = "".join(
            f"<li>{swatch(colour)}{text(name)}</li>"
            for name, colour in zip(predictions.class_names, colours, strict=True)
        )
        parts.append(f'<ul class="legend" aria-label="Colours of the classes">{legend}</ul>')
    for head, indices in (("Surest of what is wrong", worst), ("Least sure, right or wrong", uncertain)):
        if len(indices):
            body = _key_table(predictions, indices) if shown is None else _cards(predictions, shown, indices)
            parts.append(f"<h3>{head} ({len(indices)})</h3>{body}")
    return "".join(parts)


def _cards(predictions: Predictions, shown: Mapping[int, UInt8], indices: Int64) -> str:
    colours = dict(zip(predictions.class_names, class_colours(tuple(predictions.class_names)), strict=True))
    cards = []
    for index in map(int, indices):
        answer = _answer(predictions, index)
        right = answer["emotion"] == answer["answer"]
        ranked = sorted(answer["probabilities"].items(), key=lambda pair: -pair[1])
        shares = "".join(
            f'<i style="width:{100 * share:.1f}%;background:{colours[name]}"></i>' for name, share in ranked
        )
        words = ", ".join(f"{name} {100 * share:.0f} %" for name, share in ranked if share >= _LEGIBLE_SHARE)
        verdict = (
            f"{text(answer['emotion'])}, right" if right else f"{text(answer['emotion'])} → {text(answer['answer'])}"
        )
        alt = f"Face labelled {answer['emotion']}, answered {answer['answer']}"
        cards.append(
            f'<li><img src="{data_uri(encoded(small(shown[index]), ".jpg"), "jpeg")}" alt="{text(alt)}" '
            f'loading="lazy"><div class="shares" role="img" aria-label="{text(words)}" title="{text(words)}">'
            f"{shares}</div>"
            f"<p>{verdict} <b>{100 * answer['confidence']:.0f}&nbsp;%</b></p>"
            f'<p class="key">{text(answer["key"])}</p></li>'
        )
    return f'<ul class="gallery">{"".join(cards)}</ul>'


def _key_table(predictions: Predictions, indices: Int64) -> str:
    answers = [_answer(predictions, int(index)) for index in indices]
    rows = "".join(
        f"<tr><td>{text(each['key'])}</td><td>{text(each['emotion'])}</td><td>{text(each['answer'])}</td>"
        f"<td>{_hundred(each['confidence'])}</td></tr>"
        for each in answers
    )
    return (
        '<div class="wide"><table class="keys"><thead><tr><th scope="col">Face</th><th scope="col">True class</th>'
        f'<th scope="col">Answer</th><th scope="col">Sure, %</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _details_table(evaluation: Evaluation, details: Details) -> str:
    facts: Sequence[tuple[str, object]] = [("data", evaluation.data), ("split", evaluation.split), *details.items()]
    unique = dict(facts)
    rows = "".join(
        f'<tr><th scope="row">{text(key)}</th><td>{"–" if value is None else text(value)}</td></tr>'
        for key, value in unique.items()
    )
    return f'<table class="facts"><tbody>{rows}</tbody></table>'


def _method_words(evaluation: Evaluation) -> str:
    if not evaluation.resamples:
        return "No intervals were asked for."
    return (
        f"Intervals are 95&nbsp;% bootstrap percentiles: {evaluation.resamples:,} resamples of "
        f"{text(evaluation.resampled)}, seed {evaluation.seed}; Wilson's score interval where all or nothing was "
        "found. Means over classes weigh every class that has faces alike. Calibration error: 15 bins of equal width, "
        "its interval centred on the measured value. Brier score: squared differences summed over the classes, 0 to 2."
    )
