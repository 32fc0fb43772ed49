"""The ``openstack/`` tree: which files each version has, and what is in them.

Source: Nova user guide, page "Metadata service".
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import msgspec

from kilonova.domain.guest import Disk, GuestShare, GuestSpec, Nic
from kilonova.metadata.network import network_data

VERSIONS = (
    "2012-08-10",
    "2013-04-04",
    "2013-10-17",
    "2015-10-15",
    "2016-06-30",
    "2016-10-06",
    "2017-02-22",
    "2018-08-27",
    "2020-10-14",
    "2025-04-04",
)
LATEST = "latest"
SEED_BYTES = 512

# file name -> the version it came with
FILES = {
    "meta_data.json": "2012-08-10",
    "password": "2013-04-04",
    "vendor_data.json": "2013-10-17",
    "network_data.json": "2015-10-15",
    "vendor_data2.json": "2016-10-06",
}


class Extras(msgspec.Struct, frozen=True):
    """What a tree needs beside the guest: domain, vendor data, chance, and a kept password.

    ``vendor_data`` None: there is no such file.
    """

    random: Callable[[int], bytes]
    dhcp_domain: str = "novalocal"
    vendor_data: dict[str, Any] | None = {}
    vendor_data2: dict[str, Any] = {}
    password: str = ""


def shown(today: str) -> tuple[str, ...]:
    """The versions a guest is told of: those not later than ``today`` (ISO date), and the latest.

    Later ones answer all the same.
    """
    return (*(version for version in VERSIONS if version <= today), LATEST)


def real(version: str) -> str | None:
    """The version a path component stands for; None when there is no such one."""
    if version == LATEST:
        return VERSIONS[-1]
    return version if version in VERSIONS else None


def listing(guest: GuestSpec, version: str) -> list[str]:
    """The files under ``openstack/<version>/``."""
    names = [name for name, since in FILES.items() if version >= since]
    if guest.metadata.user_data is not None:
        names.insert(1, "user_data")
    return names


def read(guest: GuestSpec, version: str, name: str, extras: Extras) -> bytes | None:
    """One file's content; None when that version has no such file."""
    if name not in listing(guest, version):
        return None
    if name == "user_data":
        return user_data(guest)
    if name == "password":
        return extras.password.encode()
    documents: dict[str, Callable[[], dict[str, Any] | None]] = {
        "vendor_data.json": lambda: extras.vendor_data,
        "vendor_data2.json": lambda: extras.vendor_data2,
        "network_data.json": lambda: network_data(guest.nics),
        "meta_data.json": lambda: meta_data(guest, version, extras),
    }
    document = documents[name]()
    return None if document is None else msgspec.json.encode(document)


def user_data(guest: GuestSpec) -> bytes:
    """The user data as it was before base64; empty when there is none."""
    return base64.b64decode(guest.metadata.user_data or "")


def hostname(guest: GuestSpec, dhcp_domain: str) -> str:
    """The guest's host name in the cloud's domain, if there is one.

    Also a name that is fully qualified already gets it, as in Nova: where users give such names,
    ``[api] dhcp_domain`` is left empty.
    """
    name = guest.metadata.hostname
    return f"{name}.{dhcp_domain}" if dhcp_domain else name


def meta_data(
    guest: GuestSpec, version: str, extras: Extras, *, with_password: bool = False
) -> dict[str, Any]:
    """``meta_data.json``; ``with_password`` adds ``admin_pass`` (config drives only)."""
    about = guest.metadata
    doc: dict[str, Any] = {
        "uuid": guest.server_id,
        "name": about.name,
        "hostname": hostname(guest, extras.dhcp_domain),
        "availability_zone": about.availability_zone,
        "launch_index": about.launch_index,
    }
    if about.meta:
        doc["meta"] = about.meta
    if about.files:
        doc["files"] = [
            {"path": file.path, "content_path": f"/content/{content_name(i)}"}
            for i, file in enumerate(about.files)
        ]
    if about.keys:
        doc["public_keys"] = {key.name: key.public_key for key in about.keys}
        doc["keys"] = [
            {"name": key.name, "type": key.type, "data": key.public_key} for key in about.keys
        ]
    if with_password and about.admin_pass is not None:
        doc["admin_pass"] = about.admin_pass
    if version >= "2013-04-04":
        doc["random_seed"] = base64.b64encode(extras.random(SEED_BYTES)).decode()
    if version >= "2015-10-15":
        doc["project_id"] = about.project_id
    if version >= "2016-06-30":
        doc["devices"] = devices(guest, version)
    if version >= "2020-10-14":
        doc["dedicated_cpus"] = list(about.dedicated_cpus)
    return doc


# bus of a disk -> what guests are told; where on it they sit is not known
_BUSES = {"virtio": "pci", "scsi": "scsi", "usb": "usb", "ide": "ide"}
_VIRTUAL_FUNCTIONS = frozenset({"direct", "macvtap", "direct-physical"})


def devices(guest: GuestSpec, version: str = VERSIONS[-1]) -> list[dict[str, Any]]:
    """Cards and disks that carry a tag, and shares; cards also when they are on a VLAN."""
    cards = [_card(nic, version) for nic in guest.nics]
    found = [card for card in cards if "tags" in card or "vlan" in card]
    found += [_disk(disk) for disk in guest.disks if disk.tag]
    if version >= "2025-04-04":
        found += [_share(share) for share in guest.shares or ()]
    return found


def _card(nic: Nic, version: str) -> dict[str, Any]:
    card: dict[str, Any] = {"type": "nic", "bus": "pci", "address": "none", "mac": nic.mac}
    vlan = nic.details.get("vlan") if nic.vnic_type in _VIRTUAL_FUNCTIONS else None
    if version >= "2017-02-22" and vlan is not None:
        card["vlan"] = int(vlan)
    if version >= "2018-08-27":
        card["vf_trusted"] = False
    if nic.tag:
        card["tags"] = [nic.tag]
    return card


def _share(share: GuestShare) -> dict[str, Any]:
    return {
        "type": "share",
        "bus": "none",
        "address": "none",
        "share_id": share.share_id,
        "tag": share.tag,
    }


def _disk(disk: Disk) -> dict[str, Any]:
    serial = disk.serial or disk.volume_id
    return {
        "type": "disk",
        "bus": _BUSES.get(disk.bus, "none"),
        "address": "none",
        "path": f"/dev/{disk.device}",
        "tags": [disk.tag],
        **({"serial": serial} if serial else {}),
    }


def content_name(index: int) -> str:
    """The name of an injected file under ``content/``."""
    return f"{index:04d}"


def content(guest: GuestSpec, name: str) -> bytes | None:
    """An injected file's bytes."""
    for i, file in enumerate(guest.metadata.files):
        if content_name(i) == name:
            return base64.b64decode(file.contents)
    return None
