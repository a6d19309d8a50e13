"""Servers for the tests of the REST interface, and what is sent to them."""

import contextlib
import socket
import tempfile
import threading

import pytest
import uvicorn
from made_files import encoded
from made_server import ADDRESS, TOKEN
from starlette.testclient import TestClient

from emodet.app.application import create_app
from emodet.app.connections import LimitedProtocol
from emodet.app.settings import Settings

PAGE = {
    "index.html": b"<!doctype html><p>the page",
    "js/main.js": b"export {};",
    "runtime/ort.wasm": b"\0asm",
}


@pytest.fixture(scope="session", autouse=True)
def uploads(tmp_path_factory):
    """Where servers of this process make their temporary folders."""
    folder = tmp_path_factory.mktemp("uploads")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(folder))
        yield folder


def made_app(**settings):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("emodet.app.application.page_files", lambda *_, **__: PAGE)
        return create_app(Settings(**({"detector": "centerface", "threads": 1} | settings)))


@pytest.fixture(scope="session")
def serve():
    """Start a server with other settings: ``with serve(token=…) as client``."""

    def start(**settings):
        return TestClient(made_app(**settings), base_url=ADDRESS, raise_server_exceptions=False, follow_redirects=False)

    return start


@pytest.fixture(scope="session")
def client(serve):
    with serve() as made:
        yield made


@pytest.fixture(scope="session")
def portrait(astronaut):
    """One face, 512×512, JPEG."""
    return encoded(astronaut, "JPEG", quality=95)


@pytest.fixture(scope="session")
def video(video_path):
    return video_path.read_bytes()


@pytest.fixture(scope="session")
def serve_live(uploads):
    """Start a server that listens on a port: ``with serve_live(token=…) as address``."""

    @contextlib.contextmanager
    def start(connections=256, **settings):
        app = made_app(**settings)
        config = uvicorn.Config(app, http=LimitedProtocol, limit_concurrency=connections, log_config=None, ws="none")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                server.should_exit = True
                thread.join()

    return start


@pytest.fixture(scope="session")
def guarded_address(serve_live):
    with serve_live(token=TOKEN) as address:
        yield address
