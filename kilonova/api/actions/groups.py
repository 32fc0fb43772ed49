"""Security groups of a server: ``addSecurityGroup``, ``removeSecurityGroup`` and their list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kilonova.api.actions.power import PATH
from kilonova.api.find import Found, find
from kilonova.api.schemas import closed, no_query
from kilonova.api.security_groups import GROUP_SHOWN, group_of, shown
from kilonova.base.errors import BadRequest, NotFound
from kilonova.context import Context, Services
from kilonova.db.database import Tx
from kilonova.store import servers
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers

ROUTES: Routes[Services] = Routes(tag="server security groups")
RULE = "os_compute_api:os-security-groups:"


def _body(action: str) -> Schema:
    return Schema(
        {
            "type": "object",
            "properties": {
                action: closed({"name": {"type": "string", "minLength": 1}}, "name"),
            },
            "required": [action],
            "additionalProperties": True,
        }
    )


@ROUTES.get(
    "/servers/{server_id}/os-security-groups",
    query=no_query(),
    responses=answers(security_groups=[GROUP_SHOWN]),
    summary="List a server's security groups",
)
async def index(call: Context, server_id: str) -> dict[str, Any]:
    """The groups of all its ports, with their rules."""
    found = await find(call, server_id, RULE + "list")
    documents = call.app.documents
    ports = await documents.find("ports", token=None, device_id=found.server.id)
    ids = tuple(dict.fromkeys(g for port in ports for g in port.get("security_groups", ())))
    groups = await documents.find("security-groups", token=call.caller.token, id=ids)
    return {"security_groups": await shown(call, groups)}


@ROUTES.post(
    PATH,
    action="addSecurityGroup",
    body=_body("addSecurityGroup"),
    status=202,
    summary="Add a security group",
)
async def add(call: Context, server_id: str) -> None:
    """Every port of the server gets the group."""
    found, group = await _asked(call, server_id, "add", "addSecurityGroup")
    ports = await _ports(call, found)
    for port in ports:
        if group["id"] not in port["security_groups"]:
            await _set(call, port, [*port["security_groups"], group["id"]])
    await _keep(call, found, lambda names: tuple(dict.fromkeys((*names, group["name"]))))


@ROUTES.post(
    PATH,
    action="removeSecurityGroup",
    body=_body("removeSecurityGroup"),
    status=202,
    summary="Remove a security group",
)
async def remove(call: Context, server_id: str) -> None:
    """Every port of the server loses the group."""
    found, group = await _asked(call, server_id, "remove", "removeSecurityGroup")
    having = [p for p in await _ports(call, found) if group["id"] in p["security_groups"]]
    if not having:
        raise NotFound(
            f"Security group {group['name']} not associated with the instance {server_id}"
        )
    for port in having:
        await _set(call, port, [g for g in port["security_groups"] if g != group["id"]])
    gone = {group["name"], group["id"]}
    await _keep(call, found, lambda names: tuple(name for name in names if name not in gone))


async def _asked(
    call: Context, server_id: str, rule: str, action: str
) -> tuple[Found, dict[str, Any]]:
    found = await find(call, server_id, RULE + rule)
    return found, await group_of(call, call.body[action]["name"])


async def _ports(call: Context, found: Found) -> list[dict[str, Any]]:
    ports = await call.app.documents.find("ports", token=None, device_id=found.server.id)
    if not ports:
        raise BadRequest(f"Instance {found.server.id} has no port a security group could be on.")
    for port in ports:
        if not (port.get("port_security_enabled", True) and port.get("fixed_ips")):
            raise BadRequest(
                "Network requires port_security_enabled and subnet associated in order to apply "
                "security groups."
            )
    return ports


async def _set(call: Context, port: dict[str, Any], groups: list[str]) -> None:
    await call.app.documents.update(
        "ports", port["id"], {"security_groups": groups}, token=call.caller.token
    )


async def _keep(
    call: Context, found: Found, change: Callable[[tuple[str, ...]], tuple[str, ...]]
) -> None:
    """What the server's document says of its groups."""
    if found.cell is None:
        return
    server_id, now = found.server.id, call.clock.now()

    def write(tx: Tx) -> None:
        server = servers.get(tx, server_id, lock=True)
        if server is not None and change(server.security_groups) != server.security_groups:
            names = change(server.security_groups)
            servers.update(tx, server_id, now=now, security_groups=names)

    await found.cell.db.run(write)
