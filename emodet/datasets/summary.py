"""Text summaries of a release compared with its published counts, before and after packing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from emodet.datasets.folders import few
from emodet.datasets.samples import Counts, Listing, Reader, Sample
from emodet.emotions import EMOTIONS

_SPLITS = ("train", "val", "test")
_NO_EMOTION = "without emotion"
_LISTED = 20
_DETECTION = {
    "without_face": "left out: {:,} pictures in which no face was found",
    "several_faces": "{:,} pictures show several faces, of which the surest and largest was taken",
}
_KNOWN = {
    **{"emotion": "emotion", "soft label": "soft_label", "valence and arousal": "valence", "box": "box"},
    **{"landmarks": "landmarks", "subject": "subject"},
}


def listing_summary(reader: Reader, listing: Listing) -> str:
    """Summarise a listing before pictures are opened: counts, annotations, left-out faces."""
    found: dict[str, Counter[str]] = {split: Counter() for split in _SPLITS}
    for sample in listing.samples:
        found[sample.split][_NO_EMOTION if sample.emotion is None else listing.class_names[sample.emotion]] += 1
    annotations = ", ".join(
        f"{name} not read (data.crop=box preprocessing.alignment=eyes reads them)"
        if getattr(reader, field, None) is False  # an option of the reader
        else _known(listing.samples, name, field)
        for name, field in _KNOWN.items()
    )
    return "\n".join(
        [
            f"{reader.full_title} in {reader.root}\n",
            *_compared(found, reader.expected),
            f"Annotations: {annotations}.",
            *listing.notes,
            *_left_out(listing.left_out),
        ]
    )


def summary(manifest: Mapping[str, Any]) -> str:
    """Summarise a pack from its manifest, like `listing_summary`, but for packed faces."""
    counts = _compared(manifest["counts"], manifest["expected"])
    return "\n".join([*counts, *manifest["notes"], *_left_out(manifest["left_out"]), *_outcome(manifest)])


def outcome(manifest: Mapping[str, Any]) -> str:
    """Summarise the packing: number of faces, unreadable pictures, identical pictures."""
    faces = sum(sum(found.values()) for found in manifest["counts"].values())
    return "\n".join([f"{faces:,} faces packed", *_outcome(manifest)])


def _left_out(counts: Mapping[str, int]) -> list[str]:
    return [f"left out: {count:,} × {reason}" for reason, count in counts.items()]


def _outcome(manifest: Mapping[str, Any]) -> list[str]:
    unreadable = manifest["unreadable"]
    lines = [f"unreadable: {entry['key']}: {entry['reason']}" for entry in unreadable[:_LISTED]]
    if len(unreadable) > _LISTED:
        lines.append(f"unreadable: {len(unreadable) - _LISTED:,} more, listed in manifest.json")
    for kind, words in _DETECTION.items():
        if keys := manifest.get("detection", {}).get(kind):
            lines.append(f"{words.format(len(keys))}: {few(keys, _LISTED)}")
    across = manifest["identical_across_splits"]
    if across["groups"]:
        lines.append(f"{across['groups']:,} pictures occur in more than one split ({across['faces']:,} faces)")
    return lines


def _compared(found: Counts, published: Counts) -> list[str]:
    """Return the rows of a table; a split without published counts is only counted."""
    rows = [
        "split  class              found  published  difference",
        "-----  ---------------  -------  ---------  ----------",
    ]
    for split in _SPLITS:
        here, wanted = found.get(split, {}), published.get(split, {})
        names = [name for name in dict.fromkeys((*EMOTIONS, *here, *wanted)) if name in here or name in wanted]
        names.sort(key=_NO_EMOTION.__eq__)
        # A class that a list of published counts leaves out has no faces there; undecided faces are in none.
        should = {name: wanted.get(name, 0) if wanted and name in EMOTIONS else None for name in names}
        rows += [_row(split, name, here.get(name, 0), should[name]) for name in names]
        if names:
            total = sum(wanted.values()) or None
            rows.append(_row(split, "all", sum(here.values()), None if _NO_EMOTION in here else total))
    if not published:  # of a data set of one's own: without the last two columns
        rows = [row[: len("split  class              found")] for row in rows]
    return [*rows, ""]


def _row(split: str, name: str, count: int, should: int | None) -> str:
    wanted = "" if should is None else f"{should:,}"
    difference = "" if should in (None, count) else f"{count - should:+,}"
    return f"{split:<5}  {name:<15}  {count:>7,}  {wanted:>9}  {difference:>10}".rstrip()


def _known(samples: Sequence[Sample], name: str, field: str) -> str:
    known = sum(getattr(sample, field) is not None for sample in samples)
    return f"{name} {'all' if known == len(samples) else f'{known:,} of {len(samples):,}' if known else 'none'}"
