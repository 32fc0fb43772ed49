"""What one host's data plane should look like: plain immutable values, no I/O.

Addresses are strings (``10.0.0.5``, ``fd00::5``), prefixes ``10.0.0.0/24``, interface addresses
``10.0.0.1/24``. Identifiers are UUIDs or any other short token of letters, digits, ``-`` and ``_``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from msgspec import Struct

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_IFNAME = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_OPTION = re.compile(r"[a-z0-9-]{1,64}")
_PRINTABLE = re.compile(r"[ -~]{0,255}")
_PROTOCOL = re.compile(r"[a-z0-9-]{1,20}")
RA_MODES = ("slaac", "dhcpv6-stateless", "dhcpv6-stateful")


class BadPlan(ValueError):
    """The plan holds a value no rule set or configuration file may be made from."""


class Fixed(Struct, frozen=True):
    """An address of a port in a subnet."""

    subnet_id: str
    ip: str


class Route(Struct, frozen=True):
    """A route: prefix and next hop."""

    destination: str
    nexthop: str


class Subnet(Struct, frozen=True):
    """A subnet of a network; ``ra_mode`` and ``address_mode`` as ``ipv6_ra_mode`` in Neutron."""

    id: str
    cidr: str
    gateway_ip: str | None = None
    dns: tuple[str, ...] = ()
    host_routes: tuple[Route, ...] = ()
    dhcp: bool = True
    ra_mode: str | None = None
    address_mode: str | None = None

    @property
    def ip_version(self) -> int:
        """4 or 6."""
        return ipaddress.ip_network(self.cidr).version


class DhcpOption(Struct, frozen=True):
    """A further DHCP option of one port: its name (as dnsmasq knows it) or number, and value."""

    name: str
    value: str
    ip_version: int = 4


class Endpoint(Struct, frozen=True):
    """A guest's port anywhere in the cloud: what DHCP and the metadata proxy know of it."""

    port_id: str
    mac: str
    fixed_ips: tuple[Fixed, ...]
    device_id: str = ""
    project_id: str = ""
    hostname: str | None = None
    options: tuple[DhcpOption, ...] = ()


class DhcpPort(Struct, frozen=True):
    """The address of the DHCP and metadata function of a network on this host."""

    port_id: str
    mac: str
    fixed_ips: tuple[Fixed, ...]


class Vxlan(Struct, frozen=True):
    """The tunnel that joins this host's bridge with those of ``peers`` (their VTEP addresses)."""

    vni: int
    peers: tuple[str, ...] = ()


class HostGateway(Struct, frozen=True):
    """The host itself as the gateway of a provider network.

    ``addresses`` are interface addresses given to the host on that network. ``masquerade`` hides
    the network behind the host's address on whatever its default route leaves by (IPv4).
    """

    addresses: tuple[str, ...]
    masquerade: bool = True


class Network(Struct, frozen=True):
    """A network that has something on this host. ``endpoints`` lists the guests of all hosts."""

    id: str
    bridge: str
    mtu: int = 1500
    subnets: tuple[Subnet, ...] = ()
    vxlan: Vxlan | None = None
    dhcp: DhcpPort | None = None
    endpoints: tuple[Endpoint, ...] = ()
    host_gateway: HostGateway | None = None


class Rule(Struct, frozen=True):
    """A security group rule; for ICMP the port range is type and code, as in Neutron.

    ``remote_prefix`` and ``remote_group`` (the id of a ``Group``) exclude each other; with neither
    the rule speaks of every address of the ethertype.
    """

    direction: str
    ethertype: str = "IPv4"
    protocol: str | None = None
    port_min: int | None = None
    port_max: int | None = None
    remote_prefix: str | None = None
    remote_group: str | None = None


class Group(Struct, frozen=True):
    """The addresses and prefixes that stand for a remote security or address group."""

    id: str
    members: tuple[str, ...]


class AddressPair(Struct, frozen=True):
    """A further source a port may use: address or prefix, and its MAC (none: the port's own)."""

    ip: str
    mac: str | None = None


