"""Parquet files with encoded pictures: common parts of their readers, and exports for the Hugging Face hub."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emodet.datasets.folders import few, files_in, split_of
from emodet.datasets.samples import Listing, Reader, Sample
from emodet.emotions import EMOTIONS, emotion_name
from emodet.errors import EmodetError, errors_of

_COLUMNS = ("image", "label")
_PUBLISHED_HQ = {"HQ export": 27_823}
_NOT_PARQUET = ("cannot be read as Parquet", pa.ArrowException, OSError, IndexError)


def has_schema(file: Path, fits: Callable[[pa.Schema], bool]) -> bool:
    """Return whether a file is Parquet with a suitable schema."""
    try:
        return fits(pq.read_schema(file))
    except (pa.ArrowException, OSError):
        return False


def is_binary(kind: pa.DataType) -> bool:
    """Return whether a column can contain encoded pictures."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def read_columns(file: Path, columns: Sequence[str]) -> pa.Table:
    """Read columns of a Parquet file; texts are checked to be UTF-8."""
    with errors_of(file, *_NOT_PARQUET):
        table = pq.read_table(file, columns=list(columns))
        table.validate(full=True)
    return table


class ParquetReader(Reader):
    """Base class of readers with encoded pictures in the column ``image`` or its field ``bytes``.

    `Sample.file`, or the key without it, is the file's path below the base, a colon and the row. One row group is in
    memory.
    """

    root_suffix = ".parquet"
    _group: tuple[Path | None, int, Any] = (None, 0, ())  # file, first row, pictures

    @classmethod
    def candidates(cls, folder: Path) -> list[Path]:
        """Parquet files at the top and in ``data/``, in order."""
        return [*files_in(folder, ".parquet"), *files_in(folder / "data", ".parquet")]

    def file_of(self, sample: Sample) -> Path:
        """The Parquet file that its row is in."""
        return self.base / (sample.file or sample.key).rpartition(":")[0]

    def encoded(self, sample: Sample) -> bytes:
        file, row = self.file_of(sample), int((sample.file or sample.key).rpartition(":")[2])
        known, start, pictures = self._group
        if known != file or not start <= row < start + len(pictures):
            with errors_of(f"{file}, row {row}", *_NOT_PARQUET):
                parquet = pq.ParquetFile(file, memory_map=True, pre_buffer=False)
                counts = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
                starts = np.cumsum([0, *counts])
                group = int(np.searchsorted(starts, row, side="right")) - 1
                start = int(starts[group])
                pictures = parquet.read_row_group(group, columns=["image"], use_threads=False).column(0)
            self._group = file, start, pictures
        value = pictures[row - start].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not data:
            raise EmodetError(f"{file}, row {row}: there is no picture in it")
        return bytes(data)

    def __getstate__(self) -> dict[str, Any]:
        # Each worker process opens the file for itself.
        return {**self.__dict__, "_group": (None, 0, ())}


@dataclass(kw_only=True, eq=False)
class ImageLabelParquet(ParquetReader):
    """Parquet files with the columns ``image`` (encoded picture) and ``label``, as AffectNet's HQ export has.

    A number in ``label`` is an index of the class names in the file's metadata (in the HQ export anger, disgust, fear,
    happy, neutral, sad, surprise); a text is the name. The split is the first word of the file's name
    (``train-00000-of-00004.parquet``), or train if that is no split. Files are in the root or in ``data/``; the root
    can be one of them. A sample's key is file and row. One row group is in memory.

    Args:
        names: Class names in the order of the numbers, for files without them in their metadata.
    """

    name = "image_label_parquet"
    title = "AffectNet (HQ), or another Parquet export with class names"
    signs = ".parquet files with the columns image and label, at the top or in data/"

    names: Sequence[str] | None = None

    @classmethod
    def fits(cls, file: Path) -> bool:
        return has_schema(file, _has_pictures)

    def list_samples(self, listing: Listing) -> list[Sample]:
        samples: list[Sample] = []
        others: list[str] = []
        for file in [self.root] if self.root.is_file() else self.candidates(self.base):
            path = file.relative_to(self.base).as_posix()
            with errors_of(file, *_NOT_PARQUET):
                schema = pq.read_schema(file)
            if not _has_pictures(schema):
                others.append(path)
                continue
            split = split_of(file.name.partition(".")[0].partition("-")[0])
            if split is None:
                listing.notes.append(f"{path}: the name has no split, so its faces are training faces.")
            for row, name in enumerate(self._labels(file, schema)):
                samples += listing.labelled(name or "row without a label", f"{path}:{row:07d}", split or "train")
        if others:
            listing.notes.append(f"Without the columns image and label, so not read: {few(others)}.")
        contempt = EMOTIONS.index("contempt")
        if not any(sample.emotion == contempt or sample.split != "train" for sample in samples):
            listing.compare(_PUBLISHED_HQ, {"HQ export": len(samples)})
        return samples

    def _labels(self, file: Path, schema: pa.Schema) -> list[str | None]:
        """Return the class name of each row."""
        column = read_columns(file, ["label"]).column("label")
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        labels = column.to_pylist()
        with errors_of(file):
            if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
                known = {label: emotion_name(label) for label in sorted(set(labels) - {None})}
            elif pa.types.is_integer(column.type):
                names = self.names or _names_in_metadata(schema)
                if names is None:
                    raise EmodetError(
                        "its metadata has no class names, and numbers alone mean nothing. Give the reader's option "
                        "names, a list of the classes in the order of their numbers"
                    )
                known = {number: emotion_name(name) for number, name in enumerate(names)}
            else:
                raise EmodetError(f"the column label has the type {column.type}; numbers or text belong there")
        for row, label in enumerate(labels):
            # Such exports mark rows without a label by -1.
            if label not in (None, -1) and label not in known:
                raise EmodetError(f"{file}, row {row}: label {label} is not among the {len(known)} class names")
        return [known.get(label) for label in labels]


def _has_pictures(schema: pa.Schema) -> bool:
    if not set(_COLUMNS) <= set(schema.names):
        return False
    image = schema.field("image").type
    if pa.types.is_struct(image):
        image = image.field("bytes").type if image.get_field_index("bytes") >= 0 else pa.null()
    return is_binary(image)


def _names_in_metadata(schema: pa.Schema) -> list[str] | None:
    """The names of the feature ``label`` in the JSON that the hub's library leaves in the schema."""
    try:
        content = json.loads((schema.metadata or {})[b"huggingface"])
        names = content["info"]["features"]["label"]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    if isinstance(names, Mapping):  # by number
        names = [names[key] for key in sorted(names, key=lambda key: (len(str(key)), str(key)))]
    return names if isinstance(names, list) and names and all(isinstance(name, str) for name in names) else None
