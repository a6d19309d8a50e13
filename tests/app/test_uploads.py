import asyncio
import threading
import time

import pytest
from event_loop import in_a_loop
from starlette.requests import Request

from emodet.app.refusals import ApiError
from emodet.app.settings import Limits
from emodet.app.uploads import HeldBytes, read_picture, save_video

LIMITS = Limits(image_bytes=1000, video_bytes=1000, pause_seconds=1, free_bytes=0)


def request(*pieces, stalls=False, leaves=False):
    """A request whose body comes in these pieces; then it ends, stalls, or its client goes away."""
    coming = iter(pieces)

    async def receive():
        piece = next(coming, None)
        if piece is not None:
            await asyncio.sleep(0.01)
            return {"type": "http.request", "body": piece, "more_body": True}
        if stalls:
            await asyncio.sleep(60)
        return {"type": "http.disconnect"} if leaves else {"type": "http.request", "body": b"", "more_body": False}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


def refused(reading):
    with pytest.raises(ApiError) as caught:
        in_a_loop(reading)
    return caught.value.status, caught.value.code


def test_what_is_held_is_given_back_when_the_upload_fails():
    held, go_on = HeldBytes(100), threading.Event()
    assert refused(read_picture(request(bytes(90), bytes(20)), LIMITS, held, go_on)) == (429, "busy")
    assert refused(read_picture(request(bytes(90), leaves=True), LIMITS, held, go_on)) == (499, "gone")
    assert in_a_loop(read_picture(request(b"a" * 50, b"b" * 50), LIMITS, held, go_on)) == b"a" * 50 + b"b" * 50
    assert refused(read_picture(request(b"c"), LIMITS, held, go_on)) == (429, "busy")
    held.give_back(100)
    assert in_a_loop(read_picture(request(b"c"), LIMITS, held, go_on)) == b"c"


def test_an_upload_that_stalls():
    started = time.monotonic()
    held = HeldBytes(100)
    assert refused(read_picture(request(b"x", stalls=True), LIMITS, held, threading.Event())) == (408, "took_too_long")
    assert time.monotonic() - started < 10
    held.take(100)


def test_an_upload_ends_with_the_server(tmp_path):
    ending = threading.Event()
    ending.set()
    assert refused(save_video(request(b"x", stalls=True), tmp_path / "a", LIMITS, ending)) == (503, "stopping")
    assert refused(save_video(request(b"x", leaves=True), tmp_path / "b", LIMITS, ending)) == (499, "gone")


def test_bytes_are_counted_as_they_come(tmp_path):
    pieces = [bytes(400)] * 3
    assert refused(save_video(request(*pieces), tmp_path / "a", LIMITS, threading.Event())) == (413, "too_large")
    assert (tmp_path / "a").stat().st_size == 800
    in_a_loop(save_video(request(*pieces[:2]), tmp_path / "b", LIMITS, threading.Event()))
    assert (tmp_path / "b").read_bytes() == bytes(800)
