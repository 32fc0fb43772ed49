"""The message bus a daemon speaks on, from ``transport_url``."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from kilonova.base.errors import Fault
from kilonova.base.log import mask
from kilonova.config.settings import Settings
from kilonova.messaging.bus import Bus
from kilonova.messaging.memory import MemoryBus
from kilonova.services.startup import Unconfigured

if TYPE_CHECKING:  # agents speak on a bus and must not load anything of a database
    from kilonova.db.cells import Cells

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


async def of_cells(
    settings: Settings, cells: Cells, stack: contextlib.AsyncExitStack
) -> dict[str, Bus]:
    """Cell id → its bus, for the cells whose broker is not that of ``[DEFAULT] transport_url``."""
    made: dict[str, Bus] = {}
    for cell in cells.real:
        url = cell.transport_url
        if url and url != settings.default.transport_url and not url.startswith("none:"):
            made[cell.id], _ = await connect(settings, stack, url=url)
    return made


async def _fine() -> str | None:
    return None
