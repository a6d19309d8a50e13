"""Which shards of a pack are there, and what to say of those that are not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from emodet.data.parts import Parts, Shard
from emodet.errors import EmodetError

__all__ = ["ShardDone", "require_all", "shards_missing"]


@dataclass(frozen=True, slots=True)
class ShardDone:
    """What one machine has prepared.

    Attributes:
        folder: Where the parts of all machines come together.
        rows: Of the listing.
        faces: How many of them could be read.
        unreadable: Key and reason of the others.
        missing: Which shards are not there yet, as far as can be seen from here.
    """

    folder: Path
    rows: range
    faces: int
    unreadable: Sequence[Mapping[str, str]]
    missing: Sequence[Shard]


def shards_missing(parts: Parts, faces: int, count: int) -> list[Shard]:
    """Of so many shards those that are not there in full."""
    gaps = parts.missing(range(faces), parts.found())
    shards = [Shard(number, count) for number in range(1, count + 1)]
    wanted = [(shard, shard.rows(faces)) for shard in shards]
    return [shard for shard, rows in wanted if any(gap.start < rows.stop and rows.start < gap.stop for gap in gaps)]


def require_all(parts: Parts, faces: int) -> None:
    """Refuse to go on without a shard.

    Raises:
        EmodetError: Faces are missing; the message names the shards, and folders of similar work that they may have
            gone to.
    """
    found = parts.in_order(parts.found())
    gaps = parts.missing(range(faces), found)
    if not gaps:
        return
    counts = {Shard.parse(part.facts["shard"]).count for part in found} - {1}
    others = "".join(
        f"\n{folder} holds parts of other work, with another {differences}" for folder, differences in parts.others()
    )
    if not counts:
        raise EmodetError(
            f"{parts.folder}: {sum(map(len, gaps)):,} of {faces:,} faces are missing, and no shard says how many there "
            f"are to be. Prepare each with shard=1/4 and so on, or all at once without merge=true{others}"
        )
    names = [shard for count in sorted(counts) for shard in shards_missing(parts, faces, count)]
    lost = f"shard {names[0]} is missing" if len(names) == 1 else f"shards {', '.join(map(str, names))} are missing"
    raise EmodetError(
        f"{parts.folder}: {lost} ({sum(map(len, gaps)):,} of {faces:,} faces). Prepare with shard={names[0]} on a "
        f"machine that sees this folder, or copy its part here{others}"
    )
