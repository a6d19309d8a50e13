"""The page behind a plain file server and in the browser, what its camera shows, and files that users bring."""

import subprocess
import sys
from typing import Any

import cv2
import numpy as np
from made_commands import wait_for

READY = "html[data-ready]"
PATIENCE_S = 120


def until(page, code):
    """Wait until an expression is true. Playwright's own way compiles text in the page, which its policy forbids."""
    wait_for(lambda: page.evaluate(code), PATIENCE_S)


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


def downloaded(page, selector):
    """What a click downloads."""
    with page.expect_download() as waiting:
        page.click(selector)
    return waiting.value


def serve(folder):
    """``python -m http.server``, on a free port."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    line = process.stdout.readline()  # Serving HTTP on 127.0.0.1 port 40123 (http://127.0.0.1:40123/) ...
    return process, line.partition("(")[2].partition(")")[0]


def camera_frames(astronaut, count=60):
    """640×480: she sways to and fro."""
    head = cv2.resize(astronaut, (460, 460), interpolation=cv2.INTER_AREA)
    for index in range(count):
        frame = np.full((480, 640, 3), 110, dtype=np.uint8)
        x = int(90 + 12 * np.sin(index / count * 2 * np.pi))
        frame[10:470, x : x + 460] = head
        yield frame


def write_y4m(path, frames, rate=30):
    """Raw video, as Chromium's made camera reads it."""
    with path.open("wb") as file:
        for index, frame in enumerate(frames):
            height, width = frame.shape[:2]
            if index == 0:
                file.write(f"YUV4MPEG2 W{width} H{height} F{rate}:1 Ip A1:1 C420jpeg\n".encode())
            file.write(b"FRAME\n" + cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420).tobytes())
    return path
