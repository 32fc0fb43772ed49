"""Volumes over a network in libvirt's words."""

from __future__ import annotations

from typing import Any

import pytest

from kilonova.base.errors import NotSupported
from kilonova.domain.guest import Disk
from kilonova.virt.devices import DiskDevice
from kilonova.virt.disks import DiskFile
from kilonova.virt.libvirt import device_xml, xml
from kilonova.virt.sources import source

VOLUME = "aaaaaaaa-0000-4000-8000-000000000001"


def described(kind: str, **data: Any) -> str:
    """The disk of such a connection."""
    disk = Disk(
        id="d",
        role="volume",
        source="volume",
        device="vdb",
        volume_id=VOLUME,
        connection={"driver_volume_type": kind, "data": data},
    )
    found = source(disk)
    assert found is not None
    file = DiskFile("", found.format, remote=found.node, objects=found.objects)
    return xml.text(device_xml.disk(DiskDevice(disk, "virtio", "vdb"), file))


@pytest.mark.parametrize(
    ("kind", "data", "parts"),
    [
        (
            "nbd",
            {"host": "10.0.0.1", "port": 10809, "export": "e"},
            ('protocol="nbd"', 'name="e"', '<host name="10.0.0.1" port="10809"'),
        ),
        (
            "iscsi",
            {"target_portal": "10.0.0.1:3260", "target_iqn": "iqn.x:v", "target_lun": 1},
            ('protocol="iscsi"', 'name="iqn.x:v/1"', '<host name="10.0.0.1" port="3260"'),
        ),
        (
            "rbd",
            {"name": "p/i", "hosts": ["a", "b"], "ports": ["1", "2"]},
            ('protocol="rbd"', 'name="p/i"', '<host name="a" port="1"', '<host name="b" port="2"'),
        ),
        (
            "nfs",
            {"export": "filer:/exports", "name": "volume-1"},
            ('protocol="nfs"', 'name="/exports/volume-1"', '<host name="filer"'),
        ),
    ],
)
def test_sources(kind: str, data: dict[str, Any], parts: tuple[str, ...]) -> None:
    text = described(kind, **data).replace("'", '"')
    assert '<disk type="network"' in text
    for part in parts:
        assert part in text


def test_keys_are_refused() -> None:
    with pytest.raises(NotSupported, match="cannot use the key"):
        described("nbd", host="h", port=1, export="e", tls_psk="ab", tls_identity="me")
