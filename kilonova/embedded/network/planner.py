"""From the service's rows to the plan of one host's data plane."""

from __future__ import annotations

import ipaddress
import re

from kilonova.embedded.network import binding
from kilonova.embedded.network.app import NetworkSettings
from kilonova.embedded.network.plane import desired, names
from kilonova.embedded.network.store import ports as port_store
from kilonova.embedded.network.store.planning import Cloud
from kilonova.embedded.network.store.rows import Row

# A device id goes into a header of the metadata service.
_DEVICE = re.compile(r"[A-Za-z0-9_.-]{1,255}")


def central(cloud: Cloud, host: str) -> bool:
    """Whether a host carries routers, DHCP and external networks: the oldest bridge host does."""
    return bool(cloud.hosts) and cloud.hosts[0]["name"] == host


def missing_dhcp(cloud: Cloud) -> list[str]:
    """Networks with guests whose DHCP port, or an address of it, is not there yet."""
    found = []
    for network_id in sorted(_used(cloud)):
        served = {s["id"] for s in cloud.subnets.get(network_id, ()) if s["enable_dhcp"]}
        has = {
            ip["subnet_id"]
            for p in cloud.ports.get(network_id, ())
            if p["device_owner"] == port_store.DHCP
            for ip in p["fixed_ips"]
        }
        if served - has:
            found.append(network_id)
    return found


def plan(cloud: Cloud, host: str, settings: NetworkSettings) -> desired.HostPlan:
    """The plan of one host."""
    main = central(cloud, host)
    bound = [p for some in cloud.ports.values() for p in some if _bound_to(p, host)]
    here = {p["network_id"] for p in bound}
    if main:
        here |= _used(cloud)
    vteps = {h["name"]: h["vtep_ip"] for h in cloud.hosts if h["vtep_ip"]}
    tunnels = settings.tunnels and host in vteps
    peers = tuple(sorted({ip for name, ip in vteps.items() if name != host}))
    ports = [_port(cloud, p) for p in sorted(bound, key=lambda p: str(p["id"]))]
    wanted = {rule.remote_group for port in ports for rule in port.rules if rule.remote_group}
    return desired.HostPlan(
        host=host,
        networks=tuple(
            _network(
                cloud,
                cloud.networks[i],
                settings,
                main=main,
                peers=peers if tunnels else None,
            )
            for i in sorted(here)
        ),
        ports=tuple(ports),
        routers=tuple(_router(cloud, r) for r in cloud.routers if _works(cloud, r)) if main else (),
        groups=tuple(
            desired.Group(group, tuple(_members(cloud, group))) for group in sorted(wanted)
        ),
        vtep_ip=vteps[host] if tunnels else None,
    )


def _network(
    cloud: Cloud, row: Row, settings: NetworkSettings, *, main: bool, peers: tuple[str, ...] | None
) -> desired.Network:
    inside = cloud.ports.get(row["id"], [])
    subnets = cloud.subnets.get(row["id"], [])
    dhcp = next((p for p in inside if p["device_owner"] == port_store.DHCP), None)
    served = main and dhcp is not None and dhcp["fixed_ips"] and row["admin_state_up"]
    own_gateway = main and row["external"] and _is_ours(row)
    spans = peers is not None and row["segmentation_id"] is not None
    return desired.Network(
        id=row["id"],
        bridge=names.bridge(row["id"]),
        mtu=row["mtu"],
        subnets=tuple(_subnet(s, settings) for s in subnets),
        vxlan=desired.Vxlan(row["segmentation_id"], peers or ()) if spans else None,
        dhcp=desired.DhcpPort(dhcp["id"], dhcp["mac_address"], _fixed(dhcp))
        if served and dhcp is not None
        else None,
        endpoints=tuple(_endpoint(p) for p in inside if _is_guest(p)) if main else (),
        host_gateway=desired.HostGateway(tuple(_gateways(subnets))) if own_gateway else None,
    )


