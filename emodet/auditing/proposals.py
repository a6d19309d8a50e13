"""From findings to corrections: what the audit would leave out or call otherwise, for a person to confirm.

By default only train is touched: figures on a val or test that was changed cannot be compared with those of others.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from emodet.auditing.duplicates import CopyGroup
from emodet.auditing.label_noise import NoiseFindings
from emodet.auditing.quality import FAULTS, Quality
from emodet.data.corrections import Correction
from emodet.data.pack import Table
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError

__all__ = ["ProposalRules", "propose"]

_RANK = {"train": 0, "val": 1, "test": 2}


@dataclass(frozen=True, slots=True)
class ProposalRules:
    """What is proposed.

    Attributes:
        splits: The splits whose faces may be proposed for correction.
        exclude_below: A label-noise candidate is proposed for exclusion where its label's probability is below this.
        relabel_from: It is proposed for relabelling instead where another class is at least this probable. None
            relabels nothing: of FER2013's labels that nets of minutes would have changed at 0.95, voters agreed to 70 %
            (experiments/ferplus/audit/README.md), and a wrong label is worse than a face less.
        agreed_from: Nothing is proposed because of nets where the face's soft label, the votes of several people, gives
            its label at least this share: they outweigh a net that was trained for minutes.
    """

    splits: Sequence[str] = ("train",)
    exclude_below: float = 0.05
    relabel_from: float | None = None
    agreed_from: float = 0.5

    def __post_init__(self) -> None:
        odd = [split for split in self.splits if split not in _RANK]
        if odd:
            raise EmodetError(f"proposals.splits={list(self.splits)}: {odd[0]} is not train, val or test")


def propose(
    table: Table,
    quality: Quality,
    groups: Sequence[CopyGroup],
    noise: Sequence[NoiseFindings],
    rules: ProposalRules,
) -> tuple[Correction, ...]:
    """The corrections that follow from what was found, at most one for each face, in the table's order.

    Pictures of one colour are excluded; so are copies of faces in a later split (train before val before test), copies
    that contradict most of their group, further copies of the same pixels, and labels that nets find improbable, where
    the nets know enough.
    """
    found: dict[int, Correction] = {}

    def add(row: int, action: str, reason: str, *, emotion: int | None = None, score: float | None = None) -> None:
        taught = table.emotion[row] >= 0 or not np.isnan(table.soft_label[row]).all()
        if table.split[row] in rules.splits and taught and row not in found:
            found[row] = Correction(
                key=str(table.key[row]),
                action=action,
                emotion=emotion,
                split=str(table.split[row]),
                was=int(table.emotion[row]),
                reason=reason,
                score=score,
            )

    for row in np.flatnonzero(quality.fault == "uniform").tolist():
        add(row, "exclude", FAULTS["uniform"])
    for group in groups:
        for row, reason in _superfluous(table, group):
            add(row, "exclude", reason)
    for each in (candidate for findings in noise if findings.telling for candidate in findings.candidates):
        if table.soft_label[each.row, each.given] >= rules.agreed_from:
            continue
        if rules.relabel_from is not None and each.sure >= rules.relabel_from:
            add(each.row, "relabel", "label noise", emotion=each.suggested, score=each.quality)
        elif each.quality < rules.exclude_below:
            add(each.row, "exclude", "label noise", score=each.quality)
    # A key that stands twice in one split cannot be told apart: such a correction would hit both.
    keys = Counter(zip(table.key.tolist(), table.split.tolist(), strict=True))
    return tuple(found[row] for row in sorted(found) if keys[(found[row].key, found[row].split)] == 1)


def _superfluous(table: Table, group: CopyGroup) -> Iterator[tuple[int, str]]:
    """Which faces of a group of copies are better left out, and why."""
    kind = "same picture as" if group.identical else "copy of"
    last = group.splits[-1]
    kept = next(row for row in group.rows if table.split[row] == last)
    for row in group.rows:
        if table.split[row] != last:
            yield row, f"{kind} {table.key[kept]} in {last}"
    here = [row for row in group.rows if table.split[row] == last]
    labels = Counter(int(table.emotion[row]) for row in here if table.emotion[row] >= 0)
    if len(labels) > 1:
        (label, most), *_ = labels.most_common(1)
        named = ", ".join(EMOTIONS[each] for each in sorted(labels))
        for row in here:
            if table.emotion[row] >= 0 and (table.emotion[row] != label or 2 * most <= labels.total()):
                yield row, f"copies with different labels: {named}"
    first: dict[str, int] = {}
    # One that has a label stands for those that have none.
    for row in sorted(here, key=lambda row: (table.emotion[row] < 0, row)):
        other = first.setdefault(str(table.pixel_hash[row]), row)
        if other != row:
            yield row, f"same picture as {table.key[other]}"
