"""DHCP, routers, floating IPs, metadata and tunnels with real packets."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import msgspec
import pytest
from aiohttp import web

from kilonova.embedded.network.plane import (
    HostPlan,
    PlaneError,
    apply,
    audit,
    destroy,
    dnsmasq,
    leftovers,
    names,
    netns,
    plug_tap,
    system,
    unplug_tap,
)
from kilonova.embedded.network.plane.desired import (
    DhcpPort,
    Endpoint,
    Fixed,
    FloatingIp,
    HostGateway,
    Network,
    Port,
    Route,
    Router,
    RouterGateway,
    RouterInterface,
    Rule,
    Subnet,
    Vxlan,
)
from kilonova.embedded.network.plane.metadata_proxy import MetadataProxy, ProxySettings

if TYPE_CHECKING:
    from tests.live.network.conftest import Lab, MakePort

pytestmark = pytest.mark.live

ALL = (Rule("egress"), Rule("egress", "IPv6"), Rule("ingress"), Rule("ingress", "IPv6"))
SUBNET = Subnet(
    "v4",
    "10.0.0.0/24",
    "10.0.0.254",
    dns=("9.9.9.9", "8.8.8.8"),
    host_routes=(Route("10.50.0.0/16", "10.0.0.77"),),
)
DHCP = DhcpPort("dhcp", "fa:16:3e:dd:00:01", (Fixed("v4", "10.0.0.250"), Fixed("v6", "fd00::250")))


def endpoint(port: Port, hostname: str | None = None) -> Endpoint:
    return Endpoint(port.id, port.mac, port.fixed_ips, f"server-{port.id}", "project-1", hostname)


def ask_dhcp(lab: Lab, ns: str, mac: str, kind: int = 1, want: str = "") -> dict[int, bytes]:
    """A DHCP question (1 discover, 3 request) by broadcast; options of the answer, 0 = address.

    As clients do, it asks again: a link that has just come up may not carry the first question.
    """

    def open_socket() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        made.bind(("0.0.0.0", 68))
        made.settimeout(0.5)
        return made

    sock = lab.keep(netns.run_in(ns, open_socket))
    chaddr = bytes.fromhex(mac.replace(":", "")) + bytes(10)
    packet = struct.pack("!BBBBIHH16x", 1, 1, 6, 0, 0x4B4E, 0, 0x8000) + chaddr + bytes(192)
    packet += b"\x63\x82\x53\x63" + bytes([53, 1, kind]) + bytes([55, 6, 1, 3, 6, 26, 121, 12])
    packet += bytes([50, 4]) + socket.inet_aton(want) if want else b""
    data = ask_again(sock, packet + b"\xff", ("255.255.255.255", 67))
    sock.close()
    options = {0: data[16:20]}
    at = 240
    while data[at] != 255:
        if data[at]:
            options[data[at]] = data[at + 2 : at + 2 + data[at + 1]]
            at += 1 + data[at + 1]
        at += 1
    return options


def ask_again(sock: socket.socket, packet: bytes, to: tuple[object, ...]) -> bytes:
    """The answer to a packet sent up to twelve times."""
    for _ in range(11):
        try:
            sock.sendto(packet, to)
            return sock.recv(2048)
        except TimeoutError:
            continue
        except OSError:
            time.sleep(0.5)
    sock.sendto(packet, to)
    return sock.recv(2048)


def classless(data: bytes) -> dict[str, str]:
    """Option 121 (RFC 3442)."""
    routes = {}
    while data:
        length = data[0]
        octets = (length + 7) // 8
        target = data[1 : 1 + octets].ljust(4, b"\0")
        routes[f"{ipaddress.ip_address(target)}/{length}"] = str(
            ipaddress.ip_address(data[1 + octets : 5 + octets])
        )
        data = data[5 + octets :]
    return routes


async def test_dhcp_gives_what_the_plan_says(lab: Lab, make_port: MakePort) -> None:
    a = make_port(1, *ALL, fixed_ips=(Fixed("v4", "10.0.0.1"),))
    net = Network("net", "kvbdhcp", 1450, (SUBNET,), dhcp=DHCP, endpoints=(endpoint(a, "alpha"),))
    plan = HostPlan("h", (net,), (a,))
    assert (await apply(plan, env=lab.env)).problems == ()
    ga = lab.guest(msgspec.structs.replace(a, fixed_ips=()), net.bridge)
    offer = ask_dhcp(lab, ga, a.mac)
    assert socket.inet_ntoa(offer[0]) == "10.0.0.1"
    assert socket.inet_ntoa(offer[3]) == "10.0.0.254"
    assert offer[6] == socket.inet_aton("9.9.9.9") + socket.inet_aton("8.8.8.8")
    assert struct.unpack("!H", offer[26]) == (1450,)
    assert offer[12] == b"alpha"
    assert classless(offer[121]) == {
        "169.254.169.254/32": "10.0.0.250",
        "10.50.0.0/16": "10.0.0.77",
        "0.0.0.0/0": "10.0.0.254",
    }
    ack = ask_dhcp(lab, ga, a.mac, 3, "10.0.0.1")
    assert ack[53] == b"\x05"
    assert struct.unpack("!I", ack[51]) == (86400,)

    # The address goes to another guest while the lease of the first is held; no new process else.
    (before,) = dnsmasq.running(lab.env)
    b = make_port(2, *ALL, fixed_ips=(Fixed("v4", "10.0.0.2"),))
    more = msgspec.structs.replace(net, endpoints=(endpoint(a, "alpha"), endpoint(b)))
    report = await apply(HostPlan("h", (more,), (a, b)), env=lab.env)
    assert "dnsmasq dhcp-net does not know all hosts and options" in report.changes
    assert dnsmasq.running(lab.env) == [before]
    gb = lab.guest(msgspec.structs.replace(b, fixed_ips=()), net.bridge)
    assert socket.inet_ntoa(ask_dhcp(lab, gb, b.mac)[0]) == "10.0.0.2"
    heir = msgspec.structs.replace(b, fixed_ips=a.fixed_ips)
    less = msgspec.structs.replace(net, endpoints=(endpoint(heir),))
    assert (await apply(HostPlan("h", (less,), (heir,)), env=lab.env)).problems == ()
    assert socket.inet_ntoa(ask_dhcp(lab, gb, heir.mac)[0]) == "10.0.0.1"
    assert (await apply(HostPlan("h", (less,), (heir,)), env=lab.env)).changes == ()


def cloud(a: Port, b: Port, *, snat: bool = True) -> HostPlan:
    """Two networks behind a router, an external network with the host as its gateway."""
    v6 = Subnet("v6", "fd00::/64", "fd00::fe", ra_mode="slaac", address_mode="slaac")
    one = Network(
        "net", "kvbone", 1450, (SUBNET, v6), dhcp=DHCP, endpoints=(endpoint(a), endpoint(b))
    )
    two = Network("two", "kvbtwo", 1450, (Subnet("s2", "10.2.0.0/24", "10.2.0.254"),))
    ext = Network(
        "ext",
        "kvbext",
        1500,
        (Subnet("e4", "172.24.4.0/24", "172.24.4.1", dhcp=False),),
        host_gateway=HostGateway(("172.24.4.1/24",)),
    )
    router = Router(
        "r1",
        interfaces=(
            RouterInterface("i1", "net", "fa:16:3e:aa:00:01", ("10.0.0.254/24", "fd00::fe/64")),
            RouterInterface("i2", "two", "fa:16:3e:aa:00:02", ("10.2.0.254/24",)),
        ),
        gateway=RouterGateway(
            "gw", "ext", "fa:16:3e:aa:00:03", ("172.24.4.10/24",), ("172.24.4.1",), enable_snat=snat
        ),
        floating_ips=(FloatingIp("172.24.4.20", "10.0.0.1"),),
        routes=(Route("10.60.0.0/16", "10.0.0.1"), Route("10.61.0.0/16", "192.0.2.1")),
    )
    return HostPlan("h", (one, two, ext), (a, b), (router,))


async def test_router_floating_ips_and_the_world(lab: Lab, make_port: MakePort) -> None:
    a = make_port(1, *ALL)
    b = make_port(2, *ALL, network_id="two", fixed_ips=(Fixed("s2", "10.2.0.2"),))
    plan = cloud(a, b)
    world = lab.namespace("world")
    lab.run(lab.host, f"ip link add up0 type veth peer name eth0 netns {world}")
    lab.run(lab.host, "ip addr add 192.0.2.2/24 dev up0")
    lab.run(lab.host, "ip link set up0 up")
    lab.run(lab.host, "ip route add default via 192.0.2.1")
    lab.run(world, "ip addr add 192.0.2.1/24 dev eth0")
    lab.run(world, "ip addr add 198.51.100.1/32 dev lo")
    lab.run(world, "ip link set eth0 up")
    report = await apply(plan, env=lab.env)
    assert report.problems == ()
    assert any("192.0.2.1 is on none" in note for note in report.notes)
    ga, gb = lab.guest(a, "kvbone"), lab.guest(b, "kvbtwo")
    lab.run(ga, "ip route add default via 10.0.0.254")
    lab.run(gb, "ip route add default via 10.2.0.254")

    assert lab.pings(ga, "10.2.0.2"), "east-west"
    assert lab.pings(gb, "10.0.0.1")
    assert lab.pings(ga, "172.24.4.1"), "the host's own address"
    assert lab.pings(gb, "198.51.100.1"), "the world, by two translations"
    assert lab.pings(lab.host, "172.24.4.20"), "the host reaches a floating IP"
    listener = lab.listener(ga, 22)
    assert lab.connect(lab.host, "172.24.4.20", 22)
    assert lab.caller(listener) == "172.24.4.1", "the source is kept on the way in"
    assert lab.connect(gb, "172.24.4.20", 22), "from inside to a floating IP"
    assert lab.connect(ga, "172.24.4.20", 22), "a guest reaches itself by its floating IP"

    outside = lab.listener(world, 80)
    assert lab.connect(ga, "198.51.100.1", 80)
    assert lab.caller(outside) == "192.0.2.2"
    on_host = lab.listener(lab.host, 8080)
    assert lab.connect(ga, "172.24.4.1", 8080)
    assert lab.connect(gb, "172.24.4.1", 8080)
    assert {lab.caller(on_host), lab.caller(on_host)} == {"172.24.4.20", "172.24.4.10"}

    # An outside machine on the external network itself.
    peer = lab.namespace("peer")
    group = names.link_group(lab.mark)
    other = make_port(9, network_id="ext", port_security=False)
    plan = msgspec.structs.replace(plan, ports=(*plan.ports, other))
    assert (await apply(plan, env=lab.env)).problems == ()
    lab.run(
        lab.host,
        f"ip link add {other.tap} group {group} type veth peer name eth0 netns {peer}",
    )
    lab.run(lab.host, f"ip link set {other.tap} master kvbext up")
    lab.run(peer, "ip addr add 172.24.4.99/24 dev eth0")
    lab.run(peer, "ip link set eth0 up")
    assert lab.pings(peer, "172.24.4.20")
    assert (await apply(plan, env=lab.env)).changes == ()

    bare = msgspec.structs.replace(plan.routers[0], floating_ips=(), routes=())
    assert (await apply(msgspec.structs.replace(plan, routers=(bare,)), env=lab.env)).problems == ()
    assert lab.mute(lab.host, "172.24.4.20")
    assert lab.pings(ga, "198.51.100.1")


async def test_a_floating_ip_leaves_nothing_behind(lab: Lab, make_port: MakePort) -> None:
    a = make_port(1, *ALL)
    b = make_port(2, *ALL, network_id="two", fixed_ips=(Fixed("s2", "10.2.0.2"),))
    plan = cloud(a, b)
    assert (await apply(plan, env=lab.env)).problems == ()
    ga, gb = lab.guest(a, "kvbone"), lab.guest(b, "kvbtwo")
    lab.run(ga, "ip route add default via 10.0.0.254")
    lab.run(gb, "ip route add default via 10.2.0.254")
    speaker = lab.udp(lab.host)
    speaker.connect(("::ffff:172.24.4.20", 7000))
    old, new = lab.udp(ga, 7000), lab.udp(gb, 7000)
    speaker.send(b"one")
    assert old.recv(10) == b"one"
    moved = (FloatingIp("172.24.4.20", "10.2.0.2"),)
    router = msgspec.structs.replace(plan.routers[0], floating_ips=moved)
    plan = msgspec.structs.replace(plan, routers=(router,))
    assert (await apply(plan, env=lab.env)).problems == ()
    speaker.send(b"two")
    assert new.recv(10) == b"two"


async def test_router_advertises_ipv6(lab: Lab, make_port: MakePort) -> None:
    a = make_port(1, *ALL, fixed_ips=())
    b = make_port(2, *ALL, network_id="two", fixed_ips=(Fixed("s2", "10.2.0.2"),))
    assert (await apply(cloud(a, b), env=lab.env)).problems == ()
    ga = lab.guest(a, "kvbone")
    lab.sysctl(ga, "ipv6/conf/eth0/accept_ra", "1")
    lab.run(ga, "ip link set eth0 mtu 1500")
    lab.run(ga, "ip link set eth0 down")
    lab.run(ga, "ip link set eth0 up")
    made = "fd00::f816:3eff:fe00:1"
    for _ in range(50):
        if made in lab.run(ga, "ip -6 addr show dev eth0"):
            break
        lab.pings(ga, "ff02::2%eth0")
    assert made in lab.run(ga, "ip -6 addr show dev eth0")
    assert "via fe80::f816:3eff:feaa:1 " in lab.run(ga, "ip -6 route show default")
    assert "= 1450" in lab.run(ga, "sysctl net.ipv6.conf.eth0.mtu")


def ask_dhcp6(lab: Lab, ns: str, mac: str, kind: int = 1) -> bytes:
    """The answer to a DHCPv6 solicit (1) or information request (11), RFC 8415."""

    def ask() -> bytes:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.5)
            sock.bind(("::", 546, 0, 0))
            duid = struct.pack("!HHHH", 1, 10, 3, 1) + bytes.fromhex(mac.replace(":", ""))
            wanted = struct.pack("!HHH", 6, 2, 23)
            address = struct.pack("!HHIII", 3, 12, 1, 0, 0) if kind == 1 else b""
            packet = bytes([kind, 1, 2, 3]) + duid + struct.pack("!HHH", 8, 2, 0) + wanted + address
            return ask_again(sock, packet, ("ff02::1:2", 547, 0, socket.if_nametoindex("eth0")))

    return netns.run_in(ns, ask)


@pytest.mark.parametrize("routed", [False, True])
async def test_dhcpv6(lab: Lab, make_port: MakePort, routed: bool) -> None:
    a = make_port(1, *ALL)
    v6 = Subnet(
        "v6",
        "fd00::/64",
        "fd00::fe",
        dns=("fd00::53",),
        ra_mode="dhcpv6-stateful" if routed else None,
        address_mode="dhcpv6-stateful",
    )
    net = Network("net", "kvbsix", 1450, (SUBNET, v6), dhcp=DHCP, endpoints=(endpoint(a),))
    leg = RouterInterface("i1", "net", "fa:16:3e:aa:00:01", ("fd00::fe/64",))
    routers = (Router("r1", (leg,)),) if routed else ()
    assert (await apply(HostPlan("h", (net,), (a,), routers), env=lab.env)).problems == ()
    ga = lab.guest(msgspec.structs.replace(a, fixed_ips=()), net.bridge)
    for _ in range(2):
        offer = ask_dhcp6(lab, ga, a.mac)
        assert offer[0] == 2
        assert socket.inet_pton(socket.AF_INET6, "fd00::1") in offer
        assert socket.inet_pton(socket.AF_INET6, "fd00::53") in offer
    if not routed:
        stateless = msgspec.structs.replace(v6, address_mode="dhcpv6-stateless")
        plan = HostPlan("h", (msgspec.structs.replace(net, subnets=(SUBNET, stateless)),), (a,))
        assert (await apply(plan, env=lab.env)).problems == ()
        answer = ask_dhcp6(lab, ga, a.mac, 11)
        assert answer[0] == 7
        assert socket.inet_pton(socket.AF_INET6, "fd00::53") in answer


async def test_metadata_with_and_without_a_router(
    lab: Lab, make_port: MakePort, unused_tcp_port: int
) -> None:
    a = make_port(1, *ALL)
    b = make_port(2, *ALL, network_id="two", fixed_ips=(Fixed("s2", "10.2.0.2"),))
    plan = cloud(a, b)
    two = msgspec.structs.replace(plan.networks[1], endpoints=(endpoint(b),))
    plan = msgspec.structs.replace(plan, networks=(plan.networks[0], two, plan.networks[2]))
    assert (await apply(plan, env=lab.env)).problems == ()
    ga, gb = lab.guest(a, "kvbone"), lab.guest(b, "kvbtwo")
    lab.run(ga, "ip route add 169.254.169.254/32 via 10.0.0.250")
    lab.run(gb, "ip route add default via 10.2.0.254")

    async def service(request: web.BaseRequest) -> web.StreamResponse:
        body = (await request.read()).decode()
        seen = {k: v for k, v in request.headers.items() if k.startswith("X-")}
        return web.json_response({"path": request.path_qs, "body": body, **seen})

    server = web.Server(service)
    runner = web.ServerRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    settings = ProxySettings(f"http://127.0.0.1:{unused_tcp_port}", "sesame", connect_timeout=1)
    proxy = MetadataProxy(settings, lab.env)
    try:
        assert await proxy.sync(plan) == []

        async def get(ns: str, extra: str = "", method: str = "GET", body: str = "") -> list[str]:
            def dial() -> socket.socket:
                return socket.create_connection(("169.254.169.254", 80), 5)

            sock = await asyncio.to_thread(netns.run_in, ns, dial)
            text = f"{method} /latest/meta-data/?x=1 HTTP/1.0\r\n{extra}\r\n{body}"
            return (await asyncio.to_thread(_talk, sock, text.encode())).split("\r\n\r\n", 1)

        for ns, who in ((ga, a), (gb, b)):
            head, body = await get(ns, "X-Instance-ID: forged\r\nX-Tenant-ID: forged\r\n")
            assert " 200 " in head.splitlines()[0]
            digest = hmac.new(b"sesame", f"server-{who.id}".encode(), hashlib.sha256)
            assert json.loads(body) == {
                "path": "/latest/meta-data/?x=1",
                "body": "",
                "X-Forwarded-For": who.fixed_ips[0].ip,
                "X-Instance-ID": f"server-{who.id}",
                "X-Tenant-ID": "project-1",
                "X-Instance-ID-Signature": digest.hexdigest(),
            }
        head, body = await get(ga, "Content-Length: 3\r\n", "POST", "abc")
        assert json.loads(body)["body"] == "abc"
        head, _ = await get(ga, f"Content-Length: {70 << 10}\r\n", "POST", "x" * (70 << 10))
        assert " 413 " in head.splitlines()[0]
        lab.run(ga, "ip addr add 10.0.0.66/24 dev eth0")
        assert lab.shut(lab.host, "172.24.4.10", 9697), "closed to the outside"

        stranger = msgspec.structs.replace(plan.networks[0], endpoints=())
        await proxy.sync(msgspec.structs.replace(plan, networks=(stranger, *plan.networks[1:])))
        assert " 404 " in (await get(ga))[0].splitlines()[0]
        await proxy.sync(plan)
        await runner.cleanup()
        assert " 503 " in (await get(ga))[0].splitlines()[0]
        await proxy.sync(HostPlan("h"))
        with pytest.raises(ConnectionRefusedError):
            await get(ga)
    finally:
        await proxy.close()
        await runner.cleanup()


def _talk(sock: socket.socket, request: bytes) -> str:
    with sock:
        sock.sendall(request)
        data = b""
        try:
            while piece := sock.recv(65536):
                data += piece
        except ConnectionResetError:
            pass
        return data.decode()


async def test_networks_span_hosts(lab: Lab, make_port: MakePort) -> None:
    fabric, other = lab.namespace("fabric"), lab.namespace("second")
    lab.run(fabric, "ip link add br-ul type bridge")
    lab.run(fabric, "ip link set br-ul up")
    for number, host in ((1, lab.host), (2, other)):
        lab.run(host, f"ip link add ul type veth peer name p{number} netns {fabric}")
        lab.run(fabric, f"ip link set p{number} master br-ul up")
        lab.run(host, f"ip addr add 10.99.0.{number}/24 dev ul")
        lab.run(host, "ip link set ul up")
    a = make_port(1, *ALL)
    b = make_port(2, *ALL[:2], Rule("ingress", protocol="icmp"), Rule("ingress", "IPv6", "58"))
    plans = []
    for mine, port, peer in ((1, a, 2), (2, b, 1)):
        net = Network("net", "kvbspan", 1450, vxlan=Vxlan(77, (f"10.99.0.{peer}",)))
        plans.append(HostPlan(f"h{mine}", (net,), (port,), vtep_ip=f"10.99.0.{mine}"))
    for host, plan in zip((lab.host, other), plans, strict=True):
        report = await apply(plan, env=lab.env_of(host))
        assert report.problems == ()
    ga, gb = lab.guest(a, "kvbspan"), lab.guest(b, "kvbspan", host=other)
    lab.listener(gb, 22)
    assert lab.pings(ga, "10.0.0.2")
    assert lab.pings(ga, "fd00::2")
    assert lab.shut(ga, "10.0.0.2", 22), "the receiver's host filters"
    assert lab.pings(gb, "10.0.0.1")
    for host, plan in zip((lab.host, other), plans, strict=True):
        assert (await apply(plan, env=lab.env_of(host))).changes == ()

    lonely = msgspec.structs.replace(plans[0].networks[0], vxlan=Vxlan(77))
    alone = msgspec.structs.replace(plans[0], networks=(lonely,))
    report = await apply(alone, env=lab.env_of(lab.host))
    assert report.changes == (f"{names.vxlan('net')} still reaches 10.99.0.2",)


async def test_everything_is_found_and_removed(lab: Lab, make_port: MakePort) -> None:
    a = make_port(1, *ALL)
    b = make_port(2, *ALL, network_id="two", fixed_ips=(Fixed("s2", "10.2.0.2"),))
    plan = cloud(a, b)
    env = lab.env
    await plug_tap(a.tap, "kvbone", 1450, env)
    assert len(await leftovers(env)) == 4, "tap, bridge and two tables"
    missing = await audit(plan, env)
    assert "namespace " + names.router_namespace(lab.mark, "r1") + " is missing" in missing
    assert f"tap {b.tap} is missing" in missing
    assert f"tap {a.tap} is missing" not in missing
    await apply(plan, env=env)
    assert await audit(plan, env) == [f"tap {b.tap} is missing"]
    await plug_tap(b.tap, "kvbtwo", 1450, env, user=65534)
    await plug_tap(b.tap, "kvbtwo", 1450, env, user=65534)
    assert await audit(plan, env) == []

    # What a crash, or somebody's hand, may do to it.
    (server, sender) = sorted(dnsmasq.running(env), key=lambda process: process.key)
    os.kill(server.pid, signal.SIGKILL)
    lab.run(lab.host, "nft flush ruleset")
    lab.run(lab.host, f"ip link del {names.gateway_legs('ext')[0]}")
    lab.run(names.router_namespace(lab.mark, "r1"), "ip route del default")
    lab.run(names.router_namespace(lab.mark, "r1"), "ip addr add 10.9.9.9/24 dev lo")
    netns.delete(names.dhcp_namespace(lab.mark, "net"))
    assert len(await audit(plan, env)) >= 5
    assert (await apply(plan, env=env)).problems == ()
    assert await audit(plan, env) == []
    assert sender in dnsmasq.running(env), "what was right was left alone"
    shutil.rmtree(env.run_dir)
    assert await audit(plan, env) != []
    assert (await apply(plan, env=env)).problems == ()
    assert await audit(plan, env) == []
    lab.run(lab.host, f"ip link del {names.router_leg('i1')}")
    assert (await apply(plan, env=env)).problems == ()
    assert await audit(plan, env) == []

    # Another deployment's things on the same host stay.
    theirs = msgspec.structs.replace(env, deployment_id="other", run_dir=lab.dir / "other")
    await plug_tap("tapother", "kvbother", 1500, theirs)
    with pytest.raises(PlaneError):
        await unplug_tap("tapother", env)
    await unplug_tap(a.tap, env)
    await unplug_tap(a.tap, env)
    report = await destroy(env)
    assert report.problems == ()
    assert await leftovers(env) == []
    assert not env.run_dir.exists()
    assert netns.names_with(names.namespace_prefix(lab.mark)) == []
    links = lab.run(lab.host, "ip -br link")
    assert sorted(line.split()[0] for line in links.splitlines()) == ["kvbother", "lo", "tapother"]
    await destroy(theirs)
    assert lab.run(lab.host, "nft list ruleset") == ""


_CHILD = """
import asyncio, sys, pathlib, msgspec
from kilonova.embedded.network.plane import *
from kilonova.embedded.network.plane.netlink import _library
env = PlaneEnv(sys.argv[1], pathlib.Path(sys.argv[2]), netns=sys.argv[3], tap_grace=0.0)
plan = msgspec.json.decode(sys.stdin.buffer.readline(), type=HostPlan)
_library()
print("ready", flush=True)
sys.stdin.readline()
asyncio.run(apply(plan, env=env))
"""


@pytest.mark.parametrize("after", [0.02, 0.08, 0.16])
async def test_a_crash_in_the_middle_is_made_good(
    lab: Lab, make_port: MakePort, after: float
) -> None:
    a = make_port(1, *ALL)
    b = make_port(2, *ALL, network_id="two", fixed_ips=(Fixed("s2", "10.2.0.2"),))
    plan = cloud(a, b)
    command = [sys.executable, "-c", _CHILD, lab.mark, str(lab.env.run_dir), lab.host]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(msgspec.json.encode(plan) + b"\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"ready\n"
        child.stdin.write(b"\n")
        child.stdin.flush()
        time.sleep(after)
        child.kill()
    assert (await apply(plan, env=lab.env)).problems == ()
    taps = [f"tap {port.tap} is missing" for port in (a, b)]
    assert await audit(plan, lab.env) == taps
    assert (await destroy(lab.env)).problems == ()
    assert await leftovers(lab.env) == []
    assert lab.run(lab.host, "ip -br link").split()[0] == "lo"
    assert len(lab.run(lab.host, "ip -br link").splitlines()) == 1


async def test_beside_a_container_engine(lab: Lab, make_port: MakePort) -> None:
    if system.tool_path("iptables") is None:
        pytest.skip("iptables is not installed")
    lab.run(lab.host, "iptables -P FORWARD DROP")
    lab.run(lab.host, "ip6tables -P FORWARD DROP")
    before = lab.run(lab.host, "iptables -S FORWARD")
    a, b = make_port(1, *ALL), make_port(2, *ALL)
    plan = HostPlan("h", (Network("net", "kvbpolicy", 1450),), (a, b))
    report = await apply(plan, env=lab.env)
    assert "iptables drops what bridges forward" in report.changes
    ga, _ = lab.guest(a, "kvbpolicy"), lab.guest(b, "kvbpolicy")
    assert lab.pings(ga, "10.0.0.2")
    assert lab.pings(ga, "fd00::2")
    assert (await apply(plan, env=lab.env)).changes == ()
    await destroy(lab.env)
    assert lab.run(lab.host, "iptables -S FORWARD") == before
    assert await leftovers(lab.env) == []


async def test_young_taps_are_not_eaten(lab: Lab, make_port: MakePort) -> None:
    env = msgspec.structs.replace(lab.env, tap_grace=60.0)
    await plug_tap("tapyoung", "kvbyoung", 1450, env)
    assert (await apply(HostPlan("h"), env=env)).problems == ()
    assert "bridge kvbyoung is not in the plan" in await audit(HostPlan("h"), env)
    assert (await apply(HostPlan("h"), env=lab.env)).changes == (
        "tun tapyoung is not in the plan",
        "bridge kvbyoung is not in the plan",
    )
