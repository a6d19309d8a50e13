"""What an audit leaves behind: a page, its figures as JSON, proposed corrections and all candidates as CSV."""

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emodet.auditing.findings import NOT_TELLING, Findings
from emodet.auditing.page import audit_page
from emodet.data.corrections import write_corrections
from emodet.data.pack import Pack
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError

__all__ = ["in_words", "write_results"]


def write_results(
    findings: Findings, pack: Pack, folder: Path, details: Mapping[str, Any], *, gallery: int, pictures: bool
) -> None:
    """Write ``audit.html``, ``audit.json``, ``corrections.csv`` and ``label_noise.csv``, each whole or not at all.

    Args:
        findings: What was found.
        pack: Its pictures.
        folder: Must be there; files of an earlier audit are replaced.
        details: What it takes to repeat it.
        gallery: How many pictures a gallery shows.
        pictures: Whether the page shows pictures at all.

    Raises:
        EmodetError: A file cannot be written.
    """
    show = (lambda row: pack.images([row])[0]) if pictures else None
    write_corrections(findings.corrections, folder / "corrections.csv")
    try:
        _write_candidates(findings, folder / "label_noise.csv")
        content = {"details": dict(details), **findings.as_dict()}
        _write(json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n", folder / "audit.json")
        _write(audit_page(findings, show, details, gallery), folder / "audit.html")
    except OSError as problem:
        raise EmodetError(f"output={folder}: cannot be written ({problem})") from problem


def in_words(findings: Findings) -> str:
    """The counts, for a terminal."""
    lines = [f"{findings.title}: {len(findings.table):,} faces"]
    lines += [f"{count:>7,}  {name}" for name, count in findings.copies().items()]
    lines += [f"{count:>7,}  {name} pictures" for name, count in findings.quality.counts().items() if count]
    if findings.sides is not None and findings.small():
        lines.append(f"{findings.small():>7,}  stored with less than half the crop's {findings.crop_side} pixels")
    if findings.unfound is not None:
        looked = len(findings.unfound.rows)
        lines.append(f"{len(findings.unfound.missing):>7,}  of {looked:,} without a face that the detector finds")
    for each in findings.noise or ():
        lines.append(
            f"{len(each.candidates):>7,}  labels of {each.split} in doubt; nets agree with {100 * each.agree:.1f} % of "
            f"{each.judged:,}" + ("" if each.telling else f". {NOT_TELLING}")
        )
    lines += ["class order:", *(f"  {each.sentence}" for each in findings.order)]
    if not findings.order:
        lines.append("  not looked at: there are no valence and arousal, and no model was asked")
    lines.append("proposed corrections:")
    lines += [f"{count:>7,}  {what}" for what, count in findings.proposed().items()] or ["  none"]
    return "\n".join([*lines, *findings.skipped])


def _write_candidates(findings: Findings, path: Path) -> None:
    table = findings.table
    if findings.noise is None:
        # Not one of an earlier audit.
        path.unlink(missing_ok=True)
        return
    unfinished = path.with_name(f"{path.name}.unfinished-{os.getpid()}")
    with unfinished.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["key", "split", "given", "suggested", "p_given", "p_suggested"])
        for each in (candidate for split in findings.noise for candidate in split.candidates):
            names = EMOTIONS[each.given], EMOTIONS[each.suggested]
            shares = f"{each.quality:.4f}", f"{each.sure:.4f}"
            writer.writerow([table.key[each.row], table.split[each.row], *names, *shares])
    unfinished.replace(path)


def _write(content: str, path: Path) -> None:
    unfinished = path.with_name(f"{path.name}.unfinished-{os.getpid()}")
    unfinished.write_text(content, encoding="utf-8")
    unfinished.replace(path)
