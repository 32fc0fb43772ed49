"""From the service's rows to the plan of one host's data plane."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

import msgspec
import sqlalchemy as sa

from kilonova.base.clock import Clock, isoformat
from kilonova.base.ids import Ids
from kilonova.db.database import Tx
from kilonova.embedded.network import binding
from kilonova.embedded.network.api import ports as port_api
from kilonova.embedded.network.app import NetworkSettings, Work
from kilonova.embedded.network.plane import desired
from kilonova.embedded.network.store import floating as floating_store
from kilonova.embedded.network.store import ports as port_store
from kilonova.embedded.network.store.rows import Row
from kilonova.embedded.network.tables import (
    HOSTS,
    NETWORKS,
    PORT_GROUPS,
    PORTS,
    ROUTERS,
    RULES,
    SUBNETS,
)


class Cloud(msgspec.Struct):
    """Everything of the service, read in a handful of statements."""

    networks: dict[str, Row]
    subnets: dict[str, list[Row]]
    ports: list[Row]
    routers: list[Row]
    rules: dict[str, list[Row]]
    groups: dict[str, list[str]]
    hosts: list[Row]
    floating: dict[str, list[Row]]


def announce(tx: Tx, host: str, *, mode: str, vtep_ip: str | None, clock: Clock, ids: Ids) -> None:
    """Record that a host's data plane lives."""
    now = isoformat(clock.now())
    values = {"mode": mode, "vtep_ip": vtep_ip, "seen_at": now}
    changed = tx.execute(HOSTS.update().where(HOSTS.c.name == host).values(values))
    if not changed.rowcount:
        tx.execute(HOSTS.insert().values(name=host, id=ids.uuid(), started_at=now, **values))


def read(tx: Tx) -> Cloud:
    """All rows plans are made of."""
    subnets: dict[str, list[Row]] = {}
    for row in _rows(tx, SUBNETS):
        subnets.setdefault(row["network_id"], []).append(row)
    rules: dict[str, list[Row]] = {}
    for row in _rows(tx, RULES):
        rules.setdefault(row["security_group_id"], []).append(row)
    groups: dict[str, list[str]] = {}
    for member in tx.execute(sa.select(PORT_GROUPS)):
        groups.setdefault(member.port_id, []).append(member.security_group_id)
    routers = _rows(tx, ROUTERS)
    return Cloud(
        networks={row["id"]: row for row in _rows(tx, NETWORKS)},
        subnets=subnets,
        ports=_rows(tx, PORTS),
        routers=routers,
        rules=rules,
        groups=groups,
        hosts=[h for h in _rows(tx, HOSTS, HOSTS.c.started_at) if h["mode"] == "bridge"],
        floating={r["id"]: floating_store.of_router(tx, r["id"]) for r in routers},
    )


def missing_dhcp(cloud: Cloud) -> list[str]:
    """Networks with guests whose DHCP port, or an address of it, is not there yet."""
    found = []
    for network_id in sorted(_used(cloud)):
        served = {s["id"] for s in cloud.subnets.get(network_id, ()) if s["enable_dhcp"]}
        has = {
            ip["subnet_id"]
            for p in cloud.ports
            if p["network_id"] == network_id and p["device_owner"] == port_store.DHCP
            for ip in p["fixed_ips"]
        }
        if served - has:
            found.append(network_id)
    return found


def make_dhcp(job: Work, network_id: str) -> None:
    """Make a network's DHCP port anew, with an address in each served subnet."""
    for port in port_store.of_network(job.tx, network_id):
        if port["device_owner"] == port_store.DHCP:
            port_store.remove(job.tx, port["id"])
    statement = sa.select(SUBNETS.c.id).where(
        SUBNETS.c.network_id == network_id, SUBNETS.c.enable_dhcp
    )
    served = [{"subnet_id": subnet} for subnet in job.tx.execute(statement).scalars()]
    if served:
        port_api.make(
            job,
            network_id=network_id,
            device_id=f"dhcp-{network_id}",
            device_owner=port_store.DHCP,
            fixed_ips=served,
        )


