"""Limits hold, and neither slow clients nor long work shut others out."""

import asyncio
import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from made_server import refusal

from emodet.app import connections
from emodet.app.errors import ApiError
from emodet.app.settings import Limits
from emodet.app.worker_pool import WorkerPool


class Client:
    """A request whose client may disconnect."""

    def __init__(self):
        self.left = asyncio.Event()

    async def receive(self):
        await self.left.wait()
        return {"type": "http.disconnect"}


def in_a_loop(work):
    """Run a coroutine in a thread of its own: a browser's driver may keep this thread's event loop."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def test_a_full_queue_is_refused():
    async def act():
        pool = WorkerPool(workers=1, waiting=2, answer_seconds=30)
        go = threading.Event()
        tasks = [asyncio.ensure_future(pool.run(lambda n=n: go.wait(20) and n, Client())) for n in range(3)]
        await until(lambda: (pool.running, pool.waiting) == (1, 2))
        with pytest.raises(ApiError) as refused:
            await pool.run(int, Client())
        assert (refused.value.status, refused.value.code) == (429, "busy")
        assert int(refused.value.headers["Retry-After"]) > 0
        go.set()
        assert await asyncio.gather(*tasks) == [0, 1, 2]
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda: 1 // 0, Client())
        assert await pool.run(lambda: "again", Client()) == "again"
        assert pool.close(timeout_s=5)
        with pytest.raises(ApiError) as refused:
            await pool.run(int, Client())
        assert refused.value.code == "stopping"

    in_a_loop(act())


def test_a_client_that_disconnects_frees_its_place():
    async def act():
        pool = WorkerPool(workers=1, waiting=1, answer_seconds=30)
        go, done = threading.Event(), []
        running = asyncio.ensure_future(pool.run(lambda: go.wait(20), Client()))
        leaver = Client()
        waiting = asyncio.ensure_future(pool.run(lambda: done.append("never"), leaver))
        await until(lambda: (pool.running, pool.waiting) == (1, 1))
        leaver.left.set()
        with pytest.raises(ApiError) as refused:
            await waiting
        assert refused.value.status == 499
        stays = asyncio.ensure_future(pool.run(lambda: done.append("stays"), Client()))
        go.set()
        await asyncio.gather(running, stays)
        assert done == ["stays"]
        assert pool.close(timeout_s=5)

    in_a_loop(act())


def test_long_work_is_not_waited_for():
    async def act():
        pool = WorkerPool(workers=1, waiting=0, answer_seconds=0.05)
        go = threading.Event()
        with pytest.raises(ApiError) as refused:
            await pool.run(lambda: go.wait(20), Client())
        assert (refused.value.status, refused.value.code) == (503, "took_too_long")
        # The thread is still busy, and so is its place.
        with pytest.raises(ApiError) as refused:
            await pool.run(int, Client())
        assert refused.value.status == 429
        started = time.monotonic()
        assert not pool.close(timeout_s=0.1)
        assert time.monotonic() - started < 5
        go.set()
        assert pool.close(timeout_s=5)

    in_a_loop(act())


def open_request(address, path, *, length=1000):
    """A connection that has sent the headers of a POST."""
    host, port = address.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)), timeout=20)
    client.sendall(f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n".encode())
    return client


def answer_of(client):
    text = b""
    while piece := client.recv(65536):
        text += piece
    return text


@pytest.mark.parametrize("path", ["/v1/recognize", "/v1/videos"])
def test_uploads_that_pause_or_trickle_are_ended(serve_live, portrait, path):
    with serve_live(limits=Limits(pause_seconds=1, videos_waiting=1, waiting=1)) as address:
        clients = [open_request(address, path) for _ in range(6)]
        # Meanwhile others are served.
        assert httpx2.post(f"{address}/v1/recognize", content=portrait, timeout=30).status_code == 200
        with contextlib.suppress(OSError):  # it never pauses, but is too slow
            for _ in range(50):
                clients[0].send(b"x")
                time.sleep(0.2)
        clients.pop(0).close()
        for client in clients:
            answer = answer_of(client)
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b'"took_too_long"' in answer
            client.close()


def test_idle_connections_do_not_shut_out_others(serve_live, monkeypatch):
    monkeypatch.setattr(connections, "HEADER_TIMEOUT_S", 1.0)
    with serve_live(connections=20) as address:
        host, port = address.removeprefix("http://").split(":")
        idle = [socket.create_connection((host, int(port)), timeout=20) for _ in range(60)]
        idle[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: loc")
        assert httpx2.get(f"{address}/healthz").status_code == 200
        assert idle[0].recv(10) == b""  # closed to make room
        started = time.monotonic()
        assert idle[-1].recv(10) == b""  # headers that are never complete
        assert time.monotonic() - started < 10
        for each in idle:
            each.close()


def test_images_in_memory_are_bounded(serve, portrait):
    with serve(limits=Limits(held_bytes=len(portrait) + 10)) as client:
        assert client.post("/v1/recognize", content=portrait).status_code == 200
        for _ in range(3):  # what was held is released, also after an error
            refusal(client.post("/v1/recognize", content=portrait + bytes(1000)), 429, "busy")
            assert client.post("/v1/recognize", content=portrait).status_code == 200
