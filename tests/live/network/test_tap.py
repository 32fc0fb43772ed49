"""A real tap as a hypervisor sees it: frames with virtio headers, DHCP with whole checksums."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from kilonova.embedded.network.plane import HostPlan, apply, audit, netns, plug_tap
from kilonova.embedded.network.plane.desired import DhcpPort, Endpoint, Fixed, Network, Rule, Subnet

if TYPE_CHECKING:
    from tests.live.network.conftest import Lab, MakePort

pytestmark = pytest.mark.live

_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0
_TUN_F_CSUM = 1
_TAP_AS_QEMU_OPENS_IT = 0x0002 | 0x1000 | 0x4000
_VIRTIO_HEADER = 10
MAC = bytes.fromhex("fa163e000001")


def _sum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(total)


def _discover() -> bytes:
    bootp = struct.pack("!BBBBIHH16x", 1, 1, 6, 0, 7, 0, 0) + MAC + bytes(10) + bytes(192)
    bootp += b"\x63\x82\x53\x63\x35\x01\x01\xff"
    udp = struct.pack("!HHHH", 68, 67, 8 + len(bootp), 0) + bootp
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), b"\xff" * 4
    )
    head = head[:10] + struct.pack("!H", 0xFFFF - _sum(head)) + head[12:]
    return b"\xff" * 6 + MAC + b"\x08\x00" + head + udp


async def test_dhcp_over_a_tap(lab: Lab, make_port: MakePort) -> None:
    port = make_port(1, Rule("egress"), fixed_ips=(Fixed("v4", "10.0.0.1"),))
    net = Network(
        "net",
        "kvbtap",
        1450,
        (Subnet("v4", "10.0.0.0/24", "10.0.0.254"),),
        dhcp=DhcpPort("dhcp", "fa:16:3e:dd:00:01", (Fixed("v4", "10.0.0.250"),)),
        endpoints=(Endpoint(port.id, port.mac, port.fixed_ips),),
    )
    plan = HostPlan("h", (net,), (port,))
    await plug_tap(port.tap, net.bridge, net.mtu, lab.env, user=65534)
    shown = lab.run(lab.host, f"ip -d link show {port.tap}")
    assert "persist on" in shown
    assert "user nobody" in shown
    assert "mtu 1450" in shown

    def guest() -> int:
        handle = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        name = struct.pack("16sH22x", port.tap.encode(), _TAP_AS_QEMU_OPENS_IT)
        fcntl.ioctl(handle, _TUNSETIFF, name)
        fcntl.ioctl(handle, _TUNSETOFFLOAD, _TUN_F_CSUM)
        return handle

    handle = netns.run_in(lab.host, guest)
    try:
        assert _answer(handle, 0.3) is None, "a tap no plan names is mute"
        assert (await apply(plan, env=lab.env)).problems == ()
        offer = _answer(handle, 5.0)
        assert offer is not None
        header, frame = offer[:_VIRTIO_HEADER], offer[_VIRTIO_HEADER:]
        assert header[0] & 1 == 0, "no checksum is left for the guest to fill in"
        ip, udp = frame[14:34], frame[34:]
        length = struct.unpack("!H", udp[4:6])[0]
        pseudo = ip[12:20] + struct.pack("!HH", 17, length)
        assert _sum(pseudo + udp[:length]) == 0xFFFF
        assert socket.inet_ntoa(udp[8 + 16 : 8 + 20]) == "10.0.0.1"
        await plug_tap(port.tap, net.bridge, net.mtu, lab.env, user=65534)
        assert _answer(handle, 5.0) is not None, "plugging again does not disturb a running guest"
    finally:
        os.close(handle)
    assert await audit(plan, lab.env) == []


def _answer(handle: int, wait: float) -> bytes | None:
    """The DHCP offer to a question sent now."""
    os.write(handle, bytes(_VIRTIO_HEADER) + _discover())
    while select.select([handle], [], [], wait)[0]:
        data = os.read(handle, 4096)
        frame = data[_VIRTIO_HEADER:]
        if frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[34:38] == b"\0\x43\0\x44":
            return data
    return None
