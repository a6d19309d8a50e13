"""Make a pack: ``python -m emodet.prepare data=affectnet data.root=/path/to/AffectNet``.

With ``experiment=NAME`` it makes the pack of this experiment, and `emodet.train` then starts at once. For a mix of data
sets (``data=mixed``) it makes one pack per data set. ``list=true`` reports the contents of the release and packs
nothing. Re-run the command to continue an interrupted run.
"""

from emodet.installation import exit_with
from emodet.laboratory import begin

begin("prepare", __name__, __doc__)

import shutil
from typing import Any

import numpy as np

from emodet.commands import command
from emodet.data.datamodule import EmotionDataModule
from emodet.data.sources import Source, naming
from emodet.datasets.summary import summary
from emodet.preprocessing import Preprocessing
from emodet.schema import without_none
from emodet.training.assembly import build_data, undrawn


@command("prepare")
def main(values: dict[str, Any]) -> None:
    """List, crop and pack the faces, and print a summary."""
    settings = without_none(values)
    data = build_data(settings, draw=not settings["list"])
    for name, source in data.sources.items():
        if name:
            print(f"== {name}")
        with naming(name):
            if settings["list"] and name in undrawn(settings):
                print(f"{source.root}: faces that are not drawn yet; without list=true they are drawn and packed")
            elif settings["list"]:
                source.packing(data.preprocessing).read(report)
            else:
                prepare(source, data.preprocessing, force=settings["force"], verify=settings["verify"])
    if not settings["list"]:
        data.setup()
        print_splits(data)


def report(text: str) -> None:
    """Print a message at once, since packing can take hours."""
    print(text, flush=True)


def prepare(source: Source, preprocessing: Preprocessing, *, force: bool, verify: bool) -> None:
    """Make the pack of one data set; check an existing one against the release and, with `verify`, every byte of it."""
    folder = source.packing(preprocessing).folder
    if force and folder.is_dir():
        shutil.rmtree(folder)
    pack, existed = source.prepare(preprocessing, report)
    if existed:
        source.require_unchanged(pack, preprocessing)
        if verify:
            pack.verify()
        print(summary(pack.manifest))
        if verify:
            print("every crop and annotation agrees with the manifest")
    note = " (was there)" if existed else ""
    print(f"pack:        {folder}{note}\nfingerprint: {pack.fingerprint}", end="\n\n", flush=True)


def print_splits(data: EmotionDataModule) -> None:
    """Print the number of faces in each split; in a mix, of each data set."""
    splits = data.splits
    titled = {"train": ("train", splits.train), "val": (splits.val_name, splits.val)}
    titled["test"] = (splits.test_name, splits.test)
    for split, (title, rows) in titled.items():
        counts = np.bincount(data.pack.source_of(rows), minlength=len(data.sources))
        parts = [f"{name} {count:,}" for name, count in zip(data.source_names, counts.tolist(), strict=False)]
        print(f"{split:<12} {len(rows):,} faces of {title}{' (' + ', '.join(parts) + ')' if parts else ''}")
    if data.source_names:
        print(f"fingerprint of the mix: {data.fingerprint}")


if __name__ == "__main__":
    exit_with(main)
