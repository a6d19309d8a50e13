"""Choice of the reader for a root, by name or by its files."""

import inspect
from pathlib import Path
from typing import Any

from emodet.datasets.affectnet_csv import AffectNetCsv
from emodet.datasets.affectnet_exports import LabelsCsv, Yolo
from emodet.datasets.affectnet_npy import AffectNetNpy
from emodet.datasets.affectnet_plus import AffectNetPlus
from emodet.datasets.class_folders import CkPlus48, ClassFolders, Jaffe
from emodet.datasets.fer import Fer2013, FerPlus, FerPlusCsv
from emodet.datasets.folders import few, names_in
from emodet.datasets.list_files import ExpW, ListFiles, RafDb
from emodet.datasets.own_csv import OwnCsv
from emodet.datasets.parquet import ImageLabelParquet
from emodet.datasets.samples import Reader
from emodet.errors import EmodetError, os_errors
from emodet.files import expanded

READERS: dict[str, type[Reader]] = {
    reader.name: reader
    for reader in (
        *(AffectNetPlus, AffectNetNpy, AffectNetCsv, LabelsCsv, Yolo, FerPlus, ImageLabelParquet, FerPlusCsv, Fer2013),
        *(RafDb, ExpW, Jaffe, CkPlus48, OwnCsv, ListFiles, ClassFolders),
    )
}
"""Readers by their name in ``data.reader``, specific ones first: ``auto`` tries them in this order."""

_GENERAL = (Fer2013, OwnCsv, ListFiles, ClassFolders)  # also match data sets with a specific reader


def open_reader(root: Path, reader: str = "auto", **options: Any) -> Reader:
    """Create the reader of a data set on disk.

    ``reader="auto"`` chooses the first of `READERS` that matches the root; `options` are arguments of the reader.
    Errors list the contents of the folder, the readers and the options.
    """
    if reader != "auto" and reader not in READERS:
        raise EmodetError(f"data.reader={reader!r} is not known; there are auto, {', '.join(READERS)}")
    root = expanded(root)
    with os_errors(f"data.root={root} cannot be read"):
        if not root.exists():
            raise EmodetError(f"data.root={root} does not exist; point it at the folder of a data set that you hold")
        names = sorted(names_in(root, 1000), key=lambda name: (name.startswith("."), name))
        if not names and root.is_dir():
            raise EmodetError(f"data.root={root} is empty; unpack the data set there, or point data.root elsewhere")
    fitting = [it for it in READERS.values() if it.base_of(root)] if reader == "auto" else [READERS[reader]]
    if (found := next(iter(fitting), None)) is None:
        known = "\n".join(f"  {name:<19} {it.title}: {it.signs}" for name, it in READERS.items())
        content = f"it holds {few(names, 6)}" if names else "it is a file"
        raise EmodetError(
            f"data.root={root} is no data set that is known ({content}). Known, with their signs:\n{known}\n"
            "If it is one of these, name it: data.reader=NAME"
        )
    defaults = {each.name: each.default for each in list(inspect.signature(found).parameters.values())[1:]}
    for name, value in options.items():
        if name not in defaults:
            known = ", ".join(f"{name}={default}" for name, default in defaults.items()) or "none"
            raise EmodetError(f"data.reader_options.{name}: reader {found.name} has no such option; it has {known}")
        if isinstance(defaults[name], bool) and not isinstance(value, bool):
            raise EmodetError(f"reader {found.name}: {name}={value!r} must be true or false")
    opened = found(root, **options)
    opened.passed_over = [it.name for it in fitting[1:] if it not in _GENERAL]
    return opened
