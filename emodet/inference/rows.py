"""One row per face and frame, as JSON lines, CSV or Parquet, written as they come."""

import csv
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from emodet.errors import EmodetError
from emodet.files import atomic_path
from emodet.inference.faces import Face

__all__ = ["ROW_FORMATS", "RowWriter", "RowsError", "face_row", "open_rows", "row_columns"]

ROW_FORMATS = ("jsonl", "csv", "parquet")

_POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
_PLAIN = (
    *("source", "frame", "time_s", "face", "track_id", "x1", "y1", "x2", "y2", "detection_score"),
    *("emotion", "most_probable", "confidence", "valence", "arousal"),
)
_INTEGERS, _TEXTS = ("frame", "face", "track_id"), ("source", "emotion", "most_probable")
_GROUP = 4096  # rows per row group of Parquet


class RowsError(EmodetError):
    """No more rows can be written, for any input; usually the disk is full."""


def face_row(source: str, frame: int, time_s: float | None, place: int, face: Face) -> dict[str, Any]:
    """A face as a row.

    Args:
        source: Name of the file, camera or stream.
        frame: Frame index in a video, from 0; 0 for an image.
        time_s: Seconds in the video; None for an image.
        place: The face's number within the frame, from 0.
        face: The face.

    Returns:
        Column to value; ``probabilities`` and ``landmarks`` hold dicts, which CSV and Parquet flatten to
        ``p_happiness`` and ``left_eye_x``.
    """
    x1, y1, x2, y2 = (round(value, 1) for value in face.box)
    points = None
    if face.landmarks is not None:
        points = {name: [round(x, 1), round(y, 1)] for name, (x, y) in zip(_POINTS, face.landmarks, strict=False)}
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
        "landmarks": points,
    }


def row_columns(class_names: Sequence[str]) -> list[str]:
    """The columns of CSV and Parquet, in order."""
    return [*_PLAIN, *(f"p_{name}" for name in class_names), *(f"{point}_{axis}" for point in _POINTS for axis in "xy")]


class RowWriter:
    """Takes rows of `face_row`; a context manager that finishes the file. Errors are `RowsError`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except OSError as error:
            if problem is None:
                raise self._failed(error) from None

    def write(self, row: dict[str, Any]) -> None:
        """Add a row."""
        try:
            self._put(row)
        except BrokenPipeError:  # the reader of our output has enough
            raise
        except OSError as error:
            raise self._failed(error) from None

    def close(self) -> None:
        """Finish the file."""

    def _put(self, row: dict[str, Any]) -> None:
        raise NotImplementedError

    def _failed(self, error: OSError) -> RowsError:
        return RowsError(f"{self._name}: rows could not be written ({error.strerror or error})")


def open_rows(
    kind: str, target: Path | TextIO, class_names: Sequence[str], *, byte_order_mark: bool = False
) -> RowWriter:
    """Open a file for rows.

    Args:
        kind: One of `ROW_FORMATS`.
        target: A path, whose file is replaced, or an open text stream (``jsonl`` and ``csv`` only), not closed.
        class_names: The model file's classes, for the columns.
        byte_order_mark: Begin a CSV file with one: spreadsheets then read it as UTF-8.

    Raises:
        EmodetError: The format is unknown, cannot go to a stream, needs a missing package, or the file cannot be
            opened. Writing raises `RowsError`.
    """
    if kind not in ROW_FORMATS:
        raise EmodetError(f"rows={kind!r}: choose from {', '.join(ROW_FORMATS)}")
    try:
        if kind == "parquet":
            if not isinstance(target, Path):
                raise EmodetError("rows=parquet cannot go to standard output; name a folder with --output")
            return _Parquet(target, class_names)
        if kind == "csv":
            return _Csv(target, class_names, byte_order_mark)
        return _JsonLines(target)
    except BrokenPipeError:
        raise
    except OSError as error:
        name = target if isinstance(target, Path) else "standard output"
        raise RowsError(f"{name}: rows could not be written ({error.strerror or error})") from None


class _JsonLines(RowWriter):
    def __init__(self, target: Path | TextIO) -> None:
        super().__init__(str(target) if isinstance(target, Path) else "standard output")
        self._owned = isinstance(target, Path)
        self._stream = target.open("w", encoding="utf-8", newline="") if isinstance(target, Path) else target

    def _put(self, row: dict[str, Any]) -> None:
        self._stream.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._stream.flush()  # programs that follow the file see each row at once

    def close(self) -> None:
        if self._owned:
            self._stream.close()


class _Csv(_JsonLines):
    def __init__(self, target: Path | TextIO, class_names: Sequence[str], byte_order_mark: bool) -> None:
        super().__init__(target)
        if byte_order_mark:
            self._stream.write("\ufeff")
        self._writer = csv.DictWriter(self._stream, row_columns(class_names), lineterminator="\n")
        self._writer.writeheader()

    def _put(self, row: dict[str, Any]) -> None:
        cells = _flat(row)
        for column in _TEXTS:
            # A spreadsheet would run a file name that begins like a formula.
            if len(cells[column]) > 1 and cells[column][0] in "=+-@\t\r":
                cells[column] = f"'{cells[column]}"
        self._writer.writerow(cells)
        self._stream.flush()


class _Parquet(RowWriter):
    """Row groups of a few thousand rows; the file appears under its name when it is complete."""

    def __init__(self, path: Path, class_names: Sequence[str]) -> None:
        super().__init__(str(path))
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            raise EmodetError("rows=parquet needs the package pyarrow: pip install 'emodet[parquet]'") from None
        types = {name: pyarrow.int64() for name in _INTEGERS} | {name: pyarrow.string() for name in _TEXTS}
        self._schema = pyarrow.schema([(it, types.get(it, pyarrow.float64())) for it in row_columns(class_names)])
        self._table = pyarrow.Table.from_pylist
        self._rows: list[dict[str, Any]] = []
        self._open = ExitStack()
        if not path.parent.is_dir():
            raise FileNotFoundError(2, "there is no such folder")
        partial = self._open.enter_context(atomic_path(path))
        self._writer = self._open.enter_context(parquet.ParquetWriter(partial, self._schema))

    def _put(self, row: dict[str, Any]) -> None:
        self._rows.append(_flat(row))
        if len(self._rows) >= _GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._table(self._rows, schema=self._schema))
            self._rows = []

    def close(self) -> None:
        with self._open:
            self._flush()


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    points = row["landmarks"] or {}
    return {
        **{column: row[column] for column in _PLAIN},
        **{f"p_{name}": value for name, value in row["probabilities"].items()},
        **{f"{name}_{axis}": points.get(name, (None, None))[i] for name in _POINTS for i, axis in enumerate("xy")},
    }
