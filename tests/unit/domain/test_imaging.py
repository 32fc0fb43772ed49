"""What images that are made of servers are like."""

from __future__ import annotations

import msgspec

from kilonova.domain import imaging
from kilonova.domain.guest import ImageRef
from kilonova.domain.imaging import NewImage
from kilonova.domain.server import Private, Server
from tests.support import compute

IMAGE = ImageRef(
    "i1",
    min_disk=3,
    min_ram=64,
    properties={
        "hw_disk_bus": "virtio",
        "cache_in_nova": "true",
        "img_signature": "x",
        "os_glance_stage": "y",
        "block_device_mapping": "[]",
        "bdm_v2": "True",
    },
)


def made(server: Server, private: Private | None = None, **more: object) -> NewImage:
    asked = {"project_id": server.project_id, "user_id": "u9", **more}
    return imaging.new_image(
        server,
        private or Private(system={"boot_roles": "member,reader"}),
        image_id="new",
        name="mine",
        not_inherited=("cache_in_nova",),
        **asked,  # type: ignore[arg-type]
    )


def server(**changes: object) -> Server:
    request, _ = compute.request(1)
    return msgspec.structs.replace(request.server, **{"image": IMAGE, **changes})


def test_an_image_inherits_what_is_no_property_of_one_image_alone() -> None:
    own = server()
    image = made(own)
    assert (image.id, image.name, image.visibility, image.owner) == ("new", "mine", "private", "")
    assert image.min_ram == 64
    assert image.min_disk == max(3, own.flavor.root_gb)
    assert image.properties == {
        "hw_disk_bus": "virtio",
        "block_device_mapping": "[]",
        "bdm_v2": "True",
        "base_image_ref": "i1",
        "boot_roles": "member,reader",
        "instance_uuid": own.id,
        "user_id": "u9",
        "owner_id": own.project_id,
        "image_type": "snapshot",
        "image_location": "snapshot",
        "image_state": "available",
    }


def test_what_was_asked_for_goes_before_what_is_inherited() -> None:
    image = made(
        server(), kind=imaging.BACKUP, more={"hw_disk_bus": "scsi", "backup_type": "daily"}
    )
    assert image.properties["hw_disk_bus"] == "scsi"
    assert image.properties["image_type"] == "backup"
    assert image.properties["backup_type"] == "daily"


def test_an_image_in_another_project_is_shared_and_tells_whose_server_it_was() -> None:
    image = made(server(), project_id="other")
    assert image.visibility == "shared"
    assert image.properties["instance_owner"] == server().project_id


def test_a_server_on_a_volume_gives_an_image_of_properties_alone() -> None:
    private = Private(system={"image_hw_disk_bus": "scsi", "image_bdm_v2": "True"})
    image = made(server(image=None, from_volume=True, root_device="/dev/vda"), private)
    assert image.properties["hw_disk_bus"] == "scsi"
    assert image.properties["root_device_name"] == "/dev/vda"
    assert not {"bdm_v2", "base_image_ref", "image_location"} & set(image.properties)
