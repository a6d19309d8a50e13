"""The run folder: configuration, facts, checkpoints and results of a run."""

import csv
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from emodet.errors import EmodetError
from emodet.files import csv_text, read_regular, write_atomically
from emodet.installation import version_of
from emodet.training.ranks import rank

_MAX_FILE = 10_000_000  # maximum size of a file of settings, in bytes
_PACKAGES = (
    "emodet", "torch", "torchvision", "lightning", "torchmetrics", "albumentations", "hydra-core", "wandb", "numpy",
    "opencv-python", "opencv-python-headless",
)  # fmt: skip


class RunFolder:
    """A run's configuration and results.

    ``config.yaml`` (every value in force), ``run.json`` (commit, versions, seed, pack, figures), ``checkpoints/``,
    ``csv/``, ``metrics.csv`` (all attempts), ``curves.png``, ``augmentation.png``, ``evaluation-val/``,
    ``evaluation-test/``, ``weights.pt`` with its card, and ``corrections.csv`` where the data was corrected.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.config = path, path / "config.yaml"
        self.last = path / "checkpoints" / "last.ckpt"  # to resume from
        self.best = path / "checkpoints" / "best.ckpt"  # the selected epoch
        self.corrections = path / "corrections.csv"  # copy of the corrections of the run's data, if any

    @property
    def attempts(self) -> int:
        """Number of earlier starts of the run."""
        return len(list(self.path.glob("csv/*/metrics.csv")))

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Lock the folder against other trainings, except ranks of the same training."""
        if rank() > 0:
            yield
            return
        try:
            held = FileLock(self.path / ".lock", timeout=0).acquire()
        except Timeout:
            raise EmodetError(
                f"hydra.run.dir={self.path}: another training runs in this folder; name another"
            ) from None
        except OSError as problem:
            raise EmodetError(
                f"{self.path}: cannot be written ({problem.strerror or problem}); EMODET_OUTPUTS=FOLDER or "
                "hydra.run.dir=FOLDER names another place"
            ) from None
        with held:
            yield

    def write_config(self, values: Mapping[str, Any], *, places: Mapping[str, Any], corrections: Path | None) -> None:
        """Write all values as plain data, with absolute paths to the data.

        Corrections are copied into the folder, and the configuration names the copy, because the file may be edited
        later. `places` are the values of `data` that are paths to it.
        """
        stored = {**values, "data": {**values["data"], **places}}
        if corrections is not None:
            if corrections.resolve() != self.corrections.resolve():
                shutil.copyfile(corrections, self.corrections)
            stored["data"]["corrections"] = str(self.corrections.resolve())
        write_atomically(self.config, yaml.safe_dump(stored, sort_keys=False, allow_unicode=True))

    def read_config(self) -> dict[str, Any]:
        """Read ``config.yaml``; raises `EmodetError` unless it contains only plain keys and values."""
        # Converted to JSON, which rejects circular aliases, bytes and dates.
        values = self._read(self.config, lambda text: json.loads(json.dumps(yaml.safe_load(text))))
        odd = sorted(str(key) for key in values if key in ("defaults", "hydra"))
        if odd or "${" in str(values):
            raise EmodetError(
                f"{self.config}: refused, because a stored configuration is plain data; it holds "
                f"{', '.join(odd) or 'an interpolation ${…}'}"
            )
        return values

    def check_same_data(self, fingerprint: str) -> None:
        """Raise `EmodetError` if the data differs from that at the start of the run."""
        known = self.facts_so_far().get("fingerprint")
        if known is not None and known != fingerprint:
            raise EmodetError(
                f"{self.path}: this run began with other data (fingerprint {known[:12]}, now {fingerprint[:12]}): its "
                "faces, its crops or its corrections have changed. Start a new run, or give it the data it had; "
                f"the corrections it began with are in {self.corrections.name}, where it had any"
            )

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """Merge `facts` into ``run.json``."""
        write_atomically(self.path / "run.json", json.dumps({**self.facts_so_far(), **facts}, indent=2))

    def facts_so_far(self) -> dict[str, Any]:
        """Return `facts`, or an empty dict without a ``run.json``."""
        return self.facts() if (self.path / "run.json").exists() else {}

    def facts(self) -> dict[str, Any]:
        """Read ``run.json``; raises `EmodetError` if it is missing or damaged."""
        return self._read(self.path / "run.json", json.loads, "; delete it to resume, its figures are lost")

    def _read(self, file: Path, parse: Callable[[str], Any], way_out: str = "") -> dict[str, Any]:
        try:
            values = parse(read_regular(file, _MAX_FILE).decode())
            if not isinstance(values, dict):
                raise ValueError("it holds no keys")
        except FileNotFoundError:
            raise EmodetError(f"{self.path}: not a run folder (it has no {file.name})") from None
        except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as problem:
            raise EmodetError(f"{file}: cannot be read ({str(problem).splitlines()[0]}){way_out}") from None
        return values

    def metrics(self) -> list[dict[str, str]]:
        """Return the CSV rows of all attempts by step, without empty cells; later rows replace earlier ones."""
        rows: dict[tuple[str, str], dict[str, str]] = {}
        for file in sorted(self.path.glob("csv/*/metrics.csv"), key=lambda file: file.parent.name.zfill(9)):
            with file.open(newline="", encoding="utf-8", errors="replace") as stream:
                for row in csv.DictReader(stream):
                    # A row that was cut off by a kill lacks its last cells.
                    if None in row.values() or not (row.get("step") or "").isdecimal():
                        continue
                    filled = {name: value for name, value in row.items() if name and value}
                    kind = ",".join(sorted(set(filled) - {"step", "epoch"}))
                    rows[(row["step"], kind)] = filled
        return sorted(rows.values(), key=lambda row: int(row["step"]))

    def write_metrics(self) -> Path:
        """Write `metrics` to ``metrics.csv``."""
        rows = self.metrics()
        columns = sorted({name for row in rows for name in row})  # as in Lightning's files
        merged = self.path / "metrics.csv"
        write_atomically(merged, csv_text([columns, *([row.get(name, "") for name in columns] for row in rows)]))
        return merged


def provenance(command: str = "emodet.train") -> dict[str, Any]:
    """Return the provenance of a run of `command`: command line, commit, versions, machine, time."""
    versions = {name: version for name in _PACKAGES if (version := version_of(name)) is not None}
    return {
        "command": " ".join(["python", "-m", command, *sys.argv[1:]]),
        "commit": _commit(),
        "versions": {"python": platform.python_version(), **versions},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "started": now(),
    }


def now() -> str:
    """Return the current time in UTC, ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _commit() -> str | None:
    """Return the commit of the checkout, with ``+changes`` if files differ from it; None outside a checkout."""
    describe = ["git", "-C", str(Path(__file__).resolve().parent), "describe", "--always", "--exclude=*"]
    options = ["--abbrev=40", "--dirty=+changes"]
    try:
        done = subprocess.run([*describe, *options], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
