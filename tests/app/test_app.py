"""The command, as a process of its own that is started and stopped, and in this process where it refuses to start."""

import functools
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
import uvicorn
from made_commands import wait_for
from made_server import address_in, server_process

from emodet.app import __main__ as app
from emodet.app.settings import Settings

asked = functools.partial(httpx2.request, timeout=120)


def test_a_server_answers_and_ends_with_ctrl_c(tmp_path, portrait, video):
    with server_process(tmp_path) as (process, lines):
        address, token = address_in(lines)
        assert address.startswith("http://127.0.0.1:")
        assert token is None
        assert lines[1].startswith("model: emodet-int8 (also emodet-accurate-int8, emodet-fp32); faces: centerface")
        answer = asked("POST", f"{address}/v1/recognize", content=portrait)
        assert (answer.status_code, answer.json()["faces"][0]["emotion"]) == (200, "happiness")
        # Refused from its headers alone, while the client still sends: the answer arrives all the same.
        answer = asked("POST", f"{address}/v1/recognize", content=bytes(21_000_000))
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
        answer = asked("POST", f"{address}/v1/videos", content=video)
        assert answer.status_code == 202
        with httpx2.stream("GET", f"{address}/v1/videos/{answer.json()['id']}/events", timeout=120) as listening:
            assert next(listening.iter_raw(5)) == b"event"
            (folder,) = tmp_path.glob("emodet-app-*")
            assert folder.stat().st_mode & 0o077 == 0
            process.send_signal(signal.SIGINT)
            out, errors = process.communicate(timeout=120)
        assert process.returncode == 130
        assert (out, errors) == ("", "")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # :: are the IPv4 addresses too
def test_other_machines_need_the_token_and_sigterm_during_an_upload_leaves_nothing(tmp_path, portrait, video, host):
    with server_process(tmp_path, "--host", host) as (process, lines):
        address, token = address_in(lines)
        assert len(token) >= 24
        assert any("only over HTTPS" in line for line in lines)
        port = address.rpartition(":")[2]
        address = f"http://127.0.0.1:{port}"
        for headers, status in (({}, 401), ({"Authorization": f"Bearer {token}"}, 200)):
            answer = asked("POST", f"{address}/v1/recognize", content=portrait, headers=headers)
            assert answer.status_code == status
        with socket.create_connection(("127.0.0.1", int(port))) as upload:
            head = ("POST /v1/videos HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", "Content-Length: 9999999")
            upload.sendall("\r\n".join([*head, "", ""]).encode() + video)
            wait_for(lambda: [path for path in tmp_path.rglob("upload") if path.stat().st_size])
            process.send_signal(signal.SIGTERM)
            out, errors = process.communicate(timeout=120)
            answer = upload.recv(10_000)
        assert process.returncode == 143
        assert (out, errors) == ("", "")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b'"stopping"' in answer
        assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_https(tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*make.split(), "-out", certificate, "-keyout", key], check=True, capture_output=True)
    (tmp_path / "uploads").mkdir()
    options = ("--certificate", str(certificate), "--key", str(key), "--token", "correct-horse-battery")
    with server_process(tmp_path / "uploads", *options) as (_, lines):
        address, token = address_in(lines)
        assert address.startswith("https://127.0.0.1:")
        trusted = ssl.create_default_context(cafile=str(certificate))
        assert "Secure" in asked("GET", f"{address}/?token={token}", verify=trusted).headers["Set-Cookie"]


def refused(capsys, *arguments):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(uvicorn.Server, "run", lambda *_, **__: pytest.fail("the server started"))
        assert app.main([*([] if "--port" in arguments else ["--port", "0"]), *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "nix.onnx"), "nix.onnx"),
        (("--model", "bad.pem"), "bad.pem"),
        (("--model", "int8", "--model", "emodet-int8=fp32"), "two models called emodet-int8"),
        (("--model", "a b=int8"), "NAME=FILE"),
        (("--detector", "haar"), "haar"),
        (("--host", "no-such-host.invalid"), "no-such-host.invalid"),
        (("--host", "é..invalid"), "--host é..invalid"),
        *(
            (("--token", token), "12 or more")
            for token in ("", "short", "with space in it", 'quo"te-and-more', "ümlaut-umlaut")
        ),
        (("--certificate", "nix.pem"), "nix.pem"),
        (("--certificate", "bad.pem"), "bad.pem"),
        (("--key", "bad.pem"), "--certificate FILE"),
    ],
)
def test_invalid_options(capsys, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.pem").write_bytes(b"neither a model nor a certificate")
    assert said in refused(capsys, *arguments)


@pytest.mark.parametrize("arguments", [["--port", "99999"], ["--workers", "0"], ["--max-image", "x"], ["surplus"]])
def test_arguments_that_do_not_parse(arguments):
    with pytest.raises(SystemExit) as stop:
        app.main(arguments)
    assert stop.value.code == 2


def test_a_port_in_use_a_weak_token_in_the_environment_and_a_missing_extra(capsys, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        line = refused(capsys, "--port", port)
    assert port in line
    assert "--port N" in line
    monkeypatch.setenv(app.TOKEN_VARIABLE, "short")
    assert "12 or more" in refused(capsys)
    text = (Path(__file__).parents[2] / "Dockerfile").read_text(encoding="utf-8")
    assert all(Settings(token=each) for each in re.findall(r"EMODET_TOKEN=(\S+)", text))
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert "pip install 'emodet[app]'" in refused(capsys)
