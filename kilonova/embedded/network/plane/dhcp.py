"""dnsmasq's files: DHCP for a network, router advertisements for a router."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable

from msgspec import Struct

from kilonova.embedded.network.plane import names
from kilonova.embedded.network.plane.desired import Endpoint, Network, Route, Router, Subnet

METADATA_IP = "169.254.169.254"
INNER = "dhcp0"
_RA_EVERY = 200
_RA_LIFETIME = 1800


class DnsmasqSpec(Struct, frozen=True):
    """A dnsmasq that should run: ``key`` is its directory, ``{dir}`` in ``conf`` stands for it.

    ``hosts`` and ``options`` are read again on a signal; a change of ``conf`` is a new process.
    """

    key: str
    netns: str
    conf: str
    hosts: str = ""
    options: str = ""

    @property
    def conf_name(self) -> str:
        """The configuration's file name, which tells its content apart."""
        return f"dnsmasq-{hashlib.sha256(self.conf.encode()).hexdigest()[:12]}.conf"


def dhcp_server(network: Network, netns: str, lease_time: int) -> DnsmasqSpec | None:
    """The DHCP server of a network, or none if no subnet wants one."""
    if network.dhcp is None:
        return None
    mine = {fixed.subnet_id: fixed.ip for fixed in network.dhcp.fixed_ips}
    served = [subnet for subnet in network.subnets if subnet.dhcp and subnet.id in mine]
    four = [subnet for subnet in served if subnet.ip_version == 4]
    six = [subnet for subnet in served if _stateful(subnet) or _stateless(subnet)]
    if not four and not six:
        return None
    ranges = [
        f"dhcp-range=set:{_tag(s)},{net.network_address},static,{net.netmask},{lease_time}s"
        for s in four
        for net in [ipaddress.IPv4Network(s.cidr)]
    ]
    # "static" also answers those who only ask for options; ra-* would advertise this namespace.
    ranges += [
        f"dhcp-range=set:{_tag(s)},{net.network_address},static,{max(net.prefixlen, 64)},"
        f"{lease_time}s"
        for s in six
        for net in [ipaddress.IPv6Network(s.cidr)]
    ]
    conf = [
        *_common([INNER]),
        "dhcp-authoritative",
        "dhcp-leasefile={dir}/leases",
        "dhcp-hostsfile={dir}/hosts",
        "dhcp-optsfile={dir}/options",
        f"dhcp-lease-max={1 << 16}",
        *ranges,
    ]
    options = [line for subnet in four for line in _options4(subnet, mine[subnet.id], network.mtu)]
    options += [line for subnet in six for line in _options6(subnet)]
    options += [line for endpoint in network.endpoints for line in _extra(endpoint)]
    return DnsmasqSpec(
        key=f"dhcp-{network.id}",
        netns=netns,
        conf=_text(conf),
        hosts=_text(_hosts(network.endpoints, {s.id for s in [*four, *six] if not _stateless(s)})),
        options=_text(options),
    )


def advertiser(router: Router, networks: dict[str, Network], netns: str) -> DnsmasqSpec | None:
    """The sender of router advertisements of a router, or none if no subnet wants them."""
    devices, lines, hosts = [], [], []
    for leg in router.interfaces:
        network = networks[leg.network_id]
        inside = [ipaddress.ip_interface(address).ip for address in leg.addresses]
        for subnet in network.subnets:
            prefix = ipaddress.ip_network(subnet.cidr)
            if subnet.ra_mode is None or not any(ip in prefix for ip in inside):
                continue
            device = names.inner_leg(leg.port_id)
            if device not in devices:
                devices.append(device)
                lines.append(f"ra-param={device},mtu:{network.mtu},{_RA_EVERY},{_RA_LIFETIME}")
            kind = {"slaac": "ra-only", "dhcpv6-stateless": "ra-stateless"}.get(subnet.ra_mode)
            lines.append(
                f"dhcp-range=set:{_tag(subnet)},{prefix.network_address},"
                f"{kind or 'static'},{prefix.prefixlen}"
            )
            if kind is None:
                # It would refuse addresses to those it does not know: so it knows the same ones.
                hosts += _hosts(network.endpoints, {subnet.id})
            servers = ",".join(f"[{ip}]" for ip in subnet.dns if ":" in ip)
            lines.append(f"dhcp-option=tag:{_tag(subnet)},option6:dns-server{_value(servers)}")
    if not devices:
        return None
    files = ["dhcp-leasefile={dir}/leases", "dhcp-hostsfile={dir}/hosts"]
    conf = [*_common(devices), "enable-ra", *files, *lines]
    return DnsmasqSpec(key=f"ra-{router.id}", netns=netns, conf=_text(conf), hosts=_text(hosts))


