"""The page at /, and what every address checks: host, Origin, token and path; security headers are in every answer."""

import re

import pytest
from made_server import ADDRESS, TOKEN, refusal
from starlette.testclient import TestClient

from emodet.app.application import create_app
from emodet.app.auth import SECURITY_HEADERS
from emodet.app.settings import Limits, Settings
from emodet.inference.recognizer import Recognizer


@pytest.fixture(scope="module")
def guarded(serve):
    with serve(token=TOKEN, hosts=None) as made:
        yield made


def test_security_headers(client, serve, portrait, monkeypatch):
    answers = [
        *(client.get(path) for path in ("/", "/js/main.js", "/nix", "/openapi.json")),
        client.put("/v1/models"),
        client.post("/v1/recognize", content=portrait),
        client.post("/v1/recognize", content=b"x"),
        client.get("/", headers={"Host": "evil.example"}),
    ]
    for answer in answers:
        assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
        assert not [name for name in answer.headers if name.startswith("access-control") or name == "server"]
    policy = SECURITY_HEADERS["Content-Security-Policy"]
    assert "script-src 'self' 'wasm-unsafe-eval';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy
    monkeypatch.setattr(Recognizer, "recognise", lambda *_, **__: 1 // 0)
    with serve() as client:
        answer = client.post("/v1/recognize", content=portrait)
    assert "ZeroDivision" not in refusal(answer, 500, "internal")
    assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS


def test_host_and_origin(client, serve, portrait):
    for host in ("127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000", "localhost."):
        assert client.get("/healthz", headers={"Host": host}).status_code == 200
    for host in ("evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "", "10.0.0.1"):
        assert "--allowed-host" in refusal(client.get("/healthz", headers={"Host": host}), 403, "foreign_host")
    with serve(hosts=frozenset(["faces.example"])) as named:
        assert named.get("/healthz", headers={"Host": "faces.example:443"}).status_code == 200
        refusal(named.get("/healthz"), 403, "foreign_host")
    assert client.post("/v1/recognize", content=portrait, headers={"Origin": ADDRESS}).status_code == 200
    for origin in ("https://evil.example", "http://127.0.0.1:9999", "null", "http://localhost:8000", "http://[", "x"):
        refusal(client.post("/v1/recognize", content=portrait, headers={"Origin": origin}), 403, "foreign_origin")
        refusal(client.get("/v1/models", headers={"Origin": origin}), 403, "foreign_origin")


def test_every_address_needs_the_token(guarded, portrait):
    for path in ("/page.json", "/js/main.js", "/v1/models", "/openapi.json", "/nix", "/v1/models/emodet-int8.onnx"):
        assert guarded.get(path).headers["www-authenticate"] == "Bearer"
        refusal(guarded.get(path), 401, "token_needed")
    refusal(guarded.post("/v1/recognize", content=portrait), 401, "token_needed")
    for wrong in ("", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "ö", f"{TOKEN} x"):
        for headers in ({"Authorization": f"Bearer {wrong}".encode()}, {"Cookie": f"emodet_token={wrong}".encode()}):
            refusal(guarded.get("/v1/models", headers=headers), 401, "token_needed")
    refusal(guarded.get("/v1/models", headers={"Authorization": f"Basic {TOKEN}"}), 401, "token_needed")
    refusal(guarded.get(f"/v1/models?token={TOKEN}"), 401, "token_needed")  # only the page takes it from the query
    assert guarded.get("/healthz").status_code == 200
    assert guarded.get("/v1/models", headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200


def test_the_token_in_the_page_address_becomes_a_cookie(guarded, serve):
    first = guarded.get(f"/?token={TOKEN}")
    assert (first.status_code, first.headers["location"]) == (303, "./")
    cookie = first.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert guarded.get("/").text.endswith("the page")
    assert guarded.get("/v1/models").status_code == 200
    guarded.cookies.clear()
    wrong = guarded.get("/?token=wrong")
    assert "set-cookie" not in wrong.headers
    assert "Open the address that the command printed" in refusal(wrong, 401, "token_needed")
    browser = guarded.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (browser.status_code, browser.headers["content-type"]) == (401, "text/plain; charset=utf-8")
    assert browser.text.startswith("This server needs a token. Open the address that the command printed")
    with serve(token=TOKEN, tls=True) as client:
        assert "Secure" in client.get(f"/?token={TOKEN}").headers["set-cookie"]


# The page.


def test_the_page_is_cached_and_docs_list_every_operation(client):
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
    assert "Make all faces unrecognisable" in text
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


def test_the_page_describes_its_server(uploads):
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


def test_an_installation_without_the_page(monkeypatch, portrait, tmp_path):
    monkeypatch.setattr("emodet.app.page.files.FOLDER", tmp_path)
    app = create_app(Settings(detector="centerface", threads=1))
    with TestClient(app, base_url="http://localhost") as client:
        page = client.get("/")
        assert page.status_code == 503
        assert re.search("make page.*npm", page.text)
        assert page.headers["content-type"].startswith("text/plain")
        assert client.post("/v1/recognize", content=portrait).status_code == 200
        refusal(client.get("/js/main.js"), 404, "not_found")