class Port(Struct, frozen=True):
    """A guest's port on this host. The tap itself is made by ``plug_tap``.

    ``expected`` is false while the tap may or may not be here (a guest that is stopped, or is on
    its way in or out): then its absence is no finding of the audit.
    """

    id: str
    network_id: str
    tap: str
    mac: str
    fixed_ips: tuple[Fixed, ...] = ()
    allowed_address_pairs: tuple[AddressPair, ...] = ()
    port_security: bool = True
    rules: tuple[Rule, ...] = ()
    admin_up: bool = True
    expected: bool = True


class RouterInterface(Struct, frozen=True):
    """A leg of a router in a network; ``addresses`` are interface addresses."""

    port_id: str
    network_id: str
    mac: str
    addresses: tuple[str, ...]


class RouterGateway(Struct, frozen=True):
    """The leg in the external network, with next hops for the default routes."""

    port_id: str
    network_id: str
    mac: str
    addresses: tuple[str, ...]
    next_hops: tuple[str, ...] = ()
    enable_snat: bool = True


class FloatingIp(Struct, frozen=True):
    """An external address that stands for an internal one."""

    floating: str
    fixed: str


class Router(Struct, frozen=True):
    """A router that lives on this host."""

    id: str
    interfaces: tuple[RouterInterface, ...] = ()
    gateway: RouterGateway | None = None
    floating_ips: tuple[FloatingIp, ...] = ()
    routes: tuple[Route, ...] = ()

    @property
    def legs(self) -> tuple[RouterInterface | RouterGateway, ...]:
        """All its legs, the external one last."""
        return (*self.interfaces, self.gateway) if self.gateway else self.interfaces


class HostPlan(Struct, frozen=True):
    """Everything of one deployment on one host; what is not in it is removed."""

    host: str
    networks: tuple[Network, ...] = ()
    ports: tuple[Port, ...] = ()
    routers: tuple[Router, ...] = ()
    groups: tuple[Group, ...] = ()
    vtep_ip: str | None = None
    vxlan_port: int = 4789


def check(plan: HostPlan) -> None:
    """Raise ``BadPlan`` for anything that must not reach a rule set or configuration file."""
    ids = [network.id for network in plan.networks]
    _ids(ids)
    _unique("network", ids)
    _unique("bridge", [network.bridge for network in plan.networks])
    _unique("tap", [port.tap for port in plan.ports])
    _unique("router", [router.id for router in plan.routers])
    if plan.vtep_ip is not None:
        _address(plan.vtep_ip)
    for network in plan.networks:
        _check_network(network, tunnels=plan.vtep_ip is not None)
    for port in plan.ports:
        _check_port(port, set(ids), {group.id for group in plan.groups})
    for router in plan.routers:
        _check_router(router, set(ids))
    for group in plan.groups:
        _ids([group.id])
        for member in group.members:
            _prefix(member)


def _check_network(network: Network, *, tunnels: bool) -> None:
    _ifname(network.bridge)
    if not 68 <= network.mtu <= 65535:
        raise BadPlan(f"network {network.id}: mtu {network.mtu} is not within 68..65535")
    _ids(subnet.id for subnet in network.subnets)
    for subnet in network.subnets:
        _check_subnet(subnet)
    for endpoint in network.endpoints:
        _check_endpoint(endpoint)
    if network.dhcp is not None:
        dhcp = network.dhcp
        _leg(dhcp.port_id, dhcp.mac, (fixed.ip for fixed in dhcp.fixed_ips))
    if network.vxlan is not None:
        if not tunnels:
            raise BadPlan(f"network {network.id} has a tunnel but the host has no VTEP address")
        if not 1 <= network.vxlan.vni < 1 << 24:
            raise BadPlan(f"network {network.id}: {network.vxlan.vni} is no VNI")
        for peer in network.vxlan.peers:
            _address(peer)
    if network.host_gateway is not None:
        for address in network.host_gateway.addresses:
            _interface(address)


def _check_endpoint(endpoint: Endpoint) -> None:
    _leg(endpoint.port_id, endpoint.mac, (fixed.ip for fixed in endpoint.fixed_ips))
    if endpoint.hostname is not None and not _HOSTNAME.fullmatch(endpoint.hostname):
        raise BadPlan(f"port {endpoint.port_id}: {endpoint.hostname!r} is no host name")
    for option in endpoint.options:
        if not (_OPTION.fullmatch(option.name) and _PRINTABLE.fullmatch(option.value)):
            raise BadPlan(f"port {endpoint.port_id}: {option} is no DHCP option")


