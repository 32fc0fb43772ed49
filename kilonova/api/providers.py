"""What an operator's request changes is told to Placement at once; the mirror repairs the rest.

Reconcilers bring Placement in step with the records every few seconds. Who boots a server right
after a request of his was answered must not be too early for that.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import os_traits

from kilonova.base.errors import Fault, NotFound
from kilonova.context import Context
from kilonova.interfaces.placement import PlacementService
from kilonova.store import nodes

DISABLED = os_traits.COMPUTE_STATUS_DISABLED

log = logging.getLogger(__name__)


async def entered(call: Context, host: str, aggregate: str) -> None:
    """The providers of a host are in an aggregate (uuid) now."""
    await _tell(call, host, lambda p, uuid: p.set_aggregates(uuid, {aggregate}, owned=()))


async def left(call: Context, host: str, aggregate: str) -> None:
    """The providers of a host are in an aggregate (uuid) no more."""
    await _tell(call, host, lambda p, uuid: p.set_aggregates(uuid, (), owned={aggregate}))


async def switched(call: Context, host: str, *, disabled: bool) -> None:
    """The compute service of a host takes no more new servers, or takes them again."""
    wanted = {DISABLED} if disabled else set()
    await _tell(call, host, lambda p, uuid: p.set_traits(uuid, wanted, owned={DISABLED}))


async def _tell(
    call: Context, host: str, write: Callable[[PlacementService, str], Awaitable[None]]
) -> None:
    """The request is done whatever Placement says: what it does not hear now it hears later."""
    placement = call.app.placement
    if placement is None:
        return

    answer = await call.app.cells.ask(call.app.cells.real, nodes.of_host, host)
    for uuid in answer.rows():
        try:
            await write(placement, uuid)
        except NotFound:
            # The provider is being made; the mirror finds it.
            continue
        except Fault as fault:
            log.warning("resource provider %s was not changed yet: %s", uuid, fault.message)
