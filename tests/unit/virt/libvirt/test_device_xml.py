from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kilonova.base.errors import NotSupported
from kilonova.domain.guest import Disk, Nic
from kilonova.virt.devices import DiskDevice, NicDevice
from kilonova.virt.disks import DiskFile
from kilonova.virt.libvirt import device_xml, secret_xml, xml

RAW = DiskFile("/v/1", "raw")


def device(**changes: Any) -> DiskDevice:
    about = {name: changes.pop(name) for name in ("serial", "connection") if name in changes}
    disk = Disk(id="d", role="volume", source="volume", device="vdb", **about)
    return DiskDevice(disk, **{"bus": "virtio", "device": "vdb", **changes})


def nic(**changes: Any) -> NicDevice:
    made = Nic(port_id="p1", mac="fa:16:3e:00:00:01", network_id="n", mtu=1450, **changes)
    return NicDevice(made, made.model, "tap-p1", 0)


def test_a_disk_over_a_base_names_the_whole_chain() -> None:
    file = DiskFile("/i/disk", "qcow2", "/i/_base/b", "raw")
    made = device_xml.disk(device(boot_order=1), file)
    assert xml.text(made) == (
        '<disk type="file" device="disk">'
        '<driver name="qemu" type="qcow2" discard="unmap" />'
        '<source file="/i/disk" />'
        '<backingStore type="file"><format type="raw" /><source file="/i/_base/b" />'
        "<backingStore /></backingStore>"
        '<target dev="vdb" bus="virtio" /><boot order="1" /><alias name="ua-disk-vdb" /></disk>'
    )


def test_a_disk_without_a_base_ends_the_chain() -> None:
    made = device_xml.disk(device(serial="v1"), DiskFile("/v/1", "qcow2"))
    assert made.find("backingStore") is not None
    assert len(made.findall("backingStore/*")) == 0
    assert made.findtext("serial") == "v1"
    assert made.find("boot") is None


def test_read_only_shared_and_block() -> None:
    shared = {"driver_volume_type": "local", "data": {"multiattach": True}}
    made = device_xml.disk(device(read_only=True, connection=shared), RAW, block=True)
    assert made.find("readonly") is not None
    assert made.find("shareable") is not None
    assert (made.get("type"), made.find("source").attrib) == ("block", {"dev": "/v/1"})  # type: ignore[union-attr]
    assert device_xml.disk(device(), RAW).find("shareable") is None


@pytest.mark.parametrize(("name", "unit"), [("sda", "0"), ("sdz", "25"), ("sdaa", "26")])
def test_one_scsi_controller_has_all_disks(name: str, unit: str) -> None:
    made = device_xml.disk(device(bus="scsi", device=name), RAW)
    address = made.find("address")
    assert address is not None
    assert (address.get("controller"), address.get("unit")) == ("0", unit)


def test_a_cdrom() -> None:
    made = device_xml.disk(device(bus="ide", device="hda", cdrom=True, read_only=True), RAW)
    assert made.get("device") == "cdrom"


def test_the_target_of_a_copy_is_not_looked_into() -> None:
    made = device_xml.mirror(DiskFile("/v/2", "raw"))
    assert made.find("backingStore") is not None
    assert made.find("driver").attrib == {"type": "raw"}  # type: ignore[union-attr]


def test_a_card_on_a_tap_that_is_ours() -> None:
    assert xml.text(device_xml.card(nic(vif_type="bridge"))) == (
        '<interface type="ethernet"><mac address="fa:16:3e:00:00:01" />'
        '<target dev="tap-p1" managed="no" /><model type="virtio" /><mtu size="1450" />'
        '<rom enabled="no" /><alias name="ua-net-p1" /></interface>'
    )
    assert device_xml.card(nic(vif_type="tap", model="e1000")).find("mtu") is None


@pytest.mark.parametrize("kind", ["user", "ovs", "unbound"])
def test_cards_without_a_tap_are_refused(kind: str) -> None:
    with pytest.raises(NotSupported, match=f"port of type {kind}"):
        device_xml.card(nic(vif_type=kind))


SECRET = {"qom-type": "secret", "id": "chap-v1", "file": "/s/chap-v1", "format": "raw"}
ISCSI = {
    "driver": "iscsi",
    "portal": "10.0.0.9:3260",
    "target": "iqn.2010-10.org:v1",
    "lun": 1,
    "user": "u",
    "password-secret": "chap-v1",
}


def test_a_volume_with_a_key_names_a_secret() -> None:
    file = DiskFile("", "raw", remote=ISCSI, objects=(SECRET,))
    key = secret_xml.key(file)
    assert key is not None
    source = device_xml.disk(device(), file).find("source")
    assert source is not None
    assert xml.text(source) == (
        '<source protocol="iscsi" name="iqn.2010-10.org:v1/1"><host name="10.0.0.9" port="3260" />'
        f'<auth username="u"><secret type="iscsi" uuid="{key.uuid}" /></auth></source>'
    )
    assert xml.text(secret_xml.definition(key)) == (
        f'<secret ephemeral="yes" private="yes"><uuid>{key.uuid}</uuid>'
        '<usage type="iscsi"><target>chap-v1</target></usage></secret>'
    )


def test_keys_are_read_as_they_were_written(tmp_path: Path) -> None:
    place = tmp_path / "key"
    place.write_text("c2VjcmV0")
    named = {**SECRET, "file": str(place), "format": "base64"}
    node = {"driver": "rbd", "pool": "p", "image": "i", "user": "cinder", "server": []}
    ceph = secret_xml.key(DiskFile("", "raw", remote=node, objects=(named,)))
    assert ceph is not None
    assert ceph.value() == b"secret"
    assert "<name>chap-v1</name>" in xml.text(secret_xml.definition(ceph))
    plain = secret_xml.key(DiskFile("", "raw", remote=ISCSI, objects=({**named, "format": "raw"},)))
    assert plain is not None
    assert plain.value() == b"c2VjcmV0"


def test_a_key_libvirt_cannot_use_is_refused() -> None:
    node = {"driver": "nbd", "export": "v", "tls-creds": "tls-v"}
    creds = {"qom-type": "tls-creds-psk", "id": "tls-v"}
    with pytest.raises(NotSupported, match="volume_export_tls = false"):
        device_xml.disk(device(), DiskFile("", "raw", remote=node, objects=(creds,)))
    open_node = {"driver": "nbd", "export": "v", "server": {"host": "h", "port": "1"}}
    made = device_xml.disk(device(), DiskFile("", "raw", remote=open_node))
    source = made.find("source")
    assert source is not None
    assert xml.text(source) == (
        '<source protocol="nbd" name="v"><host name="h" port="1" /></source>'
    )
