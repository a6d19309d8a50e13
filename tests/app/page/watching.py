"""A page in the browser, and what a test wants to know of it."""

import time
from typing import Any

READY = "html[data-ready]"
PATIENCE_S = 120


def until(page: Any, code: str, *, seconds: float = PATIENCE_S) -> None:
    """Wait until an expression is true. Playwright's own way compiles text in the page, which its policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(code):
        assert time.monotonic() < end, f"still not true after {seconds} s: {code}"
        page.wait_for_timeout(50)


class Watched:
    """A page, and everything that went wrong or went elsewhere while it was open."""

    def __init__(self, context: Any, url: str) -> None:
        self.url, self.page = url, context.new_page()
        self.errors: list[str] = []
        self.requests: list[str] = []
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
        """The sentence in the page's alert, once there is one."""
        self.page.wait_for_selector("#problem:not([hidden])")
        return self.page.inner_text("#problem p")
