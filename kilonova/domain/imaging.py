"""What an image that is made of a server is like: its name, sizes and properties."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from kilonova.domain.describe import BOOT_ROLES, MAKER_NAME, MAKER_PROJECT, image_properties
from kilonova.domain.server import Private, Server

SNAPSHOT, BACKUP = "snapshot", "backup"
KIND, OF_SERVER, BACKUP_TYPE = "image_type", "instance_uuid", "backup_type"
DEVICES, DEVICES_V2, ROOT_DEVICE = "block_device_mapping", "bdm_v2", "root_device_name"
LONGEST = 255

# What belongs to the data of one image alone, whatever operators say.
_OF_DATA = frozenset(
    {
        "cinder_encryption_key_id",
        "cinder_encryption_key_deletion_policy",
        "img_signature",
        "img_signature_hash_method",
        "img_signature_key_type",
        "img_signature_certificate_uuid",
        "signature_verified",
    }
)
_OF_SERVICE = "os_glance"


class NewImage(msgspec.Struct, frozen=True):
    """An image to make, without data. ``id`` is chosen by us, so that asking again makes no second.

    ``owner``: the project it shall belong to (empty: that of who asks); only our service user may
    say another than its own. Sizes: min_disk GiB, min_ram MiB.
    """

    id: str
    name: str
    owner: str = ""
    visibility: str = "private"
    min_disk: int = 0
    min_ram: int = 0
    properties: dict[str, str] = {}


def new_image(
    server: Server,
    private: Private,
    *,
    image_id: str,
    name: str,
    user_id: str,
    project_id: str,
    kind: str = SNAPSHOT,
    more: Mapping[str, str] | None = None,
    not_inherited: Iterable[str] = (),
) -> NewImage:
    """The image of a server that ``user_id`` of ``project_id`` asks for.

    It inherits the properties of the server's own image but those ``not_inherited``; ``more`` goes
    before all. In another project than the server's it is shared, and tells whose the server is.
    """
    left = _OF_DATA | set(not_inherited)
    properties = {
        key: value
        for key, value in image_properties(server, private).items()
        if key not in left and not key.startswith(_OF_SERVICE)
    }
    visibility = "private"
    if server.local_image is not None:
        properties["base_image_ref"] = server.local_image.id
    for key in (BOOT_ROLES, MAKER_NAME, MAKER_PROJECT):
        if private.system.get(key):
            properties[key] = private.system[key]
    properties |= {
        OF_SERVER: server.id,
        "user_id": user_id,
        "owner_id": server.project_id,
        KIND: kind,
    }
    if server.local_image is None:
        for key in (DEVICES, DEVICES_V2):
            properties.pop(key, None)
        if server.root_device:
            properties[ROOT_DEVICE] = server.root_device
    else:
        properties |= {"image_location": "snapshot", "image_state": "available"}
    if project_id != server.project_id:
        visibility = "shared"
        properties["instance_owner"] = server.project_id
    return NewImage(
        id=image_id,
        name=name,
        visibility=visibility,
        min_disk=max(server.image.min_disk if server.image else 0, server.flavor.root_gb),
        min_ram=server.image.min_ram if server.image else 0,
        properties={**properties, **(more or {})},
    )
