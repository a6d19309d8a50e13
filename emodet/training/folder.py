"""A run's folder: everything that it takes to understand a run, repeat it and continue it."""

import csv
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from emodet.errors import EmodetError

__all__ = ["RunFolder", "now", "provenance"]

_PACKAGES = (
    "emodet", "torch", "torchvision", "lightning", "torchmetrics", "albumentations", "hydra-core", "wandb", "numpy",
    "opencv-python", "opencv-python-headless",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where a run keeps what it is made of and what came out.

    ``config.yaml`` (composed), ``run.json`` (commit, versions, seed, pack, figures), ``checkpoints/``, ``csv/``,
    ``metrics.csv`` (all attempts), ``curves.png``, ``augmentation.png``, ``evaluation-test/``, and where the data was
    corrected ``corrections.csv``.
    """

    path: Path

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def best(self) -> Path:
        """The checkpoint of the epoch that was selected."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def corrections(self) -> Path:
        """The run's copy of the corrections that its data was read with; there only where it had any."""
        return self.path / "corrections.csv"

    @property
    def attempts(self) -> int:
        """How often the run was started before."""
        return len(list(self.path.glob("csv/*/metrics.csv")))

    @property
    def has_ended(self) -> bool:
        """Whether a run in this folder came to its report."""
        return (self.path / "run.json").is_file() and "ended" in self.facts()

    def write_config(self, config: DictConfig, *, places: Mapping[str, Any], corrections: Path | None = None) -> None:
        """Store the composed configuration, with the data's paths made absolute so that it holds from anywhere.

        `places` are those paths and what else the data module found out about its settings. Corrections are copied into
        the folder, and the configuration names the copy: the file may be edited later.
        """
        absolute = config.copy()
        for key, value in places.items():
            OmegaConf.update(absolute, f"data.{key}", value, merge=False)
        answers = OmegaConf.select(absolute, "distillation.answers")
        if answers is not None:
            absolute.distillation.answers = str(Path(answers).expanduser().resolve())
        if corrections is not None:
            if corrections.resolve() != self.corrections.resolve():
                shutil.copyfile(corrections, self.corrections)
            absolute.data.corrections = str(self.corrections.resolve())
        # Whole or not at all: other processes of the run may be reading it.
        unfinished = self.path / f"config.yaml.unfinished-{os.getpid()}"
        unfinished.write_text(OmegaConf.to_yaml(absolute, resolve=True), encoding="utf-8")
        unfinished.replace(self.path / "config.yaml")

    def check_same_data(self, fingerprint: str) -> None:
        """Refuse to go on with other data than the run began with.

        Raises:
            EmodetError: `fingerprint` is not the one in ``run.json``.
        """
        known = self.facts().get("fingerprint") if (self.path / "run.json").is_file() else None
        if known is not None and known != fingerprint:
            raise EmodetError(
                f"{self.path}: this run began with other data (fingerprint {known[:12]}, now {fingerprint[:12]}): its "
                "faces, its crops or its corrections have changed. Start a new run, or give it the data it had; "
                f"the corrections it began with are in {self.corrections.name}, where it had any"
            )

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """Merge `facts` into ``run.json``, replacing the file whole."""
        file = self.path / "run.json"
        known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        unfinished = file.with_name(f"{file.name}.unfinished-{os.getpid()}")
        unfinished.write_text(json.dumps({**known, **facts}, indent=2), encoding="utf-8")
        unfinished.replace(file)

    def facts(self) -> dict[str, Any]:
        """What ``run.json`` says."""
        file = self.path / "run.json"
        if not file.is_file():
            raise EmodetError(f"{self.path}: not a run's folder (it has no run.json)")
        known: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return known

    def merge_metrics(self) -> Path:
        """Join the CSV files of all attempts into ``metrics.csv``; of a step done twice the later row stays."""
        rows: dict[tuple[str, str], dict[str, str]] = {}
        columns: list[str] = []
        files = sorted(self.path.glob("csv/*/metrics.csv"), key=lambda file: int(file.parent.name))
        for file in files:
            with file.open(newline="", encoding="utf-8") as stream:
                for row in csv.DictReader(stream):
                    columns.extend(name for name in row if name not in columns)
                    if not row["step"]:  # cut short by a kill
                        continue
                    filled = {name: value for name, value in row.items() if value}
                    kind = ",".join(sorted(set(filled) - {"step", "epoch"}))
                    rows[(row["step"], kind)] = filled
        merged = self.path / "metrics.csv"
        with merged.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, columns)
            writer.writeheader()
            writer.writerows(sorted(rows.values(), key=lambda row: int(row["step"])))
        return merged


def provenance(command: str = "emodet.train") -> dict[str, Any]:
    """Where and from what a run of `command` was made: command line, commit, versions, machine, time."""
    return {
        "command": " ".join(["python", "-m", command, *sys.argv[1:]]),
        "commit": _commit(),
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "started": now(),
    }


def now() -> str:
    """The time in UTC, ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    """The checkout's commit, with ``+changes`` where files differ from it; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        changes = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changes else "")


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
