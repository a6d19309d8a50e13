"""Results and proposals of an audit, as text for the terminal, a self-contained page, JSON and CSV."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emodet.auditing.class_order import OrderFinding
from emodet.auditing.duplicates import CopyGroup
from emodet.auditing.image_issues import ISSUES, ImageIssues, UndetectedFaces
from emodet.auditing.label_noise import LabelNoise
from emodet.auditing.options import ProposalOptions
from emodet.data.corrections import Correction, write_corrections
from emodet.data.mixed import MixedPack
from emodet.data.pack import Table
from emodet.emotions import EMOTIONS
from emodet.evaluation.pages import render
from emodet.files import csv_text, write_files
from emodet.palette import class_colours

_OTHER = "other crops, sizes or mirror images"
UNINFORMATIVE = (
    "no better than always the most frequent label, so no correction is proposed; train longer with "
    "out_of_fold.epochs or out_of_fold.side"
)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Findings:
    """Results of an audit."""

    pack: MixedPack
    groups: tuple[CopyGroup, ...]
    images: ImageIssues
    order: tuple[OrderFinding, ...]
    noise: tuple[LabelNoise, ...] | None  # by split; None without predictions
    predicted_by: str  # origin of the predictions
    undetected: UndetectedFaces | None
    corrections: tuple[Correction, ...]
    skipped: tuple[str, ...]  # sentences about checks that were left out

    def copies(self) -> dict[str, int]:
        """Count photographs that occur more than once, and their faces, by kind."""
        counted: Counter[str] = Counter()
        for group in self.groups:
            kinds = {
                "identical" if group.identical else "near-identical": True,
                "across splits": group.across,
                "identical across splits": group.across and group.identical,
                "with contradicting labels": group.contradicts,
            }
            for kind in (kind for kind, applies in kinds.items() if applies):
                counted[f"{kind}: photographs"] += 1
                counted[f"{kind}: faces"] += len(group.rows)
        return dict(sorted(counted.items()))

    def proposed(self) -> dict[str, int]:
        """Count proposed corrections by action and reason."""
        return dict(Counter(f"{each.action}: {_kind_of(each.reason)}" for each in self.corrections).most_common())

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of faces by split and class; faces without an emotion are last."""
        names = self.pack.class_names
        zeros = dict.fromkeys([*names, "without emotion"], 0)
        return {split: zeros | found for split, found in self.pack.table.counts(names).items()}

    def totals(self) -> list[tuple[str, str, str]]:
        """Return name, number and a note for each check, for the page and the terminal."""
        verdicts = [each.wrong for each in self.order if each.wrong is not None]
        decided = f"in {sum(verdicts) or len(verdicts)} of {len(verdicts)}" if verdicts else "undecided"
        order = "–" if not verdicts else "wrong" if any(verdicts) else "correct"
        copied = sum(len(group.rows) for group in self.groups)

        def photographs(groups: list[CopyGroup]) -> tuple[str, str]:
            return f"{len(groups):,}", f"photographs, {sum(len(group.rows) for group in groups):,} faces"

        rows = [
            ("Faces", f"{len(self.pack.table):,}", f"{int((self.pack.table.emotion < 0).sum()):,} without an emotion"),
            ("Faces with copies", f"{copied:,}", f"of {len(self.groups):,} photographs"),
            ("Across splits", *photographs([group for group in self.groups if group.across])),
            ("Contradicting copies", *photographs([group for group in self.groups if group.contradicts])),
            ("Image issues", f"{sum(self.images.counts().values()):,}", "blurred, dark, flat …"),
            ("Class order", order, decided),
        ]
        if (noise := self.noise) is not None:
            issues, judged = sum(len(each.candidates) for each in noise), sum(each.judged for each in noise)
            rows.append(("Label issues", f"{issues:,}", f"of {judged:,} labels"))
        if (found := self.undetected) is not None:
            rows.append(("No face detected", f"{len(found.missing):,}", f"of {found.searched:,} crops"))
        return rows

    def as_dict(self) -> dict[str, Any]:
        """Return all figures, with the keys of the counted faces, for ``audit.json``."""
        table, names, undetected = self.pack.table, self.pack.class_names, self.undetected
        key, split = table.key, table.split
        groups = [
            {
                "keys": key[list(group.rows)].tolist(),
                "splits": split[list(group.rows)].tolist(),
                "identical": group.identical,
                "emotions": [names[number] for number in group.emotions],
            }
            for group in self.groups
        ]
        order = [
            {name: getattr(each, name) for name in ("source", "wrong", "sentence", "shows", "classes")}
            | {"figures": each.figures.round(4).tolist()}
            for each in self.order
        ]
        noise = {
            each.split: {
                **{name: getattr(each, name) for name in ("judged", "agree", "informative")},
                "candidates": len(each.candidates),
                "pairs": [[names[given], names[other], count] for (given, other), count in each.pairs],
            }
            for each in self.noise or ()
        }
        faults = {
            name: {"faces": count, "keys": key[self.images.issue == name].tolist()}
            for name, count in self.images.counts().items()
        }
        return {
            "data": self.pack.manifest["title"],
            "faces": len(self.pack.table),
            "published": self.pack.manifest["expected"],
            "left_out": self.pack.manifest.get("left_out", {}),
            "unreadable": len(self.pack.manifest.get("unreadable", ())),
            "copies": self.copies(),
            "groups": groups,
            "class_order": order,
            "label_noise": None if self.noise is None else {"predicted_by": self.predicted_by, "splits": noise},
            "pictures": {"faults": faults},
            "faces_not_found": undetected
            and {
                "detector": undetected.detector,
                "looked_at": undetected.searched,
                "not_found": len(undetected.missing),
                "keys": key[undetected.missing].tolist(),
            },
            "proposed": self.proposed(),
            "skipped": list(self.skipped),
        }

    def summary(self) -> str:
        """Return the counts as text for the terminal."""
        lines = [
            self.pack.manifest["title"],
            *(f"{number:>9}  {name.lower()} ({note})" for name, number, note in self.totals()),
        ]
        for each in self.noise or ():
            agree = f"{each.split}: {100 * each.agree:.1f} % of the predictions ({each.judged:,}) agree with the labels"
            lines.append(agree if each.informative else f"{agree}: {UNINFORMATIVE}")
        lines += ["class order:", *(f"  {each.verdict}: {each.sentence}" for each in self.order)]
        lines += [] if self.order else ["  not checked: no valence and arousal, no model file"]
        lines.append("proposed corrections:")
        lines += [f"{count:>7,}  {what}" for what, count in self.proposed().items()] or ["  none"]
        return "\n".join([*lines, *self.skipped])

    def candidates_csv(self) -> str:
        """Return ``label_noise.csv``, with one row per label issue."""
        rows = [["key", "split", "given", "suggested", "p_given", "p_suggested"]]
        for each in (candidate for split in self.noise or () for candidate in split.candidates):
            names = self.pack.class_names[each.given], self.pack.class_names[each.suggested]
            shares = f"{each.p_given:.4f}", f"{each.p_suggested:.4f}"
            rows.append([self.pack.table.key[each.row], self.pack.table.split[each.row], *names, *shares])
        return csv_text(rows)


