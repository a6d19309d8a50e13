"""Rows of a CSV file by column name; whatever does not fit is an error that names file and line."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from emodet.datasets.folders import first_line
from emodet.errors import EmodetError

__all__ = ["CsvRows", "header_of"]

_DELIMITERS = (",", ";", "\t")


class CsvRows:
    """The rows of a CSV file that has a header.

    Commas, semicolons or tabs between cells, quoted cells, a byte-order mark, a header that starts with ``#``, spaces
    around names and cells, columns in any order, and further columns are understood. Names are compared in lower case.

    Args:
        path: The file.
        required: The columns that must be there, in lower case.
        optional: Columns that may be there.

    Attributes:
        names: The columns of `required` and `optional` that are there.
        others: The remaining named columns, which are not read.
        line: The number of the line that was read last, from 1.

    Raises:
        EmodetError: The file cannot be read, or its header lacks a column or has it twice.
    """

    def __init__(self, path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> None:
        self.path, self.line = path, 1
        try:
            first = first_line(path)
        except OSError as problem:
            raise EmodetError(f"{path}: cannot be read ({problem})") from None
        self._delimiter = _delimiter_of(first)
        header = _names(first)
        lacking = [name for name in required if name not in header]
        if lacking:
            there = ", ".join(filter(None, header))[:200] or "no names"
            raise EmodetError(f"{path}: the header lacks {', '.join(lacking)}; it has {there}")
        wanted = (*required, *optional)
        twice = [name for name in wanted if header.count(name) > 1]
        if twice:
            raise EmodetError(f"{path}: the header has {', '.join(twice)} more than once")
        self.names = tuple(name for name in wanted if name in header)
        self.others = tuple(name for name in header if name and name not in wanted)
        self._at = {name: header.index(name) for name in self.names}
        self._width = len(header)

    def __iter__(self) -> Iterator[dict[str, str]]:
        """The cells of each row by column name, without surrounding spaces; blank lines are passed over.

        Raises:
            EmodetError: A row has more or fewer columns than the header, as the last one of a file that was cut off;
                the file is not CSV in UTF-8, or has no row.
        """
        found = False
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                rows = csv.reader(file, delimiter=self._delimiter, strict=True)
                next(rows, None)
                for row in rows:
                    self.line = rows.line_num
                    if not row:
                        continue
                    if len(row) != self._width:
                        raise self.error(f"{len(row)} columns where the header has {self._width}; is the file cut off?")
                    found = True
                    yield {name: row[index].strip() for name, index in self._at.items()}
        except csv.Error as problem:
            raise EmodetError(f"{self.path}, after line {self.line}: not CSV ({problem})") from None
        except UnicodeDecodeError as problem:
            raise EmodetError(
                f"{self.path}, after line {self.line}: not UTF-8 ({problem.reason}); save it as UTF-8"
            ) from None
        except OSError as problem:
            raise EmodetError(f"{self.path}: cannot be read ({problem})") from None
        if not found:
            raise EmodetError(f"{self.path}: there are no rows below the header")

    @property
    def where(self) -> str:
        """The place of the row that was read last, as an error names it."""
        return f"{self.path}, line {self.line}"

    def error(self, what: str) -> EmodetError:
        """An error about the row that was read last."""
        return EmodetError(f"{self.where}: {what}")


def header_of(path: Path) -> tuple[str, ...]:
    """The column names of a CSV file in lower case; empty where it cannot be read. For recognising."""
    try:
        return tuple(_names(first_line(path)))
    except OSError:
        return ()


def _names(line: str) -> list[str]:
    try:
        cells = next(csv.reader([line], delimiter=_delimiter_of(line)), [])
    except csv.Error:
        return []
    return [cell.strip().lstrip("#").strip().lower() for cell in cells]


def _delimiter_of(line: str) -> str:
    return max(_DELIMITERS, key=line.count)
