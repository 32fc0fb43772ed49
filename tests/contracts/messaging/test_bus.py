"""What every bus must do."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from kilonova.base import log as logs
from kilonova.base.errors import Conflict
from kilonova.messaging.bus import Bus, NoReply, RemoteError, Undelivered


class Number(msgspec.Struct):
    value: int


async def double(n: Number) -> Number:
    return Number(n.value * 2)


async def test_a_call_brings_back_the_result(bus: Bus) -> None:
    await bus.serve("calc", {"double": double})
    assert await bus.call("calc", "double", Number(21), reply=Number) == Number(42)


async def test_a_fault_travels_as_itself(bus: Bus) -> None:
    async def refuse(n: Number) -> None:
        raise Conflict("busy", code="server.busy", details={"value": n.value})

    await bus.serve("refuser", {"refuse": refuse})
    with pytest.raises(Conflict, match="busy") as caught:
        await bus.call("refuser", "refuse", Number(3), reply=type(None))
    assert caught.value.code == "server.busy"
    assert caught.value.details == {"value": 3}


async def test_another_error_arrives_as_remote_error(bus: Bus) -> None:
    async def broken() -> None:
        raise KeyError("inside")

    await bus.serve("broken", {"go": broken})
    with pytest.raises(RemoteError, match="KeyError"):
        await bus.call("broken", "go", reply=type(None))


async def test_nobody_there_is_told_at_once(bus: Bus) -> None:
    with pytest.raises(Undelivered):
        await bus.call("nobody", "double", Number(1), reply=Number, seconds=5)


async def test_a_late_answer_is_no_reply(bus: Bus) -> None:
    async def slow() -> None:
        await asyncio.sleep(0.5)

    await bus.serve("slow", {"go": slow})
    with pytest.raises(NoReply):
        await bus.call("slow", "go", reply=type(None), seconds=0.1)


async def test_a_cast_is_handled_once_by_one_of_several(bus: Bus) -> None:
    seen: list[tuple[str, int]] = []
    done = asyncio.Event()

    async def one(n: Number) -> None:
        seen.append(("one", n.value))
        if len(seen) == 4:
            done.set()

    async def two(n: Number) -> None:
        seen.append(("two", n.value))
        if len(seen) == 4:
            done.set()

    await bus.serve("shared", {"take": one})
    await bus.serve("shared", {"take": two})
    for value in range(4):
        await bus.cast("shared", "take", Number(value))
    await asyncio.wait_for(done.wait(), 5)
    assert sorted(value for _, value in seen) == [0, 1, 2, 3]
    assert {who for who, _ in seen} == {"one", "two"}


async def test_a_cast_to_nobody_is_no_error(bus: Bus) -> None:
    await bus.cast("nobody", "take", Number(1))


async def test_the_request_id_goes_along(bus: Bus) -> None:
    async def tell() -> str:
        return logs.request_id.get()

    await bus.serve("tell", {"tell": tell})
    logs.request_id.set("req-1")
    assert await bus.call("tell", "tell", reply=str) == "req-1"


async def test_closing_waits_for_work_under_way(bus: Bus) -> None:
    ended = asyncio.Event()
    began = asyncio.Event()

    async def work() -> None:
        began.set()
        await asyncio.sleep(0.2)
        ended.set()

    serving = await bus.serve("worker", {"work": work})
    await bus.cast("worker", "work")
    await asyncio.wait_for(began.wait(), 5)
    await serving.close()
    assert ended.is_set()