def _endpoint(port: Row) -> desired.Endpoint:
    return desired.Endpoint(
        port_id=port["id"],
        mac=port["mac_address"],
        fixed_ips=_fixed(port),
        device_id=port["device_id"] if _DEVICE.fullmatch(port["device_id"]) else "",
        project_id=port["project_id"],
        # A lease names the host alone.
        hostname=port["dns_name"].partition(".")[0] or None,
        options=tuple(
            desired.DhcpOption(o["opt_name"], o["opt_value"], int(o.get("ip_version") or 4))
            for o in port["extra_dhcp_opts"]
            if o["opt_value"] is not None
        ),
    )


def _subnet(row: Row, settings: NetworkSettings) -> desired.Subnet:
    version = row["ip_version"]
    fallback = [ip for ip in settings.dns if ipaddress.ip_address(ip).version == version]
    return desired.Subnet(
        id=row["id"],
        cidr=row["cidr"],
        gateway_ip=row["gateway_ip"],
        dns=tuple(row["dns_nameservers"] or fallback),
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
        tap=names.tap(row["id"]),
        mac=row["mac_address"],
        fixed_ips=_fixed(row),
        allowed_address_pairs=tuple(
            desired.AddressPair(pair["ip_address"], pair.get("mac_address"))
            for pair in row["allowed_address_pairs"]
        ),
        port_security=secure,
        rules=tuple(rules) if secure else (),
        admin_up=row["admin_state_up"] and cloud.networks[row["network_id"]]["admin_state_up"],
        expected=False,
    )


def _router(cloud: Cloud, row: Row) -> desired.Router:
    legs = cloud.legs.get(row["id"], [])
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
        gateway=_gateway(cloud, row, gateway) if gateway is not None else None,
        floating_ips=tuple(
            desired.FloatingIp(f["floating_ip_address"], f["fixed_ip_address"])
            for f in cloud.floating.get(row["id"], ())
        ),
        routes=tuple(desired.Route(r["destination"], r["nexthop"]) for r in row["routes"]),
    )


def _gateway(cloud: Cloud, router: Row, port: Row) -> desired.RouterGateway:
    inside = {ip["subnet_id"] for ip in port["fixed_ips"]}
    return desired.RouterGateway(
        port["id"],
        port["network_id"],
        port["mac_address"],
        tuple(_with_prefix(cloud, port)),
        tuple(
            s["gateway_ip"]
            for s in cloud.subnets.get(port["network_id"], ())
            if s["gateway_ip"] and s["id"] in inside
        ),
        router["enable_snat"],
    )


def _with_prefix(cloud: Cloud, port: Row) -> list[str]:
    lengths = {
        s["id"]: ipaddress.ip_network(s["cidr"]).prefixlen
        for s in cloud.subnets.get(port["network_id"], ())
    }
    return [f"{ip['ip_address']}/{lengths[ip['subnet_id']]}" for ip in port["fixed_ips"]]


def _members(cloud: Cloud, group: str) -> list[str]:
    found = set()
    for port in cloud.members.get(group, ()):
        found |= {ip["ip_address"] for ip in port["fixed_ips"]}
        found |= {pair["ip_address"] for pair in port["allowed_address_pairs"]}
    return sorted(found)


def _used(cloud: Cloud) -> set[str]:
    """Networks with a bound guest or a router's leg."""
    return {network_id for network_id, ports in cloud.ports.items() if any(map(_uses, ports))}


def _uses(port: Row) -> bool:
    if _is_guest(port):
        return bool(port["binding_host_id"])
    return port["device_owner"] in (port_store.ROUTER, port_store.GATEWAY)


def _is_guest(port: Row) -> bool:
    return not port["device_owner"].startswith("network:")


def _is_ours(network: Row) -> bool:
    """Whether the host itself is the way out of a network (no physical one is named)."""
    return network["network_type"] == "flat" and not network["physical_network"]


def _works(cloud: Cloud, router: Row) -> bool:
    return bool(router["admin_state_up"]) and bool(cloud.legs.get(router["id"]))


def _bound_to(port: Row, host: str) -> bool:
    """Whether a host makes the port's card: it is bound there, or about to come."""
    hosts = (port["binding_host_id"], binding.coming(port))
    return bool(host in hosts and port["binding_vif_type"] == "bridge")


def _fixed(port: Row) -> tuple[desired.Fixed, ...]:
    return tuple(desired.Fixed(ip["subnet_id"], ip["ip_address"]) for ip in port["fixed_ips"])
