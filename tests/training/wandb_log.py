"""What an offline run of Weights & Biases holds, as wandb itself reads its log."""

import json
import subprocess
import sys
from pathlib import Path


class WandbLog:
    """The records of all logs in a run's folder, in order: nested `config` and flat `summary` as they were at the end,
    rows of metrics, artifacts by name, and for each log its `run_ids` and exit status (None if it ends before the run).
    """

    def __init__(self, run):
        self.run_ids, self.ended, self.history = [], [], []
        self.config, self.summary, self.artifacts = {}, {}, {}
        for folder in sorted((run / "wandb").glob("*run-*")):
            if folder.is_symlink():
                continue
            self.ended.append(None)
            command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
            for line in done.stdout.splitlines():
                record = json.loads(line)
                self._take(record["type"], record.get(record["type"], {}))

    def _take(self, kind, content):
        if kind == "run":
            self.run_ids.append(content["run_id"])
            self.name, self.group = content.get("display_name", ""), content.get("run_group", "")
        elif kind == "config":
            self.config.update(content["update"])
        elif kind == "history":
            self.history.append(content["item"])
        elif kind == "summary":
            self.summary.update(content["update"])
        elif kind == "exit":
            self.ended[-1] = content["exit_code"]
        elif kind == "artifact":
            files = {each["path"]: each["local_path"] for each in content["manifest"]["contents"]}
            metadata = json.loads(content.get("metadata") or "{}")
            self.artifacts[content["name"]] = {**content, "metadata": metadata, "files": files}

    def table(self, name):
        """A table's columns and rows, by the metric's name."""
        file = f"{name}.table.json"
        (files,) = [artifact["files"] for artifact in self.artifacts.values() if file in artifact["files"]]
        return json.loads(Path(files[file]).read_text(encoding="utf-8"))

    def artifact(self, kind):
        (found,) = [artifact for name, artifact in self.artifacts.items() if name.startswith(kind)]
        return found
