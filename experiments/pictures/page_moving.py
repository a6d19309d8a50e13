"""Record the animation of the page for the README: `python experiments/pictures/page_moving.py [CHROMIUM]`.

The page recognises its drawn sample video. Needs `make page`, playwright (the extra `dev`) and Chromium.
"""

import io
import subprocess
import sys
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

FILE = Path(__file__).with_name("page_moving.webp")
WIDTH, LIMIT, MILLISECONDS = 720, 400_000, 200


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


def record(page: Page, address: str) -> list[Image.Image]:
    """Screenshots of the panel while the sample video plays with its results."""
    page.goto(address)
    page.get_by_role("tab", name="Video").click()
    page.locator("#video-sample").click()
    page.locator("#video-save").wait_for(timeout=120_000)
    player, panel = page.locator("#video-player"), page.locator("#video-result")
    page.evaluate("document.getElementById('video-tools').remove()")
    pictures = []
    for number in range(int(player.evaluate("v => v.duration") * 1000 / MILLISECONDS)):
        seek = "(v, t) => new Promise(done => { v.onseeked = done; v.currentTime = t + 0.05 })"
        player.evaluate(seek, number * MILLISECONDS / 1000)
        page.wait_for_timeout(150)
        pictures.append(Image.open(io.BytesIO(panel.screenshot())).convert("RGB"))
    return pictures


def main() -> None:
    """Serve the page as a static folder, record it, and write an animated WebP."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        command = [sys.executable, "-m", "emodet.export", "format=web", f"output={folder}/site"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        handler = partial(QuietHandler, directory=f"{folder}/site")
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            chromium = sys.argv[1] if len(sys.argv) > 1 else "/usr/bin/chromium"
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1080, "height": 1000})
            pictures = record(page, f"http://127.0.0.1:{server.server_address[1]}/")
            server.shutdown()
    height = round(WIDTH * pictures[0].height / pictures[0].width)
    first, *others = [picture.resize((WIDTH, height), Image.Resampling.LANCZOS) for picture in pictures]
    first.save(FILE, save_all=True, append_images=others, duration=MILLISECONDS, loop=0, quality=60, method=6)
    print(f"{FILE}: {len(pictures)} pictures, {FILE.stat().st_size:,} bytes (at most {LIMIT:,})")


if __name__ == "__main__":
    main()
