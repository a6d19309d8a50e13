"""The audit as one page: counts first, then what they are made of, with pictures inside the file and no request."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emodet.auditing.duplicates import CopyGroup
from emodet.auditing.findings import NOT_TELLING, Findings
from emodet.auditing.label_noise import Candidate, NoiseFindings
from emodet.auditing.quality import FAULTS
from emodet.emotions import EMOTIONS
from emodet.evaluation.markup import data_uri, document, encoded, percent, small, swatch, text
from emodet.palette import EMOTION_COLOURS

__all__ = ["audit_page"]

Show = Callable[[int], npt.NDArray[np.uint8]]

_SECTIONS = ("classes", "order", "copies", "labels", "pictures", "faces", "corrections", "details")
_OF_A_GROUP = 6
_PAIRS = 12


def audit_page(findings: Findings, show: Show | None, details: Mapping[str, Any], gallery: int) -> str:
    """The page as HTML.

    Args:
        findings: What was found.
        show: Gives the picture of a face by its position in the table, uint8 (H, W, 3) RGB; None for a page without.
        details: What it takes to repeat the audit.
        gallery: How many pictures a gallery shows.
    """
    page = _Page(findings, show, gallery)
    links = "".join(f'<a href="#{name}">{name.capitalize()}</a>\n' for name in _SECTIONS)
    body = f"""<header>
