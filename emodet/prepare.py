"""Make a pack: ``python -m emodet.prepare data=affectnet data.root=/path/to/AffectNet``.

With ``experiment=NAME`` it makes the pack that this experiment will ask for; `emodet.train` then starts at once. A mix
of data sets (``data=mixed``) has a pack for each. ``list=true`` says what is there and packs nothing.

Several machines share the work with ``shard=1/16`` to ``shard=16/16``; one of them then joins it with ``merge=true``. A
run that was stopped is carried on by running it again.
"""

from emodet.laboratory import require_laboratory

require_laboratory("emodet.prepare")

import shutil

import numpy as np
from omegaconf import DictConfig

from emodet.commands import command, to_plain_dict
from emodet.data.datamodule import EmotionDataModule
from emodet.data.parts import Shard
from emodet.datasets.samples import Listing, Reader
from emodet.data.sources import Source
from emodet.datasets.summary import listing_summary, outcome, summary, unreadable_in_words
from emodet.errors import EmodetError
from emodet.training.assembly import build_data


@command("prepare")
def main(config: DictConfig) -> None:
    """Read, say what was found, crop, pack, and say what came out."""
    shard = None if config.shard is None else Shard.parse(str(config.shard))
    refuse_combinations(config)
    data = build_data(to_plain_dict(config))
    for source in data.sources:
        if source.name:
            print(f"== {source.name}")
        if config.list:
            announce(*source.read())
        elif shard is not None:
            prepare_shard(source, shard)
        else:
            prepare(source, force=config.force, verify=config.verify, merge=config.merge)
    if not config.list and shard is None:
        data.setup()
        say_roles(data)


def refuse_combinations(config: DictConfig) -> None:
    """Refuse settings that contradict each other."""
    if config.shard is not None and config.merge:
        raise EmodetError(
            f"shard={config.shard} prepares a share and merge=true joins all of them: give one of the two"
        )
    if config.shard is not None and config.force:
        raise EmodetError(
            f"force=true is for a whole pack. To make shard={config.shard} again, delete its part in the folder that "
            "preparing it names"
        )


def announce(reader: Reader, listing: Listing) -> None:
    """Print what a reader found; before the packing, which may take hours."""
    print(listing_summary(reader, listing), end="\n\n", flush=True)


def prepare_shard(source: Source, shard: Shard) -> None:
    """Make one machine's share, and say which are still missing."""
    done = source.prepare_shard(shard, announce)
    print(unreadable_in_words(done.unreadable, "part.json of its parts"), end="")
    print(f"shard {shard}: faces {done.rows.start + 1:,} to {done.rows.stop:,} of the listing, {done.faces:,} packed")
    print(f"parts:       {done.folder}")
    if done.missing:
        print(f"missing:     shard {', '.join(map(str, done.missing))}")
    else:
        print(f"All {shard.count} shards are there. Join them with merge=true instead of shard={shard}")


def prepare(source: Source, *, force: bool, verify: bool, merge: bool) -> None:
    """Make the pack of one data set, or open and, if asked for, verify the one that is there."""
    folder = source.pack_folder()
    if force and folder.is_dir():
        shutil.rmtree(folder)
    pack, was_there = source.prepare(announce, thorough=True, merge=merge)
    print(summary(pack.manifest) if was_there else outcome(pack.manifest))
    if was_there and verify:
        pack.verify()
        print("every crop is what the manifest says")
    note = " (was there)" if was_there else ""
    print(f"pack:        {folder}{note}\nfingerprint: {pack.fingerprint}", end="\n\n", flush=True)


def say_roles(data: EmotionDataModule) -> None:
    """Print how many faces train, select and report; in a mix, of each data set."""
    splits = data.splits
    every = {
        "train": ("train", splits.train),
        "val": (splits.val_name, splits.val),
        "test": (splits.test_name, splits.test),
    }
    for split, (title, rows) in every.items():
        of_each = np.bincount(data.source_of(rows), minlength=len(data.sources))
        parts = [f"{name} {count:,}" for name, count in zip(data.source_names, of_each.tolist(), strict=False)]
        print(f"{split:<12} {len(rows):,} faces of {title}{' (' + ', '.join(parts) + ')' if parts else ''}")
    if data.source_names:
        print(f"fingerprint of the mix: {data.fingerprint}")


if __name__ == "__main__":
    main()