def plan(cloud: Cloud, host: str, settings: NetworkSettings) -> desired.HostPlan:
    """The plan of one host. The first bridge host carries routers, DHCP and external networks."""
    central = bool(cloud.hosts) and cloud.hosts[0]["name"] == host
    here = {p["network_id"] for p in cloud.ports if _bound_to(p, host)}
    if central:
        here |= _used(cloud)
    vteps = {h["name"]: h["vtep_ip"] for h in cloud.hosts if h["vtep_ip"]}
    tunnels = settings.tunnels and host in vteps
    peers = tuple(ip for name, ip in sorted(vteps.items()) if name != host)
    ports = [_port(cloud, p) for p in cloud.ports if _bound_to(p, host)]
    wanted = {rule.remote_group for port in ports for rule in port.rules if rule.remote_group}
    return desired.HostPlan(
        host=host,
        networks=tuple(
            _network(cloud, cloud.networks[i], central=central, peers=peers, tunnels=tunnels)
            for i in sorted(here)
        ),
        ports=tuple(ports),
        routers=tuple(_router(cloud, r) for r in cloud.routers if _works(cloud, r))
        if central
        else (),
        groups=tuple(
            desired.Group(group, tuple(_members(cloud, group))) for group in sorted(wanted)
        ),
        vtep_ip=vteps.get(host) if tunnels else None,
    )


def opened(job: Work, host: str, open_ports: Iterable[str], closed: Iterable[str]) -> None:
    """Mark ports of a host open or closed, and tell the compute service of each change."""
    for port_ids, status, name in (
        (list(open_ports), "ACTIVE", "network-vif-plugged"),
        (list(closed), "DOWN", "network-vif-unplugged"),
    ):
        if not port_ids:
            continue
        statement = sa.select(PORTS).where(
            PORTS.c.id.in_(port_ids),
            PORTS.c.binding_host_id == host,
            PORTS.c.status != status,
        )
        for row in job.tx.execute(statement).fetchall():
            port = dict(row._mapping)
            job.tx.execute(PORTS.update().where(PORTS.c.id == port["id"]).values(status=status))
            job.events += binding.event(port, name)


def _network(
    cloud: Cloud, row: Row, *, central: bool, peers: tuple[str, ...], tunnels: bool
) -> desired.Network:
    inside = [p for p in cloud.ports if p["network_id"] == row["id"]]
    subnets = cloud.subnets.get(row["id"], [])
    dhcp = next((p for p in inside if p["device_owner"] == port_store.DHCP), None)
    own_gateway = central and row["network_type"] == "flat" and not row["physical_network"]
    spans = tunnels and row["segmentation_id"] is not None
    return desired.Network(
        id=row["id"],
        bridge=binding.bridge_name(row["id"]),
        mtu=row["mtu"],
        subnets=tuple(_subnet(s) for s in subnets),
        vxlan=desired.Vxlan(row["segmentation_id"], peers) if spans else None,
        dhcp=desired.DhcpPort(dhcp["id"], dhcp["mac_address"], _fixed(dhcp))
        if dhcp is not None and central
        else None,
        endpoints=tuple(
            desired.Endpoint(
                port_id=p["id"],
                mac=p["mac_address"],
                fixed_ips=_fixed(p),
                device_id=p["device_id"],
                project_id=p["project_id"],
                hostname=p["dns_name"] or None,
            )
            for p in inside
            if not p["device_owner"].startswith("network:")
        ),
        host_gateway=desired.HostGateway(tuple(_gateways(subnets))) if own_gateway else None,
    )


def _subnet(row: Row) -> desired.Subnet:
    return desired.Subnet(
        id=row["id"],
        cidr=row["cidr"],
        gateway_ip=row["gateway_ip"],
        dns=tuple(row["dns_nameservers"]),
        host_routes=tuple(
            desired.Route(r["destination"], r["nexthop"]) for r in row["host_routes"]
        ),
        dhcp=row["enable_dhcp"],
        ra_mode=row["ipv6_ra_mode"],
        address_mode=row["ipv6_address_mode"],
    )


def _gateways(subnets: list[Row]) -> list[str]:
    return [
        f"{s['gateway_ip']}/{ipaddress.ip_network(s['cidr']).prefixlen}"
        for s in subnets
        if s["gateway_ip"]
    ]


