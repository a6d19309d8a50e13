"""The page behind a plain file server."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Site:
    """A page that is served: its folder, and its address with a slash at the end."""

    folder: Path
    url: str


def serve(folder: Path) -> tuple[subprocess.Popen[str], str]:
    """``python -m http.server``, on a free port."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()  # Serving HTTP on 127.0.0.1 port 40123 (http://127.0.0.1:40123/) ...
    return process, line.partition("(")[2].partition(")")[0]