def _check_subnet(subnet: Subnet) -> None:
    _prefix(subnet.cidr)
    for address in (*subnet.dns, *([subnet.gateway_ip] if subnet.gateway_ip else [])):
        _address(address)
    _routes(subnet.host_routes)
    for mode in (subnet.ra_mode, subnet.address_mode):
        if mode is not None and mode not in RA_MODES:
            raise BadPlan(f"subnet {subnet.id}: {mode!r} is no IPv6 mode")


def _check_port(port: Port, networks: set[str], groups: set[str]) -> None:
    _leg(port.id, port.mac, (fixed.ip for fixed in port.fixed_ips))
    _ifname(port.tap)
    _known(port.network_id, networks, f"port {port.id}")
    for pair in port.allowed_address_pairs:
        _prefix(pair.ip)
        if pair.mac is not None:
            _mac(pair.mac)
    for rule in port.rules:
        if rule.direction not in ("ingress", "egress") or rule.ethertype not in ("IPv4", "IPv6"):
            raise BadPlan(f"port {port.id}: rule {rule} has no such direction or ethertype")
        if rule.protocol is not None and not _PROTOCOL.fullmatch(rule.protocol):
            raise BadPlan(f"port {port.id}: {rule.protocol!r} is no protocol")
        for number in (rule.port_min, rule.port_max):
            if number is not None and not 0 <= number <= 65535:
                raise BadPlan(f"port {port.id}: {number} is no port number")
        if rule.remote_prefix is not None:
            _prefix(rule.remote_prefix)
        if rule.remote_group is not None:
            _known(rule.remote_group, groups, f"a rule of port {port.id}")


def _check_router(router: Router, networks: set[str]) -> None:
    _ids([router.id])
    if router.gateway is not None:
        for address in router.gateway.next_hops:
            _address(address)
    for leg in router.legs:
        _leg(leg.port_id, leg.mac, ())
        _known(leg.network_id, networks, f"router {router.id}")
        for address in leg.addresses:
            _interface(address)
    for floating in router.floating_ips:
        _address(floating.floating)
        _address(floating.fixed)
    _routes(router.routes)


def _routes(routes: Iterable[Route]) -> None:
    for route in routes:
        _prefix(route.destination)
        _address(route.nexthop)


def _leg(port_id: str, mac: str, addresses: Iterable[str]) -> None:
    _ids([port_id])
    _mac(mac)
    for address in addresses:
        _address(address)


def _known(value: str, known: set[str], who: str) -> None:
    if value not in known:
        raise BadPlan(f"{who} names {value}, which the plan does not hold")


def _unique(what: str, values: list[str]) -> None:
    if len(set(values)) != len(values):
        twice = sorted({value for value in values if values.count(value) > 1})
        raise BadPlan(f"the plan names a {what} twice: {', '.join(twice)}")


def _ids(values: Iterable[str]) -> None:
    for value in values:
        if not _ID.fullmatch(value):
            raise BadPlan(f"{value!r} is no identifier")


def _ifname(value: str) -> None:
    if not _IFNAME.fullmatch(value) or value in (".", ".."):
        raise BadPlan(f"{value!r} is no interface name")


def _mac(value: str) -> None:
    if not _MAC.fullmatch(value):
        raise BadPlan(f"{value!r} is no MAC address in lower case")


def _address(value: str) -> None:
    try:
        ipaddress.ip_address(value)
    except ValueError as error:
        raise BadPlan(f"{value!r} is no IP address") from error
    if "%" in value:
        raise BadPlan(f"{value!r} carries a zone")


def _prefix(value: str) -> None:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError as error:
        raise BadPlan(f"{value!r} is no address or prefix") from error
    if "%" in value:
        raise BadPlan(f"{value!r} carries a zone")


def _interface(value: str) -> None:
    try:
        ipaddress.ip_interface(value)
    except ValueError as error:
        raise BadPlan(f"{value!r} is no interface address") from error
    if "%" in value:
        raise BadPlan(f"{value!r} carries a zone")
