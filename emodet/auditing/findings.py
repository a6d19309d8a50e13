"""Everything that an audit found, as JSON, CSV and text for a terminal."""

import csv
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emodet.auditing.class_order import OrderFinding
from emodet.auditing.duplicates import CopyGroup
from emodet.auditing.image_issues import ImageIssues
from emodet.auditing.label_noise import LabelNoise
from emodet.auditing.proposals import kind_of
from emodet.auditing.undetected import UndetectedFaces
from emodet.data.corrections import Correction
from emodet.data.pack import Table
from emodet.emotions import EMOTIONS

UNINFORMATIVE = (
    "no better than always the most frequent label, so none is proposed for correction; train longer with "
    "out_of_fold.epochs or out_of_fold.side"
)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Findings:
    """What an audit found.

    Attributes:
        published: Split to class to published number of faces; empty where unknown.
        left_out: Faces that the reader left out, by reason.
        noise: Label issues by split; None without predictions.
        predicted_by: Origin of the predictions.
        skipped: Sentences on what was left out.
        names: Of the table's numbers; the first ones are `class_names`.
    """

    title: str
    table: Table
    class_names: tuple[str, ...]
    published: Mapping[str, Mapping[str, int]]
    left_out: Mapping[str, int]
    unreadable: int
    groups: tuple[CopyGroup, ...]
    images: ImageIssues
    order: tuple[OrderFinding, ...]
    noise: tuple[LabelNoise, ...] | None
    predicted_by: str
    undetected: UndetectedFaces | None
    corrections: tuple[Correction, ...]
    skipped: tuple[str, ...]
    names: tuple[str, ...] = EMOTIONS

    def copies(self) -> dict[str, int]:
        """Photographs that occur more than once, and their faces, by kind."""
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
        """Proposed corrections by action and reason."""
        return dict(Counter(f"{each.action}: {kind_of(each.reason)}" for each in self.corrections).most_common())

    def counts(self) -> dict[str, dict[str, int]]:
        """Split to class to number of faces; those without an emotion come last."""
        names = {**dict(enumerate(self.names)), -1: "without emotion"}
        by_split = {split: self.table.emotion[self.table.split == split] for split in ("train", "val", "test")}
        return {
            split: {name: int((emotion == number).sum()) for number, name in names.items()}
            for split, emotion in by_split.items()
            if emotion.size
        }

    def totals(self) -> list[tuple[str, str, str]]:
        """Name, number and a note for each check, for the page and the terminal."""
        verdicts = [each.wrong for each in self.order if each.wrong is not None]
        order = "–" if not verdicts else "wrong" if any(verdicts) else "correct"
        copied = sum(len(group.rows) for group in self.groups)

        def photographs(groups: list[CopyGroup]) -> tuple[str, str]:
            return f"{len(groups):,}", f"photographs, {sum(len(group.rows) for group in groups):,} faces"

        rows = [
            ("Faces", f"{len(self.table):,}", f"{int((self.table.emotion < 0).sum()):,} without an emotion"),
            ("Faces with copies", f"{copied:,}", f"of {len(self.groups):,} photographs"),
            ("Across splits", *photographs([group for group in self.groups if group.across])),
            ("Contradicting copies", *photographs([group for group in self.groups if group.contradicts])),
            ("Image issues", f"{sum(self.images.counts().values()):,}", "blurred, dark, flat …"),
            ("Class order", order, f"in {sum(verdicts) or len(verdicts)} of {len(verdicts)}"),
        ]
        if (noise := self.noise) is not None:
            issues, judged = sum(len(each.candidates) for each in noise), sum(each.judged for each in noise)
            rows.append(("Label issues", f"{issues:,}", f"of {judged:,} labels"))
        if (found := self.undetected) is not None:
            rows.append(("No face detected", f"{len(found.missing):,}", f"of {len(found.rows):,} crops"))
        return rows

    def as_dict(self) -> dict[str, Any]:
        """All figures and the keys of the faces that they count, for ``audit.json``."""
        key, split, undetected = self.table.key, self.table.split, self.undetected
        groups = [
            {
                "keys": key[list(group.rows)].tolist(),
                "splits": split[list(group.rows)].tolist(),
                "identical": group.identical,
                "emotions": [self.names[number] for number in group.emotions],
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
                "pairs": [[self.names[given], self.names[other], count] for (given, other), count in each.pairs],
            }
            for each in self.noise or ()
        }
        faults = {
            name: {"faces": count, "keys": key[self.images.issue == name].tolist()}
            for name, count in self.images.counts().items()
        }
        return {
            "data": self.title,
            "faces": len(self.table),
            "published": {name: dict(counts) for name, counts in self.published.items()},
            "left_out": dict(self.left_out),
            "unreadable": self.unreadable,
            "copies": self.copies(),
            "groups": groups,
            "class_order": order,
            "label_noise": None if self.noise is None else {"predicted_by": self.predicted_by, "splits": noise},
            "pictures": {"faults": faults},
            "faces_not_found": undetected
            and {
                "detector": undetected.detector,
                "looked_at": len(undetected.rows),
                "not_found": len(undetected.missing),
                "keys": key[undetected.missing].tolist(),
            },
            "proposed": self.proposed(),
            "skipped": list(self.skipped),
        }

    def summary(self) -> str:
        """The counts, for a terminal."""
        lines = [self.title, *(f"{number:>9}  {name.lower()} ({note})" for name, number, note in self.totals())]
        for each in self.noise or ():
            agree = f"{100 * each.agree:.1f} % of {each.judged:,} predictions agree with the labels of {each.split}"
            lines.append(agree if each.informative else f"{agree}: {UNINFORMATIVE}")
        lines += ["class order:", *(f"  {each.verdict}: {each.sentence}" for each in self.order)]
        lines += [] if self.order else ["  not checked: no valence and arousal, no model file"]
        lines.append("proposed corrections:")
        lines += [f"{count:>7,}  {what}" for what, count in self.proposed().items()] or ["  none"]
        return "\n".join([*lines, *self.skipped])

    def candidates_csv(self) -> str:
        """Every label issue as a row of ``label_noise.csv``."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["key", "split", "given", "suggested", "p_given", "p_suggested"])
        for each in (candidate for split in self.noise or () for candidate in split.candidates):
            names = self.names[each.given], self.names[each.suggested]
            shares = f"{each.p_given:.4f}", f"{each.p_suggested:.4f}"
            writer.writerow([self.table.key[each.row], self.table.split[each.row], *names, *shares])
        return stream.getvalue()
