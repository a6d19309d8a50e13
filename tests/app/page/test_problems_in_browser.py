"""Problems are reported on the page, with a way out: never a blank page, never a stack trace."""

import functools

import pytest
from made_files import encoded
from watching import Watched, serve, until

slow = functools.partial(pytest.param, marks=pytest.mark.slow)


def test_permission_refused(browser, site):
    with browser.new_context() as context:
        watched = Watched(context, site.url)
        page = watched.open(ready=False)
        refusal = {"permission": {"name": "camera"}, "setting": "denied", "origin": site.url.rstrip("/")}
        context.new_cdp_session(page).send("Browser.setPermission", refusal)
        page.click("#camera-start")
        assert "not allowed" in watched.problem()
        assert page.locator("#camera-start").is_enabled()  # to be tried again


def rejected(name):
    return f"navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', '{name}'))"


# Over HTTP from another machine browsers have no `navigator.mediaDevices`.
WITHOUT = "Object.defineProperty(Navigator.prototype, 'mediaDevices', {value: undefined})"


@pytest.mark.parametrize(
    ("script", "said", "way_out"),
    [
        (rejected("NotFoundError"), "No camera was found", "Start the camera"),
        slow(rejected("NotReadableError"), "another program, or another tab", "Start the camera"),
        slow(rejected("SomethingNewError"), "SomethingNewError", "Try again"),
        slow(WITHOUT, "no camera", "pictures and videos work"),
    ],
)
def test_a_camera_that_cannot_be_opened(watched, script, said, way_out):
    watched.page.add_init_script(script)
    watched.open(ready=False).click("#camera-start")
    assert said in watched.problem()
    assert way_out in watched.problem()


@pytest.mark.parametrize(
    "lacking",
    ["OffscreenCanvas", *map(slow, ("createImageBitmap", "DecompressionStream", "WebAssembly", "Worker"))],
)
def test_an_unsupported_browser(watched, lacking):
    watched.page.add_init_script(f"delete globalThis.{lacking}")
    watched.open(ready=False)
    assert "Use a current Firefox, Chrome, Edge or Safari" in watched.problem()


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("model/centerface.onnx", "could not be loaded"),
        slow("runtime/ort-wasm-simd-threaded.wasm.gzip", "could not be loaded"),
        slow("page.json", "page.json"),
        slow("js/ui/camera.js", "could not be loaded"),
        slow("js/recognition/crop.js", "could not be loaded"),
    ],
)
def test_a_missing_file(watched, missing, said):
    watched.page.context.route(f"**/{missing}", lambda route: route.fulfill(status=404, body=""))
    watched.open(ready=False)
    assert said in watched.problem()
    assert "reload" in watched.problem()


@pytest.mark.slow
def test_two_tabs_with_the_camera(watched):
    first = watched.open()
    first.click("#camera-start")
    first.wait_for_selector("#live:not([hidden])")
    second = Watched(watched.page.context, watched.url)
    page = second.open()
    page.click("#camera-start")
    until(page, "document.querySelector('#camera-note').textContent.includes('Another tab')")


@pytest.mark.slow
def test_a_loaded_page_needs_no_server(browser, page_folder, astronaut):
    process, url = serve(page_folder)
    with browser.new_context() as context:
        page = Watched(context, url).open("picture")
        process.terminate()
        process.wait(10)
        data = encoded(astronaut[0:300, 60:360], "JPEG", quality=95)
        page.set_input_files("#picture-files", {"name": "face.jpg", "mimeType": "image/jpeg", "buffer": data})
        page.wait_for_selector(".result")
        assert "happiness" in page.inner_text(".result > p")


def test_no_javascript_and_a_page_opened_as_a_file(browser, site, page_folder):
    with browser.new_page(java_script_enabled=False) as page:
        page.goto(site.url)
        assert "Enable JavaScript" in page.content()
    with browser.new_page() as page:  # browsers load no modules from files
        page.goto(f"file://{page_folder}/index.html")
        page.wait_for_selector("#problem:not([hidden])")
        assert "http.server" in page.inner_text("#problem p")


def test_the_page_links_to_the_project(watched):
    page = watched.page
    address = "https://example.org/emodet"
    page.route("**/page.json", lambda route: route.fulfill(json={**route.fetch().json(), "project": address}))
    watched.open(ready=False)
    page.wait_for_selector("#project:not([hidden])")
    assert page.get_attribute("#project", "href") == address
