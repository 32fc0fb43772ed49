"""Notifications of a daemon as its options say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from kilonova.base.clock import VirtualClock
from kilonova.base.ids import SeededIds
from kilonova.config.settings import Settings
from kilonova.db.cells import CELL0, Cell, Cells
from kilonova.db.database import Database
from kilonova.messaging.memory import MemoryBus
from kilonova.messaging.notices import BusSink, LogSink, MemorySink
from kilonova.messaging.rabbit_notices import RabbitSink
from kilonova.notifications.writer import Writer
from kilonova.services import notices
from kilonova.services.startup import Unconfigured
from kilonova.store.noting import NOTES
from kilonova.web.health import Metrics

Places = tuple[Database, Cells]


def settings(*drivers: str, period: str = "month", url: str | None = None) -> Settings:
    plain = Settings()
    default = msgspec.structs.replace(plain.default, instance_usage_audit_period=period)
    section = msgspec.structs.replace(
        plain.oslo_messaging_notifications, driver=drivers, transport_url=url
    )
    return msgspec.structs.replace(plain, default=default, oslo_messaging_notifications=section)


@pytest.fixture
def places() -> Iterator[Places]:
    db, cell = Database("sqlite://"), Database("sqlite://")
    yield db, Cells([Cell(CELL0, "cell0", cell)])
    db.close()
    cell.close()


def write(wanted: Settings, places: Places) -> Any:
    clock, ids = VirtualClock(), SeededIds("a")
    return notices.write(wanted, *places, binary="nova-api", clock=clock, ids=ids)


@pytest.mark.parametrize("drivers", [(), ("noop",)])
def test_off(places: Places, drivers: tuple[str, ...]) -> None:
    assert write(settings(*drivers), places) is None
    assert places[0].attachment(NOTES) is None
    clock, ids = VirtualClock(), SeededIds("a")
    assert notices.sender(settings(*drivers), {}, MemoryBus(), clock, ids, None) is None


def test_on(places: Places) -> None:
    writer = write(settings("test"), places)
    assert isinstance(writer, Writer)
    assert places[0].attachment(NOTES) is writer
    assert places[1].cell0.db.attachment(NOTES) is writer


def test_what_is_not_understood(places: Places) -> None:
    with pytest.raises(Unconfigured, match="pigeon"):
        write(settings("pigeon"), places)
    with pytest.raises(Unconfigured, match="instance_usage_audit_period"):
        write(settings("test", period="fortnight"), places)
    with pytest.raises(Unconfigured, match="kafka"):
        notices.sinks(settings("messagingv2", url="kafka://x"), MemoryBus())


def test_sinks() -> None:
    bus = MemoryBus()
    kinds = [type(each) for each in notices.sinks(settings("messagingv2", "log", "test"), bus)]
    assert kinds == [BusSink, LogSink, MemorySink]
    (rabbit,) = notices.sinks(settings("messaging", url="rabbit://u:p@h:5672/"), bus)
    assert isinstance(rabbit, RabbitSink)


def test_figures() -> None:
    metrics = Metrics()
    made = notices.sender(
        settings("test"), {}, MemoryBus(), VirtualClock(), SeededIds("a"), metrics
    )
    assert made is not None
    figures = notices.Figures(Metrics())
    figures.sent(2)
    figures.dropped(1)
    figures.waiting("api", 3)
    assert b"kilonova_notifications_sent_total 0.0" in metrics.expose()
