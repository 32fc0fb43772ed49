from __future__ import annotations

import asyncio
import itertools

import pytest

from kilonova.base.aio import Joined, Signal, backoff, gather_bounded


def test_backoff_grows_to_its_most() -> None:
    assert list(itertools.islice(backoff(1, most=5), 5)) == [1, 2, 4, 5, 5]


async def test_gather_keeps_order_and_bound() -> None:
    running = most = 0

    async def work(n: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return n * n

    assert await gather_bounded(work, range(10), limit=3) == [n * n for n in range(10)]
    assert most == 3


async def test_gather_raises_the_first_failure_itself() -> None:
    async def work(n: int) -> int:
        if n == 2:
            raise KeyError(n)
        return n

    with pytest.raises(KeyError):
        await gather_bounded(work, range(4))


async def test_joined_work_runs_once() -> None:
    calls = 0
    joined: Joined[str, int] = Joined()

    async def work() -> int:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        return 7

    assert await asyncio.gather(*(joined.run("k", work) for _ in range(5))) == [7] * 5
    assert calls == 1


async def test_a_signal_set_before_is_not_lost() -> None:
    signal = Signal()
    signal.set()
    assert await signal.wait(0.01)
    assert not await signal.wait(0.01)
