"""A server as the API shows it and the store keeps it, and what was asked for when it was made."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from kilonova.domain.fit.shapes import Held
from kilonova.domain.guest import Disk, FlavorSpec, GuestShare, ImageRef, InjectedFile, Nic

EMPTY = msgspec.Raw(b"{}")


class ServerFault(msgspec.Struct, frozen=True):
    """Why a server is in ERROR; ``details`` is for administrators."""

    code: int
    message: str
    created_at: dt.datetime
    details: str = ""


class VolumeRef(msgspec.Struct, frozen=True):
    """An attached volume."""

    id: str
    delete_on_termination: bool = False


class Server(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One server. ``number`` is 0 until it has a row in a cell; ``addresses`` is JSON as shown.

    ``fault``, ``user_data`` and ``groups`` are filled where they were asked for. ``image`` is the
    one that was named, also when the server starts ``from_volume``.
    """

    id: str
    number: int = 0
    project_id: str
    user_id: str
    name: str
    hostname: str
    description: str | None = None
    vm_state: str
    task_state: str | None = None
    power_state: int = 0
    progress: int = 0
    host: str | None = None
    node: str | None = None
    availability_zone: str | None = None
    pinned_zone: str | None = None
    flavor: FlavorSpec
    image: ImageRef | None = None
    from_volume: bool = False
    metadata: dict[str, str] = {}
    addresses: msgspec.Raw = EMPTY
    security_groups: tuple[str, ...] = ()
    key_name: str | None = None
    config_drive: bool = False
    access_ip_v4: str | None = None
    access_ip_v6: str | None = None
    locked_by: str | None = None
    locked_reason: str | None = None
    reservation_id: str = ""
    launch_index: int = 0
    root_device: str | None = None
    auto_disk_config: bool = False
    trusted_certs: tuple[str, ...] | None = None
    scheduler_hints: dict[str, Any] = {}
    created_at: dt.datetime
    updated_at: dt.datetime | None = None
    launched_at: dt.datetime | None = None
    terminated_at: dt.datetime | None = None
    deleted: bool = False
    tags: tuple[str, ...] = ()
    volumes: tuple[VolumeRef, ...] = ()
    fault: ServerFault | None = None
    user_data: str | None = None
    groups: tuple[str, ...] = ()

    @property
    def local_image(self) -> ImageRef | None:
        """The image on its local root disk; None when it starts from a volume."""
        return None if self.from_volume else self.image

    @property
    def guest_name(self) -> str:
        """The hypervisor's name for it; empty before it has a row in a cell."""
        return guest_name(self.number) if self.number else ""


class Private(msgspec.Struct, frozen=True):
    """What is kept of a server beside its `Server`: for making its guest, seldom read.

    ``held``: what it has of its host's shape.
    """

    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
    user_data: str | None = None
    key_type: str = "ssh"
    public_key: str | None = None
    system: dict[str, str] = {}
    # Not written when there is nothing: journals hold the hash of a request as it was before.
    held: Held | msgspec.UnsetType = msgspec.UNSET
    shares: tuple[GuestShare, ...] | msgspec.UnsetType = msgspec.UNSET


class WantedNic(msgspec.Struct, frozen=True):
    """A network card asked for: ``port_id``, or a new port on ``network_id``.

    ``auto``: the project's automatically made network. ``mark`` names the card among the server's.
    """

    mark: str
    network_id: str | None = None
    port_id: str | None = None
    fixed_ip: str | None = None
    tag: str | None = None
    auto: bool = False


class BuildSpec(msgspec.Struct, frozen=True):
    """What placing and making one server needs beyond `Server` and `Private`.

    ``zone`` restricts to an availability zone; ``host``/``node`` force (no filters run);
    ``wanted_host``/``wanted_node`` restrict with filters. ``admin_pass`` and ``files`` are wiped
    when the server is made. ``security_groups`` are ids (None: the network service's default).
    """

    nics: tuple[WantedNic, ...] = ()
    security_groups: tuple[str, ...] | None = None
    zone: str | None = None
    host: str | None = None
    node: str | None = None
    wanted_host: str | None = None
    wanted_node: str | None = None
    hints: dict[str, Any] = {}
    group_id: str | None = None
    admin_pass: str | None = None
    files: tuple[InjectedFile, ...] = ()
    count: int = 1
    ignore_hosts: tuple[str, ...] = ()
    flavor: FlavorSpec | None = None
    image: ImageRef | None = None


class BuildRequest(msgspec.Struct, frozen=True):
    """A server before it has a row in a cell: everything that will be written there."""

    server: Server
    private: Private = Private()
    request_id: str = ""


class Mapping(msgspec.Struct, frozen=True):
    """Where a server is: None for ``cell_id`` while only its build request exists."""

    server_id: str
    cell_id: str | None
    project_id: str
    user_id: str
    queued_for_delete: bool = False


def guest_name(number: int) -> str:
    """``instance-0000002a``: the hypervisor's name of the server with that number."""
    return f"instance-{number:08x}"


@functools.lru_cache(maxsize=65536)
def host_id(project_id: str, host: str | None) -> str:
    """The word that tells owners which servers share a host without naming it."""
    if not host:
        return ""
    return hashlib.sha224((project_id + host).encode()).hexdigest()


def addresses(nics: Iterable[Nic]) -> msgspec.Raw:
    """Network label → addresses, as JSON in the form of the API's ``addresses``."""
    table: dict[str, list[dict[str, Any]]] = {}
    for nic in nics:
        rows = table.setdefault(nic.network_label, [])
        for ip in nic.ips:
            rows.append(_address(ip.address, ip.version, nic.mac, "fixed"))
            rows.extend(
                _address(floating, 6 if ":" in floating else 4, nic.mac, "floating")
                for floating in ip.floating
            )
    return msgspec.Raw(msgspec.json.encode(table))


def _address(address: str, version: int, mac: str, kind: str) -> dict[str, Any]:
    return {
        "version": version,
        "addr": address,
        "OS-EXT-IPS:type": kind,
        "OS-EXT-IPS-MAC:mac_addr": mac,
    }
