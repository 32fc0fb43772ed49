"""Security groups and their rules; each project has a default group."""

from __future__ import annotations

import ipaddress
from typing import Any

import sqlalchemy as sa

from kilonova.base.errors import BadRequest, Conflict
from kilonova.db.database import Tx
from kilonova.embedded.network import rules as arithmetic
from kilonova.embedded.network.api.common import Resource, nothing_else, one_of
from kilonova.embedded.network.app import Work
from kilonova.embedded.network.attrs import RULE, SECURITY_GROUP
from kilonova.embedded.network.store import ports as port_store
from kilonova.embedded.network.store import quotas, rows
from kilonova.embedded.network.store.rows import Row
from kilonova.embedded.network.tables import PORT_GROUPS, RULES, SECURITY_GROUPS

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


def ensure_default(job: Work, project_id: str) -> Row:
    """The project's default group, made with its four rules when there is none."""
    quotas.lock(job.tx, project_id)
    found = port_store.default_group(job.tx, project_id)
    if found is not None:
        return rows.need(job.tx, SECURITY_GROUP, found)
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
        _rule(job, group, direction="ingress", ethertype=ethertype, remote_group_id=group["id"])
    return group


def create_group(job: Work, values: Row) -> Row:
    """Insert a group that lets everything out."""
    if values["name"].lower() == "default":
        raise Conflict(
            "Default security group already exists.", code="SecurityGroupDefaultAlreadyExists"
        )
    ensure_default(job, values["project_id"])
    return _insert(job, values)


def update_group(job: Work, row: Row, changes: Row) -> Row:
    """Change a group; the default one keeps its name."""
    if row["default_of"] and changes.get("name", row["name"]) != row["name"]:
        raise Conflict(
            "Updating default security group not allowed.", code="SecurityGroupCannotUpdateDefault"
        )
    return rows.update(job.tx, SECURITY_GROUP, row, changes, job.now)


def delete_group(job: Work, row: Row) -> None:
    """Delete a group no port is in."""
    if row["default_of"] and not job.admin:
        raise Conflict(
            "Insufficient rights for removing default security group.",
            code="SecurityGroupCannotRemoveDefault",
        )
    statement = sa.select(PORT_GROUPS.c.port_id).where(PORT_GROUPS.c.security_group_id == row["id"])
    if job.tx.execute(statement).first() is not None:
        raise Conflict(f"Security Group {row['id']} in use.", code="SecurityGroupInUse")
    job.tx.execute(
        RULES.delete().where(
            sa.or_(RULES.c.security_group_id == row["id"], RULES.c.remote_group_id == row["id"])
        )
    )
    rows.delete(job.tx, SECURITY_GROUP, row["id"])


def render_groups(tx: Tx, found: list[Row], admin: bool) -> list[dict[str, Any]]:
    """Documents with their rules."""
    ids = [row["id"] for row in found]
    inside: dict[str, list[dict[str, Any]]] = {i: [] for i in ids}
    if ids:
        statement = (
            sa.select(RULES)
            .where(RULES.c.security_group_id.in_(ids))
            .order_by(RULES.c.created_at, RULES.c.id)
        )
        for rule in tx.execute(statement):
            inside[rule.security_group_id].append(_view(dict(rule._mapping), admin=admin))
    return [
        SECURITY_GROUP.view(row, admin=admin, more={"security_group_rules": inside[row["id"]]})
        for row in found
    ]


def create_rule(job: Work, values: Row) -> Row:
    """Insert a rule into a group of the caller's; Conflict for one that is there already."""
    group = one_of(job.tx, GROUP_RESOURCE, job, values["security_group_id"])
    values["ethertype"] = {"ipv6": "IPv6"}.get(str(values["ethertype"]).lower(), "IPv4")
    _check_protocol(values)
    _check_ports(values)
    if values["remote_ip_prefix"] and values["remote_group_id"]:
        raise BadRequest(
            "Only remote_ip_prefix or remote_group_id may be provided.",
            code="SecurityGroupMultipleRemoteEntites",
        )
    if values["remote_ip_prefix"]:
        net = _prefix(values["remote_ip_prefix"])
        if net.version != (4 if values["ethertype"] == "IPv4" else 6):
            raise BadRequest(
                f"Conflicting value ethertype {values['ethertype']} for CIDR "
                f"{values['remote_ip_prefix']}",
                code="SecurityGroupRuleParameterConflict",
            )
        values["remote_ip_prefix"] = str(net)
    if values["remote_group_id"]:
        one_of(job.tx, GROUP_RESOURCE, job, values["remote_group_id"])
    values["project_id"] = values["project_id"] or group["project_id"]
    same = sa.and_(
        RULES.c.security_group_id == group["id"],
        *(
            RULES.c[key] == values[key] if values[key] is not None else RULES.c[key].is_(None)
            for key in _SAME
        ),
    )
    present = job.tx.execute(sa.select(RULES.c.id).where(same)).scalar()
    if present:
        raise Conflict(
            f"Security group rule already exists. Rule id is {present}.",
            code="SecurityGroupRuleExists",
        )
    return rows.insert(job.tx, RULE, values, job.now)


def delete_rule(job: Work, row: Row) -> None:
    """Delete a rule."""
    rows.delete(job.tx, RULE, row["id"])


def render_rules(_tx: Tx, found: list[Row], admin: bool) -> list[dict[str, Any]]:
    """Documents of rules."""
    return [_view(row, admin=admin) for row in found]


def visible_rules(project: str) -> sa.ColumnElement[bool]:
    """Rules in the project's own groups, whoever made them."""
    return RULES.c.security_group_id.in_(
        sa.select(SECURITY_GROUPS.c.id).where(SECURITY_GROUPS.c.project_id == project)
    )


GROUP_RESOURCE = Resource(
    SECURITY_GROUP, create_group, update_group, delete_group, render_groups, nothing_else
)
RULE_RESOURCE = Resource(RULE, create_rule, None, delete_rule, render_rules, visible_rules)


def _insert(job: Work, values: Row) -> Row:
    group = rows.insert(job.tx, SECURITY_GROUP, values, job.now)
    for ethertype in ("IPv4", "IPv6"):
        _rule(job, group, direction="egress", ethertype=ethertype)
    return group


def _rule(job: Work, group: Row, **values: Any) -> None:
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


def _view(row: Row, *, admin: bool) -> dict[str, Any]:
    return RULE.view(
        row,
        admin=admin,
        more={"remote_address_group_id": None, "normalized_cidr": row["remote_ip_prefix"]},
    )


def _prefix(text: str) -> arithmetic.Net:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise arithmetic.invalid("remote_ip_prefix", f"'{text}' is no address or prefix.") from None


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
