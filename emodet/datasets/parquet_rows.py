"""What the readers of Parquet files share: files by their columns, tables, and the encoded picture of a row."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emodet.datasets.folders import names_in
from emodet.datasets.samples import Reader, Sample
from emodet.errors import EmodetError

_MAX_FILES = 1000


def parquet_files(folder: Path) -> list[str]:
    """Parquet files at the top and in ``data/``, as relative paths in order."""
    return [
        f"{prefix}{name}"
        for prefix in ("", "data/")
        for name in sorted(names_in(folder / prefix))
        if name.endswith(".parquet") and not name.startswith(".")
    ][:_MAX_FILES]


def has_schema(file: Path, fits: Callable[[pa.Schema], bool]) -> bool:
    """Whether it is a Parquet file whose schema fits."""
    try:
        return file.suffix == ".parquet" and fits(pq.read_schema(file))
    except (pa.ArrowException, OSError):
        return False


def is_binary(kind: pa.DataType) -> bool:
    """Whether a column can hold encoded pictures."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def read_columns(file: Path, columns: Sequence[str]) -> pa.Table:
    """Some columns of a Parquet file, validated: texts are UTF-8."""
    try:
        table = pq.read_table(file, columns=list(columns))
        table.validate(full=True)
        return table
    except (pa.ArrowException, OSError) as problem:
        raise EmodetError(f"{file}: cannot be read as Parquet ({problem})") from None


class ParquetReader(Reader):
    """A reader whose pictures are in the column ``image``, encoded, or in its field ``bytes``.

    `Sample.file`, or the key without it, is the file's path below the base, a colon and the row. One row group is in
    memory.
    """

    _group: tuple[Path | None, int, Any] = (None, 0, ())  # file, first row, pictures

    def file_of(self, sample: Sample) -> Path:
        """The Parquet file that its row is in."""
        return self.base / (sample.file or sample.key).rpartition(":")[0]

    def encoded(self, sample: Sample) -> bytes:
        file, row = self.file_of(sample), int((sample.file or sample.key).rpartition(":")[2])
        known, start, pictures = self._group
        if known != file or not start <= row < start + len(pictures):
            try:
                parquet = pq.ParquetFile(file, memory_map=True, pre_buffer=False)
                counts = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
                starts = np.cumsum([0, *counts])
                group = int(np.searchsorted(starts, row, side="right")) - 1
                start = int(starts[group])
                pictures = parquet.read_row_group(group, columns=["image"], use_threads=False).column(0)
            except (pa.ArrowException, OSError, IndexError) as problem:
                raise EmodetError(f"{file}, row {row}: cannot be read as Parquet ({problem})") from None
            self._group = file, start, pictures
        value = pictures[row - start].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not data:
            raise EmodetError(f"{file}, row {row}: there is no picture in it")
        return bytes(data)

    def __getstate__(self) -> dict[str, Any]:
        # Each worker process opens the file for itself.
        return {**self.__dict__, "_group": (None, 0, ())}
