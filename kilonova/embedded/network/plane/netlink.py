"""The few netlink requests the data plane makes, over pyroute2's synchronous socket.

A socket belongs to the namespace of the thread that opened it; see ``netns.run_in``.
"""

from __future__ import annotations

import errno
import importlib
import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from msgspec import Struct

from kilonova.embedded.network.plane.env import PlaneError

_AF_INET, _AF_INET6, _AF_BRIDGE = 2, 10, 7
_IFF_UP = 1
_NODAD = 0x02
_PERMANENT, _SELF, _APPEND = 0x80, 0x02, 0x0800
_MAIN_TABLE = 254
_RTPROT_KERNEL, _RTPROT_RA, _RTPROT_STATIC = 2, 9, 4
_RTN_UNICAST = 1
_ONLINK = 4
FLOOD = "00:00:00:00:00:00"


class Link(Struct, frozen=True):
    """A link as the kernel describes it. ``vxlan`` is (VNI, local address, port)."""

    index: int
    name: str
    kind: str
    group: int
    mtu: int
    mac: str
    up: bool
    master: int | None = None
    alias: str = ""
    vxlan: tuple[int, str, int] | None = None
    tracks: bool = False


class KernelRoute(Struct, frozen=True):
    """A unicast route of the main table that somebody set."""

    destination: str
    via: str | None
    index: int | None


@cache
def _library() -> Any:
    # A third of a second to import: only those who touch the network pay it.
    return importlib.import_module("pyroute2")


class Netlink:
    """Requests in one namespace; every failure is a ``PlaneError`` that names the object."""

    def __init__(self, socket: Any) -> None:
        self._ip = socket

    def links(self) -> dict[str, Link]:
        """All links by name."""
        found = (_link(message) for message in self._ip.get_links())
        return {link.name: link for link in found}

    def link(self, name: str) -> Link | None:
        """One link, which is cheaper than all."""
        try:
            found = self._ip.link("get", ifname=name)
        except Exception as error:
            if getattr(error, "code", None) != errno.ENODEV:
                raise
            return None
        return _link(found[0]) if found else None

    def add_bridge(self, name: str, *, mtu: int, group: int, alias: str) -> None:
        """A bridge whose frames pass connection tracking, whatever the host-wide switch says."""
        self._do(
            name, "link", "add", ifname=name, kind="bridge", group=group, mtu=mtu,
            br_nf_call_iptables=1, br_nf_call_ip6tables=1, br_nf_call_arptables=0,
            br_mcast_snooping=0, br_stp_state=0, br_forward_delay=0,
        )  # fmt: skip
        self.set_link(name, ifalias=alias)

    def track(self, name: str) -> None:
        """Switch connection tracking on for a bridge."""
        index = self._index(name)
        self._do(name, "link", "set", index=index, kind="bridge",
                 br_nf_call_iptables=1, br_nf_call_ip6tables=1)  # fmt: skip

    def add_vxlan(
        self, name: str, *, vni: int, local: str, port: int, mtu: int, group: int, alias: str
    ) -> None:
        """A tunnel device without a multicast group; peers are flooding entries."""
        side = {"vxlan_local6" if ":" in local else "vxlan_local": local}
        self._do(
            name, "link", "add", ifname=name, kind="vxlan", group=group, mtu=mtu, vxlan_id=vni,
            vxlan_port=port, vxlan_learning=1, **side,
        )  # fmt: skip
        self.set_link(name, ifalias=alias)

    def add_veth(
        self, name: str, peer: dict[str, object], *, mtu: int, group: int, alias: str
    ) -> None:
        """A veth pair; ``peer`` takes ifname, address, net_ns_fd."""
        self._do(
            name, "link", "add", ifname=name, kind="veth", mtu=mtu, group=group,
            peer={"mtu": mtu, "group": group, **peer},
        )  # fmt: skip
        self.set_link(name, ifalias=alias)

    def set_link(self, name: str, **changes: object) -> None:
        """Change attributes; ``master`` may be the name of a bridge, ``state`` is up or down."""
        if isinstance(changes.get("master"), str):
            changes["master"] = self._index(str(changes["master"]))
        self._do(name, "link", "set", index=self._index(name), **changes)

    def delete_link(self, name: str) -> None:
        """Remove a link; one that is gone is fine."""
        try:
            self._do(name, "link", "del", index=self._index(name))
        except PlaneError as error:
            if not _is(error, errno.ENODEV):
                raise

    def flood_peers(self) -> dict[int, set[str]]:
        """VTEPs each VXLAN device floods to, by link index."""
        found: dict[int, set[str]] = {}
        for message in self._ip.get_neighbours(family=_AF_BRIDGE):
            peer = message.get("dst")
            if message.get("lladdr") == FLOOD and peer:
                found.setdefault(int(message["ifindex"]), set()).add(str(peer))
        return found

    def add_flood_peer(self, name: str, peer: str) -> None:
        """Send what has no known place to this VTEP too."""
        self._fdb(name, "append", peer)

    def delete_flood_peer(self, name: str, peer: str) -> None:
        """Stop sending to this VTEP."""
        self._fdb(name, "del", peer)

    def addresses(self) -> dict[int, set[str]]:
        """Interface addresses (``10.0.0.1/24``) by link index, without link-local ones."""
        found: dict[int, set[str]] = {}
        for message in self._ip.get_addr():
            address = str(message.get("local") or message.get("address"))
            if address.startswith("fe80:"):
                continue
            found.setdefault(int(message["index"]), set()).add(f"{address}/{message['prefixlen']}")
        return found

    def add_address(self, name: str, address: str) -> None:
        """Give an address; IPv6 ones are usable at once."""
        interface = ipaddress.ip_interface(address)
        extra = {"flags": _NODAD} if interface.version == 6 else {}
        self._do(name, "addr", "replace", index=self._index(name), address=str(interface.ip),
                 prefixlen=interface.network.prefixlen, **extra)  # fmt: skip

    def delete_address(self, name: str, address: str) -> None:
        """Take an address away."""
        interface = ipaddress.ip_interface(address)
        self._do(name, "addr", "del", index=self._index(name), address=str(interface.ip),
                 prefixlen=interface.network.prefixlen)  # fmt: skip

    def routes(self) -> list[KernelRoute]:
        """Unicast routes of the main table that neither the kernel nor an advertisement made."""
        found = []
        for family in (_AF_INET, _AF_INET6):
            for message in self._ip.get_routes(family=family, table=_MAIN_TABLE):
                if message["proto"] in (_RTPROT_KERNEL, _RTPROT_RA):
                    continue
                if message["type"] != _RTN_UNICAST:
                    continue
                length = message["dst_len"]
                target = message.get("dst") or ("::" if family == _AF_INET6 else "0.0.0.0")
                found.append(
                    KernelRoute(f"{target}/{length}", message.get("gateway"), message.get("oif"))
                )
        return found

    def replace_route(
        self, destination: str, via: str, *, device: str | None = None, onlink: bool = False
    ) -> None:
        """Set a route."""
        extra: dict[str, object] = {"oif": self._index(device)} if device else {}
        if onlink:
            extra["flags"] = _ONLINK
        family = _AF_INET6 if ":" in via else _AF_INET
        self._do(destination, "route", "replace", dst=destination, gateway=via, family=family,
                 proto=_RTPROT_STATIC, **extra)  # fmt: skip

    def delete_route(self, route: KernelRoute) -> None:
        """Take a route away; one that is gone is fine."""
        extra = {
            key: value
            for key, value in (("gateway", route.via), ("oif", route.index))
            if value is not None
        }
        family = _AF_INET6 if ":" in route.destination else _AF_INET
        try:
            self._do(route.destination, "route", "del", dst=route.destination, family=family,
                     **extra)  # fmt: skip
        except PlaneError as error:
            if not _is(error, errno.ESRCH):
                raise

    def default_devices(self) -> set[str]:
        """Names of the links IPv4 default routes leave by."""
        indexes = {
            int(message.get("oif"))
            for message in self._ip.get_routes(family=_AF_INET, table=_MAIN_TABLE)
            if message["dst_len"] == 0 and message.get("oif")
        }
        return {link.name for link in self.links().values() if link.index in indexes}

    def _fdb(self, name: str, command: str, peer: str) -> None:
        self._do(name, "fdb", command, ifindex=self._index(name), lladdr=FLOOD, dst=peer,
                 state=_PERMANENT, flags=_SELF)  # fmt: skip

    def _index(self, name: str) -> int:
        found = self.link(name)
        if found is None:
            raise PlaneError(f"{name}: there is no such link") from OSError(errno.ENODEV, name)
        return found.index

    def _do(self, what: str, request: str, *arguments: object, **attributes: object) -> None:
        try:
            getattr(self._ip, request)(*arguments, **attributes)
        except Exception as error:
            number = getattr(error, "code", None)
            if not isinstance(number, int):
                raise
            raise PlaneError(f"{what}: {request} {arguments[0]}: {error}") from error


