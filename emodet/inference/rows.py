"""Rows, one per face and frame, written to JSON lines, CSV or Parquet at once."""

import csv
import functools
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TextIO

from emodet.errors import EmodetError, os_errors
from emodet.files import atomic_path
from emodet.inference.faces import POINTS, Face
from emodet.installation import needed

ROW_FORMATS = ("jsonl", "csv", "parquet")

_PLAIN = (
    *("source", "frame", "time_s", "face", "track_id", "x1", "y1", "x2", "y2", "detection_score"),
    *("emotion", "most_probable", "confidence", "valence", "arousal"),
)
_INTEGERS, _TEXTS = ("frame", "face", "track_id"), ("source", "emotion", "most_probable")
_GROUP = 4096  # rows per row group of Parquet


class RowsError(EmodetError):
    """Results can no longer be written, for any input; usually the disk is full."""


def face_row(source: str, frame: int, time_s: float | None, place: int, face: Face) -> dict[str, Any]:
    """Convert a face to a row: values by column; `place` is the face's number within the frame, from 0.

    ``probabilities`` and ``landmarks`` are dicts, which CSV and Parquet flatten to ``p_happiness`` and ``left_eye_x``.
    """
    x1, y1, x2, y2 = (round(value, 1) for value in face.box)
    points = {name: [round(x, 1), round(y, 1)] for name, (x, y) in zip(POINTS, face.landmarks or (), strict=False)}
    return {
        "source": source,
        "frame": frame,
        "time_s": _rounded(time_s, 3),
        "face": place,
        "track_id": face.track_id,
        **{"x1": x1, "y1": y1, "x2": x2, "y2": y2},
        "detection_score": round(face.detection_score, 4),
        "emotion": face.emotion,
        "most_probable": face.most_probable,
        "confidence": round(face.confidence, 4),
        "valence": _rounded(face.valence, 4),
        "arousal": _rounded(face.arousal, 4),
        "probabilities": {name: round(value, 5) for name, value in face.probabilities.items()},
        "landmarks": points or None,
    }


def row_columns(class_names: Sequence[str]) -> list[str]:
    """Return the columns of CSV and Parquet, in order."""
    return [*_PLAIN, *(f"p_{name}" for name in class_names), *(f"{point}_{axis}" for point in POINTS for axis in "xy")]


def parquet_schema(class_names: Sequence[str]) -> Any:
    """Return the `pyarrow.Schema` of flat rows."""
    import pyarrow

    types = {name: pyarrow.int64() for name in _INTEGERS} | {name: pyarrow.string() for name in _TEXTS}
    return pyarrow.schema([(column, types.get(column, pyarrow.float64())) for column in row_columns(class_names)])


class RowWriter:
    """Writes rows of `face_row`; a context manager."""

    def __init__(
        self,
        kind: str,
        target: Path | TextIO,
        class_names: Sequence[str],
        *,
        byte_order_mark: bool = False,
        append: bool = False,
    ) -> None:
        """Open a file for rows.

        `kind` is one of `ROW_FORMATS`. Except for ``parquet``, `target` can be a text stream, which is not closed, and
        `append` keeps the rows of an existing file. A byte-order mark makes spreadsheets read CSV as UTF-8.
        """
        self._kind, self._class_names, self._pending = kind, class_names, list[dict[str, Any]]()
        self._mode, self._failed = "a" if append else "w", False
        name = target if isinstance(target, Path) else "standard output"
        self._errors = functools.partial(os_errors, f"{name}: rows could not be written", kind=RowsError)
        self._open = ExitStack()
        with self._errors():
            self._stream: Any = self._open.enter_context(self._opened(target)) if isinstance(target, Path) else target
            if kind == "csv":
                self._csv = csv.DictWriter(self._stream, row_columns(class_names), lineterminator="\n")
                if not append:
                    self._stream.write("\ufeff" * byte_order_mark)
                    self._csv.writeheader()

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Report only the first error; closing tries to write the failed rows again.
        with suppress(RowsError) if kind or self._failed else nullcontext(), self._errors(), self._open:
            self._flush()

    def write(self, row: dict[str, Any]) -> None:
        """Write a row; raises `RowsError` if that fails."""
        self._failed = True
        with self._errors():
            if self._kind == "jsonl":
                self._stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            elif self._kind == "csv":
                self._csv.writerow({column: _plain_text(value) for column, value in flat_row(row).items()})
            else:
                self._pending.append(flat_row(row))
            if self._kind != "parquet" or len(self._pending) >= _GROUP:
                self._flush()  # programs that follow a text file receive each row at once
        self._failed = False

    def move_from(self, path: Path) -> None:
        """Write the rows of a file of JSON lines, and delete the file."""
        with path.open(encoding="utf-8", newline="\n") as lines:
            for line in lines:
                self.write(json.loads(line))
        path.unlink()

    def _flush(self) -> None:
        if self._kind != "parquet":
            self._stream.flush()
        elif self._pending:
            self._stream.write_table(self._table(self._pending, schema=self._schema))
            self._pending = []

    @contextmanager
    def _opened(self, path: Path) -> Iterator[Any]:
        if self._kind != "parquet":
            with path.open(self._mode, encoding="utf-8", newline="") as stream:
                yield stream
            return
        self._table = needed("pyarrow", "rows=parquet", "parquet").Table.from_pylist
        from pyarrow import parquet

        self._schema = parquet_schema(self._class_names)
        # The file has its final name only when it is complete.
        with atomic_path(path) as partial, parquet.ParquetWriter(partial, self._schema) as writer:
            yield writer


def _plain_text(value: Any) -> Any:
    """Quote text, such as a file name, that a spreadsheet would execute as a formula."""
    formula = isinstance(value, str) and len(value) > 1 and value[0] in "=+-@\t\r"
    return f"'{value}" if formula else value


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def flat_row(row: dict[str, Any]) -> dict[str, Any]:
    """Flatten a row of `face_row` to one value for each of `row_columns`."""
    points = row["landmarks"] or {}
    return {
        **{column: row[column] for column in _PLAIN},
        **{f"p_{name}": value for name, value in row["probabilities"].items()},
        **{f"{name}_{axis}": points.get(name, (None, None))[i] for name in POINTS for i, axis in enumerate("xy")},
    }
