"""A rescued guest: the same one, described so that it starts from another image."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from kilonova.base.errors import BadRequest
from kilonova.domain.disks import next_device
from kilonova.domain.guest import Disk, GuestSpec, ImageRef

ROLE = "rescue"
"""The role of the disk a rescued guest starts from."""
DEVICE, BUS = "hw_rescue_device", "hw_rescue_bus"
DEVICES = frozenset({"disk", "cdrom"})
BUSES = frozenset({"virtio", "scsi", "sata", "ide", "usb"})


def stable(properties: Mapping[str, str]) -> bool:
    """Whether an image is made to be put beside the guest's disks, which keep their places."""
    return bool(properties.get(DEVICE) or properties.get(BUS))


def check(properties: Mapping[str, str]) -> None:
    """BadRequest for a rescue device or bus that no hypervisor of ours offers."""
    device, bus = properties.get(DEVICE) or "disk", properties.get(BUS) or "virtio"
    if device not in DEVICES:
        raise BadRequest(f"Requested rescue device '{device}' is not supported")
    if bus not in BUSES:
        raise BadRequest(f"Requested rescue bus '{bus}' is not supported")


def is_rescued(guest: GuestSpec) -> bool:
    """Whether the guest starts from a rescue disk."""
    return any(disk.role == ROLE for disk in guest.disks)


def rescued(guest: GuestSpec, image: ImageRef, *, admin_pass: str | None = None) -> GuestSpec:
    """The guest as it is while it is rescued with ``image``.

    An image with ``hw_rescue_device`` or ``hw_rescue_bus`` comes last, after all of the guest's
    disks (stable device rescue); any other takes the place of the root disk, which becomes the
    second one, and ephemeral disks and volumes are left out. Source: Nova user guide, "Rescue an
    instance".
    """
    about = msgspec.structs.replace(guest.metadata, admin_pass=admin_pass)
    guest = msgspec.structs.replace(guest, metadata=about)
    return _beside(guest, image) if stable(image.properties) else _instead(guest, image)


def _beside(guest: GuestSpec, image: ImageRef) -> GuestSpec:
    kind = image.properties.get(DEVICE) or "disk"
    common = guest.properties.get("hw_disk_bus", "virtio")
    default = guest.properties.get("hw_cdrom_bus", "sata") if kind == "cdrom" else common
    bus = image.properties.get(BUS) or default
    extra = Disk(
        id=ROLE,
        role=ROLE,
        source="image",
        device=next_device(guest.disks, None, bus),
        bus=bus,
        boot_index=0,
        image=image,
        device_type=kind,
    )
    own = tuple(msgspec.structs.replace(disk, boot_index=None) for disk in guest.disks)
    return msgspec.structs.replace(guest, disks=(*own, extra))


def _instead(guest: GuestSpec, image: ImageRef) -> GuestSpec:
    root = next((disk for disk in guest.disks if disk.role == "root"), None)
    own = root.bus if root is not None else "virtio"
    bus = image.properties.get("hw_disk_bus") or own
    first = Disk(
        id=ROLE,
        role=ROLE,
        source="image",
        device=root.device if root is not None and bus == own else next_device((), None, bus),
        bus=bus,
        boot_index=0,
        image=image,
        device_type="cdrom" if image.disk_format == "iso" else "disk",
    )
    disks: tuple[Disk, ...] = (first,)
    if root is not None:
        second = next_device(disks, None, root.bus)
        disks += (msgspec.structs.replace(root, device=second, boot_index=None),)
    return msgspec.structs.replace(guest, disks=disks, image=image, properties=image.properties)
