"""Notifications over RabbitMQ: what listeners get, and a broker that is killed meanwhile."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aio_pika
import pytest
import pytest_asyncio

from kilonova.services.all_in_one import Cloud
from kilonova.services.lifecycle import Wanted, prepare
from kilonova.services.progress import Silence
from kilonova.store import outbox
from tests.simulated.conftest import OWN, Simulated, free_ports, until
from tests.support import notices, servers

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

CYCLE = ["power_off.start", "power_off.end", "power_on.start", "power_on.end"]


@pytest.fixture
def broker() -> Iterator[servers.Server]:
    """A broker of its own: it is going to be hurt."""
    with (
        tempfile.TemporaryDirectory(prefix="kilonova-broker-", ignore_cleanup_errors=True) as where,
        servers.rabbitmq(Path(where) / "rabbitmq") as server,
    ):
        yield server


@pytest_asyncio.fixture
async def simulated(broker: servers.Server, tmp_path: Path) -> AsyncIterator[Simulated]:
    wanted = Wanted(state_dir=tmp_path, port_base=free_ports(8), driver="fake", hosts=2)
    prepare(wanted)
    driver = f"driver = messagingv2\ntransport_url = {broker.url}\n"
    options = notices.OPTIONS.replace("driver = test\n", driver)
    rabbit = "[oslo_messaging_rabbit]\namqp_durable_queues = true\n"
    (wanted.state_dir / "kilonova.conf").write_text(OWN + options + rabbit)
    async with Cloud(wanted, Silence()) as cloud:
        made = Simulated(cloud)
        await made.login()
        yield made


async def _take(url: str, queue_name: str) -> list[notices.Told]:
    """Everything in a queue."""
    connection = await aio_pika.connect(url.replace("rabbit://", "amqp://"))
    async with connection:
        channel = await connection.channel()
        queue = await channel.get_queue(queue_name)
        found: list[tuple[str, bytes]] = []
        while (message := await queue.get(fail=False)) is not None:
            assert message.content_type == "application/json"
            assert (message.exchange, message.routing_key) == ("nova", queue_name)
            await message.ack()
            found.append((queue_name, message.body))
        return notices.read(found)


async def _cycle(simulated: Simulated, server_id: str) -> None:
    await notices.act(simulated, server_id, {"os-stop": None}, "SHUTOFF")
    await notices.act(simulated, server_id, {"os-start": None}, "ACTIVE")


def _phases(told: list[notices.Told], server_id: str) -> list[str]:
    return [
        one.event.removeprefix("instance.")
        for one in told
        if one.event != "instance.update" and one.data.get("uuid") == server_id
    ]


async def test_a_killed_broker_delays_and_loses_nothing(
    simulated: Simulated, broker: servers.Server
) -> None:
    sender = simulated.conductor.sender
    assert sender is not None
    server_id = await simulated.create("told", networks="none")
    await simulated.becomes(server_id, "ACTIVE")
    await _cycle(simulated, server_id)
    await asyncio.to_thread(broker.kill)
    began = asyncio.get_running_loop().time()
    await _cycle(simulated, server_id)
    await _cycle(simulated, server_id)
    # Work does not wait for the broker.
    assert asyncio.get_running_loop().time() - began < 30
    await asyncio.to_thread(broker.restart)

    async def sent() -> bool:
        counts = [await db.read(outbox.count) for db in sender.databases.values()]
        return not any(counts)

    await until(sent, within=60, what="an empty outbox", pause=0.5)
    told = await _take(broker.url, "versioned_notifications.info")
    once = {one.message_id: one for one in told}
    assert _phases(list(once.values()), server_id) == ["create.start", "create.end", *CYCLE * 3]
    old = await _take(broker.url, "notifications.info")
    events = [one.event for one in {o.message_id: o for o in old}.values()]
    assert events.count("compute.instance.power_off.end") == 3
