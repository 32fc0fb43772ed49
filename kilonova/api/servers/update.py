"""``PUT /servers/{server_id}``: name and other things that only the database knows."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec

from kilonova.api.find import Found, find
from kilonova.api.servers import schema, view
from kilonova.api.servers.parse import access_address
from kilonova.api.servers.show import one
from kilonova.base.errors import Conflict
from kilonova.context import Context, Services
from kilonova.db.database import Tx
from kilonova.domain.server import BuildRequest, Server
from kilonova.store import mappings, servers
from kilonova.web.routes import Routes
from kilonova.web.schema import answers

ROUTES: Routes[Services] = Routes(tag="servers")
UPDATE = "os_compute_api:servers:update"


@ROUTES.put(
    "/servers/{server_id}",
    body=schema.UPDATE,
    responses=answers(server=view.UPDATED),
    summary="Change a server",
)
async def update(call: Context, server_id: str) -> dict[str, Any]:
    """Change what is given; the server as it is then."""
    found = await find(call, server_id, UPDATE)
    body = call.body["server"]
    values = _values(body)
    if "pinned_availability_zone" in body:
        values["pinned_zone"] = _pin(found.server, body["pinned_availability_zone"])
    if values:
        await _save(call, found, values)
    if "pinned_zone" in values:
        await call.app.db.run(_pin_spec, server_id, values["pinned_zone"])
    fresh = await find(
        call,
        server_id,
        extras=view.extras(call.version, view.granted(call)),
        groups=call.version >= 71,
    )
    return {"server": await one(call, fresh, view.UPDATED)}


def _values(body: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if "name" in body:
        values["name"] = body["name"].strip()
    for key, column in (("accessIPv4", "access_ip_v4"), ("accessIPv6", "access_ip_v6")):
        if key in body:
            values[column] = access_address(body[key])
    if "OS-DCF:diskConfig" in body:
        values["auto_disk_config"] = body["OS-DCF:diskConfig"] == "AUTO"
    for key in ("description", "hostname"):
        if key in body:
            values[key] = body[key]
    return values


def _pin(server: Server, zone: str | None) -> str | None:
    if zone is not None and zone != server.availability_zone:
        raise Conflict(
            f"Instance {server.id} cannot be pinned to {zone}: it is in the availability zone "
            f"{server.availability_zone}."
        )
    return zone


def _update(tx: Tx, server_id: str, values: dict[str, Any], now: dt.datetime) -> None:
    servers.update(tx, server_id, now=now, **values)


def _pin_spec(tx: Tx, server_id: str, zone: str | None) -> None:
    spec = mappings.find_spec(tx, server_id)
    if spec is not None:
        mappings.save_spec(tx, server_id, msgspec.structs.replace(spec, zone=zone))


async def _save(call: Context, found: Found, values: dict[str, Any]) -> None:
    now = call.clock.now()

    def change(request: BuildRequest) -> BuildRequest:
        server = msgspec.structs.replace(request.server, updated_at=now, **values)
        return msgspec.structs.replace(request, server=server)

    server_id = found.server.id
    cell = found.cell
    if cell is None:
        if await call.app.db.run(servers.change_building, server_id, change) is not None:
            return
        cell = (await find(call, server_id)).cell
    if cell is not None:
        await cell.db.run(_update, server_id, values, now)
