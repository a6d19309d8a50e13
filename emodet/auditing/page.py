"""The audit as one self-contained page, and the files beside it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emodet.auditing.duplicates import CopyGroup
from emodet.auditing.findings import UNINFORMATIVE, Findings
from emodet.auditing.image_issues import ISSUES
from emodet.data.corrections import write_corrections
from emodet.data.pack import Pack
from emodet.errors import EmodetError
from emodet.evaluation.pages import render
from emodet.files import write_atomically
from emodet.palette import class_colours


def write_results(
    findings: Findings, pack: Pack, folder: Path, details: Mapping[str, Any], *, gallery: int, pictures: bool
) -> None:
    """Write ``audit.html``, ``audit.json``, ``corrections.csv`` and ``label_noise.csv`` over those of an earlier audit.

    A gallery of the page has up to `gallery` images; with ``pictures=False`` it shows none at all.

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
    images, table = findings.images, findings.table
    copies: dict[str, list[CopyGroup]] = {}
    for group in findings.groups:
        copies.setdefault(_kind(group), []).append(group)
    issues = {name: np.flatnonzero(images.issue == name) for name in ISSUES}
    missing = np.empty(0, np.int64) if findings.undetected is None else findings.undetected.missing
    return render(
        "audit.html",
        findings=findings,
        table=table,
        label=lambda row: "none" if table.emotion[row] < 0 else findings.names[table.emotion[row]],
        show=show,
        most=gallery,
        colours=dict(zip(findings.names, class_colours(findings.names), strict=True)),
        emotions=findings.names,
        copies={kind: sorted(groups, key=lambda group: -len(group.rows)) for kind, groups in copies.items()},
        meanings=ISSUES,
        issues={name: rows[np.argsort(images.sharpness[rows], kind="stable")] for name, rows in issues.items()},
        # Those without another issue first.
        missing=missing[np.argsort(images.issue[missing] != "", kind="stable")],
        uninformative=UNINFORMATIVE,
        details=details,
    )


def _kind(group: CopyGroup) -> str:
    where = "Across splits" if group.across else "In one split"
    if group.contradicts:
        return f"{where}, different labels"
    return f"{where}, {'equal pixels' if group.identical else 'other crops, sizes or mirror images'}"
