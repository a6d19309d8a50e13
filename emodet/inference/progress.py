"""Which inputs a file of rows holds, so that a run that was stopped, or killed, can be resumed."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emodet.errors import EmodetError
from emodet.inference.rows import RowsError
from emodet.inference.summary import SourceSummary

__all__ = ["Progress"]


class Progress:
    """``progress.jsonl``: the settings of the run, then a line for each finished batch of inputs.

    A line holds the size of the file of rows behind the batch, and name, number of faces and error of each input. To
    resume, the file of rows is cut to the size in the last whole line: what came after it is done again, and so are
    inputs that failed without a row.

    Attributes:
        resumed: Whether rows are appended.
        earlier: Number of inputs that are done.
    """

    def __init__(self, rows: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        """Begin, or go on with, a file of rows; settings are compared with those of the rows that are there.

        Raises:
            EmodetError: `resume`, but the rows are of other settings, or their progress is missing or damaged.
        """
        self._rows, self._path = rows, rows.with_name("progress.jsonl")
        self._done: set[int] = set()
        self.resumed = resume and (self._path.exists() or rows.exists())
        header = json.loads(json.dumps(settings))
        try:
            if self.resumed:
                self._read(header)
            else:
                self._path.write_text(json.dumps(header, ensure_ascii=False) + "\n", encoding="utf-8")
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as problem:
            raise EmodetError(f"--output {rows.parent}: {self._path.name}: {problem.strerror or problem}") from None
        self.earlier = len(self._done)

    def __contains__(self, name: str) -> bool:
        return hash(name) in self._done

    def add(self, inputs: Sequence[SourceSummary]) -> None:
        """Record finished inputs, whose rows are written."""
        lines = [[each.name, each.faces, *([each.error] if each.error else [])] for each in inputs]
        try:
            line = {"size": self._rows.stat().st_size, "inputs": lines}
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as problem:
            raise RowsError(f"{self._path}: could not be written ({problem.strerror or problem})") from None

    def close(self) -> None:
        """Close the file; a full disk was reported when it was written."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _read(self, header: dict[str, Any]) -> None:
        again = "name another folder, or leave out --resume to start again"
        if not (self._path.exists() and self._rows.exists()):
            here, missing = (self._path, self._rows) if self._path.exists() else (self._rows, self._path)
            raise EmodetError(f"--resume: {here} is there without {missing.name}; {again}")
        end = size = 0
        try:
            with self._path.open("rb") as lines:
                for number, line in enumerate(lines):
                    if not line.endswith(b"\n"):  # the run was killed while it was written
                        break
                    values = json.loads(line)
                    if number == 0:
                        _compare(values, header, again)
                    else:
                        size = values["size"]
                        finished = (each for each in values["inputs"] if len(each) == 2 or each[1])
                        self._done.update(hash(each[0]) for each in finished)
                    end += len(line)
        except (ValueError, TypeError, LookupError):
            raise EmodetError(f"--resume: {self._path} is damaged; {again}") from None
        if self._rows.stat().st_size < size:
            raise EmodetError(f"--resume: {self._rows} is shorter than {self._path.name} says; {again}")
        for path, length in ((self._path, end), (self._rows, size)):
            with path.open("r+b") as file:
                file.truncate(length)


def _compare(had: Mapping[str, Any], has: Mapping[str, Any], again: str) -> None:
    changed = [
        f"{key}={has.get(key)} instead of {had.get(key)}" for key in {**had, **has} if had.get(key) != has.get(key)
    ]
    if changed:
        raise EmodetError(f"--resume: the rows were made with other settings: {', '.join(changed)}; {again}")
