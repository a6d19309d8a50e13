"""The run folder: what it takes to understand a run, repeat it and resume it."""

import csv
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from emodet.errors import EmodetError
from emodet.files import write_atomically
from emodet.training.ranks import rank

_PACKAGES = (
    "emodet", "torch", "torchvision", "lightning", "torchmetrics", "albumentations", "hydra-core", "wandb", "numpy",
    "opencv-python", "opencv-python-headless",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run's configuration and results.

    ``config.yaml`` (every value in force), ``run.json`` (commit, versions, seed, pack, figures), ``checkpoints/``,
    ``csv/``, ``metrics.csv`` (all attempts), ``curves.png``, ``augmentation.png``, ``evaluation-val/``,
    ``evaluation-test/``, ``weights.pt`` with its card, and ``corrections.csv`` where the data was corrected.
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
    def config(self) -> Path:
        """Every value in force, as plain data."""
        return self.path / "config.yaml"

    @property
    def corrections(self) -> Path:
        """The run's copy of the corrections that its data was read with; there only where it had any."""
        return self.path / "corrections.csv"

    @property
    def attempts(self) -> int:
        """How often the run was started before."""
        return len(list(self.path.glob("csv/*/metrics.csv")))

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep other trainings out of the folder; other ranks of the same one come in.

        Raises:
            EmodetError: Another training runs in it.
        """
        if rank() > 0:
            yield
            return
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise EmodetError(
                f"hydra.run.dir={self.path}: another training runs in this folder; name another"
            ) from None
        except OSError as problem:
            raise EmodetError(
                f"{self.path}: cannot be written ({problem.strerror or problem}); EMODET_OUTPUTS=FOLDER or "
                "hydra.run.dir=FOLDER names another place"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def write_config(self, values: Mapping[str, Any], *, places: Mapping[str, Any], corrections: Path | None) -> None:
        """Store every value in force as plain data, with absolute paths to the data.

        Corrections are copied into the folder, and the configuration names the copy: the file may be edited later.
        `places` are the values of `data` that are paths to it.
        """
        stored = {**values, "data": {**values["data"], **places}}
        if corrections is not None:
            if corrections.resolve() != self.corrections.resolve():
                shutil.copyfile(corrections, self.corrections)
            stored["data"]["corrections"] = str(self.corrections.resolve())
        write_atomically(self.config, yaml.safe_dump(stored, sort_keys=False, allow_unicode=True))

    def read_config(self) -> dict[str, Any]:
        """What ``config.yaml`` holds, as plain data.

        Raises:
            EmodetError: There is none, it is damaged, or it holds more than keys and values of this project.
        """
        try:
            values = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise EmodetError(f"{self.path}: not a run folder (it has no config.yaml)") from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
            raise EmodetError(f"{self.config}: cannot be read ({str(problem).splitlines()[0]})") from None
        if not isinstance(values, dict):
            raise EmodetError(f"{self.config}: damaged, it holds no keys")
        odd = sorted(str(key) for key in values if key in ("defaults", "hydra"))
        if odd or "${" in str(values):
            raise EmodetError(
                f"{self.config}: refused, because a stored configuration is plain data; it holds "
                f"{', '.join(odd) or 'an interpolation ${…}'}"
            )
        return {str(key): value for key, value in values.items()}

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
        """Merge `facts` into ``run.json``."""
        known = self.facts() if (self.path / "run.json").is_file() else {}
        write_atomically(self.path / "run.json", json.dumps({**known, **facts}, indent=2))

    def facts(self) -> dict[str, Any]:
        """What ``run.json`` holds.

        Raises:
            EmodetError: There is none, or it is damaged.
        """
        file = self.path / "run.json"
        try:
            known = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise EmodetError(f"{self.path}: not a run folder (it has no run.json)") from None
        except (OSError, ValueError, RecursionError) as problem:
            raise EmodetError(f"{file}: damaged ({problem}); delete it to resume, its figures are lost") from None
        if not isinstance(known, dict):
            raise EmodetError(f"{file}: damaged, it holds no keys; delete it to resume, its figures are lost")
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
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _commit() -> str | None:
    """The checkout's commit, with ``+changes`` where files differ from it; None outside a checkout."""
    describe = ["git", "-C", str(Path(__file__).resolve().parent), "describe", "--always", "--exclude=*"]
    options = ["--abbrev=40", "--dirty=+changes"]
    try:
        done = subprocess.run([*describe, *options], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
