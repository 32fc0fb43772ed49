"""dnsmasq's files, links and namespaces worked out from a plan."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kilonova.embedded.network.plane import PlaneEnv, names
from kilonova.embedded.network.plane.desired import (
    BadPlan,
    DhcpOption,
    DhcpPort,
    Endpoint,
    Fixed,
    FloatingIp,
    HostGateway,
    HostPlan,
    Network,
    Port,
    Route,
    Router,
    RouterGateway,
    RouterInterface,
    Subnet,
    Vxlan,
    check,
)
from kilonova.embedded.network.plane.dhcp import advertiser, dhcp_server
from kilonova.embedded.network.plane.dnsmasq import Running, in_place
from kilonova.embedded.network.plane.layout import RouteSpec, layout, unreachable
from kilonova.embedded.network.plane.metadata_proxy import (
    Listener,
    ProxySettings,
    identity_headers,
    listeners,
)

MAC = "fa:16:3e:00:00:01"
FOUR = Subnet("four", "10.0.0.0/24", "10.0.0.1", ("9.9.9.9",), (Route("10.5.0.0/16", "10.0.0.9"),))
DHCP = DhcpPort("d", "fa:16:3e:00:00:0d", (Fixed("four", "10.0.0.2"), Fixed("six", "fd00::2")))
GUEST = Endpoint("p", MAC, (Fixed("four", "10.0.0.5"), Fixed("six", "fd00::5")), "dev", "proj")


def network(*subnets: Subnet, **more: object) -> Network:
    return msgspec.structs.replace(
        Network("net", "kvb1", 1450, subnets, dhcp=DHCP, endpoints=(GUEST,)), **more
    )


def test_dhcp_files() -> None:
    server = dhcp_server(network(FOUR), "ns", 600)
    assert server is not None
    label = server.conf.split("set:")[1].split(",")[0]
    assert f"dhcp-range=set:{label},10.0.0.0,static,255.255.255.0,600s\n" in server.conf
    assert "port=0\n" in server.conf
    assert server.hosts == f"{MAC},id:*,10.0.0.5,host-10-0-0-5\n"
    routes = "169.254.169.254/32,10.0.0.2,10.5.0.0/16,10.0.0.9,0.0.0.0/0,10.0.0.1"
    assert server.options.splitlines() == [
        f"tag:{label},option:router,10.0.0.1",
        f"tag:{label},option:dns-server,9.9.9.9",
        f"tag:{label},option:classless-static-route,{routes}",
        f"tag:{label},249,{routes}",
        f"tag:{label},option:mtu,1450",
    ]


def test_dhcp_without_gateway_dns_or_with_a_default_host_route() -> None:
    bare = msgspec.structs.replace(FOUR, gateway_ip=None, dns=(), host_routes=())
    server = dhcp_server(network(bare), "ns", 600)
    assert server is not None
    assert "option:router\n" in server.options, "else dnsmasq would offer itself"
    assert "option:dns-server\n" in server.options
    assert "0.0.0.0/0" not in server.options
    other = msgspec.structs.replace(FOUR, host_routes=(Route("0.0.0.0/0", "10.0.0.77"),))
    server = dhcp_server(network(other), "ns", 600)
    assert server is not None
    assert "0.0.0.0/0,10.0.0.77" in server.options
    assert "0.0.0.0/0,10.0.0.1" not in server.options


def test_who_gets_no_dhcp() -> None:
    off = msgspec.structs.replace(FOUR, dhcp=False)
    slaac = Subnet("six", "fd00::/64", "fd00::1", ra_mode="slaac", address_mode="slaac")
    assert dhcp_server(network(off, slaac), "ns", 600) is None
    assert dhcp_server(network(FOUR, dhcp=None), "ns", 600) is None


def test_ipv6_modes() -> None:
    six = Subnet("six", "fd00::/64", "fd00::1", ("fd00::53",), address_mode="dhcpv6-stateful")
    server = dhcp_server(network(six), "ns", 600)
    assert server is not None
    assert ",fd00::,static,64,600s\n" in server.conf
    assert "enable-ra" not in server.conf
    assert server.hosts == f"{MAC},[fd00::5],host-fd00--5\n"
    assert "option6:dns-server,[fd00::53]" in server.options
    stateless = msgspec.structs.replace(six, address_mode="dhcpv6-stateless")
    server = dhcp_server(network(stateless), "ns", 600)
    assert server is not None
    assert server.hosts == ""

    router = Router("r", (RouterInterface("i", "net", MAC, ("fd00::1/64",)),))
    for mode, kind, hosts in (
        ("slaac", "ra-only", False),
        ("dhcpv6-stateless", "ra-stateless", False),
        ("dhcpv6-stateful", "static", True),
    ):
        net = network(msgspec.structs.replace(six, ra_mode=mode))
        sender = advertiser(router, {"net": net}, "ns")
        assert sender is not None
        assert f",fd00::,{kind},64\n" in sender.conf
        assert f"ra-param={names.inner_leg('i')},mtu:1450," in sender.conf
        assert bool(sender.hosts) is hosts
    assert advertiser(router, {"net": network(six)}, "ns") is None
    elsewhere = Router("r", (RouterInterface("i", "net", MAC, ("fd09::1/64",)),))
    assert advertiser(elsewhere, {"net": net}, "ns") is None


def cloud() -> HostPlan:
    ext = Network("ext", "kvbext", host_gateway=HostGateway(("172.24.4.1/24",)))
    net = network(FOUR, vxlan=Vxlan(7, ("10.9.9.2", "10.9.9.1")))
    router = Router(
        "r",
        (RouterInterface("i", "net", MAC, ("10.0.0.1/24",)),),
        RouterGateway("g", "ext", MAC, ("172.24.4.5/24",), ("172.24.4.1",)),
        (FloatingIp("172.24.4.7", "10.0.0.5"), FloatingIp("172.24.4.5", "10.0.0.6")),
        (Route("10.7.0.0/16", "10.0.0.9"), Route("10.8.0.0/16", "10.99.0.1")),
    )
    ports = (Port("p", "net", "tap1", MAC), Port("q", "net", "tap2", MAC, expected=False))
    return HostPlan("h", (net, ext), ports, (router,), vtep_ip="10.9.9.1")


def test_the_whole_layout() -> None:
    plan = cloud()
    done = layout(plan, "dep", 600)
    assert {spec.kind for spec in done.links.values()} == {"bridge", "vxlan", "veth"}
    assert set(done.links) == {
        "kvb1", "kvbext", names.vxlan("net"), names.dhcp_leg("net"), names.router_leg("i"),
        names.router_leg("g"), names.gateway_legs("ext")[0],
    }  # fmt: skip
    tunnel = done.links[names.vxlan("net")].tunnel
    assert tunnel is not None
    assert tunnel.peers == ("10.9.9.2",), "a host is no peer of itself"
    assert done.taps == {"tap1": ("kvb1", 1450), "tap2": ("kvb1", 1450)}
    assert done.expected_taps == {"tap1"}
    assert done.masquerade
    dhcp = done.namespaces[names.dhcp_namespace("dep", "net")]
    assert dhcp.legs[0].addresses == ("10.0.0.2/24", "169.254.169.254/32")
    router = done.namespaces[names.router_namespace("dep", "r")]
    outer = next(leg for leg in router.legs if leg.device == names.outer_leg("g"))
    assert outer.addresses == ("172.24.4.5/24", "172.24.4.7/32")
    assert router.routes == (
        RouteSpec("0.0.0.0/0", "172.24.4.1", names.outer_leg("g")),
        RouteSpec("10.7.0.0/16", "10.0.0.9"),
    )
    assert unreachable(plan.routers[0]) == [Route("10.8.0.0/16", "10.99.0.1")]
    assert layout(plan, "dep", 600) == done


def test_a_next_hop_off_the_subnet_is_onlink() -> None:
    plan = cloud()
    gateway = RouterGateway("g", "ext", MAC, ("172.24.4.5/24",), ("192.0.2.1", "fe80::1"))
    router = msgspec.structs.replace(plan.routers[0], gateway=gateway, routes=())
    done = layout(msgspec.structs.replace(plan, routers=(router,)), "dep", 600)
    routes = done.namespaces[names.router_namespace("dep", "r")].routes
    assert [(route.destination, route.onlink) for route in routes] == [
        ("0.0.0.0/0", True),
        ("::/0", True),
    ]


def test_metadata_listeners_and_headers() -> None:
    assert listeners(cloud(), "dep") == [
        Listener(names.dhcp_namespace("dep", "net"), "net"),
        Listener(names.router_namespace("dep", "r"), "net", names.inner_leg("i")),
    ]
    assert identity_headers(GUEST, "10.0.0.5", "secret") == {
        "X-Forwarded-For": "10.0.0.5",
        "X-Instance-ID": "dev",
        "X-Tenant-ID": "proj",
        # printf dev | openssl dgst -sha256 -hmac secret
        "X-Instance-ID-Signature": (
            "a36f04da76b4f28aca6bc654bf3226b393a0e838b257bc4f94921a9bdbf9620c"
        ),
    }
    assert "secret" not in repr(ProxySettings("http://127.0.0.1", "secret"))


def test_a_server_elsewhere_is_out_of_place(tmp_path: Path) -> None:
    env = PlaneEnv("dep", tmp_path)
    server = dhcp_server(network(FOUR), "no-such-namespace", 600)
    assert server is not None
    process = Running(1, server.key, server.conf_name, 1)
    assert not in_place(env, process, server), "its files are gone"
    (tmp_path / server.key).mkdir()
    (tmp_path / server.key / server.conf_name).touch()
    assert not in_place(env, process, server), "its namespace is gone"


def test_options_of_one_port_stand_under_its_own_tag() -> None:
    told = Endpoint(
        "port-1",
        "fa:16:3e:00:00:01",
        (Fixed("v4", "10.0.0.1"),),
        options=(DhcpOption("bootfile-name", "pxe.0"), DhcpOption("150", "10.0.0.9")),
    )
    other = Endpoint("port-2", "fa:16:3e:00:00:02", (Fixed("v4", "10.0.0.2"),))
    net = Network(
        "net",
        "kvb",
        subnets=(Subnet("v4", "10.0.0.0/24"),),
        dhcp=DhcpPort("dhcp", "fa:16:3e:00:00:09", (Fixed("v4", "10.0.0.9"),)),
        endpoints=(told, other),
    )
    server = dhcp_server(net, "ns", 3600)
    assert server is not None
    first, second = server.hosts.splitlines()
    tag = first.split(",")[1].removeprefix("set:")
    assert "set:" not in second
    assert f"tag:{tag},option:bootfile-name,pxe.0\n" in server.options
    assert f"tag:{tag},150,10.0.0.9\n" in server.options
    bad = msgspec.structs.replace(told, options=(DhcpOption("x", "a\nb"),))
    with pytest.raises(BadPlan):
        check(HostPlan("h", (msgspec.structs.replace(net, endpoints=(bad,)),)))
