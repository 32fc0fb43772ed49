"""``/os-security-groups`` and ``/os-security-group-rules`` (to 2.35), for the network service.

Source: Nova API reference, "Security groups" (deprecated).
"""

from __future__ import annotations

import ipaddress
from typing import Any

from kilonova.api.find import is_admin
from kilonova.api.schemas import NOT_NEGATIVE, QUERY_NONE, UUID, Tree
from kilonova.base.errors import BadRequest, Conflict, NotFound
from kilonova.context import Context, Services
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers

ROUTES: Routes[Services] = Routes(tag="security groups")
RULE = "os_compute_api:os-security-groups:"
LAST = 35
PROTOCOLS = ("tcp", "udp", "icmp")
WORD: Tree = {"type": "string", "minLength": 0, "maxLength": 255}


def _open(name: str, properties: Tree, *required: str) -> Schema:
    inner = {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": True,
    }
    return Schema(
        {
            "type": "object",
            "properties": {name: inner},
            "required": [name],
            "additionalProperties": True,
        }
    )


GROUP = _open("security_group", {"name": WORD, "description": WORD}, "name", "description")
NEW_RULE = _open(
    "security_group_rule",
    {
        "group_id": {"anyOf": [UUID, {"type": "null"}]},
        "parent_group_id": UUID,
        "to_port": {},
        "from_port": {},
        "ip_protocol": {},
        "cidr": {},
    },
    "parent_group_id",
)
LIST = Schema(
    {
        "type": "object",
        "properties": {
            "limit": NOT_NEGATIVE,
            "offset": NOT_NEGATIVE,
            "all_tenants": {"type": "string"},
        },
        "additionalProperties": True,
    }
)


RULE_SHOWN = {
    "id": str,
    "parent_group_id": str,
    "ip_protocol": str | None,
    "from_port": int | None,
    "to_port": int | None,
    "group": {"name?": str, "tenant_id?": str},
    "ip_range": {"cidr?": str},
}
GROUP_SHOWN = {
    "id": str,
    "name": str,
    "description": str | None,
    "tenant_id": str,
    "rules": [RULE_SHOWN],
}


async def group_of(call: Context, name: str) -> dict[str, Any]:
    """A group of the caller's project by id or name; NotFound, or Conflict for several."""
    project = call.caller.project_id
    rows = await call.app.documents.find(
        "security-groups", token=call.caller.token, tenant_id=project
    )
    by_id = [row for row in rows if row["id"] == name]
    by_name = [row for row in rows if row["name"] == name]
    if not by_id and len(by_name) > 1:
        raise Conflict(f"Several security groups are named {name}; use an id to be specific.")
    for row in (*by_id, *by_name):
        return row
    raise NotFound(f"Security group {name} not found.")


