"""Clients and a server process for the tests of the web rooms."""

import contextlib
import os
import re
import subprocess
import sys

from made_commands import wait_for

ADDRESS = "http://127.0.0.1:8000"
TOKEN = "correct-horse-battery"


def refusal(response, status, code):
    """The answer is a refusal in the one form; returns its message and way out."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"code", "message", "way_out"}
    assert error["code"] == code
    assert error["message"].endswith(".")
    assert error["way_out"].endswith(".")
    return error["message"] + " " + error["way_out"]


def ended(client, address):
    """The status of a video that was done or failed."""
    return wait_for(lambda: (status := client.get(address).json())["state"] in ("done", "failed") and status)


@contextlib.contextmanager
def server_process(folder, *options):
    """`python -m emodet.app` on a free port: the process and the lines it prints until it serves."""
    environment = os.environ | {"TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "emodet.app", "--port", "0", "--detector", "centerface", "--threads", "1", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    lines = []
    try:
        while not lines or not lines[-1].startswith("Ctrl-C"):
            line = process.stdout.readline()
            assert line, process.stderr.read()
            lines.append(line.rstrip())
        yield process, lines
    finally:
        process.kill()
        process.communicate()


def address_in(lines):
    """The address that the command printed: scheme and host with the port, and the token."""
    return re.match(r"emodet: (https?://[^/]+)/(?:\?token=(\S+))?$", lines[0]).groups()
