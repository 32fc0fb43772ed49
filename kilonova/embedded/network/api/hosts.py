"""Our own interface between the service and the data planes of the hosts (``/ext/hosts``).

A host announces itself, fetches its plan (waiting until it changes), and reports which ports it
has opened. Only services and administrators may.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import msgspec

from kilonova.base.errors import Forbidden
from kilonova.embedded.network import planner
from kilonova.embedded.network.api.common import write
from kilonova.embedded.network.app import NetworkApp, NetworkCall, Work, is_admin
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema

ROUTES: Routes[NetworkApp] = Routes(prefix="/ext/hosts")

HOST = Schema(
    {
        "type": "object",
        "properties": {
            "mode": {"enum": ["bridge", "user", "none"]},
            "vtep_ip": {"type": ["string", "null"], "maxLength": 64},
        },
        "required": ["mode"],
        "additionalProperties": False,
    }
)
OPENED = Schema(
    {
        "type": "object",
        "properties": {
            "opened": {"type": "array", "items": {"type": "string", "maxLength": 36}},
            "closed": {"type": "array", "items": {"type": "string", "maxLength": 36}},
        },
        "required": ["opened"],
        "additionalProperties": False,
    }
)
LONGEST_WAIT = 30.0


@ROUTES.put("/{host}", body=HOST, status=204)
async def announce(call: NetworkCall, host: str) -> None:
    """The host lives, plugs cards in this way, and has this tunnel address."""
    _services_only(call)
    mode, vtep = call.body["mode"], call.body.get("vtep_ip")
    await call.app.db.run(
        planner.announce, host, mode=mode, vtep_ip=vtep, clock=call.clock, ids=call.ids
    )
    call.app.touch()


@ROUTES.get("/{host}/plan")
async def plan(call: NetworkCall, host: str) -> dict[str, Any]:
    """What the host's data plane should look like, with a ``version`` to wait on.

    ``?after=VERSION`` waits up to 30 seconds until anything has changed.
    """
    _services_only(call)
    app = call.app
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LONGEST_WAIT):
            await app.beyond(call.query.get("after"))
    version = app.version
    cloud = await app.db.read(planner.read)
    missing = planner.missing_dhcp(cloud)
    if missing:

        def work(job: Work) -> None:
            for network_id in missing:
                planner.make_dhcp(job, network_id)

        await write(call, work)
        version = app.version
        cloud = await app.db.read(planner.read)
    made = planner.plan(cloud, host, app.settings)
    return {"plan": msgspec.to_builtins(made), "version": version}


@ROUTES.put("/{host}/ports", body=OPENED, status=204)
async def opened(call: NetworkCall, host: str) -> None:
    """These ports of the host are open (their cards are there and their rules in force)."""
    _services_only(call)

    def work(job: Work) -> None:
        planner.opened(job, host, call.body["opened"], call.body.get("closed", []))

    await write(call, work)


def _services_only(call: NetworkCall) -> None:
    if not is_admin(call.caller):
        raise Forbidden("This is between the services of the cloud.", code="PolicyNotAuthorized")
