"""Rows of CSV files and lines of text lists; errors contain file and line."""

import csv
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from emodet.errors import EmodetError, errors_of, os_errors
from emodet.files import encoding_of

_DELIMITERS = (",", ";", "\t", "|")
_HEAD_BYTES = 1 << 16


class CsvRows:
    """The rows of a CSV file.

    Accepts commas, semicolons, tabs or bars as delimiters, Excel's ``sep=;`` line, quoted cells, UTF-8, UTF-16 with a
    byte-order mark, a header that starts with ``#``, spaces around names and cells, columns in any order, and
    additional columns. Names are compared in lower case.

    Args:
        path: Path of the file.
        required: Required columns, in lower case.
        optional: Optional columns.
        aliases: Column by alternative name, tried in this order if the column itself is missing.
        positional: All columns of a file without a header. A file has no header if its first line contains none of
            `required` and has this number of cells (one more cell is an index at the start).
        delimiter: The only accepted delimiter; by default the most frequent one in the header.
    """

    def __init__(
        self,
        path: Path,
        required: Sequence[str],
        optional: Sequence[str] = (),
        *,
        aliases: Mapping[str, str] | None = None,
        positional: Sequence[str] = (),
        delimiter: str | None = None,
    ) -> None:
        self.path, self.line = path, 1  # the last line that was read
        with errors_of(path, "cannot be read as CSV", OSError, csv.Error):
            names, self._delimiter, before = _header(path, delimiter)
        there = ", ".join(filter(None, names))[:200] or "no names"
        for alias, name in (aliases or {}).items():
            if name not in names and alias in names:
                names[names.index(alias)] = name
        headless = positional and not set(required) & set(names) and len(names) - len(positional) in (0, 1)
        if headless:
            names = ["", *positional][-len(names) :]
        self._skipped = before + (not headless)
        wanted = dict.fromkeys((*required, *optional))
        if lacking := [name for name in required if name not in names]:
            raise EmodetError(
                f"{path}: the header lacks {', '.join(lacking)}; it has {there}. Repair it, or rename it "
                "where it belongs to something else"
            )
        if twice := [name for name in wanted if names.count(name) > 1]:
            raise EmodetError(f"{path}: the header has {', '.join(twice)} more than once")
        self.columns = {name: names.index(name) for name in wanted if name in names}  # their indices
        self.others = tuple(name for name in names if name and name not in wanted)  # columns that are not read
        self.width = len(names)

    def require_together(self, *columns: str) -> bool:
        """Return whether these columns exist; raises `EmodetError` if only some of them do."""
        lacking = [name for name in columns if name not in self.columns]
        if lacking and len(lacking) < len(columns):
            raise EmodetError(
                f"{self.path}: {', '.join(columns)} belong together; the header lacks {', '.join(lacking)}"
            )
        return not lacking

    def __iter__(self) -> Iterator[dict[str, str]]:
        """Yield the stripped cells of each row by column name; blank lines are skipped."""
        lines = itertools.islice(_lines(self.path), self._skipped, None)
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        found = False
        try:
            for row in reader:
                self.line = self._skipped + reader.line_num
                if not row:
                    continue
                found = True
                if len(row) != self.width:
                    raise self.error(f"{len(row)} columns where the header has {self.width}; is the file cut off?")
                yield {name: row[index].strip() for name, index in self.columns.items()}
        except csv.Error as problem:
            self.line += 1
            raise self.error(f"not CSV ({problem})") from None
        if not found:
            raise EmodetError(f"{self.path}: there are no rows below the header")

    @property
    def where(self) -> str:
        """Return file and line of the last row, for errors."""
        return f"{self.path}, line {self.line}"

    def number(self, text: str, name: str = "cell") -> float:
        """Parse a cell as a number; errors contain its column `name`."""
        try:
            return float(text)
        except ValueError:
            raise self.error(f"{name}={text[:40]!r} is not a number") from None

    def error(self, what: str) -> EmodetError:
        """Return an error about the last row."""
        return EmodetError(f"{self.where}: {what}")


def text_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the stripped lines of a text file, without blank ones, each with its place for errors."""
    found = False
    for number, line in enumerate(_lines(path), start=1):
        if text := line.strip():
            found = True
            yield text, f"{path}, line {number}"
    if not found:
        raise EmodetError(f"{path}: the list has no lines")


def header_of(path: Path) -> tuple[str, ...]:
    """Return the column names of a CSV file in lower case; empty if there are none or the file cannot be read."""
    with suppress(OSError, csv.Error):
        return tuple(_header(path)[0])
    return ()


def damaged_or_has(path: Path, columns: Sequence[str]) -> bool:
    """Return whether a CSV file with the name of a release's file belongs to that release, even if it is damaged.

    A file with a readable header and none of the columns does not belong to it. A file that is empty, is not text, or
    has only some of the columns does, so that the reader reports the error.
    """
    if not path.is_file():
        return False
    names = header_of(path)
    return not any(names) or bool(set('\0\ufffd"') & set("".join(names))) or bool({*columns} & {*names})


def first_line(path: Path) -> str:
    """Return the first line of a text file without byte-order mark and line end; undecodable bytes become U+FFFD."""
    return _start(path)[1][0]


def _start(path: Path) -> tuple[str, list[str]]:
    """Return encoding, first two lines, and the rest of the beginning of a text file."""
    with path.open("rb") as file:
        start = file.read(_HEAD_BYTES)
    encoding = encoding_of(start)
    return encoding, re.split(r"\r\n|\r|\n", start.decode(encoding, errors="replace"), maxsplit=2)


def _lines(path: Path) -> Iterator[str]:
    number = 0
    with os_errors(f"{path}: cannot be read"), path.open(encoding=_start(path)[0], newline="") as lines:
        try:
            for line in lines:
                yield line
                number += 1
        except UnicodeError as problem:
            raise EmodetError(f"{path}, after line {number}: not UTF-8 ({problem}); save it as UTF-8") from None


def _header(path: Path, delimiter: str | None = None) -> tuple[list[str], str, int]:
    """Return names in lower case, delimiter, and the number of lines before the header (Excel's ``sep=;``)."""
    first, *following = _start(path)[1]
    separator = re.fullmatch(r"""["']?sep=(.)["']?""", first.rstrip(" "), re.IGNORECASE)
    line = following[0] if separator and following else first
    delimiter = delimiter or (separator[1] if separator else max(_DELIMITERS, key=line.count))
    cells = next(csv.reader([line], delimiter=delimiter, strict=True), [])
    names = [cell.strip().lstrip("#").strip().lower() for cell in cells]
    return names, delimiter, int(separator is not None)
