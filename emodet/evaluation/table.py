"""The scores of an evaluation as plain text."""

from collections.abc import Sequence

from emodet.evaluation.scores import COVERAGES, MAIN_SCORES, Evaluation, Score

TITLES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "balanced_accuracy": "balanced accuracy",
    "nll": "NLL",
    "ece": "calibration error",
    "brier": "Brier score",
    "ccc": "CCC",
    "rmse": "RMSE",
    "sagr": "same sign",
}
"""Metric names as people read them."""

_NUMBERS = ("nll", "ece", "brier", "ccc", "rmse", "threshold")


def is_share(name: str) -> bool:
    """Whether a score is a share, shown in percent, rather than a number."""
    parts = name.removeprefix("uncalibrated/").replace("@", "/").replace("_", "/").split("/")
    return parts[0] not in _NUMBERS


def format_score(score: Score) -> str:
    """``83.4 %`` or ``0.512``; a dash where it is not defined."""
    if score.value is None:
        return "–"
    return f"{100 * score.value:.1f} %" if is_share(score.name) else f"{score.value:.3f}"


def format_interval(score: Score) -> str:
    """``[81.0, 85.6]``, in percent for shares; empty where there is none."""
    if score.low is None or score.high is None:
        return ""
    if is_share(score.name):
        return f"[{100 * score.low:.1f}, {100 * score.high:.1f}]"
    return f"[{score.low:.3f}, {score.high:.3f}]"


def format_table(evaluation: Evaluation) -> str:
    """All scores for a terminal, no wider than 80 characters with ordinary names."""
    rows = [evaluation[name] for name in MAIN_SCORES]
    sections = [[[TITLES[row.name], format_score(row), format_interval(row)] for row in rows]]
    if "uncalibrated/nll" in evaluation.scores:
        before = (evaluation["uncalibrated/nll"], evaluation["uncalibrated/ece"])
        sections[0] += [[f"uncalibrated {TITLES[row.name[13:]]}", format_score(row)] for row in before]
    name, share = evaluation.majority
    sections[0].append([f"always {name}", f"{100 * share:.1f} %"])
    classes = [["class", "faces", "recall", "95 % interval", "precision", "F1"]]
    classes += [_row(evaluation, name, [f"{kind}/{name}" for kind in ("recall", "precision", "f1")])
                for name in evaluation.class_names]  # fmt: skip
    sources = [["data set", "faces", "accuracy", "95 % interval", "macro F1"]]
    sources += [_row(evaluation, name, [f"accuracy/{name}", f"macro_f1/{name}"]) for name in evaluation.sources]
    dimensions = [["", "faces", "CCC", "95 % interval", "RMSE", "same sign"]]
    dimensions += [_row(evaluation, name, [f"{kind}_{name}" for kind in ("ccc", "rmse", "sagr")])
                   for name in evaluation.dimensions]  # fmt: skip
    coverage = [["coverage", "threshold", "accuracy", "95 % interval"]]
    for at in coverages(evaluation):
        cells = [evaluation[f"{kind}@{at}"] for kind in ("coverage", "threshold", "accuracy")]
        coverage.append([*map(format_score, cells), format_interval(cells[-1])])
    sections += [section for section in (classes, sources, dimensions, coverage) if len(section) > 1]
    first = max(len(row[0]) for section in sections for row in section)
    tables = ["\n".join(_aligned(section, first)) for section in sections]
    head = f"{evaluation.data}, split {evaluation.split}: {evaluation.faces:,} face{'s' * (evaluation.faces != 1)}"
    return "\n\n".join([head, *tables, "\n".join([*evaluation.notes, method(evaluation)])])


def coverages(evaluation: Evaluation) -> list[str]:
    """The shares of `COVERAGES`, but one of those that keep the same of a few faces."""
    return list({evaluation[f"coverage@{share:g}"].value: f"{share:g}" for share in COVERAGES}.values())


def method(evaluation: Evaluation) -> str:
    """How the intervals were made."""
    if not evaluation.resamples:
        return "No intervals (resamples=0)."
    count = f"{evaluation.resamples:,} resamples of {evaluation.unit}, seed {evaluation.seed}"
    return f"95 % bootstrap intervals: {count}."


def _row(evaluation: Evaluation, name: str, names: Sequence[str]) -> list[str]:
    first, *others = (evaluation[each] for each in names)
    return [name, f"{first.n:,}", format_score(first), format_interval(first), *map(format_score, others)]


def _aligned(rows: Sequence[Sequence[str]], first: int) -> list[str]:
    """Text columns: the first as wide as in all sections, intervals to the left, numbers to the right."""
    widths = [max(len(row[at]) for row in rows if at < len(row)) for at in range(max(map(len, rows)))]
    lines = []
    for row in rows:
        cells = [f"{row[0]:<{first}}"]
        cells += [
            f"{cell:<{width}}" if cell.startswith(("[", "95")) else f"{cell:>{width}}"
            for cell, width in zip(row[1:], widths[1:], strict=False)
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
