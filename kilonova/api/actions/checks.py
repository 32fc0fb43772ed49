"""What several actions ask before they begin: the server, its state, and its host's service."""

from __future__ import annotations

from kilonova.api.find import Found, find, is_admin
from kilonova.base.errors import Conflict
from kilonova.context import Context
from kilonova.domain import states
from kilonova.domain.resources import Service
from kilonova.store import services

COMPUTE = "nova-compute"


async def allowed(
    call: Context, server_id: str, rule: str, action: str, *, word: str = ""
) -> Found:
    """The server, when caller and state allow the action."""
    found = await find(call, server_id, rule)
    check(call, found, action, word=word)
    return found


def check(call: Context, found: Found, action: str, *, word: str = "") -> None:
    """Conflict unless the server's state allows the action."""
    states.check(action, found.server, override_lock=is_admin(call), word=word)


async def compute_of(call: Context, host: str) -> Service | None:
    """The compute service of a host; None when there is none of that name."""
    found = await call.app.cells.gather(services.find, host, COMPUTE)
    return next((service for _, service in found.found if service is not None), None)


async def host_is_up(call: Context, host: str | None) -> bool:
    """Whether the host's compute service gives signs of life."""
    service = await compute_of(call, host) if host else None
    seconds = call.app.settings.default.service_down_time
    return service is not None and service.is_up(call.clock.now(), seconds)


async def require_up(call: Context, found: Found) -> None:
    """Conflict when the host of the server is down."""
    if not await host_is_up(call, found.server.host):
        raise Conflict("Service is unavailable at this time.")
