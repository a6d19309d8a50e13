"""``sweep.json``: what a sweep set out to run, so that runs that never started can be named."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emodet.errors import EmodetError
from emodet.training.folder import now

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """The file in a sweep's folder."""

    folder: Path

    @property
    def file(self) -> Path:
        """Where it lies."""
        return self.folder / "sweep.json"

    def start(self, kind: str, study: Path | None = None) -> None:
        """Write the file anew.

        Args:
            kind: ``grid`` or ``search``.
            study: The search's file.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        facts: dict[str, Any] = {
            "kind": kind,
            "command": " ".join(["python", "-m", "emodet.train", *sys.argv[1:]]),
            "started": now(),
            "study": None if study is None else str(study),
            "runs": {},
        }
        self._write(facts)

    def add(self, runs: Mapping[int, Sequence[str]]) -> None:
        """Note runs that are about to be started: number to overrides."""
        facts = self.read()
        facts["runs"].update({str(number): list(overrides) for number, overrides in runs.items()})
        self._write(facts)

    def note(self, **facts: Any) -> None:
        """Note further facts, as how it ended."""
        self._write({**self.read(), **facts})

    def read(self) -> dict[str, Any]:
        """What the file says.

        Raises:
            EmodetError: It is damaged.
        """
        try:
            facts = json.loads(self.file.read_text(encoding="utf-8"))
            if not isinstance(facts, dict) or not isinstance(facts["runs"], dict):
                raise ValueError("it lists no runs")
        except (OSError, ValueError, KeyError) as problem:
            raise EmodetError(f"{self.file}: not what a sweep wrote ({problem})") from None
        return facts

    def _write(self, facts: Mapping[str, Any]) -> None:
        unfinished = self.file.with_name(f"{self.file.name}.unfinished-{os.getpid()}")
        unfinished.write_text(json.dumps(facts, indent=2), encoding="utf-8")
        unfinished.replace(self.file)
