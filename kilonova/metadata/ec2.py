"""The EC2 tree, for guests that ask as on Amazon's cloud."""

from __future__ import annotations

import zlib
from typing import Any

from kilonova.domain.guest import GuestSpec
from kilonova.metadata.openstack import hostname

VERSIONS = (
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
)
LATEST = "latest"

# key -> the version it came with ("1.0" sorts before the years)
SINCE = {
    "local-hostname": "2007-01-19",
    "public-hostname": "2007-01-19",
    "public-ipv4": "2007-01-19",
    "instance-type": "2007-08-29",
    "block-device-mapping": "2007-12-15",
    "kernel-id": "2007-12-15",
    "ramdisk-id": "2007-12-15",
    "placement": "2008-02-01",
    "instance-action": "2008-09-01",
}

Tree = dict[str, Any]


def real(version: str) -> str | None:
    """The version a path component stands for; None when there is no such one."""
    if version == LATEST:
        return VERSIONS[-1]
    return version if version in VERSIONS else None


def meta_data(guest: GuestSpec, version: str, dhcp_domain: str) -> Tree:
    """``meta-data`` as nested dictionaries of text and lists."""
    about = guest.metadata
    name = hostname(guest, dhcp_domain)
    fixed = [ip.address for nic in guest.nics for ip in nic.ips if ip.version == 4]
    floating = [f for nic in guest.nics for ip in nic.ips for f in ip.floating]
    tree: Tree = {
        "ami-id": image_id("ami", guest.image.id) if guest.image else "ami-00000000",
        "ami-launch-index": str(about.launch_index),
        "ami-manifest-path": "FIXME",
        "hostname": name,
        "instance-id": instance_id(guest),
        "local-ipv4": fixed[0] if fixed else "",
        "reservation-id": about.reservation_id,
        "security-groups": list(about.security_groups),
        "local-hostname": name,
        "public-hostname": name,
        "public-ipv4": floating[0] if floating else "",
        "instance-type": guest.flavor.name,
        "block-device-mapping": _disks(guest),
        "placement": {"availability-zone": about.availability_zone},
        "instance-action": "none",
    }
    for key, prop, prefix in (
        ("kernel-id", "kernel_id", "aki"),
        ("ramdisk-id", "ramdisk_id", "ari"),
    ):
        image = guest.properties.get(prop)
        if image:
            tree[key] = image_id(prefix, image)
    if about.keys:
        tree["public-keys"] = {
            str(i): {"_name": f"{i}={key.name}", "openssh-key": key.public_key}
            for i, key in enumerate(about.keys)
        }
    return {k: v for k, v in tree.items() if version >= SINCE.get(k, "1.0")}


def instance_id(guest: GuestSpec) -> str:
    """``i-0000002a``: the number in the guest's hypervisor name."""
    number = guest.name.rpartition("-")[2]
    return f"i-{number:>08}"


def image_id(prefix: str, image: str) -> str:
    """A stable EC2-style id of an image."""
    return f"{prefix}-{zlib.crc32(image.encode()):08x}"


def render(node: Any) -> str:
    """A node as the service answers it: text, a line per item, or a listing of keys."""
    if isinstance(node, dict):
        lines = []
        for key, value in sorted(node.items()):
            if key == "_name":
                continue
            if isinstance(value, dict):
                lines.append(value.get("_name", f"{key}/"))
            else:
                lines.append(key)
        return "\n".join(lines)
    if isinstance(node, list):
        return "\n".join(node)
    return str(node)


def find(tree: Tree, path: list[str]) -> Any:
    """The node at a path below ``meta-data``; None when there is none."""
    node: Any = tree
    for part in path:
        if not isinstance(node, dict) or part == "_name":
            return None
        node = node.get(part.partition("=")[0])
        if node is None:
            return None
    return node


def plain(node: Any) -> Any:
    """The tree without our marks, for ``meta-data.json`` on a config drive."""
    if isinstance(node, dict):
        return {k: plain(v) for k, v in node.items() if k != "_name"}
    return node


def _disks(guest: GuestSpec) -> Tree:
    root = guest.root_device.removeprefix("/dev/")
    disks: Tree = {"ami": root, "root": f"/dev/{root}"}
    swap = [d for d in guest.disks if d.role == "swap"]
    if swap:
        disks["swap"] = swap[0].device
    for i, disk in enumerate(d for d in guest.disks if d.role == "ephemeral"):
        disks[f"ephemeral{i}"] = disk.device
    for i, disk in enumerate(d for d in guest.disks if d.role == "volume"):
        disks[f"ebs{i}"] = f"/dev/{disk.device}"
    return disks
