from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kilonova.base.errors import BadRequest
from kilonova.domain import rescue
from kilonova.domain.guest import Disk, GuestSpec, ImageRef
from tests.support.guests import spec

OWN = ImageRef("own", properties={"os_type": "linux"})
VOLUME = Disk(id="v", role="volume", source="volume", device="vdc", volume_id="v")


def guest() -> GuestSpec:
    made = spec(image=OWN, properties={"hw_disk_bus": "virtio"})
    root = msgspec.structs.replace(made.disks[0], source="image", image=OWN)
    extra = Disk(id="e", role="ephemeral", source="blank", device="vdb", size_mb=1)
    return msgspec.structs.replace(made, disks=(root, extra, VOLUME))


def image(**properties: str) -> ImageRef:
    return ImageRef("help", properties=properties)


def shown(found: GuestSpec) -> list[tuple[str, str, str, int | None]]:
    return [(disk.id, disk.device, disk.bus, disk.boot_index) for disk in found.disks]


def test_a_rescue_image_takes_the_place_of_the_root_disk() -> None:
    found = rescue.rescued(guest(), image(hw_machine_type="q35"), admin_pass="x")
    assert shown(found) == [("rescue", "vda", "virtio", 0), ("root", "vdb", "virtio", None)]
    assert found.image == image(hw_machine_type="q35")
    assert found.properties == {"hw_machine_type": "q35"}
    assert found.metadata.admin_pass == "x"
    assert rescue.is_rescued(found)
    assert not rescue.is_rescued(guest())


def test_a_rescue_image_on_another_bus() -> None:
    found = rescue.rescued(guest(), image(hw_disk_bus="scsi"))
    assert shown(found) == [("rescue", "sda", "scsi", 0), ("root", "vda", "virtio", None)]


@pytest.mark.parametrize(
    ("properties", "last"),
    [
        ({"hw_rescue_bus": "virtio"}, ("rescue", "vdd", "virtio", 0)),
        ({"hw_rescue_bus": "scsi"}, ("rescue", "sda", "scsi", 0)),
        ({"hw_rescue_device": "disk"}, ("rescue", "vdd", "virtio", 0)),
        ({"hw_rescue_device": "cdrom"}, ("rescue", "sda", "sata", 0)),
        ({"hw_rescue_device": "cdrom", "hw_rescue_bus": "ide"}, ("rescue", "hda", "ide", 0)),
    ],
)
def test_a_stable_rescue_comes_last(properties: dict[str, str], last: Any) -> None:
    before = guest()
    found = rescue.rescued(before, image(**properties))
    assert [disk[:3] for disk in shown(found)[:3]] == [disk[:3] for disk in shown(before)]
    assert [disk.boot_index for disk in found.disks] == [None, None, None, 0]
    assert shown(found)[-1] == last
    assert found.disks[-1].device_type == properties.get("hw_rescue_device", "disk")
    assert (found.image, found.properties) == (before.image, before.properties)


def test_what_nothing_offers_is_refused() -> None:
    rescue.check({})
    rescue.check({"hw_rescue_device": "cdrom", "hw_rescue_bus": "usb"})
    for wrong in ({"hw_rescue_device": "floppy"}, {"hw_rescue_bus": "xen"}):
        with pytest.raises(BadRequest):
            rescue.check(wrong)
    assert not rescue.stable({"hw_disk_bus": "scsi"})
