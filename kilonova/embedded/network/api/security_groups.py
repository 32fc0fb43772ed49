"""Security groups and their rules; each project has a default group."""

from __future__ import annotations

from typing import Any

from kilonova.base.errors import BadRequest, Conflict
from kilonova.db.database import Tx
from kilonova.embedded.network import rules as arithmetic
from kilonova.embedded.network.api.resource import Resource, usable
from kilonova.embedded.network.app import NetworkCall, Work
from kilonova.embedded.network.kinds import RULE, SECURITY_GROUP
from kilonova.embedded.network.store import groups, quotas, rows
from kilonova.embedded.network.store.rows import Row

# Protocol names of the API, by IANA number (neutron-lib's list).
PROTOCOLS = {
    "ah": 51,
    "dccp": 33,
    "egp": 8,
    "esp": 50,
    "gre": 47,
    "icmp": 1,
    "icmpv6": 58,
    "igmp": 2,
    "ipip": 4,
    "ipv6-encap": 41,
    "ipv6-frag": 44,
    "ipv6-icmp": 58,
    "ipv6-nonxt": 59,
    "ipv6-opts": 60,
    "ipv6-route": 43,
    "ospf": 89,
    "pgm": 113,
    "rsvp": 46,
    "sctp": 132,
    "tcp": 6,
    "udp": 17,
    "udplite": 136,
    "vrrp": 112,
}
WITH_PORTS = ("tcp", "udp", "sctp", "dccp", "udplite", "6", "17", "132", "33", "136")
ICMP = ("icmp", "icmpv6", "ipv6-icmp", "1", "58")
_SAME = (
    "direction",
    "ethertype",
    "protocol",
    "port_range_min",
    "port_range_max",
    "remote_ip_prefix",
    "remote_group_id",
)


def ensure_default(job: Work, project_id: str) -> str:
    """The id of the project's default group, made with its four rules when there is none."""
    found = groups.default_of(job.tx, project_id)
    if found is not None:
        return found
    quotas.lock(job.tx, project_id)
    found = groups.default_of(job.tx, project_id)
    if found is not None:
        return found
    group = _insert(
        job,
        {
            "id": job.ids.uuid(),
            "project_id": project_id,
            "name": "default",
            "description": "Default security group",
            "default_of": project_id,
        },
    )
    for ethertype in ("IPv4", "IPv6"):
        add_rule(job, group, direction="ingress", ethertype=ethertype, remote_group_id=group["id"])
    return str(group["id"])


async def ensure(call: NetworkCall) -> None:
    """Make the caller's default group before they look for it."""
    project_id = call.caller.project_id
    if project_id and await call.app.db.read(groups.default_of, project_id) is None:
        await call.app.write(call.caller, lambda job: ensure_default(job, project_id))


def create_group(job: Work, values: Row) -> Row:
    """Insert a group that lets everything out."""
    if values["name"].lower() == "default":
        raise Conflict(
            "Default security group already exists.", code="SecurityGroupDefaultAlreadyExists"
        )
    if values["project_id"]:
        ensure_default(job, values["project_id"])
    return _insert(job, values)


def update_group(job: Work, row: Row, changes: Row) -> Row:
    """Change a group; the default one keeps its name, one in use its kind."""
    if row["default_of"] and changes.get("name", row["name"]) != row["name"]:
        raise Conflict(
            "Updating default security group not allowed.", code="SecurityGroupCannotUpdateDefault"
        )
    if changes.get("stateful", row["stateful"]) != row["stateful"] and groups.in_use(
        job.tx, row["id"]
    ):
        raise Conflict(f"Security Group {row['id']} in use.", code="SecurityGroupInUse")
    return rows.update(job.tx, SECURITY_GROUP, row, changes, job.now)


def delete_group(job: Work, row: Row) -> None:
    """Delete a group no port is in."""
    if row["default_of"] and not job.admin:
        raise Conflict(
            "Insufficient rights for removing default security group.",
            code="SecurityGroupCannotRemoveDefault",
        )
    if groups.in_use(job.tx, row["id"]):
        raise Conflict(f"Security Group {row['id']} in use.", code="SecurityGroupInUse")
    groups.remove_rules(job.tx, row["id"])
    rows.delete(job.tx, SECURITY_GROUP, row["id"])


def render_groups(tx: Tx, found: list[Row], admin: bool) -> list[dict[str, Any]]:
    """Documents with their rules."""
    inside = groups.rules_of(tx, [row["id"] for row in found])
    return [
        SECURITY_GROUP.view(
            row,
            admin=admin,
            more={
                "is_default": row["default_of"] is not None,
                "security_group_rules": [_view(rule, admin=admin) for rule in inside[row["id"]]],
            },
        )
        for row in found
    ]


def create_rule(job: Work, values: Row) -> Row:
    """Insert a rule into a group of the caller's; Conflict for one that is there already."""
    group = usable(job, GROUP_RESOURCE, values["security_group_id"])
    if not job.admin and group["project_id"] != job.project_id:
        raise rows.missing(SECURITY_GROUP, group["id"])
    values["ethertype"] = {"ipv6": "IPv6"}.get(str(values["ethertype"]).lower(), "IPv4")
    _check_protocol(values)
    _check_ports(values)
    _check_remote(job, values)
    values["project_id"] = group["project_id"]
    present = groups.same_rule(job.tx, group["id"], {key: values[key] for key in _SAME})
    if present:
        raise Conflict(
            f"Security group rule already exists. Rule id is {present}.",
            code="SecurityGroupRuleExists",
        )
    rule = rows.insert(job.tx, RULE, values, job.now)
    rows.update(job.tx, SECURITY_GROUP, group, {"updated_at": job.now}, job.now)
    return rule


