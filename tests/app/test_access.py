import pytest
from made_server import ADDRESS, TOKEN, refusal

from emodet.app.auth import SECURITY_HEADERS
from emodet.app.settings import Settings
from emodet.errors import EmodetError


@pytest.fixture(scope="module")
def guarded(serve):
    with serve(token=TOKEN, hosts=None) as made:
        yield made


def test_every_answer_has_the_security_headers(client, portrait):
    answers = [
        client.get("/"),
        client.get("/js/main.js"),
        client.get("/nix"),
        client.put("/v1/models"),
        client.get("/openapi.json"),
        client.post("/v1/recognize", content=portrait),
        client.post("/v1/recognize", content=b"x"),
        client.get("/", headers={"Host": "evil.example"}),
    ]
    for answer in answers:
        assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert "server" not in answer.headers
    policy = answers[0].headers["content-security-policy"]
    assert "script-src 'self' 'wasm-unsafe-eval';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy


def test_only_under_names_of_this_machine(client):
    for host in ("127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000", "localhost."):
        assert client.get("/healthz", headers={"Host": host}).status_code == 200
    for host in (
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "",
        "10.0.0.1",
    ):
        told = refusal(client.get("/healthz", headers={"Host": host}), 403, "foreign_host")
        assert "--allowed-host" in told


def test_a_further_name(serve):
    with serve(hosts=frozenset(["faces.example"])) as client:
        assert client.get("/healthz", headers={"Host": "faces.example:443"}).status_code == 200
        refusal(client.get("/healthz"), 403, "foreign_host")


def test_other_pages_are_refused(client, portrait):
    own = {"Origin": ADDRESS}
    assert client.post("/v1/recognize", content=portrait, headers=own).status_code == 200
    for origin in ("https://evil.example", "http://127.0.0.1:9999", "null", "http://localhost:8000", "http://[", "x"):
        answer = client.post("/v1/recognize", content=portrait, headers={"Origin": origin})
        refusal(answer, 403, "foreign_origin")
        refusal(client.get("/v1/models", headers={"Origin": origin}), 403, "foreign_origin")


def test_nothing_without_the_token(guarded, portrait):
    for path in ("/page.json", "/js/main.js", "/v1/models", "/openapi.json", "/nix", "/v1/models/emodet-int8.onnx"):
        assert guarded.get(path).headers["www-authenticate"] == "Bearer"
        refusal(guarded.get(path), 401, "token_needed")
    refusal(guarded.post("/v1/recognize", content=portrait), 401, "token_needed")
    refusal(guarded.delete("/v1/videos/abc"), 401, "token_needed")
    for wrong in ("", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "ö", f"{TOKEN} x"):
        headers = {"Authorization": f"Bearer {wrong}".encode()}
        refusal(guarded.get("/v1/models", headers=headers), 401, "token_needed")
        refusal(guarded.get("/v1/models", headers={"Cookie": f"emodet_token={wrong}".encode()}), 401, "token_needed")
    refusal(guarded.get("/v1/models", headers={"Authorization": f"Basic {TOKEN}"}), 401, "token_needed")
    refusal(guarded.get(f"/v1/models?token={TOKEN}"), 401, "token_needed")  # only the page takes it from an address
    assert guarded.get("/healthz").status_code == 200


def test_the_token_in_a_header(guarded, portrait):
    headers = {"Authorization": f"bearer {TOKEN}"}
    assert guarded.post("/v1/recognize", content=portrait, headers=headers).status_code == 200


def test_the_address_with_the_token_lets_the_page_in(guarded):
    first = guarded.get(f"/?token={TOKEN}")
    assert (first.status_code, first.headers["location"]) == (303, "./")
    cookie = first.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert guarded.get("/").text.endswith("the page")
    assert guarded.get("/v1/models").status_code == 200
    guarded.cookies.clear()
    asked = guarded.get("/?token=wrong", headers={"Accept": "text/html"})
    assert asked.status_code == 401
    assert "Open the address that the command printed" in asked.text
    assert "set-cookie" not in asked.headers


def test_the_cookie_stays_on_tls(serve):
    with serve(token=TOKEN, tls=True) as client:
        assert "Secure" in client.get(f"/?token={TOKEN}").headers["set-cookie"]


def test_tokens_that_protect_nothing():
    for token in ("", "short", "with space in it", 'quo"te-and-more', "ümlaut-umlaut"):
        with pytest.raises(EmodetError, match="12 or more"):
            Settings(token=token)


def test_requests_are_logged_without_what_lets_in(serve, caplog):
    with serve(token=TOKEN, log=True) as client, caplog.at_level("INFO", "emodet.app"):
        client.get(f"/?token={TOKEN}")
        client.get("/v1/videos/secret-number/rows.csv")
    # The test's own client may log what it asks for, too.
    lines = [record.getMessage() for record in caplog.records if record.name == "emodet.app"]
    assert lines[0].startswith("GET / 303 ")
    assert lines[1].startswith("GET /v1/videos/…/rows.csv 404 ")
    assert not [line for line in lines if TOKEN in line or "secret" in line]
