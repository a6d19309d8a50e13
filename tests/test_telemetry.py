"""Nothing is told to anybody, and nothing is left on the machine that would be."""

import os
import subprocess
import sys


def test_opening_a_model_leaves_no_trace(tmp_path):
    """Builds of ONNX Runtime that report to their maker write an identity and a queue when they are first used."""
    folders = {name: str(tmp_path) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")}
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"} | folders
    code = "from emodet import Recognizer; Recognizer(detector='none', threads=1)"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
