"""Keys of volumes as libvirt keeps them: beside the domain, which only names them."""

from __future__ import annotations

import base64
import uuid
from pathlib import Path

import msgspec

from kilonova.base.errors import NotSupported
from kilonova.virt.disks import DiskFile
from kilonova.virt.libvirt.xml import Element, element

USAGE = {"iscsi": ("iscsi", "target"), "rbd": ("ceph", "name")}
"""By protocol: the kind of a secret, and what its use is called."""
NAMESPACE = uuid.UUID("7f0b8b0e-4c0e-5d0c-9d5e-2b1a6d7c3e41")


class Key(msgspec.Struct, frozen=True):
    """A volume's key. ``name``: QEMU's name of it; ``encoded``: the file holds it in base64."""

    protocol: str
    name: str
    user: str
    file: str
    encoded: bool

    @property
    def uuid(self) -> str:
        """The same for the same volume, so that defining it again replaces it."""
        return str(uuid.uuid5(NAMESPACE, self.name))

    def value(self) -> bytes:
        """Read from its file; OSError, ValueError."""
        text = Path(self.file).read_bytes()
        return base64.b64decode(text, validate=True) if self.encoded else text


def key(file: DiskFile) -> Key | None:
    """The key a volume needs; None for most. NotSupported for those libvirt cannot use."""
    if not file.objects:
        return None
    node, protocol = file.remote, str(file.remote["driver"])
    if protocol not in USAGE:
        raise NotSupported(
            f"The libvirt driver cannot use the key of this {protocol} volume; use "
            "compute_driver = qemu.QemuDriver, or a connection without one on a network that is "
            "trusted ([embedded] volume_export_tls = false)."
        )
    (secret,) = file.objects
    return Key(
        protocol,
        str(secret["id"]),
        str(node["user"]),
        str(secret["file"]),
        secret["format"] == "base64",
    )


def definition(wanted: Key) -> Element:
    """The secret without its value; it is never shown, and gone when libvirtd ends."""
    kind, word = USAGE[wanted.protocol]
    return element(
        "secret",
        element("uuid", wanted.uuid),
        element("usage", element(word, wanted.name), type_=kind),
        ephemeral="yes",
        private="yes",
    )


def auth(wanted: Key) -> Element:
    """How a disk names it."""
    kind, _ = USAGE[wanted.protocol]
    secret = element("secret", type_=kind, uuid=wanted.uuid)
    return element("auth", secret, username=wanted.user)
