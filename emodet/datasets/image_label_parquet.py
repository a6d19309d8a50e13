"""Parquet files with a picture and a class in each row, as data sets are exported for the Hugging Face hub."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emodet.datasets import affectnet
from emodet.datasets.class_labels import split_of
from emodet.datasets.folder_reader import FolderReader
from emodet.datasets.folders import names_in
from emodet.datasets.samples import Listing, Sample
from emodet.emotions import EMOTIONS, emotion_name
from emodet.errors import EmodetError

__all__ = ["ImageLabelParquet"]

_COLUMNS = ("image", "label")
_BATCH_ROWS = 64
_MOST_FILES = 1000
_PUBLISHED_HQ = 27_823


class ImageLabelParquet(FolderReader):
    """Parquet files with the columns ``image`` (encoded picture) and ``label``, as AffectNet's HQ export has.

    A number in ``label`` is an index into the class names that the file's own metadata holds (in the HQ export anger,
    disgust, fear, happy, neutral, sad, surprise); text in it is the name itself. The split is the first word of the
    file's name (``train-00000-of-00004.parquet``), training where that says nothing. Files lie at the top or in
    ``data/``. A record's key is file and row. Pictures are read from their place in the file a few rows at a time.

    Args:
        root: The folder with the files, or one of them; or a folder that holds nothing but its folder.
        names: The class names in the order of the numbers, for files whose metadata lacks them.

    Raises:
        EmodetError: The root bears none of the signs.
    """

    name: ClassVar[str] = "image_label_parquet"
    title: ClassVar[str] = "AffectNet (HQ), or another Parquet export with class names"
    signs: ClassVar[str] = ".parquet files with the columns image and label, at the top or in data/"

    def __init__(self, root: Path, *, names: Sequence[str] | None = None) -> None:
        super().__init__(root)
        self.files = [root.name] if root.is_file() else self._files(self.base)
        self.names = None if names is None else tuple(names)
        self._cursor: _Cursor | None = None

    def read(self) -> Listing:
        """List every face.

        Raises:
            EmodetError: A file cannot be read, its classes have no names, a name is not known, or a label is not
                among the names. The message names the file.
        """
        left_out: Counter[str] = Counter()
        notes: list[str] = []
        records: list[Sample] = []
        without_split = False
        for file in self.files:
            word = Path(file).name.partition(".")[0].partition("-")[0]
            split = split_of(word)
            without_split |= split is None
            for row, name in enumerate(self._labels(self.base / file)):
                if name is None:
                    left_out["row without a label"] += 1
                elif name not in EMOTIONS:
                    left_out[name] += 1
                else:
                    records.append(Sample(f"{file}:{row:07d}", split or "train", EMOTIONS.index(name)))
        if not records:
            raise EmodetError(f"data.root={self.root}: no face with one of the eight emotions is in the files")
        if without_split:
            notes.append("A file's name says no split, so its faces are training faces.")
        if all(record.split == "train" for record in records) and "contempt" not in _classes(records):
            notes += affectnet.doubt_about_totals({"HQ export": len(records)}, {"HQ export": _PUBLISHED_HQ})
        records.sort(key=lambda record: record.key)
        return Listing(tuple(records), dict(left_out), tuple(notes))

    def file_of(self, record: Sample) -> Path:
        """The Parquet file that its row is in."""
        return self.base / record.key.rpartition(":")[0]

    def encoded(self, record: Sample) -> bytes:
        """The picture as it was encoded.

        Raises:
            OSError: The file cannot be read.
            EmodetError: There is no picture in the row.
        """
        file, _, row = record.key.rpartition(":")
        if self._cursor is None or self._cursor.file != self.base / file:
            self._cursor = _Cursor(self.base / file)
        data = self._cursor.picture(int(row))
        if not data:
            raise EmodetError(f"{self.base / file}, row {int(row)}: there is no picture in it")
        return data

    def options(self) -> dict[str, Any]:
        return {"names": None if self.names is None else list(self.names)}

    def __getstate__(self) -> dict[str, Any]:
        # Each worker process opens the files for itself.
        return {**self.__dict__, "_cursor": None}

    @classmethod
    def _bears_signs(cls, folder: Path) -> bool:
        return bool(cls._files(folder))

    @classmethod
    def _files(cls, folder: Path) -> list[str]:
        """Paths below `folder`, in order."""
        paths = [
            f"{prefix}{name}"
            for prefix in ("", "data/")
            for name in sorted(names_in(folder / prefix))
            if name.endswith(".parquet")
        ]
        return [path for path in paths[:_MOST_FILES] if cls._fits(folder / path)]

    @classmethod
    def _fits(cls, file: Path) -> bool:
        if file.suffix != ".parquet":
            return False
        try:
            schema = pq.read_schema(file)
        except (pa.ArrowException, OSError):
            return False
        if not set(_COLUMNS) <= set(schema.names):
            return False
        image = schema.field("image").type
        if pa.types.is_struct(image):
            image = image.field("bytes").type if image.get_field_index("bytes") >= 0 else pa.null()
        return bool(pa.types.is_binary(image) or pa.types.is_large_binary(image))

    def _labels(self, file: Path) -> list[str | None]:
        """The class name of each row."""
        try:
            schema = pq.read_schema(file)
            column = pq.read_table(file, columns=["label"]).column("label")
        except (pa.ArrowException, OSError) as problem:
            raise EmodetError(f"{file}: cannot be read as Parquet ({problem})") from None
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        labels = column.to_pylist()
        known: dict[object, str] = {}
        try:
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
        except EmodetError as problem:
            raise EmodetError(f"{file}: {problem}") from None
        for row, label in enumerate(labels):
            # Such exports mark rows without a label by -1.
            if label not in (None, -1) and label not in known:
                raise EmodetError(f"{file}, row {row}: label {label} is not among the {len(known)} class names")
        return [known.get(label) for label in labels]


class _Batch(NamedTuple):
    """Consecutive rows: the number of the first one, and their pictures."""

    start: int
    pictures: Any


class _Cursor:
    """Goes through the pictures of one file in order, holding a few of them.

    A row before the current ones starts again at its row group: cheap, since records are asked for in order.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            # Without buffering ahead: a row group may be gigabytes.
            self._parquet = pq.ParquetFile(file, memory_map=True, pre_buffer=False)
        except pa.ArrowException as problem:
            raise EmodetError(f"{file}: cannot be read as Parquet ({problem})") from None
        metadata = self._parquet.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._starts = np.cumsum([0, *sizes])
        self._group = -1
        self._batches: Iterator[_Batch] = iter(())
        self._current = _Batch(0, ())

    def picture(self, row: int) -> bytes | None:
        """The bytes of a row's picture; None where there are none."""
        if not 0 <= row < self._starts[-1]:
            raise EmodetError(f"{self.file}: there is no row {row}")
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        try:
            if group != self._group or row < self._current.start:
                self._group, self._batches = group, self._read(group)
                self._current = next(self._batches)
            while row >= self._current.start + len(self._current.pictures):
                self._current = next(self._batches)
        except (pa.ArrowException, StopIteration) as problem:
            self._group = -1
            raise EmodetError(f"{self.file}: cannot be read as Parquet ({problem or 'it ends early'})") from None
        value = self._current.pictures[row - self._current.start].as_py()
        if isinstance(value, dict):
            value = value.get("bytes")
        return value if isinstance(value, bytes) else None

    def _read(self, group: int) -> Iterator[_Batch]:
        start = int(self._starts[group])
        for batch in self._parquet.iter_batches(_BATCH_ROWS, row_groups=[group], columns=["image"], use_threads=False):
            yield _Batch(start, batch.column(0))
            start += batch.num_rows


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


def _classes(records: Sequence[Sample]) -> set[str]:
    return {EMOTIONS[record.emotion] for record in records if record.emotion is not None}
