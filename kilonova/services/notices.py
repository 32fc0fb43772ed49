"""Notifications of a daemon: its writer on the databases it opens, and the sender."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

from kilonova.base.clock import Clock
from kilonova.base.errors import BadRequest
from kilonova.base.ids import Ids
from kilonova.config.settings import Settings
from kilonova.db.cells import Cells
from kilonova.db.database import Database
from kilonova.messaging.bus import Bus
from kilonova.services.buses import IN_PROCESS
from kilonova.services.startup import Unconfigured
from kilonova.store.noting import NOTES
from kilonova.web.health import Metrics

if TYPE_CHECKING:  # a cloud that tells nothing starts without what tells
    from kilonova.messaging.notices import Sink
    from kilonova.notifications.sender import Sender
    from kilonova.notifications.writer import Writer
    from kilonova.services.daemon import Daemon

DRIVERS = ("messagingv2", "messaging", "log", "test", "noop")


def wanted(settings: Settings) -> bool:
    """Whether anything is to be told at all."""
    return bool(set(settings.oslo_messaging_notifications.driver) - {"noop"})


def write(
    settings: Settings, db: Database, cells: Cells, *, binary: str, clock: Clock, ids: Ids
) -> Writer | None:
    """Have what happens in these databases told; None (and nothing is written) when it is not to.

    Unconfigured for a driver or an audit period nobody knows.
    """
    unknown = set(settings.oslo_messaging_notifications.driver) - set(DRIVERS)
    if unknown:
        raise Unconfigured(
            f"[oslo_messaging_notifications] driver names {', '.join(sorted(unknown))}; "
            f"there are {', '.join(DRIVERS)}."
        )
    if not wanted(settings):
        return None
    from kilonova.notifications.writer import Writer  # noqa: PLC0415

    try:
        writer = Writer(settings, binary=binary, clock=clock, ids=ids)
    except BadRequest as error:
        raise Unconfigured(f"[DEFAULT] instance_usage_audit_period: {error.message}") from None
    db.attach(NOTES, writer)
    for cell in cells.all:
        cell.db.attach(NOTES, writer)
    return writer


def follow(daemon: Daemon, db: Database, cells: Cells, *, binary: str) -> None:
    """``write`` for a daemon, for cells it learns of later as well."""
    writer = write(daemon.settings, db, cells, binary=binary, clock=daemon.clock, ids=daemon.ids)

    async def attach(_settings: Settings) -> None:
        for cell in cells.all:
            if cell.db.attachment(NOTES) is None:
                cell.db.attach(NOTES, writer)

    if writer is not None:
        daemon.on_reload(attach)


def sender(
    settings: Settings,
    databases: Mapping[str, Database],
    bus: Bus,
    clock: Clock,
    ids: Ids,
    metrics: Metrics | None,
) -> Sender | None:
    """What ships the outboxes of a conductor; None when notifications are off."""
    if not wanted(settings):
        return None
    from kilonova.notifications.sender import Sender, Topics  # noqa: PLC0415

    return Sender(
        databases,
        sinks(settings, bus),
        owner=f"{settings.default.host}:{os.getpid()}:{ids.hex()}",
        clock=clock,
        topics=Topics(
            settings.notifications.versioned_notifications_topics,
            settings.oslo_messaging_notifications.topics,
        ),
        keep=settings.kilonova.notifications_kept,
        counts=Figures(metrics) if metrics is not None else None,
    )


def sinks(settings: Settings, bus: Bus) -> list[Sink]:
    """One for each driver."""
    from kilonova.messaging.notices import LogSink, MemorySink  # noqa: PLC0415

    section = settings.oslo_messaging_notifications
    made: list[Sink] = []
    for driver in dict.fromkeys(section.driver):
        if driver == "log":
            made.append(LogSink())
        elif driver == "test":
            made.append(MemorySink())
        elif driver in ("messagingv2", "messaging"):
            made.append(_broker(settings, bus, enveloped=driver == "messagingv2"))
    return made


def _broker(settings: Settings, bus: Bus, *, enveloped: bool) -> Sink:
    url = settings.oslo_messaging_notifications.transport_url or settings.default.transport_url
    if not url or url.partition(":")[0] in IN_PROCESS:
        from kilonova.messaging.notices import BusSink  # noqa: PLC0415

        return BusSink(bus)
    try:
        from kilonova.messaging.rabbit_notices import RabbitSink  # noqa: PLC0415
    except ImportError:
        raise Unconfigured("RabbitMQ needs aio-pika: install kilonova[rabbit].") from None
    try:
        return RabbitSink(
            url,
            exchange=settings.default.control_exchange,
            durable=settings.oslo_messaging_rabbit.amqp_durable_queues,
            enveloped=enveloped,
        )
    except ValueError as error:
        raise Unconfigured(f"[oslo_messaging_notifications] {error}") from None


class Figures:
    """``notifications.sender.Counts`` in Prometheus' registry."""

    def __init__(self, metrics: Metrics) -> None:
        registry = metrics.registry
        self._sent = Counter(
            "kilonova_notifications_sent", "Notifications the broker took", registry=registry
        )
        self._dropped = Counter(
            "kilonova_notifications_dropped",
            "Notifications thrown away because the broker took none",
            registry=registry,
        )
        self._waiting = Gauge(
            "kilonova_notifications_waiting",
            "Notifications that wait for the broker",
            ("database",),
            registry=registry,
        )

    def sent(self, number: int) -> None:
        """Taken by every sink."""
        self._sent.inc(number)

    def dropped(self, number: int) -> None:
        """Thrown away."""
        self._dropped.inc(number)

    def waiting(self, place: str, number: int) -> None:
        """Waiting in one database."""
        self._waiting.labels(place).set(number)