def delete_rule(job: Work, row: Row) -> None:
    """Delete a rule; what it had allowed ends at once."""
    rows.delete(job.tx, RULE, row["id"])
    group = rows.get(job.tx, SECURITY_GROUP, row["security_group_id"])
    if group is not None:
        rows.update(job.tx, SECURITY_GROUP, group, {"updated_at": job.now}, job.now)


def render_rules(_tx: Tx, found: list[Row], admin: bool) -> list[dict[str, Any]]:
    """Documents."""
    return [_view(row, admin=admin) for row in found]


GROUP_RESOURCE = Resource(
    SECURITY_GROUP, create_group, update_group, delete_group, render_groups, ensure
)
RULE_RESOURCE = Resource(RULE, create_rule, None, delete_rule, render_rules, ensure)


def add_rule(job: Work, group: Row, **values: Any) -> None:
    """Put a rule into a group, unless it is there."""
    wanted = dict.fromkeys(_SAME) | values
    if groups.same_rule(job.tx, group["id"], wanted):
        return
    rows.insert(
        job.tx,
        RULE,
        {
            "id": job.ids.uuid(),
            "project_id": group["project_id"],
            "security_group_id": group["id"],
            **values,
        },
        job.now,
    )


def _insert(job: Work, values: Row) -> Row:
    group = rows.insert(job.tx, SECURITY_GROUP, values, job.now)
    for ethertype in ("IPv4", "IPv6"):
        add_rule(job, group, direction="egress", ethertype=ethertype)
    return group


def _view(row: Row, *, admin: bool) -> dict[str, Any]:
    return RULE.view(
        row,
        admin=admin,
        more={
            "remote_address_group_id": None,
            "normalized_cidr": _normalized(row["remote_ip_prefix"]),
            "belongs_to_default_sg": None,
        },
    )


def _normalized(text: str | None) -> str | None:
    return str(arithmetic.prefix(text, "remote_ip_prefix")) if text else None


def _check_remote(job: Work, values: Row) -> None:
    if values["remote_ip_prefix"] and values["remote_group_id"]:
        raise BadRequest(
            "Only remote_ip_prefix or remote_group_id may be provided.",
            code="SecurityGroupRemoteGroupAndRemoteIpPrefix",
        )
    if values["remote_ip_prefix"]:
        net = arithmetic.prefix(values["remote_ip_prefix"], "remote_ip_prefix")
        if net.version != (4 if values["ethertype"] == "IPv4" else 6):
            raise BadRequest(
                f"Conflicting value ethertype {values['ethertype']} for CIDR "
                f"{values['remote_ip_prefix']}",
                code="SecurityGroupRuleParameterConflict",
            )
        if "/" not in values["remote_ip_prefix"]:
            values["remote_ip_prefix"] = str(net)
    else:
        values["remote_ip_prefix"] = None
    if values["remote_group_id"]:
        usable(job, GROUP_RESOURCE, values["remote_group_id"])


def _check_protocol(values: Row) -> None:
    protocol = values["protocol"]
    if protocol is None or str(protocol).lower() == "any":
        values["protocol"] = None
        return
    text = str(protocol).lower()
    if not (text in PROTOCOLS or (text.isdigit() and int(text) <= 255)):
        raise BadRequest(
            f"Security group rule protocol {protocol} not supported. Only protocol values "
            f"{sorted(PROTOCOLS)} and integer representations [0 to 255] are supported.",
            code="SecurityGroupRuleInvalidProtocol",
        )
    if text in ("icmpv6", "ipv6-icmp") and values["ethertype"] == "IPv4":
        raise BadRequest(
            f"Invalid ethertype IPv4 for protocol {text}.",
            code="SecurityGroupEthertypeConflictWithProtocol",
        )
    if text == "icmp" and values["ethertype"] == "IPv6":
        text = "ipv6-icmp"
    values["protocol"] = text


def _check_ports(values: Row) -> None:
    low, high = values["port_range_min"], values["port_range_max"]
    if low is None and high is None:
        return
    protocol = values["protocol"]
    if protocol is None:
        raise BadRequest(
            "Must also specify protocol if port range is given.",
            code="SecurityGroupProtocolRequiredWithPorts",
        )
    if protocol in ICMP:
        for name, value in (("type", low), ("code", high)):
            if value is not None and not 0 <= value <= 255:
                raise BadRequest(
                    f"Invalid value for ICMP {name}: {value}. It must be 0 to 255.",
                    code="SecurityGroupInvalidIcmpValue",
                )
        if high is not None and low is None:
            raise BadRequest(
                f"ICMP code (port-range-max) {high} is provided but ICMP type (port-range-min) is "
                "missing.",
                code="SecurityGroupMissingIcmpType",
            )
        return
    if protocol not in WITH_PORTS:
        raise BadRequest(
            f"Port range can not be given for protocol {protocol}.",
            code="SecurityGroupInvalidProtocolForPort",
        )
    if low is None or high is None or not 1 <= low <= high <= 65535:
        raise BadRequest(
            "For TCP/UDP protocols, port_range_min must be <= port_range_max",
            code="SecurityGroupInvalidPortRange",
        )
