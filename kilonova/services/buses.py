"""The message bus a daemon speaks on, from ``transport_url``."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

from kilonova.base.errors import Fault
from kilonova.base.log import mask
from kilonova.config.settings import Settings
from kilonova.messaging.bus import Bus
from kilonova.messaging.memory import MemoryBus
from kilonova.services.neighbours import Unconfigured

IN_PROCESS = ("fake", "memory")

Check = Callable[[], Awaitable[str | None]]


async def connect(
    settings: Settings, stack: contextlib.AsyncExitStack, *, url: str | None = None
) -> tuple[Bus, Check]:
    """The bus of ``url`` (default: ``[DEFAULT] transport_url``) and its health check.

    Closed with ``stack``. Unconfigured when the URL is missing or wrong, or no broker answers
    within ``[kilonova] broker_seconds``. ``fake://`` is a bus inside this process.
    """
    where = url or settings.default.transport_url
    if not where:
        raise Unconfigured(
            "[DEFAULT] transport_url is not set; give the broker, "
            "for example rabbit://user:password@host:5672/."
        )
    if where.partition(":")[0] in IN_PROCESS:
        inside = MemoryBus()
        stack.push_async_callback(inside.close)
        return inside, _fine
    try:
        from kilonova.messaging.rabbit import RabbitBus  # noqa: PLC0415
    except ImportError:
        raise Unconfigured("RabbitMQ needs aio-pika: install kilonova[rabbit].") from None
    try:
        bus = RabbitBus(where)
    except ValueError as error:
        raise Unconfigured(f"[DEFAULT] {error}") from None
    stack.push_async_callback(bus.close)
    try:
        await bus.start(seconds=float(settings.kilonova.broker_seconds))
    except Fault:
        raise Unconfigured(
            f"No message broker answers at {mask(where)}: start it, or correct "
            "[DEFAULT] transport_url."
        ) from None
    return bus, bus.check


async def _fine() -> str | None:
    return None
