"""``addFixedIp``, ``removeFixedIp``, ``addFloatingIp``, ``removeFloatingIp``: all to 2.43."""

from __future__ import annotations

import contextlib
import ipaddress
from typing import Any

from kilonova.api.actions.power import PATH
from kilonova.api.find import Found, find, is_admin
from kilonova.api.schemas import closed
from kilonova.api.servers.schema import IP
from kilonova.base.errors import BadRequest, Conflict, NotFound
from kilonova.context import Context, Services
from kilonova.domain.sagas import ServerArgs
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema

ROUTES: Routes[Services] = Routes(tag="server addresses")
LAST = 43


def _body(action: str, *required: str, **properties: Any) -> Schema:
    return Schema(closed({action: closed(properties, *required)}, action))


_NETWORK = {"type": ["string", "number"], "minLength": 1, "maxLength": 36}
ADD_FIXED = _body("addFixedIp", "networkId", networkId=_NETWORK)
REMOVE_FIXED = _body("removeFixedIp", "address", address=IP)
ADD_FLOATING = _body("addFloatingIp", "address", address=IP, fixed_address=IP)
REMOVE_FLOATING = _body("removeFloatingIp", "address", address=IP)


@ROUTES.post(
    PATH, action="addFixedIp", body=ADD_FIXED, until=LAST, status=202, summary="Add an address"
)
async def add_fixed(call: Context, server_id: str) -> None:
    """One address more, of that network, on the server's port there."""
    found = await _unlocked(call, server_id, "os_compute_api:os-multinic:add")
    network = str(call.body["addFixedIp"]["networkId"])
    documents = call.app.documents
    subnets = await documents.find("subnets", token=call.caller.token, network_id=network)
    ports = await documents.find("ports", token=None, device_id=server_id, network_id=network)
    for port in ports:
        for subnet in subnets:
            wanted = [*_fixed(port), {"subnet_id": subnet["id"]}]
            try:
                await documents.update("ports", port["id"], {"fixed_ips": wanted}, token=None)
            except (BadRequest, Conflict):
                continue
            return await _tell(call, found)
    raise BadRequest(f"No address of network {network} can be given to instance {server_id}.")


@ROUTES.post(
    PATH,
    action="removeFixedIp",
    body=REMOVE_FIXED,
    until=LAST,
    status=202,
    summary="Remove an address",
)
async def remove_fixed(call: Context, server_id: str) -> None:
    """Take an address off the server's port."""
    found = await _unlocked(call, server_id, "os_compute_api:os-multinic:remove")
    address = call.body["removeFixedIp"]["address"]
    for port in await _ports(call, found):
        left = [ip for ip in _fixed(port) if not _same(ip["ip_address"], address)]
        if len(left) < len(port["fixed_ips"]):
            await call.app.documents.update("ports", port["id"], {"fixed_ips": left}, token=None)
            return await _tell(call, found)
    raise BadRequest(f"Fixed IP {address} not found for instance {server_id}.")


@ROUTES.post(
    PATH,
    action="addFloatingIp",
    body=ADD_FLOATING,
    until=LAST,
    status=202,
    summary="Give a floating IP",
)
async def add_floating(call: Context, server_id: str) -> None:
    """Let a floating IP lead to an address of the server: the first, or the one named."""
    found = await find(call, server_id, "os_compute_api:os-floating-ips:add")
    body = call.body["addFloatingIp"]
    wanted = body.get("fixed_address")
    own = [
        (port["id"], ip["ip_address"])
        for port in await _ports(call, found)
        for ip in port["fixed_ips"]
        if ":" not in ip["ip_address"]
    ]
    if not own:
        raise BadRequest(f"No fixed IPs associated to instance {server_id}.")
    if wanted is not None:
        own = [pair for pair in own if _same(pair[1], wanted)]
        if not own:
            raise BadRequest("Specified fixed address not assigned to instance")
    floating = await _floating(call, body["address"])
    values = {"port_id": own[0][0], "fixed_ip_address": own[0][1]}
    try:
        await call.app.documents.update(
            "floatingips", floating["id"], values, token=call.caller.token
        )
    except Conflict as error:
        raise BadRequest(error.message) from None
    await _tell(call, found)


@ROUTES.post(
    PATH,
    action="removeFloatingIp",
    body=REMOVE_FLOATING,
    until=LAST,
    status=202,
    summary="Take a floating IP away",
)
async def remove_floating(call: Context, server_id: str) -> None:
    """Let a floating IP lead nowhere."""
    found = await find(call, server_id, "os_compute_api:os-floating-ips:remove")
    address = call.body["removeFloatingIp"]["address"]
    floating = await _floating(call, address)
    if floating.get("port_id") not in {port["id"] for port in await _ports(call, found)}:
        raise Conflict(f"Floating IP {address} is not associated with instance {server_id}.")
    await call.app.documents.update(
        "floatingips", floating["id"], {"port_id": None}, token=call.caller.token
    )
    await _tell(call, found)


async def _unlocked(call: Context, server_id: str, rule: str) -> Found:
    found = await find(call, server_id, rule)
    if found.server.locked_by and not is_admin(call):
        raise Conflict(f"Instance {server_id} is locked")
    return found


async def _ports(call: Context, found: Found) -> list[dict[str, Any]]:
    return await call.app.documents.find("ports", token=None, device_id=found.server.id)


async def _floating(call: Context, address: str) -> dict[str, Any]:
    rows = await call.app.documents.find(
        "floatingips", token=call.caller.token, floating_ip_address=address
    )
    if not rows:
        raise NotFound(f"Floating IP {address} could not be found.")
    return rows[0]


def _fixed(port: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {"subnet_id": ip["subnet_id"], "ip_address": ip["ip_address"]} for ip in port["fixed_ips"]
    ]


def _same(one: str, other: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(one) == ipaddress.ip_address(other)
    return one == other


async def _tell(call: Context, found: Found) -> None:
    """Have the server's addresses read anew."""
    if found.cell is not None:
        args = ServerArgs(found.server.id)
        await call.app.bus_of(found.cell.id).cast("conductor", "network_changed", args)
