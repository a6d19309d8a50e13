"""Proposed corrections, for a person to confirm."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from emodet.auditing.duplicates import CopyGroup
from emodet.auditing.image_issues import ISSUES, ImageIssues
from emodet.auditing.label_noise import LabelNoise
from emodet.auditing.options import ProposalOptions
from emodet.data.corrections import Correction
from emodet.data.pack import Table
from emodet.emotions import EMOTIONS

Reason = tuple[int, str, float | None]  # row, reason, score


def propose(
    table: Table,
    issues: ImageIssues,
    groups: Sequence[CopyGroup],
    noise: Sequence[LabelNoise],
    options: ProposalOptions,
    names: Sequence[str] = EMOTIONS,
) -> tuple[Correction, ...]:
    """At most one correction for each face, in the table's order.

    Excludes images of one colour, copies of faces in a later split (train before val before test), copies whose label
    contradicts most of their group, further copies of the same pixels, and improbable labels, where the predictions are
    informative. `names` are those of the table's numbers.
    """

    def reasons() -> Iterator[Reason]:
        """To exclude a face, the weightier first."""
        for row in np.flatnonzero(issues.issue == "uniform").tolist():
            yield row, ISSUES["uniform"], None
        for group in groups:
            for row, reason in _superfluous(table, group, names):
                yield row, reason, None
        for each in (candidate for split in noise if split.informative for candidate in split.candidates):
            agreed = table.soft_label[each.row, each.given] >= options.agreed_from
            if not agreed and each.p_given < options.exclude_below:
                yield each.row, "label noise", each.p_given

    found: dict[int, Correction] = {}
    # A correction of a key that occurs twice in a split would apply to both faces.
    count = Counter(zip(table.key.tolist(), table.split.tolist(), strict=True))
    for row, reason, score in reasons():
        key, split = str(table.key[row]), str(table.split[row])
        has_label = table.emotion[row] >= 0 or not np.isnan(table.soft_label[row]).all()
        if split in options.splits and has_label and count[key, split] == 1:
            was = int(table.emotion[row])
            found.setdefault(row, Correction(key, "exclude", split=split, was=was, reason=reason, score=score))
    return tuple(found[row] for row in sorted(found))


def _superfluous(table: Table, group: CopyGroup, names: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Faces of a group to exclude, and the reason."""
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
    # A copy with a label is kept rather than one without.
    for row in sorted(here, key=lambda row: (table.emotion[row] < 0, row)):
        other = first.setdefault(str(table.pixel_hash[row]), row)
        if other != row:
            yield row, f"same picture as {table.key[other]}"


def kind_of(reason: str) -> str:
    """A reason without the particular face or classes that it names."""
    for start, kind in (("same picture as", "same picture as another"), ("copy of", "copy of another")):
        if reason.startswith(start):
            return kind + (" in another split" if reason.endswith((" in val", " in test")) else "")
    return reason.partition(":")[0]
