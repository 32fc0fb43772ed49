"""The host's end of guests' network cards: taps on Linux bridges."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import importlib
import os
import socket
import struct
from collections.abc import Iterator
from functools import cache
from typing import Any

from kilonova.base.errors import BadRequest, Unavailable
from kilonova.domain.guest import Nic
from kilonova.virt.devices.nics import tap_name

TUN = "/dev/net/tun"
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
NAME_BYTES = 15


@cache
def _library() -> Any:
    # Slow to import, and hosts whose networks are made by others never use it.
    return importlib.import_module("pyroute2")


class LinuxBridgeVifs:
    """A VifPlugger for ``vif_type`` bridge: makes the tap, and the bridge if it is not there yet.

    Cards with user-mode networking need nothing on the host. Everything happens in the network
    namespace of the calling process.
    """

    async def plug(self, nic: Nic) -> None:
        """Make the tap, put it on the bridge, set it up; repeated calls are harmless.

        Raises BadRequest for a kind of card this cannot make, Unavailable when the kernel refuses.
        """
        if nic.vif_type == "user":
            return
        if nic.vif_type not in ("bridge", "tap"):
            raise BadRequest(f"This host cannot connect a port of type {nic.vif_type}.")
        name = tap_name(nic)
        for each in (name, nic.bridge):
            if len(each) > NAME_BYTES:
                raise BadRequest(f"The network device name {each} is longer than {NAME_BYTES}.")
        try:
            await asyncio.to_thread(_plug, name, nic)
        except (_library().NetlinkError, OSError) as error:
            raise Unavailable(
                f"The network device {name} could not be made: {_reason(error)}."
            ) from error

    async def unplug(self, nic: Nic) -> None:
        """Remove the tap; nothing there is success."""
        if nic.vif_type in ("bridge", "tap"):
            try:
                await asyncio.to_thread(_unplug, tap_name(nic))
            except (_library().NetlinkError, OSError) as error:
                raise Unavailable(
                    f"The network device {tap_name(nic)} could not be removed: {_reason(error)}."
                ) from error


class NoVifs:
    """A VifPlugger for hosts whose guests have no card on the host (fake, user-mode)."""

    async def plug(self, nic: Nic) -> None:
        """Nothing to make."""

    async def unplug(self, nic: Nic) -> None:
        """Nothing to remove."""


def open_tap(name: str) -> int:
    """A descriptor of an existing tap, for QEMU to inherit (so that it needs no rights).

    Source: Linux Documentation/networking/tuntap.rst.
    """
    try:
        socket.if_nametoindex(name)
    except OSError:
        raise Unavailable(f"The network device {name} is not there.") from None
    fd = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        request = struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
        fcntl.ioctl(fd, TUNSETIFF, request)
    except OSError as error:
        os.close(fd)
        raise Unavailable(f"The network device {name} cannot be used: {error.strerror}.") from None
    return fd


def taps() -> list[str]:
    """Names of the taps in this network namespace."""
    with contextlib.suppress(OSError, _library().NetlinkError), _library().IPRoute() as ip:
        return [
            link.get_attr("IFLA_IFNAME")
            for link in ip.get_links()
            if link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") == "tun"
        ]
    return []


def _plug(name: str, nic: Nic) -> None:
    with _library().IPRoute() as ip:
        bridge = _bridge(ip, nic.bridge) if nic.bridge else None
        found = ip.link_lookup(ifname=name)
        if not found:
            with _there_already():
                ip.link("add", ifname=name, kind="tuntap", mode="tap")
            found = ip.link_lookup(ifname=name)
        changes = {"mtu": nic.mtu} if nic.mtu else {}
        if bridge is not None:
            changes["master"] = bridge
        ip.link("set", index=found[0], state="up", **changes)


def _bridge(ip: Any, name: str) -> int:
    found = ip.link_lookup(ifname=name)
    if not found:
        with _there_already():
            ip.link("add", ifname=name, kind="bridge")
        found = ip.link_lookup(ifname=name)
        ip.link("set", index=found[0], state="up")
    return int(found[0])


def _unplug(name: str) -> None:
    with _library().IPRoute() as ip:
        for index in ip.link_lookup(ifname=name):
            try:
                ip.link("del", index=index)
            except _library().NetlinkError as error:
                if error.code != errno.ENODEV:
                    raise


@contextlib.contextmanager
def _there_already() -> Iterator[None]:
    try:
        yield
    except _library().NetlinkError as error:
        if error.code != errno.EEXIST:
            raise


def _reason(error: Exception) -> str:
    if isinstance(error, _library().NetlinkError):
        return os.strerror(error.code)
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
