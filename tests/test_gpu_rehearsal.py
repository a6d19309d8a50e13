"""The steps that wait for a GPU, on a CPU with tiny settings."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_every_step_runs(tmp_path):
    steps = "paths,speed,accuracy"
    command = ["bash", ROOT / "experiments" / "gpu" / "run.sh", tmp_path / "out", "--rehearse", "--steps", steps]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHON": sys.executable}, timeout=1800, check=False
    )
    steps = json.loads((tmp_path / "out" / "report.json").read_text())["steps"]
    assert [name for name, step in steps.items() if not step["ok"]] == [], done.stdout[-2000:]
    assert done.returncode == 0
    assert {"resume in mid-epoch", "ddp", "export", "profile", "face", "wide", "student_0", "student_1"} <= set(steps)
    files = {file.name for file in (tmp_path / "out").iterdir()}
    weights = {f"{name}.pt" for name in ("student_0", "student_1", "face", "wide")}
    assert files == {"report.json", "profile.txt", "runs.tar.gz", *weights}
