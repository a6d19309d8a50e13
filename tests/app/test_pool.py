import asyncio
import threading

import pytest
from event_loop import in_a_loop

from emodet.app.pool import Pool
from emodet.app.refusals import ApiError


class Client:
    """What the pool asks of a request: to hear when its client goes away."""

    def __init__(self):
        self.left = asyncio.Event()

    async def receive(self):
        await self.left.wait()
        return {"type": "http.disconnect"}


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def test_what_has_no_room_is_refused_and_what_is_done_makes_room():
    async def act():
        pool = Pool(workers=1, waiting=2, answer_s=30)
        go = threading.Event()
        inside = [
            asyncio.ensure_future(pool.run(lambda number=number: go.wait(20) and number, Client()))
            for number in range(3)
        ]
        await until(lambda: (pool.running, pool.waiting) == (1, 2))
        with pytest.raises(ApiError) as refused:
            pool.check()
        assert (refused.value.status, refused.value.code) == (429, "busy")
        assert refused.value.retry_s > 0
        with pytest.raises(ApiError):
            await pool.run(int, Client())
        go.set()
        assert await asyncio.gather(*inside) == [0, 1, 2]
        assert await pool.run(lambda: "again", Client()) == "again"
        await until(lambda: (pool.running, pool.waiting) == (0, 0))
        pool.close()

    in_a_loop(act())


def test_a_client_that_goes_away_frees_its_place():
    async def act():
        pool = Pool(workers=1, waiting=1, answer_s=30)
        go, done = threading.Event(), []
        running = asyncio.ensure_future(pool.run(lambda: go.wait(20), Client()))
        leaver = Client()
        waiting = asyncio.ensure_future(pool.run(lambda: done.append("never"), leaver))
        await until(lambda: (pool.running, pool.waiting) == (1, 1))
        leaver.left.set()
        with pytest.raises(ApiError) as refused:
            await waiting
        assert refused.value.status == 499
        pool.check()
        stays = asyncio.ensure_future(pool.run(lambda: done.append("stays"), Client()))
        go.set()
        await asyncio.gather(running, stays)
        assert done == ["stays"]
        pool.close()

    in_a_loop(act())


def test_an_answer_that_takes_too_long():
    async def act():
        pool = Pool(workers=1, waiting=0, answer_s=0.05)
        go = threading.Event()
        with pytest.raises(ApiError) as refused:
            await pool.run(lambda: go.wait(20), Client())
        assert (refused.value.status, refused.value.code) == (503, "took_too_long")
        # The thread is still at it: its place is not free before it is done.
        with pytest.raises(ApiError) as refused:
            await pool.run(int, Client())
        assert refused.value.status == 429
        go.set()
        await until(lambda: pool.running == 0)
        assert await pool.run(lambda: 1, Client()) == 1
        pool.close()

    in_a_loop(act())


def test_an_error_is_the_callers():
    async def act():
        pool = Pool(workers=1, waiting=0, answer_s=30)
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda: 1 // 0, Client())
        assert await pool.run(lambda: 1, Client()) == 1
        pool.close()
        with pytest.raises(ApiError) as refused:
            await pool.run(lambda: 1, Client())
        assert refused.value.code == "stopping"

    in_a_loop(act())
