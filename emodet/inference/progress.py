"""Progress of a run over many inputs, for `--resume`."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from emodet.errors import EmodetError, os_errors
from emodet.inference.rows import RowsError
from emodet.inference.summary import SourceSummary

_RESTART_HINT = "name another folder, or leave out --resume to start again"


class Progress:
    """The file ``progress.jsonl``: the run's settings, then one line per finished batch of inputs; a context manager.

    A line contains the size of the rows file after the batch, and name, number of faces and error of each input. A
    resumed run truncates the rows file to the size in the last complete line, and repeats later inputs as well as
    inputs that failed without a row.

    Attributes:
        resumed: Whether to append to existing rows.
        earlier: Number of inputs that an earlier run finished.
    """

    def __init__(self, rows: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        """Start a progress file, or resume it if its settings are equal.

        Raises:
            EmodetError: On resuming, the settings differ, or the progress file is missing or damaged.
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
        with suppress(OSError):  # `add` has already reported a full disk
            self._file.close()

    def add(self, inputs: Sequence[SourceSummary]) -> None:
        """Record finished inputs, after their rows were written."""
        lines = [[each.name, each.faces, *([each.error] if each.error else [])] for each in inputs]
        with os_errors(f"{self._path}: could not be written", kind=RowsError):
            line = {"size": self._rows.stat().st_size, "inputs": lines}
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()

    def _resume(self, header: Mapping[str, Any]) -> int:
        """Truncate both files after the last complete batch; returns the size of the rows file."""
        for path in (self._path, self._rows):
            if not path.exists():
                raise EmodetError(f"--resume: there is no {path}; {_RESTART_HINT}")
        end = size = 0
        try:
            with self._path.open("rb") as lines:
                for line in lines:
                    if not line.endswith(b"\n"):  # the run was killed while writing this line
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
            raise EmodetError(f"--resume: {self._path} is damaged; {_RESTART_HINT}") from None
        if self._rows.stat().st_size < size:
            raise EmodetError(f"--resume: {self._rows} is shorter than {self._path.name} states; {_RESTART_HINT}")
        for path, length in ((self._path, end), (self._rows, size)):
            with path.open("r+b") as file:
                file.truncate(length)
        return size


def _compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if changed:
        values = ", ".join(f"{key}={new.get(key)} instead of {old.get(key)}" for key in changed)
        raise EmodetError(f"--resume: the rows were made with other settings: {values}; {_RESTART_HINT}")