def write_results(
    findings: Findings, folder: Path, details: Mapping[str, Any], *, gallery: int, pictures: bool
) -> None:
    """Write ``audit.html``, ``audit.json``, ``corrections.csv`` and ``label_noise.csv``; existing files are replaced.

    A gallery of the page contains up to `gallery` images; with ``pictures=False`` the page contains no images.
    """
    images, table, names = findings.images, findings.pack.table, findings.pack.class_names
    copies: dict[str, list[CopyGroup]] = {}
    for group in findings.groups:
        kind = "different labels" if group.contradicts else "equal pixels" if group.identical else _OTHER
        copies.setdefault(f"{'Across splits' if group.across else 'In one split'}, {kind}", []).append(group)
    issues = {name: np.flatnonzero(images.issue == name) for name in ISSUES}
    missing = np.empty(0, np.int64) if findings.undetected is None else findings.undetected.missing
    page = render(
        "audit.html",
        findings=findings,
        table=table,
        label=lambda row: "none" if table.emotion[row] < 0 else names[table.emotion[row]],
        show=(lambda row: findings.pack.images([row])[0]) if pictures else None,
        most=gallery,
        colours=dict(zip(names, class_colours(names), strict=True)),
        emotions=names,
        copies={kind: sorted(groups, key=lambda group: -len(group.rows)) for kind, groups in copies.items()},
        meanings=ISSUES,
        issues={name: rows[np.argsort(images.sharpness[rows], kind="stable")] for name, rows in issues.items()},
        # Faces without another issue first.
        missing=missing[np.argsort(images.issue[missing] != "", kind="stable")],
        uninformative=UNINFORMATIVE,
        details=details,
    )
    write_corrections(findings.corrections, folder / "corrections.csv", names)
    content = {"details": dict(details), **findings.as_dict()}
    files = {
        "label_noise.csv": None if findings.noise is None else findings.candidates_csv(),
        "audit.json": json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n",
        "audit.html": page,
    }
    write_files(folder, files)