async def shown(call: Context, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups as this API shows them; the names of groups in rules are read at once."""
    remote = {
        rule["remote_group_id"]
        for group in groups
        for rule in group.get("security_group_rules", ())
        if rule.get("remote_group_id")
    }
    found = await call.app.documents.find(
        "security-groups", token=call.caller.token, id=tuple(sorted(remote))
    )
    known = {row["id"]: row for row in (*groups, *found)}
    return [
        {
            "id": group["id"],
            "name": group["name"],
            "description": group.get("description"),
            "tenant_id": _project(group),
            "rules": [
                _rule(rule, known)
                for rule in group.get("security_group_rules", ())
                if rule["direction"] == "ingress"
            ],
        }
        for group in sorted(groups, key=lambda row: (_project(row), row["name"]))
    ]


def _project(group: dict[str, Any]) -> str:
    return str(group.get("tenant_id") or group.get("project_id") or "")


def _rule(rule: dict[str, Any], known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A rule; one for every protocol shows no ports, one for whole protocols the whole span."""
    protocol = rule.get("protocol")
    first, last = rule.get("port_range_min"), rule.get("port_range_max")
    if protocol and first is None:
        first, last = (-1, -1) if str(protocol).startswith("icmp") else (1, 65535)
    group, reach = {}, {}
    if rule.get("remote_group_id"):
        of = known.get(rule["remote_group_id"], {})
        group = {"name": of.get("name", ""), "tenant_id": _project(of)} if of else {}
    else:
        everything = "::/0" if rule.get("ethertype") == "IPv6" else "0.0.0.0/0"
        reach = {"cidr": rule.get("remote_ip_prefix") or everything}
    return {
        "id": rule["id"],
        "parent_group_id": rule["security_group_id"],
        "ip_protocol": str(protocol).lower() if protocol else None,
        "from_port": first,
        "to_port": last,
        "group": group,
        "ip_range": reach,
    }


async def _find(call: Context, group_id: str) -> dict[str, Any]:
    if len(group_id) != 36:
        raise BadRequest(f"Security group id should be uuid, not {group_id[:64]}")
    found = await call.app.documents.show("security-groups", group_id, token=call.caller.token)
    if found is None:
        raise NotFound(f"Security group {group_id} not found.")
    return found


@ROUTES.get(
    "/os-security-groups",
    until=LAST,
    policy=RULE + "get",
    query=LIST,
    responses=answers(security_groups=[GROUP_SHOWN]),
    summary="List",
)
async def index(call: Context) -> dict[str, Any]:
    """The project's groups; an administrator may ask for all."""
    everybody = call.query.flag("all_tenants") and is_admin(call)
    filters = {} if everybody else {"tenant_id": call.caller.project_id}
    rows = await call.app.documents.find("security-groups", token=call.caller.token, **filters)
    first = call.query.number("offset", 0) or 0
    most = call.query.number("limit")
    last = None if most is None else first + most
    return {"security_groups": (await shown(call, rows))[first:last]}


@ROUTES.get(
    "/os-security-groups/{group_id}",
    until=LAST,
    policy=RULE + "show",
    query=QUERY_NONE,
    responses=answers(security_group=GROUP_SHOWN),
    summary="Show a security group",
)
async def show(call: Context, group_id: str) -> dict[str, Any]:
    """One group."""
    return {"security_group": (await shown(call, [await _find(call, group_id)]))[0]}


@ROUTES.post(
    "/os-security-groups",
    until=LAST,
    policy=RULE + "create",
    body=GROUP,
    responses=answers(security_group=GROUP_SHOWN),
    summary="Make a security group",
)
async def create(call: Context) -> dict[str, Any]:
    """A new, empty group."""
    made = await call.app.documents.create(
        "security-groups", _values(call), token=call.caller.token
    )
    return {"security_group": (await shown(call, [made]))[0]}


@ROUTES.put(
    "/os-security-groups/{group_id}",
    until=LAST,
    policy=RULE + "update",
    body=GROUP,
    responses=answers(security_group=GROUP_SHOWN),
    summary="Change a security group",
)
async def update(call: Context, group_id: str) -> dict[str, Any]:
    """Name and description."""
    values = _values(call)
    await _find(call, group_id)
    changed = await call.app.documents.update(
        "security-groups", group_id, values, token=call.caller.token
    )
    return {"security_group": (await shown(call, [changed]))[0]}


def _values(call: Context) -> dict[str, Any]:
    body = call.body["security_group"]
    name = body["name"]
    if not name.strip():
        raise BadRequest("Security group name cannot be empty.")
    return {"name": name, "description": body["description"]}


@ROUTES.delete(
    "/os-security-groups/{group_id}",
    until=LAST,
    status=202,
    policy=RULE + "delete",
    summary="Delete a security group",
)
async def delete(call: Context, group_id: str) -> None:
    """One that no port uses."""
    await _find(call, group_id)
    try:
        await call.app.documents.delete("security-groups", group_id, token=call.caller.token)
    except Conflict as error:
        raise BadRequest(error.message) from None


@ROUTES.post(
    "/os-security-group-rules",
    until=LAST,
    policy=RULE + "rule:create",
    body=NEW_RULE,
    responses=answers(security_group_rule=RULE_SHOWN),
    summary="Make a security group rule",
)
async def create_rule(call: Context) -> dict[str, Any]:
    """Let something in: from addresses, or from the ports of a group."""
    body = call.body["security_group_rule"]
    values = _rule_values(body)
    parent = await call.app.documents.show(
        "security-groups", body["parent_group_id"], token=call.caller.token
    )
    if parent is None:
        raise NotFound(f"Security group {body['parent_group_id']} not found.")
    try:
        made = await call.app.documents.create(
            "security-group-rules", values, token=call.caller.token
        )
    except Conflict as error:
        raise BadRequest(error.message) from None
    remote = values.get("remote_group_id")
    of = (
        await call.app.documents.show("security-groups", remote, token=call.caller.token)
        if remote
        else None
    )
    return {"security_group_rule": _rule(made, {remote: of} if remote and of else {})}


def _rule_values(body: dict[str, Any]) -> dict[str, Any]:
    """The rule as the network service takes it; BadRequest for what makes no sense."""
    protocol = body.get("ip_protocol")
    first, last = body.get("from_port"), body.get("to_port")
    values: dict[str, Any] = {
        "security_group_id": body["parent_group_id"],
        "direction": "ingress",
    }
    ethertype = "IPv4"
    if body.get("group_id"):
        values["remote_group_id"] = body["group_id"]
    else:
        asked = body.get("cidr") or "0.0.0.0/0"
        ethertype = f"IPv{_cidr(asked).version}"
        values["remote_ip_prefix"] = asked
    if protocol is None and not (body.get("group_id") and first is None and last is None):
        raise BadRequest("Not enough parameters to build a valid rule.")
    if protocol is not None:
        if str(protocol).lower() not in PROTOCOLS:
            raise BadRequest(f"Invalid IP protocol {protocol}.")
        values["protocol"] = str(protocol).lower()
        values.update(_span(str(protocol).lower(), first, last))
    return {**values, "ethertype": ethertype}


def _cidr(text: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(str(text), strict=False)
    except ValueError:
        raise BadRequest(f"Invalid cidr {text}.") from None


def _span(protocol: str, first: Any, last: Any) -> dict[str, int]:
    try:
        low, high = int(first), int(last)
    except (TypeError, ValueError):
        raise BadRequest("Valid from_port and to_port are needed with an IP protocol.") from None
    if protocol == "icmp":
        if not (-1 <= low <= 255 and -1 <= high <= 255):
            raise BadRequest(f"Invalid port range {low}:{high}. Valid ICMP types are -1 to 255.")
        return {
            name: number
            for name, number in (("port_range_min", low), ("port_range_max", high))
            if number >= 0
        }
    if low == -1 and high == -1:
        return {}
    if not 1 <= low <= high <= 65535:
        raise BadRequest(
            f"Invalid port range {low}:{high}. Valid TCP ports should be between 1-65535"
        )
    return {"port_range_min": low, "port_range_max": high}


@ROUTES.delete(
    "/os-security-group-rules/{rule_id}",
    until=LAST,
    status=202,
    policy=RULE + "rule:delete",
    summary="Delete a security group rule",
)
async def delete_rule(call: Context, rule_id: str) -> None:
    """One rule less."""
    if len(rule_id) != 36:
        raise BadRequest(f"Security group rule id should be uuid, not {rule_id[:64]}")
    await call.app.documents.delete("security-group-rules", rule_id, token=call.caller.token)