@contextmanager
def netlink() -> Iterator[Netlink]:
    """A socket in the namespace of this thread."""
    socket = _library().IPRoute()
    try:
        yield Netlink(socket)
    except _library().NetlinkError as error:
        raise PlaneError(f"netlink: {error}") from error
    finally:
        socket.close()


def _is(error: PlaneError, number: int) -> bool:
    cause = error.__cause__
    return getattr(cause, "code", getattr(cause, "errno", None)) == number


def _link(message: Any) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    kind = str(info.get_attr("IFLA_INFO_KIND") or "") if info else ""
    data = info.get_attr("IFLA_INFO_DATA") if info and kind in ("vxlan", "bridge") else None
    vxlan = None
    tracks = False
    if data is not None and kind == "vxlan":
        local = data.get_attr("IFLA_VXLAN_LOCAL") or data.get_attr("IFLA_VXLAN_LOCAL6") or ""
        vxlan = (
            int(data.get_attr("IFLA_VXLAN_ID")),
            str(local),
            int(data.get_attr("IFLA_VXLAN_PORT")),
        )
    elif data is not None:
        tracks = bool(
            data.get_attr("IFLA_BR_NF_CALL_IPTABLES") and data.get_attr("IFLA_BR_NF_CALL_IP6TABLES")
        )
    return Link(
        index=int(message["index"]),
        name=str(message.get_attr("IFLA_IFNAME")),
        kind=kind,
        group=int(message.get_attr("IFLA_GROUP") or 0),
        mtu=int(message.get_attr("IFLA_MTU") or 0),
        mac=str(message.get_attr("IFLA_ADDRESS") or ""),
        up=bool(message["flags"] & _IFF_UP),
        master=message.get_attr("IFLA_MASTER"),
        alias=str(message.get_attr("IFLA_IFALIAS") or ""),
        vxlan=vxlan,
        tracks=tracks,
    )