<h1>Audit of {text(findings.title)}</h1>
<p>{len(findings.table):,} faces, {len(findings.class_names)} classes</p>
<nav aria-label="Sections">{links}</nav>
</header>
<main>
{page.notice()}
<section aria-labelledby="counts"><h2 id="counts">Counts</h2>{page.tiles()}{page.skipped()}</section>
<section aria-labelledby="classes"><h2 id="classes">Classes</h2>{page.balance()}</section>
<section aria-labelledby="order"><h2 id="order">Class order</h2>{page.order()}</section>
<section aria-labelledby="copies"><h2 id="copies">Copies</h2>{page.copies()}</section>
<section aria-labelledby="labels"><h2 id="labels">Labels in doubt</h2>{page.labels()}</section>
<section aria-labelledby="pictures"><h2 id="pictures">Pictures</h2>{page.pictures()}</section>
<section aria-labelledby="faces"><h2 id="faces">Faces not found</h2>{page.faces()}</section>
<section aria-labelledby="corrections"><h2 id="corrections">Proposed corrections</h2>{page.corrections()}</section>
<section aria-labelledby="details"><h2 id="details">Details</h2>{_facts(details)}</section>
</main>
<footer><p>The classes say what a face shows to the people who labelled it, not what somebody feels; a label in doubt is
one that nets would give otherwise, and nets are wrong as well.</p></footer>
"""
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return document(f"{findings.title}: emodet audit", body, more_style=style)


class _Page:
    """The sections of one audit's page."""

    def __init__(self, findings: Findings, show: Show | None, gallery: int) -> None:
        self.findings, self.table = findings, findings.table
        self.show, self.gallery = show, gallery

    def notice(self) -> str:
        what = (
            "This page holds pictures of the data set. Its terms say who may see them: keep the page where the data is."
            if self.show is not None
            else "This page holds no pictures, but the names of files and faces of the data set."
        )
        return f'<div class="callout" role="note"><p>{what} Nothing of it was sent anywhere.</p></div>'

    def tiles(self) -> str:
        findings, copies = self.findings, self.findings.copies()
        candidates = sum(len(each.candidates) for each in findings.noise or ())
        faults = sum(findings.quality.counts().values())
        wrong = [each for each in findings.order if each.wrong]
        told = [each for each in findings.order if each.wrong is not None]
        tiles: list[tuple[str, object, str]] = [
            ("Faces", f"{len(self.table):,}", f"{int((self.table.emotion < 0).sum()):,} without an emotion"),
            (
                "Faces with copies",
                f"{sum(len(group.rows) for group in findings.groups):,}",
                f"of {len(findings.groups):,} photographs",
            ),
            (
                "Across splits",
                f"{copies.get('across splits: photographs', 0):,}",
                f"photographs, {copies.get('across splits: faces', 0):,} faces",
            ),
            (
                "Copies that disagree",
                f"{copies.get('with contradicting labels: photographs', 0):,}",
                "photographs with several labels",
            ),
            (
                "Labels in doubt",
                "–" if findings.noise is None else f"{candidates:,}",
                "not looked at" if findings.noise is None else f"of {sum(e.judged for e in findings.noise):,} judged",
            ),
            (
                "Class order",
                "wrong" if wrong else "fits" if told else "–",
                f"{len(wrong)} of {len(told)} looks say so" if wrong else f"{len(told)} looks",
            ),
            ("Bad pictures", f"{faults:,}", "blurred, dark, flat …"),
            (
                "Faces not found",
                "–" if findings.unfound is None else f"{len(findings.unfound.missing):,}",
                "not looked for" if findings.unfound is None else f"of {len(findings.unfound.rows):,} looked at",
            ),
        ]
        cells = "".join(
            f'<div><dt>{name}</dt><dd class="value">{value}</dd><dd class="note">{note}</dd></div>'
            for name, value, note in tiles
        )
        return f'<dl class="tiles">{cells}</dl>'

    def skipped(self) -> str:
        return "".join(f'<p class="quiet">{text(sentence)}</p>' for sentence in self.findings.skipped)

    def balance(self) -> str:
        table, names = self.table, {**dict(enumerate(EMOTIONS)), -1: "without emotion"}
        splits = [split for split in ("train", "val", "test") if (table.split == split).any()]
        counts = {split: {n: int((table.emotion[table.split == split] == n).sum()) for n in names} for split in splits}
        rows = []
        for number, name in names.items():
            if not any(counts[split][number] for split in splits):
                continue
            cells = "".join(
                f"<td>{self._counted(split, name, counts[split][number], sum(counts[split].values()))}</td>"
                for split in splits
            )
            mark = swatch(EMOTION_COLOURS[name]) if name in EMOTION_COLOURS else ""
            rows.append(f'<tr><th scope="row">{mark}{name}</th>{cells}</tr>')
        head = "".join(
            f'<th scope="col">{split} ({sum(counts[split].values()):,})</th>' for split in ("", *splits) if split
        )
        left_out = "".join(f"<li>{count:,} × {text(why)}</li>" for why, count in self.findings.left_out.items())
        left_out += f"<li>{self.findings.unreadable:,} × unreadable</li>" if self.findings.unreadable else ""
        notes = f'<p class="quiet">Left out of all this:</p><ul class="quiet">{left_out}</ul>' if left_out else ""
        return (
            f'<p>{_imbalance(counts)}</p><div class="wide"><table class="balance"><caption>Faces per class, and their '
            "share of the split's faces with an emotion; in brackets what is published, where it differs.</caption>"
            f'<thead><tr><th scope="col">Class</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
            f"{notes}"
        )

    def _counted(self, split: str, name: str, count: int, total: int) -> str:
        published = self.findings.published.get(split, {}).get(name)
        other = "" if published in (None, count) else f' <span class="bad">[{published:,}]</span>'
        if name == "without emotion":
            return f"{count:,}{other}"
        labelled = total - int((self.table.emotion[self.table.split == split] < 0).sum())
        share = count / labelled if labelled else 0.0
        return (
            f'{count:,}{other} <span class="interval">{percent(share)}</span>'
            f'<span class="bar" style="width:{100 * share:.1f}%" aria-hidden="true"></span>'
        )

    def order(self) -> str:
        if not self.findings.order:
            return "<p>Not looked at: there are no valence and arousal, and no model was asked.</p>"
        items = "".join(f"<li>{_verdict(each.wrong)} {text(each.sentence)}</li>" for each in self.findings.order)
        tables = "".join(_order_table(each, self.findings.class_names) for each in self.findings.order)
        return f'<ul class="verdicts">{items}</ul><details><summary>The figures behind it</summary>{tables}</details>'

    def copies(self) -> str:
        groups = self.findings.groups
        if not groups:
            return "<p>No photograph occurs more than once.</p>"
        kinds: Sequence[tuple[str, Callable[[CopyGroup], bool]]] = (
            ("In several splits, with labels that disagree", lambda g: g.across and g.contradicts),
            ("In several splits", lambda g: g.across and not g.contradicts),
            ("In one split, with labels that disagree", lambda g: not g.across and g.contradicts),
            ("In one split, pixel for pixel", lambda g: not g.across and not g.contradicts and g.identical),
            (
                "In one split, another cut, size or mirror image",
                lambda g: not (g.across or g.contradicts or g.identical),
            ),
        )
        rows, shown = [], []
        for head, fits in kinds:
            fitting = [group for group in groups if fits(group)]
            faces = sum(len(group.rows) for group in fitting)
            rows.append(f"<tr><td>{head}</td><td>{len(fitting):,}</td><td>{faces:,}</td></tr>")
            # The largest groups say most.
            largest = sorted(fitting, key=lambda group: -len(group.rows))[: max(1, self.gallery // _OF_A_GROUP)]
            if fitting and self.gallery:
                items = "".join(self._group(group) for group in largest)
                note = f" (the {len(largest)} largest of {len(fitting):,})" if len(largest) < len(fitting) else ""
                shown.append(f'<h3>{head}{note}</h3><ul class="groups">{items}</ul>')
        return (
            '<table><thead><tr><th scope="col">Copies</th><th scope="col">Photographs</th><th scope="col">Faces</th>'
            f"</tr></thead><tbody>{''.join(rows)}</tbody></table>{''.join(shown)}"
        )

    def _group(self, group: CopyGroup) -> str:
        more = f", {_OF_A_GROUP} shown" if len(group.rows) > _OF_A_GROUP else ""
        kind = "the same pixels" if group.identical else "copies"
        cards = self._cards(
            (row, f"{_named(int(self.table.emotion[row]))}, {self.table.split[row]}")
            for row in _varied(group, self.table)
        )
        return f"<li><p>{len(group.rows)} faces, {kind}{more}</p>{cards}</li>"

    def labels(self) -> str:
        noise = self.findings.noise
        if noise is None:
            return "<p>Not looked at.</p>"
        if not noise:
            return "<p>No face that has a label was answered.</p>"
        rows = "".join(
            f"<tr><td>{each.split}</td><td>{each.judged:,}</td><td>{percent(each.agree)}</td>"
            f"<td>{len(each.candidates):,}</td><td>{percent(len(each.candidates) / each.judged)}</td></tr>"
            for each in noise
        )
        head = "".join(
            f'<th scope="col">{name}</th>' for name in ("Split", "Judged", "Nets agree", "In doubt", "Share")
        )
        shown = "".join(self._doubts(each) for each in noise)
        warnings = "".join(
            f'<p class="bad">{each.split}: nets agree with {percent(each.agree)} of the labels. {NOT_TELLING}.</p>'
            for each in noise
            if not each.telling
        )
        return (
            f'<p class="quiet">Answered by {text(self.findings.answered_by)}. In doubt is what confident learning '
            "(Northcutt et al. 2021) takes for another class: candidates to look at, among them faces that the nets "
            f"get wrong.</p>{warnings}<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{shown}"
        )

    def _doubts(self, noise: NoiseFindings) -> str:
        if not noise.candidates or not self.gallery:
            return ""
        pairs = "".join(
            f'<tr><td>{_named(given)}</td><td style="text-align:left">{_named(suggested)}</td><td>{count:,}</td></tr>'
            for (given, suggested), count in noise.pairs[:_PAIRS]
        )
        chosen = noise.candidates[: self.gallery]
        cards = self._cards((each.row, _doubt(each)) for each in chosen)
        return (
            f"<h3>{noise.split}: the least probable labels ({len(chosen)} of {len(noise.candidates):,})</h3>{cards}"
            f"<details><summary>Which labels are taken for which in {noise.split}</summary><table><thead><tr>"
            '<th scope="col">Label</th><th scope="col" style="text-align:left">Nets say</th><th scope="col">Faces</th>'
            f"</tr></thead><tbody>{pairs}</tbody></table></details>"
        )

    def pictures(self) -> str:
        quality, findings = self.findings.quality, self.findings
        counts = quality.counts()
        rows = "".join(
            f'<tr><td>{name}</td><td style="text-align:left">{words}</td><td>{counts[name]:,}</td></tr>'
            for name, words in FAULTS.items()
        )
        table = (
            '<table><thead><tr><th scope="col">Fault</th><th scope="col" style="text-align:left">Meaning</th>'
            f'<th scope="col">Faces</th></tr></thead><tbody>{rows}</tbody></table>'
        )
        stored = findings.as_dict()["pictures"]["stored_sides"]
        if stored:
            parts = ", ".join(f"{name} under {value:.0f}" for name, value in stored.items())
            table += (
                f"<p>Pixels of the shorter side where faces are stored: {parts}. {findings.small():,} have less than "
                f"half of the crop's {findings.crop_side}: enlarging them shows a net nothing new.</p>"
            )
        for name in FAULTS:
            rows_of = np.flatnonzero(quality.fault == name)
            if not rows_of.size or not self.gallery:
                continue
            worst = rows_of[np.argsort(quality.sharpness[rows_of], kind="stable")][: max(1, self.gallery // 2)]
            cards = self._cards((int(row), self._label(int(row))) for row in worst)
            table += f"<h3>{name.capitalize()} ({len(worst)} of {len(rows_of):,})</h3>{cards}"
        return table

    def faces(self) -> str:
        unfound = self.findings.unfound
        if unfound is None:
            return "<p>Not looked for.</p>"
        missing = unfound.missing
        words = (
            f"<p>{text(unfound.detector)} finds no face in {len(missing):,} of {len(unfound.rows):,} pictures "
            f"({percent(len(missing) / max(1, len(unfound.rows)))}).</p>"
            f'<p class="quiet">{text(unfound.reliability)}</p>'
        )
        if not missing.size or not self.gallery:
            return words
        # Those that also have other faults say least.
        chosen = missing[np.argsort(self.findings.quality.fault[missing] != "", kind="stable")][: self.gallery]
        cards = self._cards((int(row), self._label(int(row))) for row in chosen)
        return f"{words}<h3>Not found ({len(chosen)} of {len(missing):,})</h3>{cards}"

    def corrections(self) -> str:
        proposed = self.findings.proposed()
        if not proposed:
            return "<p>None.</p>"
        rows = "".join(f"<tr><td>{text(what)}</td><td>{count:,}</td></tr>" for what, count in proposed.items())
        return (
            "<p>They are in <code>corrections.csv</code> beside this page, one row for each face. Look through it, "
            "delete the rows that you do not agree with, and train with <code>data.corrections=corrections.csv</code>. "
            "Release and pack stay as they are; the run names the file's SHA-256 and how many faces it changed. "
            "The score of a label in doubt is the probability that nets give to its label.</p><table><thead><tr>"
            f'<th scope="col">Proposal</th><th scope="col">Faces</th></tr></thead><tbody>{rows}</tbody></table>'
        )

    def _label(self, row: int) -> str:
        return f"{_named(int(self.table.emotion[row]))}, {self.table.split[row]}"

    def _cards(self, faces: Iterable[tuple[int, str]]) -> str:
        """A gallery: pictures with a caption (markup) and their key; without pictures a list of keys."""
        if self.show is None:
            items = "".join(
                f'<li><span class="key">{text(self.table.key[row])}</span>: {caption}</li>' for row, caption in faces
            )
            return f'<ul class="quiet">{items}</ul>'
        cards = []
        for row, caption in faces:
            uri = data_uri(encoded(small(self.show(row)), ".jpg"), "jpeg")
            alt = f"Face labelled {_word(int(self.table.emotion[row]))}"
            cards.append(
                f'<li><img src="{uri}" alt="{alt}"><p>{caption}</p><p class="key">{text(self.table.key[row])}</p></li>'
            )
        return f'<ul class="gallery">{"".join(cards)}</ul>'


def _word(emotion: int) -> str:
    return "none" if emotion < 0 else EMOTIONS[emotion]


def _named(emotion: int) -> str:
    """A class with its colour, as markup."""
    name = _word(emotion)
    return f"{swatch(EMOTION_COLOURS[name])}{name}" if name in EMOTION_COLOURS else name


def _doubt(candidate: Candidate) -> str:
    return (
        f"{_named(candidate.given)} {100 * candidate.quality:.0f}&nbsp;% → {_named(candidate.suggested)} "
        f"<b>{100 * candidate.sure:.0f}&nbsp;%</b>"
    )


def _varied(group: CopyGroup, table: Any) -> list[int]:
    """Some faces of a group: of each label and split one first."""
    seen: set[tuple[int, str]] = set()
    first: list[int] = []
    rest: list[int] = []
    for row in group.rows:
        kind = (int(table.emotion[row]), str(table.split[row]))
        (rest if kind in seen else first).append(row)
        seen.add(kind)
    return [*first, *rest][:_OF_A_GROUP]


def _imbalance(counts: Mapping[str, Mapping[int, int]]) -> str:
    sentences = []
    for split, of in counts.items():
        labelled = {number: count for number, count in of.items() if number >= 0 and count}
        if len(labelled) > 1:
            most, least = max(labelled, key=labelled.__getitem__), min(labelled, key=labelled.__getitem__)
            ratio = labelled[most] / labelled[least]
            sentences.append(f"{split}: {EMOTIONS[most]} to {EMOTIONS[least]} is {ratio:.1f} to 1")
    return "; ".join(sentences) + "." if sentences else "There is only one class."


def _verdict(wrong: bool | None) -> str:
    if wrong is None:
        return "<b>Not told.</b>"
    return '<span class="bad">Wrong.</span>' if wrong else '<span class="good">Fits.</span>'


def _order_table(finding: Any, class_names: Sequence[str]) -> str:
    two = finding.figures.shape[1] == 2
    columns = ("valence", "arousal") if two else class_names
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in columns)
    body = "".join(
        f'<tr><th scope="row">{_named(EMOTIONS.index(name))}</th>'
        + "".join(f"<td>{value:+.2f}</td>" if two else f"<td>{100 * value:.0f}</td>" for value in figures)
        + "</tr>"
        for name, figures in zip(finding.classes, finding.figures.tolist(), strict=True)
    )
    what = "Means" if two else "Rows: label. Columns: answers, in percent"
    return (
        f'<div class="wide"><table class="counts"><caption>{what}: {text(finding.told_by)}</caption><thead><tr>'
        f'<th scope="col">Class</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _facts(details: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{text(key)}</th><td>{text(_flat(value))}</td></tr>' for key, value in details.items()
    )
    return f'<table class="facts"><tbody>{rows}</tbody></table>'


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    return "–" if value is None else str(value)
