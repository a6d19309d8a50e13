"""One row for each face of each frame: JSON lines, CSV or Parquet, written as they come."""

import csv
import json
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO

from emodet.errors import EmodetError
from emodet.inference.faces import Face

__all__ = ["ROW_FORMATS", "RowWriter", "RowsError", "face_row", "open_rows", "row_columns"]

ROW_FORMATS = ("jsonl", "csv", "parquet")

_POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
_GROUP = 4096  # rows that Parquet keeps in memory before it writes them


class RowsError(EmodetError):
    """Rows cannot be written any more, of whatever input: a full disk, most often."""


class RowWriter(Protocol):
    """Takes rows; a context manager that finishes the file."""

    def write(self, row: dict[str, Any]) -> None:
        """Add one row of `face_row`."""
        ...

    def __enter__(self) -> "RowWriter": ...

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def face_row(source: str, frame: int, time_s: float | None, place: int, face: Face) -> dict[str, Any]:
    """A face as a row.

    Args:
        source: Which file, camera or stream.
        frame: Its number in a video from 0; 0 for a picture.
        time_s: Seconds in the video; None for a picture.
        place: The face's number within the frame, from 0.
        face: What was recognised.

    Returns:
        Column to value; ``probabilities`` and ``landmarks`` hold dicts, which CSV and Parquet flatten to
        ``p_happiness`` and ``left_eye_x``.
    """
    x1, y1, x2, y2 = (round(value, 1) for value in face.box)
    return {
        "source": source,
        "frame": frame,
        "time_s": None if time_s is None else round(time_s, 3),
        "face": place,
        "track_id": face.track_id,
        "x1": x1,
        "y1": y1,
        "x2": x2,
        "y2": y2,
        "detection_score": round(face.detection_score, 4),
        "emotion": face.emotion,
        "most_probable": face.most_probable,
        "confidence": round(face.confidence, 4),
        "valence": None if face.valence is None else round(face.valence, 4),
        "arousal": None if face.arousal is None else round(face.arousal, 4),
        "probabilities": {name: round(value, 5) for name, value in face.probabilities.items()},
        "landmarks": None
        if face.landmarks is None
        else {name: [round(x, 1), round(y, 1)] for name, (x, y) in zip(_POINTS, face.landmarks, strict=False)},
    }


def row_columns(class_names: tuple[str, ...]) -> list[str]:
    """The columns of a row in CSV and Parquet, in their order."""
    return [column for column, _ in _columns(class_names)]


def open_rows(kind: str, target: Path | TextIO, class_names: tuple[str, ...]) -> RowWriter:
    """Open a file for rows.

    Args:
        kind: One of `ROW_FORMATS`.
        target: A path, whose file is replaced, or an open stream (``jsonl`` and ``csv`` only), which is not closed.
        class_names: The model file's, which become columns.

    Raises:
        EmodetError: The format is not known, cannot go to a stream, needs a package that is missing, or the file
            cannot be opened. Writing raises `RowsError` when a disk is full.
    """
    if kind not in ROW_FORMATS:
        raise EmodetError(f"rows={kind!r}: there are {', '.join(ROW_FORMATS)}")
    if kind == "parquet":
        if not isinstance(target, Path):
            raise EmodetError("rows=parquet cannot be written to standard output; name a folder with --output")
        return _Parquet(target, class_names)
    try:
        stream = target.open("w", encoding="utf-8", newline="") if isinstance(target, Path) else target
    except OSError as problem:
        raise EmodetError(f"{target}: could not be written ({problem.strerror or problem})") from None
    name = str(target) if isinstance(target, Path) else "standard output"
    owned = isinstance(target, Path)
    return _JsonLines(stream, name, owned) if kind == "jsonl" else _Csv(stream, name, owned, class_names)


class _Text:
    """A text file or a stream, whose failures name it."""

    def __init__(self, stream: TextIO, name: str, owned: bool) -> None:
        self._stream, self._name, self._owned = stream, name, owned

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._owned:
            try:
                self._stream.close()
            except OSError as trouble:
                if problem is None:
                    raise self._failed(trouble) from None

    def _failed(self, problem: OSError) -> RowsError:
        return RowsError(f"{self._name}: rows could not be written ({problem.strerror or problem})")


class _JsonLines(_Text):
    def write(self, row: dict[str, Any]) -> None:
        try:
            self._stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            self._stream.flush()  # whoever reads along sees each row at once
        except BrokenPipeError:
            raise
        except OSError as problem:
            raise self._failed(problem) from None


class _Csv(_Text):
    def __init__(self, stream: TextIO, name: str, owned: bool, class_names: tuple[str, ...]) -> None:
        super().__init__(stream, name, owned)
        self._writer = csv.DictWriter(stream, row_columns(class_names), lineterminator="\n")
        self._write(self._writer.writeheader)

    def write(self, row: dict[str, Any]) -> None:
        self._write(lambda: self._writer.writerow(_flat(row)))

    def _write(self, action: Any) -> None:
        try:
            action()
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as problem:
            raise self._failed(problem) from None


class _Parquet:
    """Row groups of a few thousand rows; the file gets its name when it is whole."""

    def __init__(self, path: Path, class_names: tuple[str, ...]) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            raise EmodetError("rows=parquet needs the package pyarrow: pip install 'emodet[parquet]'") from None
        types = {"text": pyarrow.string(), "int": pyarrow.int64(), "float": pyarrow.float64()}
        self._arrow = pyarrow
        self._schema = pyarrow.schema([(column, types[kind]) for column, kind in _columns(class_names)])
        self._path, self._partial = path, path.with_name(f".{path.name}.part")
        self._rows: list[dict[str, Any]] = []
        try:
            self._writer = parquet.ParquetWriter(self._partial, self._schema)
        except OSError as problem:
            raise self._failed(problem) from None

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._flush()
            self._writer.close()
            self._partial.replace(self._path)
        except OSError as trouble:
            self._partial.unlink(missing_ok=True)
            if problem is None:
                raise self._failed(trouble) from None

    def write(self, row: dict[str, Any]) -> None:
        self._rows.append(_flat(row))
        if len(self._rows) >= _GROUP:
            try:
                self._flush()
            except OSError as problem:
                raise self._failed(problem) from None

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []

    def _failed(self, problem: OSError) -> RowsError:
        return RowsError(f"{self._path}: rows could not be written ({problem.strerror or problem})")


def _columns(class_names: tuple[str, ...]) -> list[tuple[str, str]]:
    ints, texts = ("frame", "face", "track_id"), ("source", "emotion", "most_probable")
    plain = (
        *("source", "frame", "time_s", "face", "track_id", "x1", "y1", "x2", "y2", "detection_score"),
        *("emotion", "most_probable", "confidence", "valence", "arousal"),
    )
    kinds = [(name, "int" if name in ints else "text" if name in texts else "float") for name in plain]
    kinds += [(f"p_{name}", "float") for name in class_names]
    return kinds + [(f"{point}_{axis}", "float") for point in _POINTS for axis in "xy"]


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat = {key: value for key, value in row.items() if key not in ("probabilities", "landmarks")}
    flat |= {f"p_{name}": value for name, value in row["probabilities"].items()}
    points = row["landmarks"] or {}
    return flat | {
        f"{name}_{axis}": points[name][place] if name in points else None
        for name in _POINTS
        for place, axis in enumerate("xy")
    }
