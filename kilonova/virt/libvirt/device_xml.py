"""Disks and network cards as libvirt's XML; the same at a guest's start and later on."""

from __future__ import annotations

import string

from kilonova.base.errors import NotSupported
from kilonova.domain.guest import Nic
from kilonova.virt.devices import DiskDevice, NicDevice
from kilonova.virt.devices.disks import PREFIX
from kilonova.virt.disks import DiskFile, shared
from kilonova.virt.libvirt import secret_xml
from kilonova.virt.libvirt.xml import Element, element

CONNECTED = frozenset({"bridge", "tap"})


def disk(device: DiskDevice, file: DiskFile, *, block: bool = False) -> Element:
    """A disk. ``block``: its file is a block device."""
    kind, where = _source(file, block=block)
    return element(
        "disk",
        element("driver", name="qemu", type_=file.format, discard="unmap"),
        where,
        # All of the chain is named, so that nothing written inside an image decides what is opened.
        _backing(file),
        element("target", dev=device.device, bus=device.bus),
        element("serial", device.disk.serial) if device.disk.serial else None,
        element("boot", order=device.boot_order) if device.boot_order is not None else None,
        element("readonly") if device.read_only else None,
        element("shareable") if shared(device.disk) else None,
        element("alias", name=disk_alias(device.device)),
        _place(device),
        type_=kind,
        device="cdrom" if device.cdrom else "disk",
    )


def mirror(file: DiskFile, *, block: bool = False) -> Element:
    """The target of a copy, as a disk."""
    kind, where = _source(file, block=block)
    return element(
        "disk",
        where,
        element("driver", type_=file.format),
        element("backingStore"),
        type_=kind,
    )


def place(file: DiskFile) -> str:
    """The path of a disk's file, or its name at the server that has it."""
    node = file.remote
    match node.get("driver"):
        case "nbd":
            return str(node["export"])
        case "rbd":
            return f"{node['pool']}/{node['image']}"
        case "iscsi":
            return f"{node['target']}/{node['lun']}"
        case "nfs":
            return str(node["path"])
    return file.path


def _source(file: DiskFile, *, block: bool) -> tuple[str, Element]:
    """The type of a disk and its source; NotSupported for keys that libvirt cannot use."""
    node = file.remote
    if not node:
        kind, name = ("block", "dev") if block else ("file", "file")
        return kind, element("source", **{name: file.path})
    wanted = secret_xml.key(file)
    if node["driver"] == "iscsi":
        host, _, port = node["portal"].rpartition(":")
        servers = [{"host": host, "port": port}]
    else:
        given = node.get("server") or []
        servers = given if isinstance(given, list) else [given]
    hosts = [
        element("host", name=one["host"], **({"port": one["port"]} if "port" in one else {}))
        for one in servers
    ]
    auth = secret_xml.auth(wanted) if wanted is not None else None
    return "network", element("source", *hosts, auth, protocol=node["driver"], name=place(file))


def disk_alias(device: str) -> str:
    """The name of a disk for libvirt and in its events (``ua-`` is for names that users give)."""
    return f"ua-disk-{device}"


def card(nic: NicDevice) -> Element:
    """A card on a tap that is there already; NotSupported for cards without one."""
    if nic.nic.vif_type not in CONNECTED:
        raise NotSupported(
            f"The libvirt driver cannot connect a port of type {nic.nic.vif_type}; use a network "
            "with taps on this host's bridges, or compute_driver = qemu.QemuDriver."
        )
    return element(
        "interface",
        element("mac", address=nic.nic.mac),
        element("target", dev=nic.tap, managed="no"),
        element("model", type_=nic.model),
        element("mtu", size=nic.nic.mtu) if nic.nic.mtu and nic.model == "virtio" else None,
        # No guest boots from the network.
        element("rom", enabled="no"),
        element("alias", name=card_alias(nic.nic)),
        type_="ethernet",
    )


def card_alias(nic: Nic) -> str:
    """The name of a card for libvirt and in its events."""
    return f"ua-net-{nic.port_id}"


def _backing(file: DiskFile) -> Element:
    if not file.base:
        return element("backingStore")
    return element(
        "backingStore",
        element("format", type_=file.base_format),
        element("source", file=file.base),
        element("backingStore"),
        type_="file",
    )


def _place(device: DiskDevice) -> Element | None:
    """One SCSI controller has room for all; left alone libvirt would take one for every seven."""
    if device.bus != "scsi":
        return None
    unit = _index(device.device)
    return element("address", type_="drive", controller=0, bus=0, target=0, unit=unit)


def _index(device: str) -> int:
    """sda → 0, sdz → 25, sdaa → 26."""
    count = 0
    for letter in device.removeprefix(PREFIX["scsi"]):
        count = count * 26 + string.ascii_lowercase.index(letter) + 1
    return count - 1
