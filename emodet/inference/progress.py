"""Which inputs of a run are done, so that it can be resumed."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from emodet.errors import EmodetError, os_errors
from emodet.inference.rows import RowsError
from emodet.inference.summary import SourceSummary

_AGAIN = "name another folder, or leave out --resume to start again"


class Progress:
    """``progress.jsonl``: the settings of the run, then a line for each finished batch of inputs; a context manager.

    A line holds the size of the file of rows behind the batch, and name, number of faces and error of each input. To
    resume, the file of rows is cut to the size in the last whole line: what came after it is done again, and so are
    inputs that failed without a row.

    Attributes:
        resumed: Whether there are rows to append to.
        earlier: Number of inputs that are done.
    """

    def __init__(self, rows: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        """Begin, or resume, a file of rows; settings are compared with those of the rows that are there.

        Raises:
            EmodetError: `resume`, but the rows are of other settings, or their progress is missing or damaged.
        """
        self._rows, self._path = rows, rows.with_name("progress.jsonl")
        self._done: set[int] = set()
        self.resumed = False
        header = json.dumps(settings, ensure_ascii=False)
        with os_errors(f"--output {rows.parent}: {self._path.name} could not be opened"):
            if resume and (self._path.exists() or rows.exists()):
                self.resumed = self._resume(json.loads(header)) > 0
            else:
                self._path.write_text(header + "\n", encoding="utf-8")
            self._file = self._path.open("a", encoding="utf-8")
        self.earlier = len(self._done)

    def __contains__(self, name: str) -> bool:
        return hash(name) in self._done

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # a full disk was reported when it was written
            self._file.close()

    def add(self, inputs: Sequence[SourceSummary]) -> None:
        """Record finished inputs, whose rows are written."""
        lines = [[each.name, each.faces, *([each.error] if each.error else [])] for each in inputs]
        with os_errors(f"{self._path}: could not be written", kind=RowsError):
            line = {"size": self._rows.stat().st_size, "inputs": lines}
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()

    def _resume(self, header: Mapping[str, Any]) -> int:
        """Drop what is half written; returns the size of the file of rows."""
        for path in (self._path, self._rows):
            if not path.exists():
                raise EmodetError(f"--resume: there is no {path}; {_AGAIN}")
        end = size = 0
        try:
            with self._path.open("rb") as lines:
                for line in lines:
                    if not line.endswith(b"\n"):  # the run was killed while it was written
                        break
                    values = json.loads(line)
                    if not end:
                        _compare(values, header)
                    else:
                        size = values["size"]
                        self._done.update(hash(each[0]) for each in values["inputs"] if len(each) == 2 or each[1])
                    end += len(line)
            if not end:  # emptied by a power cut, say: the rows stay
                raise ValueError
        except (ValueError, TypeError, LookupError):
            raise EmodetError(f"--resume: {self._path} is damaged; {_AGAIN}") from None
        if self._rows.stat().st_size < size:
            raise EmodetError(f"--resume: {self._rows} is shorter than {self._path.name} says; {_AGAIN}")
        for path, length in ((self._path, end), (self._rows, size)):
            with path.open("r+b") as file:
                file.truncate(length)
        return size


def _compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if changed:
        values = ", ".join(f"{key}={new.get(key)} instead of {old.get(key)}" for key in changed)
        raise EmodetError(f"--resume: the rows were made with other settings: {values}; {_AGAIN}")