def _common(devices: list[str]) -> list[str]:
    return [
        "port=0",
        "bind-interfaces",
        "except-interface=lo",
        *(f"interface={device}" for device in devices),
        "pid-file={dir}/pid",
        "no-resolv",
        "no-hosts",
        "no-ping",
        "quiet-dhcp",
        "quiet-dhcp6",
        "quiet-ra",
        "log-facility={dir}/log",
    ]


def _hosts(endpoints: Iterable[Endpoint], subnets: set[str]) -> list[str]:
    lines = []
    for endpoint in endpoints:
        label = f"set:{_port_tag(endpoint)}," if endpoint.options else ""
        for fixed in endpoint.fixed_ips:
            if fixed.subnet_id not in subnets:
                continue
            name = endpoint.hostname or f"host-{fixed.ip.replace('.', '-').replace(':', '-')}"
            if ":" in fixed.ip:
                lines.append(f"{endpoint.mac},{label}[{fixed.ip}],{name}")
            else:
                # id:* lets a guest come back with another client id (reinstalled, network boot).
                lines.append(f"{endpoint.mac},{label}id:*,{fixed.ip},{name}")
    return sorted(lines)


def _options4(subnet: Subnet, server: str, mtu: int) -> list[str]:
    label = _tag(subnet)
    routes = [Route(f"{METADATA_IP}/32", server)]
    routes += [route for route in subnet.host_routes if route.destination != f"{METADATA_IP}/32"]
    if subnet.gateway_ip and not any(route.destination == "0.0.0.0/0" for route in routes):
        # A client that understands option 121 ignores option 3 (RFC 3442).
        routes.append(Route("0.0.0.0/0", subnet.gateway_ip))
    listed = ",".join(f"{route.destination},{route.nexthop}" for route in routes)
    return [
        f"tag:{label},option:router{_value(subnet.gateway_ip or '')}",
        f"tag:{label},option:dns-server{_value(','.join(ip for ip in subnet.dns if '.' in ip))}",
        f"tag:{label},option:classless-static-route,{listed}",
        f"tag:{label},249,{listed}",
        f"tag:{label},option:mtu,{mtu}",
    ]


def _options6(subnet: Subnet) -> list[str]:
    servers = ",".join(f"[{ip}]" for ip in subnet.dns if ":" in ip)
    return [f"tag:{_tag(subnet)},option6:dns-server{_value(servers)}"]


def _extra(endpoint: Endpoint) -> list[str]:
    """The options of one port, before those of its subnet."""
    return [
        f"tag:{_port_tag(endpoint)},"
        f"{'' if option.name.isdigit() else 'option6:' if option.ip_version == 6 else 'option:'}"
        f"{option.name}{_value(option.value)}"
        for option in endpoint.options
    ]


def _port_tag(endpoint: Endpoint) -> str:
    return f"p{names.short(endpoint.port_id).replace('-', '')}"


def _value(value: str) -> str:
    """An empty option is not sent; without it dnsmasq would name itself."""
    return f",{value}" if value else ""


def _stateful(subnet: Subnet) -> bool:
    return subnet.ip_version == 6 and subnet.address_mode == "dhcpv6-stateful"


def _stateless(subnet: Subnet) -> bool:
    return subnet.ip_version == 6 and subnet.address_mode == "dhcpv6-stateless"


def _tag(subnet: Subnet) -> str:
    return f"s{names.short(subnet.id).replace('-', '')}"


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
