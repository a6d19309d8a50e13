"""The page at /."""

from unittest.mock import Mock

import pytest
from made_server import refusal
from starlette.testclient import TestClient

from emodet.app.application import create_app
from emodet.app.settings import Limits, Settings
from emodet.errors import EmodetError


def test_the_page_is_served_and_cached_and_docs_describe_every_operation_without_scripts(client):
    page = client.get("/")
    assert page.text.endswith("the page")
    assert client.get("/index.html").content == page.content
    for path, kind in (("/js/main.js", "text/javascript"), ("/runtime/ort.wasm", "application/wasm")):
        answer = client.get(path)
        assert answer.headers["content-type"].startswith(kind)
        assert answer.headers["cache-control"] == "no-cache"
        again = client.get(path, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert client.get(path, headers={"If-None-Match": '"other"'}).content == answer.content
    head = client.head("/")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(page.content)))
    answer = client.post("/")
    refusal(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD"
    text = client.get("/docs").text
    description = client.get("/openapi.json").json()
    for path, operations in description["paths"].items():
        assert all(f"{method.upper()} {path}" in text for method in operations)
    assert "Make faces unrecognisable." in text
    assert "<script" not in text
    assert "//" not in text.replace("application/", "")


@pytest.mark.parametrize(
    "path",
    [
        *("/../app.py", "/%2e%2e/app.py", "/..%2fapp.py", "/js/../../files.py", "/js/..%5c..%5capp.py", "//etc/passwd"),
        *("/js", "/js/", "/C:/Windows/win.ini", "/%00", "/js/main.js%00.html", "/" + "a" * 5000),
        *("/v1/models/..%2f..%2fetc%2fpasswd.onnx", "/v1/videos/..%2f..%2fx/rows.csv", "/v1/videos/%2e%2e/timeline"),
    ],
)
def test_no_path_reaches_the_file_system(client, path):
    refusal(client.get(path), 404, "not_found")


def test_the_page_knows_its_server(uploads, portrait):
    app = create_app(Settings(detector="centerface", threads=1, secure=False, limits=Limits(video_bytes=5)))
    if app.state.server.page_problem:
        pytest.skip("the page's runtime is not there: `make page` gets it, with Node.js and npm")
    with TestClient(app, base_url="http://localhost") as client:
        about = client.get("/page.json").json()
    server = about["server"]
    assert server["default_model"] == "emodet-int8"
    assert [each["name"] for each in server["models"]] == ["emodet-int8", "emodet-accurate-int8", "emodet-fp32"]
    assert server["models"][0]["bytes"] == about["model"]["bytes"]
    assert server["detectors"] == ["auto", "centerface", "none"]
    assert server["limits"]["video_bytes"] == 5
    assert server["secure"] is False


def test_an_installation_without_the_page(monkeypatch, portrait):
    problem = EmodetError("the page's <runtime> is missing; `make page` gets it")
    monkeypatch.setattr("emodet.app.application.page_files", Mock(side_effect=problem))
    app = create_app(Settings(detector="centerface", threads=1))
    assert "make page" in app.state.server.page_problem
    with TestClient(app, base_url="http://localhost") as client:
        page = client.get("/")
        assert page.status_code == 503
        assert "<runtime> is missing" in page.text
        assert page.headers["content-type"].startswith("text/plain")
        assert client.post("/v1/recognize", content=portrait).status_code == 200
        refusal(client.get("/js/main.js"), 404, "not_found")
