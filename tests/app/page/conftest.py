"""A real browser for the page: Debian's Chromium with a made camera, and the page behind `python -m http.server`.

Where there is no Chromium, or the page was not built, these tests are skipped and say what is missing.
"""

import contextlib
import shutil
from types import SimpleNamespace

import pytest
from watching import Watched, camera_frames, serve, write_y4m

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--use-fake-device-for-media-stream",
)


@pytest.fixture(scope="package")
def page_folder(tmp_path_factory):
    """The page as a static folder, with the shipped model file."""
    from emodet.app.page.files import page_files, write_folder
    from emodet.errors import EmodetError
    from emodet.modelfile import SHIPPED

    try:
        files = page_files(SHIPPED["int8"])
    except EmodetError as problem:
        pytest.skip(str(problem))
    return write_folder(files, tmp_path_factory.mktemp("page") / "site")


@pytest.fixture(scope="package")
def site(page_folder):
    process, url = serve(page_folder)
    yield SimpleNamespace(folder=page_folder, url=url)
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="package")
def browser(astronaut, tmp_path_factory):
    """Chromium, whose camera shows the astronaut; named first, so that tests are skipped before anything is made."""
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine: apt install chromium")

    from playwright.sync_api import sync_playwright

    camera = write_y4m(tmp_path_factory.mktemp("camera") / "camera.y4m", camera_frames(astronaut))
    with sync_playwright() as driver:
        opened = driver.chromium.launch(
            executable_path=chromium, args=[*SWITCHES, f"--use-file-for-fake-video-capture={camera}"]
        )
        yield opened
        opened.close()


@contextlib.contextmanager
def opened(browser, site):
    with browser.new_context(viewport={"width": 1280, "height": 900}, permissions=["camera"]) as context:
        yield Watched(context, site.url)


@pytest.fixture
def watched(browser, site):
    with opened(browser, site) as page:
        yield page


@pytest.fixture(scope="module")
def shared(browser, site):
    """One page for the tests of a file that do not disturb each other: loading it takes seconds."""
    with opened(browser, site) as page:
        yield page
