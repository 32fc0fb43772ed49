"""Security groups and anti-spoofing with real packets."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import msgspec
import pytest

from kilonova.embedded.network.plane import HostPlan, apply, audit, netns
from kilonova.embedded.network.plane.desired import AddressPair, Group, Network, Port, Rule

if TYPE_CHECKING:
    from tests.live.network.conftest import Lab, MakePort

pytestmark = pytest.mark.live

NET = Network(id="net", bridge="kvbtest", mtu=1450)
OUT = (Rule("egress"), Rule("egress", "IPv6"))


def plan(*ports: Port, groups: tuple[Group, ...] = ()) -> HostPlan:
    return HostPlan(host="h", networks=(NET,), ports=ports, groups=groups)


async def settle(lab: Lab, wanted: HostPlan) -> None:
    report = await apply(wanted, env=lab.env)
    assert report.problems == ()


async def test_stateful_rules_of_both_ends(lab: Lab, make_port: MakePort) -> None:
    a = make_port(1, *OUT)
    b = make_port(
        2,
        *OUT,
        Rule("ingress", protocol="tcp", port_min=22, port_max=23),
        Rule("ingress", "IPv6", "tcp", 22, 22),
        Rule("ingress", protocol="icmp", port_min=8),
        Rule("ingress", "IPv6", "ipv6-icmp", 128),
        Rule("ingress", protocol="udp", port_min=53, port_max=53, remote_prefix="10.0.0.1/32"),
    )
    c = make_port(3, Rule("egress", protocol="tcp", port_min=22, port_max=22))
    await settle(lab, plan(a, b, c))
    ga, gb, gc = (lab.guest(port, NET.bridge) for port in (a, b, c))
    for number in (22, 23, 24):
        lab.listener(gb, number)
    lab.listener(ga, 22)

    assert lab.pings(ga, "10.0.0.2")
    assert lab.pings(ga, "fd00::2")
    assert lab.mute(gb, "10.0.0.1"), "no rule lets pings in at a"
    assert lab.mute(gb, "fd00::1")
    assert lab.connect(ga, "10.0.0.2", 22)
    assert lab.connect(ga, "fd00::2", 22)
    assert lab.connect(ga, "10.0.0.2", 23)
    assert lab.shut(ga, "fd00::2", 23)
    assert lab.shut(ga, "10.0.0.2", 24)
    assert lab.shut(gb, "10.0.0.1", 22)
    assert lab.connect(gc, "10.0.0.2", 22)
    assert lab.shut(gc, "10.0.0.2", 23), "c may send to port 22 only"
    assert lab.mute(gc, "10.0.0.2")

    server, client, other = lab.udp(gb, 53), lab.udp(ga), lab.udp(gc)
    client.sendto(b"q", ("::ffff:10.0.0.2", 53))
    other.sendto(b"x", ("::ffff:10.0.0.2", 53))
    data, back = server.recvfrom(10)
    assert data == b"q"
    server.sendto(b"a", back)
    assert client.recv(10) == b"a", "the answer passes by its state"
    assert lab.silent(server)
    server.close()
    client.connect(("::ffff:10.0.0.2", 53))
    client.send(b"nobody there")
    with pytest.raises(ConnectionRefusedError):
        client.recv(10)
    assert lab.pings(ga, "10.0.0.2", size=4000), "fragments are put together and cut again"
    assert lab.pings(ga, "fd00::2", size=4000)
    assert (await apply(plan(a, b, c), env=lab.env)).changes == ()
    assert await audit(plan(a, b, c), lab.env) == []


async def test_membership_and_removed_rules_take_effect(lab: Lab, make_port: MakePort) -> None:
    a, c = make_port(1, *OUT), make_port(3, *OUT)
    b = make_port(2, *OUT, Rule("ingress", protocol="tcp", remote_group="web"))
    await settle(lab, plan(a, b, c, groups=(Group("web", ("10.0.0.1",)),)))
    ga, gb, gc = (lab.guest(port, NET.bridge) for port in (a, b, c))
    listener = lab.listener(gb, 80)
    living = lab.connect(ga, "10.0.0.2", 80)
    assert living
    accepted = lab.keep(listener.accept()[0])
    accepted.settimeout(5)
    assert lab.shut(gc, "10.0.0.2", 80)

    await settle(lab, plan(a, b, c, groups=(Group("web", ("10.0.0.1", "10.0.0.3")),)))
    assert lab.connect(gc, "10.0.0.2", 80)
    living.send(b"still")
    assert accepted.recv(10) == b"still", "a new rule set does not disturb what it still allows"

    await settle(lab, plan(a, b, c, groups=(Group("web", ("10.0.0.3",)),)))
    assert lab.shut(ga, "10.0.0.2", 80)
    living.send(b"cut")
    assert lab.silent(accepted)

    await settle(lab, plan(a, msgspec.structs.replace(b, rules=OUT), c))
    assert lab.shut(gc, "10.0.0.2", 80)


async def test_guests_cannot_pretend(lab: Lab, make_port: MakePort) -> None:
    everything = (*OUT, Rule("ingress"), Rule("ingress", "IPv6"))
    a = make_port(
        1,
        *everything,
        allowed_address_pairs=(AddressPair("10.0.0.128/25"), AddressPair("fd00:0:0:0:9::/80")),
    )
    b = make_port(2, *everything)
    free = make_port(3, port_security=False)
    await settle(lab, plan(a, b, free))
    ga, gb, gf = (lab.guest(port, NET.bridge) for port in (a, b, free))
    for address in ("10.0.0.77/24", "10.0.0.200/24", "fd00::77/64", "fd00:0:0:0:9::9/64"):
        lab.run(ga, f"ip addr add {address} dev eth0")
        lab.run(gf, f"ip addr add {address.replace('77', '78').replace('200', '201')} dev eth0")
    assert lab.pings(ga, "10.0.0.2")
    assert lab.pings(ga, "fd00::2")
    assert lab.pings(ga, "10.0.0.2", source="10.0.0.200"), "an allowed pair"
    assert lab.pings(ga, "fd00::2", source="fd00:0:0:0:9::9")
    assert lab.mute(ga, "10.0.0.2", source="10.0.0.77")
    assert lab.mute(ga, "fd00::2", source="fd00::77")
    assert lab.pings(gf, "10.0.0.2", source="10.0.0.78"), "port security is off"
    # Nor may a guest answer ARP or neighbour discovery for a foreign address.
    lab.run(gb, "ip neigh flush dev eth0")
    assert lab.mute(gb, "10.0.0.77")
    assert lab.mute(gb, "fd00::77")
    assert "lladdr" not in lab.run(gb, "ip neigh show 10.0.0.77")
    assert "lladdr" not in lab.run(gb, "ip neigh show fd00::77")
    assert lab.pings(gb, "10.0.0.200")

    lab.run(ga, "ip link set eth0 address fa:16:3e:00:00:99")
    assert lab.mute(ga, "10.0.0.2"), "a foreign MAC"
    lab.run(ga, "ip link set eth0 address fa:16:3e:00:00:01")
    assert lab.pings(ga, "10.0.0.2")


def _heard(lab: Lab, ns: str, source: str, frames: list[bytes]) -> list[bytes]:
    """Which of the frames sent raw by one guest another one receives."""

    def raw() -> socket.socket:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        made.bind(("eth0", 3))
        made.settimeout(0.3)
        return made

    ear, mouth = lab.keep(netns.run_in(ns, raw)), lab.keep(netns.run_in(source, raw))
    for frame in frames:
        mouth.send(frame)
    heard = []
    try:
        while True:
            data = ear.recv(2048)
            heard += [frame for frame in frames if data.startswith(frame)]
    except TimeoutError:
        return heard


async def test_guests_cannot_serve_dhcp_or_advertise_routes(lab: Lab, make_port: MakePort) -> None:
    frames = _frames()
    everything = (*OUT, Rule("ingress"), Rule("ingress", "IPv6"))
    a, b = make_port(1, *everything), make_port(2, *everything)
    await settle(lab, plan(a, b))
    ga, gb = (lab.guest(port, NET.bridge) for port in (a, b))
    heard = _heard(lab, gb, ga, list(frames.values()))
    assert [name for name, frame in frames.items() if frame in heard] == ["rarp", "udp", "ns"]


def _frames() -> dict[str, bytes]:
    """Frames of guest 1 to everybody, those it may send and those it may not."""
    mac, everybody = bytes.fromhex("fa163e000001"), b"\xff" * 6

    def ip(payload: bytes, source: str = "10.0.0.1") -> bytes:
        head = bytearray(b"\x45\x00" + (20 + len(payload)).to_bytes(2, "big") + bytes(4))
        head += b"\x40\x11\x00\x00" + socket.inet_aton(source) + b"\xff\xff\xff\xff"
        total = sum(int.from_bytes(head[i : i + 2], "big") for i in range(0, 20, 2))
        head[10:12] = (0xFFFF - (total % 0xFFFF)).to_bytes(2, "big")
        return everybody + mac + b"\x08\x00" + bytes(head) + payload

    def udp(source: int, target: int) -> bytes:
        ports = source.to_bytes(2, "big") + target.to_bytes(2, "big")
        return ports + b"\x00\x10\x00\x00" + b"kilonova"

    def ip6(kind: int, body: bytes, source: str = "fd00::1") -> bytes:
        me, all_nodes = (socket.inet_pton(socket.AF_INET6, a) for a in (source, "ff02::1"))
        bare = bytes([kind, 0, 0, 0]) + body
        words = me + all_nodes + len(bare).to_bytes(4, "big") + b"\x00\x00\x00\x3a" + bare
        total = sum(int.from_bytes(words[i : i + 2], "big") for i in range(0, len(words), 2))
        check = 0xFFFF - (total % 0xFFFF)
        message = bytes([kind, 0]) + check.to_bytes(2, "big") + body
        head = b"\x60\x00\x00\x00" + len(message).to_bytes(2, "big") + b"\x3a\xff"
        target = bytes.fromhex("333300000001")
        return target + mac + b"\x86\xdd" + head + me + all_nodes + message

    announce = mac + b"\x80\x35\x00\x01\x08\x00\x06\x04\x00\x03" + mac + bytes(4) + mac + bytes(4)
    foreign = socket.inet_pton(socket.AF_INET6, "fd00::2")
    return {
        "rarp": everybody + announce,
        "udp": ip(udp(4000, 4001)),
        "dhcp offer": ip(udp(67, 68)),
        "spoofed": ip(udp(4000, 4002), "10.0.0.9"),
        "ns": ip6(135, bytes(4) + foreign),
        "ra": ip6(134, b"\x40\x00\x07\x08" + bytes(8)),
        "redirect": ip6(137, bytes(4) + foreign + foreign),
        "foreign na": ip6(136, b"\x20\x00\x00\x00" + foreign),
        "vlan": everybody + mac + b"\x81\x00\x00\x05\x08\x00" + bytes(46),
        "lldp": bytes.fromhex("0180c200000e") + mac + b"\x88\xcc" + bytes(46),
    }


async def test_unknown_and_disabled_taps_are_mute(lab: Lab, make_port: MakePort) -> None:
    everything = (*OUT, Rule("ingress"), Rule("ingress", "IPv6"))
    a, b = make_port(1, *everything), make_port(2, *everything)
    down, unknown = make_port(3, *everything, admin_up=False), make_port(4, *everything)
    await settle(lab, plan(a, b, down))
    ga, gd, gu = (lab.guest(port, NET.bridge) for port in (a, down, unknown))
    lab.guest(b, NET.bridge)
    assert lab.pings(ga, "10.0.0.2")
    for guest in (gd, gu):
        assert lab.mute(guest, "10.0.0.2")
    for address in ("10.0.0.3", "10.0.0.4"):
        assert lab.mute(ga, address)
    assert await audit(plan(a, b, down), lab.env) == ["veth tapguest4 is not in the plan"]


async def test_guests_are_no_neighbours_of_the_host(lab: Lab, make_port: MakePort) -> None:
    a = make_port(1, *OUT)
    await settle(lab, plan(a))
    ga = lab.guest(a, NET.bridge)
    lab.run(lab.host, "ip addr add 192.0.2.1/32 dev lo")
    lab.run(lab.host, f"ip route add 10.0.0.0/24 dev {NET.bridge}")
    mac = lab.run(lab.host, f"ip -br link show {NET.bridge}").split()[2]
    lab.run(ga, "ip route add 192.0.2.1/32 dev eth0")
    assert lab.mute(ga, "192.0.2.1")
    assert "lladdr" not in lab.run(ga, "ip neigh show 192.0.2.1"), "the host does not answer ARP"
    lab.run(ga, f"ip neigh replace 192.0.2.1 lladdr {mac} dev eth0")
    ear, mouth = lab.udp(lab.host, 5000), lab.udp(ga)
    mouth.sendto(b"x", ("::ffff:192.0.2.1", 5000))
    assert lab.silent(ear)
