"""What an offline run of Weights & Biases holds, as wandb itself reads its log."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class WandbLog:
    """The records of one or several logs of the same run, in order.

    Attributes:
        run_ids: One for each log.
        name: Of the run.
        group: Likewise.
        config: Nested, as it was at the end.
        history: The rows of metrics.
        summary: Flat, as it was at the end.
        artifacts: By name: type, aliases, whether the run used it or made it, metadata, and the files (path in the
            artifact to path on disk).
        ended: Exit status, one for each log; None where the log ends before the run.
    """

    run_ids: list[str] = field(default_factory=list)
    name: str = ""
    group: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    ended: list[int | None] = field(default_factory=list)

    def table(self, name: str) -> dict[str, Any]:
        """A table's columns and rows, by the metric's name."""
        (files,) = [
            artifact["files"] for artifact in self.artifacts.values() if f"{name}.table.json" in artifact["files"]
        ]
        return json.loads(Path(files[f"{name}.table.json"]).read_text(encoding="utf-8"))

    def artifact(self, kind: str) -> dict[str, Any]:
        """The one artifact whose name begins so."""
        (found,) = [artifact for name, artifact in self.artifacts.items() if name.startswith(kind)]
        return found


def read_wandb_log(run):
    """Read all logs in a run's folder."""
    log = WandbLog()
    for folder in sorted((run / "wandb").glob("*run-*")):
        if folder.is_symlink():
            continue
        log.ended.append(None)
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        for line in done.stdout.splitlines():
            _take(log, json.loads(line))
    return log


def _take(log, record):
    kind = record["type"]
    content = record.get(kind, {})
    if kind == "run":
        log.run_ids.append(content["run_id"])
        log.name, log.group = content.get("display_name", ""), content.get("run_group", "")
    elif kind == "config":
        log.config.update(content["update"])
    elif kind == "history":
        log.history.append(content["item"])
    elif kind == "summary":
        log.summary.update(content["update"])
    elif kind == "exit":
        log.ended[-1] = content["exit_code"]
    elif kind == "artifact":
        log.artifacts[content["name"]] = {
            "type": content["type"],
            "aliases": content["aliases"],
            "metadata": json.loads(content.get("metadata") or "{}"),
            "files": {each["path"]: each["local_path"] for each in content["manifest"]["contents"]},
        }
