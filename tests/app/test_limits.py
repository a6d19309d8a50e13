"""Limits, and that neither slow clients nor long work shut others out."""

import contextlib
import functools
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from made_commands import wait_for
from made_server import refusal

from emodet.app import connections
from emodet.app.settings import Limits
from emodet.inference.recognizer import Recognizer


def test_a_full_queue_is_refused(serve, portrait, monkeypatch):
    go_on, recognise = threading.Event(), Recognizer.recognise
    monkeypatch.setattr(Recognizer, "recognise", lambda *given: go_on.wait() and recognise(*given))
    with serve(workers=1, limits=Limits(waiting=2)) as client, ThreadPoolExecutor(3) as threads:
        send = functools.partial(client.post, "/v1/recognize", content=portrait)
        accepted = [threads.submit(send) for _ in range(3)]
        wait_for(lambda: client.app.state.server.waiting == 2)
        refused = send()
        refusal(refused, 429, "busy")
        assert int(refused.headers["retry-after"]) > 0
        go_on.set()
        assert [each.result().status_code for each in (*accepted, threads.submit(send))] == [200] * 4


@pytest.mark.parametrize("path", ["/v1/recognize", "/v1/videos"])
def test_uploads_that_pause_or_trickle_are_ended(serve_live, portrait, path):
    with serve_live(limits=Limits(pause_seconds=1, videos_waiting=1, waiting=1)) as address:
        host, port = address.removeprefix("http://").split(":")
        clients = [socket.create_connection((host, int(port)), timeout=120) for _ in range(6)]
        for client in clients:  # the headers alone
            client.sendall(f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\n".encode())
        # Meanwhile others are served.
        assert httpx2.post(f"{address}/v1/recognize", content=portrait, timeout=120).status_code == 200
        with contextlib.suppress(OSError):  # it never pauses, but is too slow
            for _ in range(50):
                clients[0].send(b"x")
                time.sleep(0.2)
        clients.pop(0).close()
        for client in clients:
            answer = b"".join(iter(lambda client=client: client.recv(65536), b""))
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b'"took_too_long"' in answer
            client.close()


def test_idle_connections_do_not_shut_out_others(serve_live, monkeypatch):
    monkeypatch.setattr(connections, "HEADER_TIMEOUT_S", 1.0)
    with serve_live(connections=20) as address:
        host, port = address.removeprefix("http://").split(":")
        idle = [socket.create_connection((host, int(port)), timeout=120) for _ in range(60)]
        idle[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: loc")
        assert httpx2.get(f"{address}/healthz").status_code == 200
        assert idle[0].recv(10) == b""  # closed to make room
        started = time.monotonic()
        assert idle[-1].recv(10) == b""  # headers that are never complete
        assert time.monotonic() - started < 60
        for each in idle:
            each.close()


def test_images_in_memory_are_bounded(serve, portrait):
    with serve(limits=Limits(held_bytes=len(portrait) + 10)) as client:
        assert client.post("/v1/recognize", content=portrait).status_code == 200
        for _ in range(3):  # what was held is released, also after an error
            refusal(client.post("/v1/recognize", content=portrait + bytes(1000)), 429, "busy")
            assert client.post("/v1/recognize", content=portrait).status_code == 200
