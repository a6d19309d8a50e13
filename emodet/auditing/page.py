"""The audit as one self-contained page, and the files beside it."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emodet.auditing.duplicates import CopyGroup, varied
from emodet.auditing.findings import UNINFORMATIVE, Findings
from emodet.auditing.image_issues import ISSUES
from emodet.auditing.undetected import RELIABILITY
from emodet.data.corrections import write_corrections
from emodet.data.pack import Pack
from emodet.errors import EmodetError
from emodet.evaluation.pages import render
from emodet.files import write_atomically
from emodet.palette import class_colours

__all__ = ["audit_page", "write_results"]

_SECTIONS = ("classes", "order", "copies", "labels", "pictures", "faces", "corrections", "details")
_OF_A_GROUP = 6
_PAIRS = 12


def write_results(
    findings: Findings, pack: Pack, folder: Path, details: Mapping[str, Any], *, gallery: int, pictures: bool
) -> None:
    """Write ``audit.html``, ``audit.json``, ``corrections.csv`` and ``label_noise.csv`` over those of an earlier audit.

    Args:
        findings: Of the audit.
        pack: Its images.
        folder: Exists.
        details: Versions, commit, fingerprint.
        gallery: Images in a gallery.
        pictures: Whether the page shows images at all.

    Raises:
        EmodetError: A file cannot be written.
    """
    show = (lambda row: pack.images([row])[0]) if pictures else None
    write_corrections(findings.corrections, folder / "corrections.csv", findings.names)
    content = {"details": dict(details), **findings.as_dict()}
    try:
        (folder / "label_noise.csv").unlink(missing_ok=True)
        if findings.noise is not None:
            write_atomically(folder / "label_noise.csv", findings.candidates_csv())
        text = json.dumps(content, indent=1, ensure_ascii=False, default=str)
        write_atomically(folder / "audit.json", f"{text}\n")
        write_atomically(folder / "audit.html", audit_page(findings, show, details, gallery))
    except OSError as problem:
        raise EmodetError(f"output={folder}: cannot be written ({problem})") from problem


def audit_page(
    findings: Findings, show: Callable[[int], npt.NDArray[np.uint8]] | None, details: Mapping[str, Any], gallery: int
) -> str:
    """The page as HTML; `show` returns the image of a row, uint8 (H, W, 3) RGB; None for a page without images."""
    page = _Page(findings, show, gallery)
    return render(
        "audit.html",
        findings=findings,
        sections=[(name, name.capitalize()) for name in _SECTIONS],
        colours=dict(zip(findings.names, class_colours(findings.names), strict=True)),
        emotions=findings.names,
        shows_images=show is not None,
        tiles=page.tiles(),
        balance=page.balance(),
        imbalance=page.imbalance(),
        copies=page.copies(),
        noise=page.noise(),
        issues=page.issues(),
        undetected=page.undetected(),
        reliability=RELIABILITY,
        uninformative=UNINFORMATIVE,
        details={name: _flat(value) for name, value in details.items()},
    )


class _Page:
    """Values of the template."""

    def __init__(self, findings: Findings, show: Callable[[int], npt.NDArray[np.uint8]] | None, gallery: int) -> None:
        self.findings, self.table = findings, findings.table
        self.show, self.gallery = show, gallery

    def tiles(self) -> list[tuple[str, str, str]]:
        findings, copies = self.findings, self.findings.copies()
        noise, undetected = findings.noise, findings.undetected
        wrong = sum(each.wrong is True for each in findings.order)
        decided = sum(each.wrong is not None for each in findings.order)
        judged = sum(each.judged for each in noise or ())
        issues = sum(len(each.candidates) for each in noise or ())
        across, disagree = (
            copies.get(f"{kind}: photographs", 0) for kind in ("across splits", "with contradicting labels")
        )
        faces = sum(len(group.rows) for group in findings.groups)
        return [
            ("Faces", f"{len(self.table):,}", f"{int((self.table.emotion < 0).sum()):,} without an emotion"),
            ("Faces with copies", f"{faces:,}", f"of {len(findings.groups):,} photographs"),
            ("Across splits", f"{across:,}", f"photographs, {copies.get('across splits: faces', 0):,} faces"),
            ("Contradicting copies", f"{disagree:,}", "photographs with different labels"),
            ("Label issues", *(("–", "not checked") if noise is None else (f"{issues:,}", f"of {judged:,} labels"))),
            (
                "Class order",
                "wrong" if wrong else "correct" if decided else "–",
                f"in {wrong} of {decided} checks" if wrong else f"{decided} conclusive checks",
            ),
            ("Image issues", f"{sum(findings.images.counts().values()):,}", "blurred, dark, flat …"),
            (
                "No face detected",
                *(
                    ("–", "not checked")
                    if undetected is None
                    else (f"{len(undetected.missing):,}", f"of {len(undetected.rows):,} crops")
                ),
            ),
        ]

    def counts(self) -> dict[str, dict[str, int]]:
        names = {**dict(enumerate(self.findings.names)), -1: "without emotion"}
        found = {}
        for split in ("train", "val", "test"):
            emotion = self.table.emotion[self.table.split == split]
            if emotion.size:
                found[split] = {name: int((emotion == number).sum()) for number, name in names.items()}
        return found

    def balance(self) -> dict[str, Any]:
        """Split to number of faces, and class to a cell for each split."""
        counts = self.counts()
        labelled = {split: sum(of.values()) - of["without emotion"] for split, of in counts.items()}
        rows = {}
        for name in (*self.findings.names, "without emotion"):
            if any(of[name] for of in counts.values()):
                rows[name] = [
                    {
                        "count": of[name],
                        "published": self.findings.published.get(split, {}).get(name, of[name]),
                        "share": None if name == "without emotion" else of[name] / max(1, labelled[split]),
                    }
                    for split, of in counts.items()
                ]
        return {"splits": {split: sum(of.values()) for split, of in counts.items()}, "rows": rows}

    def imbalance(self) -> list[str]:
        sentences = []
        for split, of in self.counts().items():
            classes = {name: count for name, count in of.items() if count and name != "without emotion"}
            if len(classes) < 2:
                sentences.append(f"{split.capitalize()} has {len(classes) or 'no'} class{'' if classes else 'es'}.")
                continue
            most, least = max(classes, key=classes.__getitem__), min(classes, key=classes.__getitem__)
            ratio = classes[most] / classes[least]
            sentences.append(
                f"{split.capitalize()} has the same number of faces in each of its {len(classes)} classes."
                if ratio == 1
                else f"{split.capitalize()} has {ratio:.1f} times as many faces of {most} as of {least}."
            )
        return sentences

    def copies(self) -> list[dict[str, Any]]:
        kinds: dict[str, list[CopyGroup]] = {}
        for group in self.findings.groups:
            kinds.setdefault(_kind(group), []).append(group)
        found = []
        for name, groups in kinds.items():
            largest = sorted(groups, key=lambda group: -len(group.rows))[: -(-self.gallery // _OF_A_GROUP)]
            shown = [(group, self.cards(varied(group, self.table, _OF_A_GROUP))) for group in largest]
            faces = sum(len(group.rows) for group in groups)
            found.append({"name": name, "groups": len(groups), "faces": faces, "shown": shown})
        return found

    def noise(self) -> list[dict[str, Any]]:
        found = []
        for each in self.findings.noise or ():
            chosen = each.candidates[: self.gallery]
            cards = self.cards(candidate.row for candidate in chosen)
            found.append({"split": each, "cards": list(zip(chosen, cards, strict=True)), "pairs": each.pairs[:_PAIRS]})
        return found

    def issues(self) -> list[dict[str, Any]]:
        images, found = self.findings.images, []
        for name, meaning in ISSUES.items():
            rows = np.flatnonzero(images.issue == name)
            worst = rows[np.argsort(images.sharpness[rows], kind="stable")][: (self.gallery + 1) // 2]
            found.append({"name": name, "meaning": meaning, "faces": len(rows), "cards": self.cards(worst.tolist())})
        return found

    def undetected(self) -> list[dict[str, Any]]:
        if self.findings.undetected is None:
            return []
        missing = self.findings.undetected.missing
        # Those without another issue first.
        order = np.argsort(self.findings.images.issue[missing] != "", kind="stable")
        return self.cards(missing[order][: self.gallery].tolist())

    def cards(self, rows: Iterable[int]) -> list[dict[str, Any]]:
        return [
            {
                "key": str(self.table.key[row]),
                "split": str(self.table.split[row]),
                "label": "none" if self.table.emotion[row] < 0 else self.findings.names[self.table.emotion[row]],
                "image": None if self.show is None else self.show(row),
            }
            for row in rows
        ]


def _kind(group: CopyGroup) -> str:
    where = "Across splits" if group.across else "In one split"
    if group.contradicts:
        return f"{where}, different labels"
    return f"{where}, {'equal pixels' if group.identical else 'other crops, sizes or mirror images'}"


def _flat(value: Any) -> str | None:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    return None if value is None else str(value)
