"""Speed and size of the browser page in headless Chromium: frames per second, time to the first result, file size.

    python experiments/benchmarks/page.py [--seconds 15] [--rounds 3] [--pictures DIR] [--screenshots DIR] [--webgpu]

The camera shows the astronaut of scikit-image (NASA, public domain), moving sideways, at 640×480 and 30 frames/s. The
page is served by a plain file server (one thread) and by one that sends isolation headers (several threads).
`--pictures` also lists the number of faces that the browser finds in each image of a folder; `--screenshots` writes the
images for the README. `--webgpu` (after `make page WEBGPU=1`) starts Chromium with a software WebGPU adapter, compares
its detector output with WebAssembly's, and reports which of the two the page selects.
Prints Markdown, with the load average before and after; run nothing else on the machine.
"""

import argparse
import functools
import http.server
import os
import platform
import shutil
import statistics
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from playwright.sync_api import sync_playwright
from skimage import data

from emodet.app.page.files import page_files, write_folder
from emodet.modelfile import SHIPPED

SWITCHES = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
)
MEASURE_PARTS = """async () => {
    const base = new URL('.', document.baseURI).href;
    const { openNetworks } = await import(`${base}js/recognition/networks.js`);
    const about = await (await fetch(`${base}page.json`)).json();
    const result = {};
    async function measure(name, run, rounds) {
        const times = [];
        for (let round = 0; round < rounds + 10; round += 1) {
            const start = performance.now();
            await run();
            if (round >= 10) times.push(performance.now() - start);
        }
        times.sort((a, b) => a - b);
        result[name] = times[times.length >> 1];
    }
    const noise = (count, most) => Float32Array.from({ length: count }, () => Math.random() * most);
    const opened = {};
    for (const precision of ['fp32', 'int8']) {
        about.model.file = `model/emodet-${precision}.onnx`;
        opened[precision] = await openNetworks(base, about);
    }
    const size = about.model.preprocessing.size;
    for (let turn = 0; turn < 2; turn += 1) {  // alternating; the second round counts
        for (const precision of ['fp32', 'int8']) {
            for (const count of [1, 5]) {
                const crops = Uint8Array.from(noise(count * size * size * 3, 255));
                await measure(`${precision}, ${count} faces`, () => opened[precision].readings(crops, count), 40);
            }
        }
    }
    for (const [width, height] of [[256, 192], [320, 256], [480, 384], [640, 480]]) {
        const planes = noise(3 * width * height, 255);
        await measure(`detector at ${width}×${height}`, () => opened.int8.detect(planes.slice(), width, height), 15);
    }
    return result;
}"""


# Used without `--disable-gpu`; the adapter emulates a GPU on the CPU.
SOFTWARE_GPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")
COMPARE_BACKENDS = """async () => {
    const base = new URL('.', document.baseURI).href;
    const { openNetworks } = await import(`${base}js/recognition/networks.js`);
    const about = await (await fetch(`${base}page.json`)).json();
    const values = Float32Array.from({ length: 3 * 320 * 256 }, (_, index) => (index * 7919) % 255);
    const found = {};
    for (const [name, webgpu] of [["WebGPU", "also software"], ["WebAssembly", false], ["page's choice", true]]) {
        const networks = await openNetworks(base, { ...about, webgpu });
        const { heat } = await networks.detect(values.slice(), 320, 256);
        const start = performance.now();
        await networks.detect(values.slice(), 320, 256);
        found[name] = { gpu: networks.gpu, ms: performance.now() - start, heat: Array.from(heat) };
    }
    return found;
}"""


class Handler(http.server.SimpleHTTPRequestHandler):
    isolated = False

    def end_headers(self) -> None:
        if self.isolated:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path, *, isolated: bool) -> Iterator[str]:
    handler = type("Served", (Handler,), {"isolated": isolated})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


def write_camera(path: Path, count: int = 60) -> None:
    head = cv2.resize(data.astronaut(), (460, 460), interpolation=cv2.INTER_AREA)
    with path.open("wb") as file:
        file.write(b"YUV4MPEG2 W640 H480 F30:1 Ip A1:1 C420jpeg\n")
        for index in range(count):
            frame = np.full((480, 640, 3), 110, dtype=np.uint8)
            x = int(90 + 30 * np.sin(index / count * 2 * np.pi))
            frame[10:470, x : x + 460] = head
            file.write(b"FRAME\n" + cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420).tobytes())


