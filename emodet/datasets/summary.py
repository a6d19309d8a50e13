"""What was found in a release against what is published of it, in words: before packing and after."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from emodet.datasets.samples import Listing, Reader, Sample
from emodet.emotions import EMOTIONS

__all__ = ["listing_summary", "outcome", "summary", "unreadable_in_words"]

_SPLITS = ("train", "val", "test")
_NO_EMOTION = "without emotion"
_LISTED = 20

Counts = Mapping[str, Mapping[str, int]]


def listing_summary(reader: Reader, listing: Listing) -> str:
    """What a reader listed, before a picture is opened: counts, what is known of the faces, what is left out."""
    rows, words = _compared(_counts_of(listing.samples), reader.expected)
    left_out = [f"left out: {count:,} × {reason}" for reason, count in listing.left_out.items()]
    known = f"Known of the faces: {_known(listing.samples)}."
    return "\n".join([f"{reader.title} in {reader.root}", "", *rows, "", *words, known, *listing.notes, *left_out])


def summary(manifest: Mapping[str, Any]) -> str:
    """All that a pack's manifest says of its content: `listing_summary`'s counts, taken from what was packed."""
    rows, words = _compared(manifest["counts"], manifest["expected"])
    left_out = [f"left out: {count:,} × {reason}" for reason, count in manifest["left_out"].items()]
    return "\n".join([*rows, "", *words, *manifest["notes"], *left_out, *_outcome(manifest)])


def outcome(manifest: Mapping[str, Any]) -> str:
    """What packing added to `listing_summary`: how many faces there are, the unreadable ones, identical pictures."""
    faces = sum(sum(found.values()) for found in manifest["counts"].values())
    return "\n".join([f"{faces:,} faces packed", *_outcome(manifest)])


def unreadable_in_words(unreadable: Sequence[Mapping[str, str]], listed_in: str = "manifest.json") -> str:
    """A line for each picture that could not be read, at most twenty."""
    lines = [f"unreadable: {entry['key']}: {entry['reason']}\n" for entry in unreadable[:_LISTED]]
    if len(unreadable) > _LISTED:
        lines.append(f"unreadable: {len(unreadable) - _LISTED:,} more, listed in {listed_in}\n")
    return "".join(lines)


def _outcome(manifest: Mapping[str, Any]) -> list[str]:
    lines = unreadable_in_words(manifest["unreadable"]).splitlines()
    across = manifest["identical_across_splits"]
    if across["groups"]:
        lines.append(f"{across['groups']:,} pictures occur in more than one split ({across['faces']:,} faces)")
    return lines


def _compared(found: Counts, published: Counts) -> tuple[list[str], list[str]]:
    """The rows of a table, and the differences in words; a split that nothing is published of is only counted."""
    rows = [
        "split  class              found  published  difference",
        "-----  ---------------  -------  ---------  ----------",
    ]
    words = []
    for split in _SPLITS:
        here, wanted = found.get(split, {}), published.get(split, {})
        names = [name for name in (*EMOTIONS, _NO_EMOTION) if name in here or name in wanted]
        for name in names:
            count = here.get(name, 0)
            # A class that a list of published counts leaves out has no faces there; undecided faces are in none.
            should = wanted.get(name, 0) if wanted and name in EMOTIONS else None
            rows.append(_row(split, name, count, should))
        if wanted:
            words.append(_in_words(split, here, wanted))
        if names:
            rows.append(_row(split, "all", sum(here.values()), None if _NO_EMOTION in here else sum(wanted.values())))
    return rows, words


def _in_words(split: str, found: Mapping[str, int], published: Mapping[str, int]) -> str:
    total = sum(published.values())
    if not found:
        return f"{split}: none of the {total:,} published faces is there."
    more = {name: found.get(name, 0) - published.get(name, 0) for name in EMOTIONS}
    different = [f"{name} {abs(by):,} {'fewer' if by < 0 else 'more'}" for name, by in more.items() if by]
    if not different:
        return f"{split}: as many faces of every class as were published."
    here = sum(found.get(name, 0) for name in EMOTIONS)
    return f"{split}: {here:,} faces where {total:,} were published; by class: {', '.join(different)}."


def _row(split: str, name: str, count: int, should: int | None) -> str:
    if not should and name == "all":
        should = None
    wanted = "" if should is None else f"{should:,}"
    difference = "" if should in (None, count) else f"{count - should:+,}"
    return f"{split:<5}  {name:<15}  {count:>7,}  {wanted:>9}  {difference:>10}".rstrip()


def _counts_of(records: Sequence[Sample]) -> dict[str, dict[str, int]]:
    counted = Counter((record.split, record.emotion) for record in records)
    names: dict[int | None, str] = {None: _NO_EMOTION, **dict(enumerate(EMOTIONS))}
    return {
        split: {name: counted[split, emotion] for emotion, name in names.items() if counted[split, emotion]}
        for split in _SPLITS
        if any(found == split for found, _ in counted)
    }


def _known(records: Sequence[Sample]) -> str:
    total = len(records)
    parts = []
    for name, known in (
        ("emotion", sum(record.emotion is not None for record in records)),
        ("soft label", sum(record.soft_label is not None for record in records)),
        ("valence and arousal", sum(record.valence is not None for record in records)),
        ("box", sum(record.box is not None for record in records)),
        ("landmarks", sum(record.landmarks is not None for record in records)),
        ("subject", sum(record.subject is not None for record in records)),
    ):
        parts.append(f"{name} {'all' if known == total else f'{known:,} of {total:,}' if known else 'none'}")
    return ", ".join(parts)
