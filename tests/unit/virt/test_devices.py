from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from kilonova.base.errors import BadRequest
from kilonova.domain.guest import Disk, GuestSpec, ImageRef, Nic
from kilonova.virt.devices import Rng, plan
from kilonova.virt.devices.disks import names
from tests.support.guests import SERVER, flavor, spec


def with_properties(**properties: str) -> GuestSpec:
    return spec(properties=properties)


def disk(id: str, **changes: Any) -> Disk:
    return msgspec.structs.replace(
        Disk(id=id, role="volume", source="blank", device="", bus=""), **changes
    )


def test_cloud_init_recognises_the_machine() -> None:
    smbios = plan(spec()).machine.smbios
    assert (smbios.manufacturer, smbios.product) == ("OpenStack Foundation", "OpenStack Nova")
    assert smbios.serial == smbios.uuid == SERVER
    assert smbios.family == "Virtual Machine"


def test_a_plain_guest() -> None:
    made = plan(spec())
    assert made.machine.type == "pc"
    assert made.machine.rng == Rng()
    assert not made.machine.guest_agent
    assert [(d.id, d.bus, d.boot_order) for d in made.disks] == [("disk-vda", "virtio", 1)]


def test_properties_of_the_server_go_before_those_of_its_image() -> None:
    image = ImageRef(id="i", properties={"hw_machine_type": "q35", "hw_video_model": "qxl"})
    made = plan(spec(image=image, properties={"hw_machine_type": "pc"}))
    assert (made.machine.type, made.machine.video) == ("pc", "qxl")


@pytest.mark.parametrize(
    ("properties", "word"),
    [
        ({"hw_machine_type": "isapc"}, "hw_machine_type=isapc"),
        ({"hw_disk_bus": "xen"}, "hw_disk_bus=xen"),
        ({"hw_vif_model": "sriov"}, "hw_vif_model=sriov"),
        ({"hw_video_model": "gop"}, "hw_video_model=gop"),
        ({"hw_rng_model": "hardware"}, "hw_rng_model=hardware"),
        ({"hw_qemu_guest_agent": "perhaps"}, "hw_qemu_guest_agent=perhaps"),
        ({"architecture": "aarch64"}, "hw_architecture=aarch64"),
        ({"kernel_id": "k"}, "kernel_id"),
        ({"hw_firmware_type": "uefi"}, "hw_firmware_type=uefi"),
    ],
)
def test_what_cannot_be_is_named(properties: dict[str, str], word: str) -> None:
    nic = Nic(port_id="p", mac="fa:16:3e:00:00:01", network_id="n")
    with pytest.raises(BadRequest, match=word):
        plan(spec(properties=properties, nics=(nic,)))


def test_video_memory_beyond_the_flavors_is_refused() -> None:
    asked = {"hw_video_ram": "64"}
    for most, fits in (({}, False), ({"hw_video:ram_max_mb": "32"}, False),
                       ({"hw_video:ram_max_mb": "64"}, True)):  # fmt: skip
        guest = spec(properties=asked, flavor=flavor(extra_specs=most))
        if fits:
            plan(guest)
            continue
        with pytest.raises(BadRequest, match="video memory"):
            plan(guest)


def test_names_go_on_after_z() -> None:
    first = list(itertools.islice(names("virtio"), 28))
    assert (first[0], first[25], first[26], first[27]) == ("vda", "vdz", "vdaa", "vdab")


def test_disks_get_buses_and_free_names() -> None:
    guest = spec(
        properties={"hw_disk_bus": "scsi"},
        disks=(disk("a", role="root"), disk("b"), disk("c", device="sdb", bus="scsi")),
    )
    assert [(d.device, d.bus) for d in plan(guest).disks] == [
        ("sda", "scsi"),
        ("sdc", "scsi"),
        ("sdb", "scsi"),
    ]


def test_boot_order_follows_the_indexes_and_is_never_missing() -> None:
    guest = spec(
        disks=(
            disk("a", boot_index=1),
            disk("b", boot_index=-1),
            disk("c", boot_index=0),
        )
    )
    assert {d.disk.id: d.boot_order for d in plan(guest).disks} == {"a": 2, "b": None, "c": 1}
    guest = spec(disks=(disk("a"), disk("r", role="root")))
    assert {d.disk.id: d.boot_order for d in plan(guest).disks} == {"a": None, "r": 1}


def test_a_config_drive_is_a_read_only_virtio_disk_unless_the_image_wants_a_cdrom() -> None:
    drive = plan(spec(config_drive=True)).disks[-1]
    assert (drive.device, drive.bus, drive.cdrom, drive.read_only) == ("vdb", "virtio", False, True)
    assert drive.boot_order is None
    guest = spec(config_drive=True, properties={"hw_cdrom_bus": "ide"})
    drive = plan(guest).disks[-1]
    assert (drive.device, drive.bus, drive.cdrom) == ("hda", "ide", True)


def test_ide_is_refused_where_there_is_none_and_when_full() -> None:
    with pytest.raises(BadRequest, match="no IDE bus"):
        plan(spec(properties={"hw_disk_bus": "ide", "hw_machine_type": "q35"}, disks=(disk("a"),)))
    with pytest.raises(BadRequest, match="takes 4 disks"):
        plan(spec(properties={"hw_disk_bus": "ide"}, disks=tuple(disk(c) for c in "abcde")))


def test_two_disks_of_one_name_are_refused() -> None:
    with pytest.raises(BadRequest, match="same device name"):
        plan(spec(disks=(disk("a", device="vdb"), disk("b", device="/dev/vdb"))))


def test_cards() -> None:
    nic = Nic(port_id="0123456789abcdef", mac="fa:16:3e:00:00:01", network_id="n")
    (made,) = plan(spec(nics=(nic,))).nics
    assert (made.id, made.model, made.tap) == ("net0", "virtio", "tap0123456789a")
    (made,) = plan(spec(nics=(nic,), properties={"hw_vif_model": "e1000"})).nics
    assert made.model == "e1000"


def test_the_flavor_bounds_or_forbids_the_random_device() -> None:
    extra = {"hw_rng:allowed": "True", "hw_rng:rate_bytes": "512", "hw_rng:rate_period": "2000"}
    assert plan(spec(flavor=flavor(extra_specs=extra))).machine.rng == Rng(512, 2000)
    assert plan(spec(flavor=flavor(extra_specs={"hw_rng:allowed": "False"}))).machine.rng is None


def test_windows_has_its_clock_in_local_time() -> None:
    assert plan(with_properties(os_type="windows")).machine.localtime