def _port(cloud: Cloud, row: Row) -> desired.Port:
    secure = row["port_security_enabled"]
    rules = [
        desired.Rule(
            direction=rule["direction"],
            ethertype=rule["ethertype"],
            protocol=rule["protocol"],
            port_min=rule["port_range_min"],
            port_max=rule["port_range_max"],
            remote_prefix=rule["remote_ip_prefix"],
            remote_group=rule["remote_group_id"],
        )
        for group in cloud.groups.get(row["id"], ())
        for rule in cloud.rules.get(group, ())
    ]
    return desired.Port(
        id=row["id"],
        network_id=row["network_id"],
        tap=binding.tap_name(row["id"]),
        mac=row["mac_address"],
        fixed_ips=_fixed(row),
        allowed_address_pairs=tuple(
            desired.AddressPair(pair["ip_address"], pair.get("mac_address"))
            for pair in row["allowed_address_pairs"]
        ),
        port_security=secure,
        rules=tuple(rules) if secure else (),
        admin_up=row["admin_state_up"],
        expected=False,
    )


def _router(cloud: Cloud, row: Row) -> desired.Router:
    legs = [p for p in cloud.ports if p["device_id"] == row["id"]]
    gateway = next((p for p in legs if p["device_owner"] == port_store.GATEWAY), None)
    return desired.Router(
        id=row["id"],
        interfaces=tuple(
            desired.RouterInterface(
                p["id"], p["network_id"], p["mac_address"], tuple(_with_prefix(cloud, p))
            )
            for p in legs
            if p["device_owner"] == port_store.ROUTER
        ),
        gateway=desired.RouterGateway(
            gateway["id"],
            gateway["network_id"],
            gateway["mac_address"],
            tuple(_with_prefix(cloud, gateway)),
            tuple(
                s["gateway_ip"]
                for s in cloud.subnets.get(gateway["network_id"], ())
                if s["gateway_ip"]
                and any(ip["subnet_id"] == s["id"] for ip in gateway["fixed_ips"])
            ),
            row["enable_snat"],
        )
        if gateway is not None
        else None,
        floating_ips=tuple(
            desired.FloatingIp(f["floating_ip_address"], f["fixed_ip_address"])
            for f in cloud.floating.get(row["id"], ())
        ),
        routes=tuple(desired.Route(r["destination"], r["nexthop"]) for r in row["routes"]),
    )


def _with_prefix(cloud: Cloud, port: Row) -> list[str]:
    lengths = {
        s["id"]: ipaddress.ip_network(s["cidr"]).prefixlen
        for s in cloud.subnets.get(port["network_id"], ())
    }
    return [f"{ip['ip_address']}/{lengths[ip['subnet_id']]}" for ip in port["fixed_ips"]]


def _members(cloud: Cloud, group: str) -> list[str]:
    found = []
    for port in cloud.ports:
        if group in cloud.groups.get(port["id"], ()):
            found += [ip["ip_address"] for ip in port["fixed_ips"]]
            found += [pair["ip_address"] for pair in port["allowed_address_pairs"]]
    return sorted(set(found))


def _used(cloud: Cloud) -> set[str]:
    """Networks with a bound guest or a router's leg."""
    return {
        p["network_id"]
        for p in cloud.ports
        if (p["binding_host_id"] and not p["device_owner"].startswith("network:"))
        or p["device_owner"] in (port_store.ROUTER, port_store.GATEWAY)
    }


def _works(cloud: Cloud, router: Row) -> bool:
    return bool(router["admin_state_up"]) and any(
        p["device_id"] == router["id"] for p in cloud.ports
    )


def _bound_to(port: Row, host: str) -> bool:
    return bool(port["binding_host_id"] == host and port["binding_vif_type"] == "bridge")


def _fixed(port: Row) -> tuple[desired.Fixed, ...]:
    return tuple(desired.Fixed(ip["subnet_id"], ip["ip_address"]) for ip in port["fixed_ips"])


def _rows(tx: Tx, table: sa.Table, *order: Any) -> list[Row]:
    statement = sa.select(table)
    if order:
        statement = statement.order_by(*order)
    elif "id" in table.c:
        statement = statement.order_by(table.c.id)
    return [dict(row._mapping) for row in tx.execute(statement)]
