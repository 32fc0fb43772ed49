"""What every sink must do, and what the sender does with sinks that fail."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aio_pika
import pytest

from kilonova.base.clock import VirtualClock
from kilonova.db.database import Database
from kilonova.db.tables import api
from kilonova.messaging.memory import MemoryBus
from kilonova.messaging.notices import BusSink, LogSink, MemorySink, Notice, Sink
from kilonova.messaging.rabbit_notices import RabbitSink
from kilonova.notifications.sender import LEASE_SECONDS, Sender
from kilonova.store import outbox
from kilonova.store.outbox import New


def notice(number: int, priority: str = "info") -> Notice:
    text = json.dumps({"n": number})
    return Notice(("told",), "e", priority, text, json.dumps({"oslo.message": text}).encode())


class Place:
    """A sink, and what came out of it."""

    def __init__(self, sink: Sink, kind: str, where: Any) -> None:
        self.sink = sink
        self._kind = kind
        self._where = where

    async def bodies(self, key: str) -> list[bytes]:
        """What arrived under ``topic.priority``, in order."""
        if self._kind == "memory":
            return [body for topic, body in self._where.sent if topic == key]
        if self._kind == "bus":
            return [body for topic, body in self._where.published if topic == key]
        async with await aio_pika.connect(self._where.replace("rabbit://", "amqp://")) as there:
            channel = await there.channel()
            queue = await channel.declare_queue(key, passive=True)
            found = []
            while (message := await queue.get(fail=False, no_ack=True)) is not None:
                found.append(message.body)
            return found


@pytest.fixture(params=["memory", "bus", "rabbit"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    made: Place
    if request.param == "memory":
        sink = MemorySink()
        made = Place(sink, "memory", sink)
    elif request.param == "bus":
        bus = MemoryBus()
        made = Place(BusSink(bus), "bus", bus)
    else:
        url = request.getfixturevalue("rabbitmq").url
        made = Place(RabbitSink(url, exchange="nova"), "rabbit", url)
    yield made
    await made.sink.close()


async def test_notices_arrive_in_order(place: Place) -> None:
    many = [notice(n) for n in range(30)]
    assert await place.sink.send([*many, notice(99, "error")]) == 31
    assert await place.bodies("told.info") == [each.body for each in many]
    assert await place.bodies("told.error") == [notice(99).body]


async def test_a_log_line_each(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "oslo.messaging.notification"):
        assert await LogSink().send([notice(1), notice(2, "error")]) == 2
    assert [(r.name, r.levelname) for r in caplog.records] == [
        ("oslo.messaging.notification.e", "INFO"),
        ("oslo.messaging.notification.e", "ERROR"),
    ]


async def test_no_broker_is_no_error() -> None:
    sink = RabbitSink("rabbit://u:p@127.0.0.1:1/", exchange="nova")
    assert await sink.send([notice(1)]) == 0
    await sink.close()


# --- the sender ---------------------------------------------------------------------------------


class Picky:
    """A sink that takes so many of what it is given."""

    def __init__(self, takes: int = 10_000) -> None:
        self.takes = takes
        self.got: list[str] = []

    async def send(self, notices: Sequence[Notice]) -> int:
        taken = notices[: self.takes]
        self.got += [each.text for each in taken]
        return len(taken)

    async def close(self) -> None:
        """Nothing."""


@pytest.fixture
def filled(database: Database) -> Database:
    database.run_sync(api.metadata.create_all)
    rows = [New("versioned", "e", "info", str(n)) for n in range(10)]
    database.run_sync(outbox.put, rows[:1])
    database.run_sync(outbox.put, rows[1:])
    return database


def sender(db: Database, *sinks: Sink, owner: str = "me", **more: Any) -> Sender:
    clock = more.pop("clock", None) or VirtualClock()
    return Sender({"api": db}, sinks, owner=owner, clock=clock, **more)


ALL = [str(n) for n in range(10)]


async def test_all_is_sent_in_order_and_forgotten(filled: Database) -> None:
    sink = Picky()
    assert await sender(filled, sink).flush() == 10
    assert sink.got == ALL
    assert filled.run_sync(outbox.count) == 0


async def test_what_is_not_taken_waits(filled: Database) -> None:
    sink = Picky(takes=4)
    made = sender(filled, sink)
    assert await made.turn("api", filled) is None
    assert filled.run_sync(outbox.count) == 6
    sink.takes = 10_000
    assert await made.flush() == 6
    assert sink.got == ALL


async def test_a_sink_that_had_it_gets_it_once(filled: Database) -> None:
    good, bad = Picky(), Picky(takes=3)
    made = sender(filled, good, bad)
    await made.turn("api", filled)
    bad.takes = 10_000
    await made.flush()
    assert (good.got, bad.got) == (ALL, ALL)


async def test_a_crash_before_forgetting_sends_again(filled: Database) -> None:
    sink = Picky()
    rows = await filled.read(outbox.batch, 100)
    await sink.send([Notice((), r.event, r.priority, r.message, b"") for r in rows])
    assert await sender(filled, sink).flush() == 10
    assert sink.got == ALL * 2


async def test_one_sender_at_a_time(filled: Database) -> None:
    clock = VirtualClock()
    one, other = Picky(takes=0), Picky()
    first = sender(filled, one, owner="one", clock=clock)
    assert await first.turn("api", filled) is None
    second = sender(filled, other, owner="other", clock=clock)
    assert await second.flush() == 0
    await clock.advance(LEASE_SECONDS + 1)
    assert await second.flush() == 10
    await second.close()
    await filled.run(outbox.put, [New("versioned", "e", "info", "10")])
    one.takes = 1
    assert await first.flush() == 1


async def test_a_full_outbox_loses_the_oldest(
    filled: Database, caplog: pytest.LogCaptureFixture
) -> None:
    class Counts:
        def __init__(self) -> None:
            self.now: dict[str, int] = {}

        def sent(self, number: int) -> None:
            self.now["sent"] = number

        def dropped(self, number: int) -> None:
            self.now["dropped"] = number

        def waiting(self, place: str, number: int) -> None:
            self.now[place] = number

    counts = Counts()
    sink = Picky(takes=0)
    made = sender(filled, sink, keep=4, counts=counts)
    assert await made.turn("api", filled) is None
    assert counts.now == {"dropped": 6, "api": 4}
    assert "thrown away" in caplog.text
    sink.takes = 100
    assert await made.flush() == 4
    assert sink.got == ALL[6:]