Reason = tuple[int, str, float | None]  # row, reason, score


def propose(
    table: Table,
    issues: ImageIssues,
    groups: Sequence[CopyGroup],
    noise: Sequence[LabelNoise],
    options: ProposalOptions,
    names: Sequence[str] = EMOTIONS,
) -> tuple[Correction, ...]:
    """Propose at most one correction per face, in the table's order.

    Proposes to exclude images of one colour, copies of faces in a later split (train before val before test), copies
    whose label contradicts most of their group, further copies of the same pixels, and improbable labels if the
    predictions are informative. `names` are the class names of the table's numbers.
    """

    def reasons() -> Iterator[Reason]:
        """Yield reasons to exclude a face, the most important first."""
        for row in np.flatnonzero(issues.issue == "uniform").tolist():
            yield row, ISSUES["uniform"], None
        for group in groups:
            for row, reason in _superfluous(table, group, names):
                yield row, reason, None
        for each in (candidate for split in noise if split.informative for candidate in split.candidates):
            agreed = table.soft_label[each.row, each.given] >= options.agreed_from
            if not agreed and each.p_given < options.exclude_below:
                yield each.row, "label noise", each.p_given

    corrections: dict[int, Correction] = {}
    # Skip keys that occur twice in a split: their correction would apply to both faces.
    count = Counter(zip(table.key.tolist(), table.split.tolist(), strict=True))
    for row, reason, score in reasons():
        key, split = str(table.key[row]), str(table.split[row])
        has_label = table.emotion[row] >= 0 or not np.isnan(table.soft_label[row]).all()
        if split in options.splits and has_label and count[key, split] == 1:
            was = int(table.emotion[row])
            corrections.setdefault(row, Correction(key, "exclude", split=split, was=was, reason=reason, score=score))
    return tuple(corrections[row] for row in sorted(corrections))


def _superfluous(table: Table, group: CopyGroup, names: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield the faces of a group to exclude, and the reason."""
    last = group.splits[-1]
    here = [row for row in group.rows if table.split[row] == last]
    for row in group.rows:
        if row not in here:
            yield row, f"{'same picture as' if group.identical else 'copy of'} {table.key[here[0]]} in {last}"
    labels = Counter(int(table.emotion[row]) for row in here if table.emotion[row] >= 0)
    if len(labels) > 1:
        (label, most), *_ = labels.most_common(1)
        named = ", ".join(names[each] for each in sorted(labels))
        for row in here:
            if table.emotion[row] >= 0 and (table.emotion[row] != label or 2 * most <= labels.total()):
                yield row, f"copies with different labels: {named}"
    first: dict[str, int] = {}
    # Prefer to keep a copy with a label.
    for row in sorted(here, key=lambda row: (table.emotion[row] < 0, row)):
        other = first.setdefault(str(table.pixel_hash[row]), row)
        if other != row:
            yield row, f"same picture as {table.key[other]}"


def _kind_of(reason: str) -> str:
    """Remove the particular face or classes from a reason."""
    for start, kind in (("same picture as", "same picture as another"), ("copy of", "copy of another")):
        if reason.startswith(start):
            return kind + (" in another split" if reason.endswith((" in val", " in test")) else "")
    return reason.partition(":")[0]