def live(browser: Any, url: str, seconds: float) -> dict[str, float]:
    """Measure a new page: time to the first result, also after a restart of the camera; frames/s and latency."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(url)
    page.click("#camera-start")  # immediately: the first result appears as soon as everything is loaded
    page.wait_for_selector("html[data-first-result]")
    first = page.evaluate("performance.now()")
    page.wait_for_timeout(3000)
    rates, latencies = [], []
    for _ in range(round(seconds)):
        page.wait_for_timeout(1000)
        rates.append(float(page.inner_text("#camera-rate")))
        latencies.append(float(page.inner_text("#camera-latency")))
    emotion = page.inner_text("#camera-faces h3")
    page.click("#camera-stop")
    page.evaluate("delete document.documentElement.dataset.firstResult")
    page.click("#camera-start")
    page.wait_for_selector("html[data-first-result]")
    again = float(page.evaluate("document.documentElement.dataset.firstResult"))
    context.close()
    assert "happiness" in emotion, emotion
    return {
        "first s": first / 1000,
        "again s": again / 1000,
        "rate": statistics.median(rates),
        "slowest": min(rates),
        "latency": statistics.median(latencies),
    }


def count_faces(browser: Any, url: str, folder: Path) -> None:
    page = browser.new_context().new_page()
    page.set_default_timeout(120_000)
    page.goto(f"{url}#picture")
    page.wait_for_selector("html[data-ready]")
    print("\n## Faces found\n\n| image | faces |\n|---|---|")
    for file in sorted(each for each in folder.iterdir() if each.suffix in (".png", ".jpg")):
        page.set_input_files("#picture-files", file)
        page.wait_for_selector(".result")
        print(f"| {file.name} | {page.inner_text('.result > p')} |")
        page.click("#picture-clear")
    page.context.close()


def webgpu(driver: Any, chromium: str, folder: Path) -> None:
    """Compare the detector on a software WebGPU adapter with WebAssembly, on the same generated pixels."""
    kept = [switch for switch in SWITCHES if switch != "--disable-gpu"]
    browser = driver.chromium.launch(executable_path=chromium, args=[*kept, *SOFTWARE_GPU])
    with served(folder, isolated=False) as url:
        page = browser.new_page()
        page.set_default_timeout(240_000)
        page.goto(url)
        found = page.evaluate(COMPARE_BACKENDS)
    browser.close()
    print("\n| detector at 320×256 | uses WebGPU | ms |\n|---|---|---:|")
    for name, result in found.items():
        print(f"| {name} | {'yes' if result['gpu'] else 'no'} | {result['ms']:.0f} |")
    heats = [np.array(found[name]["heat"]) for name in ("WebGPU", "WebAssembly")]
    print(f"\nMaximum difference of the score map (0 to 1): {np.abs(heats[0] - heats[1]).max():.1e}")


def screenshots(browser: Any, url: str, folder: Path) -> None:
    for name, width, height, scheme in [("page_desktop", 1280, 910, "light"), ("page_phone", 390, 844, "dark")]:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.goto(url)
        page.click("#camera-start")
        page.wait_for_selector("#camera-faces .face")
        page.evaluate("document.querySelector('#camera-choice').options[0].text = 'Camera 1'")
        page.wait_for_timeout(9000)
        page.screenshot(path=folder / f"{name}.png", full_page=name == "page_phone")
        context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15, help="of live video in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=Path, help="folder of images")
    parser.add_argument("--screenshots", type=Path, help="output folder")
    parser.add_argument("--webgpu", action="store_true")
    arguments = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise SystemExit("error: Chromium is not installed: apt install chromium")
    print(f"Load average before: {os.getloadavg()[0]:.1f}.", end=" ")
    print(f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}.")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as driver:
        temporary = Path(name)
        files = page_files(SHIPPED["int8"])
        folder = write_folder(files, temporary / "site")
        total = sum(map(len, files.values()))
        for precision in ("fp32", "int8"):
            (folder / "model" / f"emodet-{precision}.onnx").write_bytes(SHIPPED[precision].read_bytes())
        if arguments.webgpu:
            webgpu(driver, chromium, folder)
            return
        write_camera(temporary / "camera.y4m")
        browser = driver.chromium.launch(
            executable_path=chromium, args=[*SWITCHES, f"--use-file-for-fake-video-capture={temporary / 'camera.y4m'}"]
        )
        print(f"Chromium {browser.version}. Size of the page: {total / 1e6:.1f} MB in {len(files)} files.")
        if arguments.screenshots:
            with served(folder, isolated=False) as url:
                screenshots(browser, url, arguments.screenshots)
            return
        print("\n## Live, 640×480, one face\n")
        print(
            "| server | time from opening the page to the first result, s | time from restarting the camera, s "
            "| frames/s | frames/s in the slowest second | latency, ms |"
        )
        print("|---|---:|---:|---:|---:|---:|")
        for server, isolated in [("plain file server: one thread", False), ("with isolation headers: threads", True)]:
            with served(folder, isolated=isolated) as url:
                runs = [live(browser, url, arguments.seconds) for _ in range(arguments.rounds)]
                figures = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
                print(
                    f"| {server} | {figures['first s']:.1f} | {figures['again s']:.2f} | {figures['rate']:.0f} "
                    f"| {figures['slowest']:.0f} | {figures['latency']:.0f} |"
                )
        print("\n## Parts\n\n| one thread | median, ms |\n|---|---:|")
        with served(folder, isolated=False) as url:
            page = browser.new_context().new_page()
            page.goto(f"{url}#model")
            page.wait_for_selector("html[data-ready]", timeout=120_000)
            for part, milliseconds in page.evaluate(MEASURE_PARTS).items():
                print(f"| {part} | {milliseconds:.1f} |")
            page.context.close()
            if arguments.pictures:
                count_faces(browser, url, arguments.pictures)
        browser.close()
    print(f"\nLoad average after: {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main()
