"""The page behind a plain file server, and in the browser: what a test wants to know of it."""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READY = "html[data-ready]"
PATIENCE_S = 120


def until(page, code, *, seconds=PATIENCE_S):
    """Wait until an expression is true. Playwright's own way compiles text in the page, which its policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(code):
        assert time.monotonic() < end, f"still not true after {seconds} s: {code}"
        page.wait_for_timeout(50)


class Watched:
    """A page, and everything that went wrong or went elsewhere while it was open."""

    def __init__(self, context: Any, url: str) -> None:
        self.url, self.page = url, context.new_page()
        self.errors = []
        self.requests = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: line.type == "error" and self.errors.append(line.text))
        context.on("request", lambda request: self.requests.append(request.url))
        self.page.set_default_timeout(1000 * PATIENCE_S)

    def open(self, tab: str = "", *, ready: bool = True) -> Any:
        self.page.goto(self.url + (f"#{tab}" if tab else ""))
        if ready:
            self.page.wait_for_selector(READY)
        return self.page

    def problem(self) -> str:
        self.page.wait_for_selector("#problem:not([hidden])")
        return self.page.inner_text("#problem p")


@dataclass(frozen=True)
class Site:
    """A page that is served: its folder, and its address with a slash at the end."""

    folder: Path
    url: str


def serve(folder):
    """``python -m http.server``, on a free port."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    line = process.stdout.readline()  # Serving HTTP on 127.0.0.1 port 40123 (http://127.0.0.1:40123/) ...
    return process, line.partition("(")[2].partition(")")[0]
