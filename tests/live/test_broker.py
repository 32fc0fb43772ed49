"""A broker that is killed: calls fail, the health check says so, everything serves again after."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from kilonova.base.errors import Fault
from kilonova.messaging.rabbit import RabbitBus
from tests.support import servers

pytestmark = pytest.mark.live


class Text(msgspec.Struct):
    """A word."""

    word: str


@pytest.fixture
def broker() -> Iterator[servers.Server]:
    """A broker of its own: it is going to be hurt."""
    with (
        tempfile.TemporaryDirectory(prefix="kilonova-broker-", ignore_cleanup_errors=True) as where,
        servers.rabbitmq(Path(where) / "rabbitmq") as server,
    ):
        yield server


async def test_a_killed_broker(broker: servers.Server) -> None:
    async def echo(text: Text) -> Text:
        return text

    async def slow() -> Text:
        await asyncio.sleep(60)
        return Text("late")

    serving, asking = RabbitBus(broker.url), RabbitBus(broker.url)
    await serving.start()
    await asking.start()
    try:
        await serving.serve("there", {"echo": echo, "slow": slow})
        assert await asking.call("there", "echo", Text("a"), reply=Text) == Text("a")
        waiting = asyncio.create_task(asking.call("there", "slow", reply=Text))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(broker.kill)
        with pytest.raises(Fault, match="lost"):
            await asyncio.wait_for(waiting, 10)
        assert await asking.check() == "the message broker is not reachable"
        with pytest.raises(Fault, match="not reachable"):
            await asking.call("there", "echo", Text("b"), reply=Text, seconds=0.5)
        await asyncio.to_thread(broker.restart)
        async with asyncio.timeout(30):
            while await asking.check() or await serving.check():
                await asyncio.sleep(0.1)
        assert await asking.call("there", "echo", Text("c"), reply=Text) == Text("c")
    finally:
        await asking.close()
        await _end(serving)


async def _end(bus: RabbitBus) -> None:
    """Close a bus whose slow handler will not end by itself soon."""
    for task in list(bus._tasks):
        task.cancel()
    await bus.close()
