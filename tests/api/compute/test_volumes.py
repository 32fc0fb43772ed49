"""Block devices of new servers, and the volumes of servers that are there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from kilonova.domain.guest import Disk
from kilonova.interfaces.volume import VolumeSnapshot
from kilonova.store import mappings, servers
from tests.support.cloud import IMAGE, PROJECT, Cloud, body

V1 = "11111111-aaaa-4000-8000-000000000001"
V2 = "11111111-aaaa-4000-8000-000000000002"
S1 = "22222222-aaaa-4000-8000-000000000001"
NOBODY = "99999999-aaaa-4000-8000-000000000009"
LOCAL = {
    "source_type": "image",
    "uuid": IMAGE,
    "boot_index": 0,
    "destination_type": "local",
}


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """A cloud with volumes v1 (bootable) and v2, and a snapshot of v1."""
    made = Cloud()
    made.volumes.add(V1, project_id=PROJECT, bootable=True, size=2)
    made.volumes.add(V2, project_id=PROJECT)
    made.volumes.snapshots[S1] = VolumeSnapshot(S1, V1, 2, "available")
    yield made
    made.close()


def on(*items: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The body of a server with these devices."""
    wanted = body(networks="none", block_device_mapping_v2=list(items), **more)
    if not any(item.get("destination_type") == "local" for item in items):
        wanted["server"]["imageRef"] = more.get("imageRef", "")
    return dict(wanted)


def volume(source: str = "volume", key: str | None = V1, **more: Any) -> dict[str, Any]:
    """A device whose destination is a volume."""
    item: dict[str, Any] = {"source_type": source, "destination_type": "volume", **more}
    return item if key is None else {"uuid": key, **item}


async def disks(cloud: Cloud, server_id: str) -> list[Disk]:
    """The disks of a server that waits to be made."""
    request = await cloud.db.read(servers.building, server_id)
    assert request is not None
    return list(request.private.disks)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (volume(boot_index=0), ("volume", V1, "", 2048)),
        (volume("snapshot", S1, boot_index=0), ("volume", None, "snapshot", 2048)),
        (volume("image", IMAGE, boot_index=0, volume_size=3), ("volume", None, "image", 3072)),
    ],
)
async def test_boot_from_volume(
    cloud: Cloud, item: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    answer = await cloud.client(version="2.37").post("/v2.1/servers", json=on(item))
    assert answer.status == 202, answer.text
    server_id = answer.json()["server"]["id"]
    [root] = await disks(cloud, server_id)
    assert (root.source, root.volume_id, root.origin, root.size_mb) == expected
    assert (root.role, root.device, root.delete_on_termination) == ("root", "vda", False)
    shown = (await cloud.client().get(f"/v2.1/servers/{server_id}")).json()["server"]
    assert shown["image"] == ""
    status = cloud.volumes.table[V1].status
    assert status == ("reserved" if item["source_type"] == "volume" else "available")


async def test_an_image_beside_the_volume_says_what_is_on_it(cloud: Cloud) -> None:
    wanted = on(volume(key=V2, boot_index=0), imageRef=IMAGE)
    answer = await cloud.client(version="2.37").post("/v2.1/servers", json=wanted)
    assert answer.status == 202, answer.text
    server_id = answer.json()["server"]["id"]
    [root] = await disks(cloud, server_id)
    assert (root.role, root.volume_id) == ("root", V2)
    shown = (await cloud.client().get(f"/v2.1/servers/{server_id}")).json()["server"]
    assert shown["image"]["id"] == IMAGE


async def test_more_disks(cloud: Cloud) -> None:
    wanted = on(
        LOCAL,
        volume(key=V2, boot_index=-1, delete_on_termination=True, tag="data", disk_bus="scsi"),
        volume("blank", None, volume_size=5, boot_index=None, volume_type="fast"),
    )
    answer = await cloud.client(version="2.67").post("/v2.1/servers", json=wanted)
    assert answer.status == 202, answer.text
    root, given, blank = await disks(cloud, answer.json()["server"]["id"])
    assert (root.source, root.device) == ("image", "vda")
    assert (given.device, given.tag, given.delete_on_termination) == ("sda", "data", True)
    assert (blank.device, blank.origin, blank.volume_type) == ("vdb", "blank", "fast")


async def test_old_spelling(cloud: Cloud) -> None:
    old = [{"device_name": "vda", "volume_id": V1, "delete_on_termination": "1"}]
    wanted = body(networks="none", imageRef="", block_device_mapping=old)
    answer = await cloud.client(version="2.37").post("/v2.1/servers", json=wanted)
    assert answer.status == 202, answer.text
    [root] = await disks(cloud, answer.json()["server"]["id"])
    assert (root.role, root.volume_id, root.delete_on_termination) == ("root", V1, True)


async def test_old_spelling_beside_an_image(cloud: Cloud) -> None:
    old = [
        {"device_name": "vda", "volume_id": V1},
        {"device_name": "vdb", "volume_id": V2, "delete_on_termination": True},
    ]
    for wanted, roots in ((old, [("volume", V1)]), (old[1:], [("image", None)])):
        made = body(networks="none", block_device_mapping=wanted)
        answer = await cloud.client(version="2.37").post("/v2.1/servers", json=made)
        assert answer.status == 202, answer.text
        root, data = await disks(cloud, answer.json()["server"]["id"])
        assert [(root.source, root.volume_id)] == roots
        assert (data.volume_id, data.device) == (V2, "vdb")
        for use in list(cloud.volumes.uses):
            await cloud.volumes.release(use)


# -- devices an image brings along -----------------------------------------------------------------


def picture(cloud: Cloud, **properties: Any) -> None:
    """Properties of the one image, lists as JSON."""
    given = {
        name: value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for name, value in properties.items()
    }
    present = cloud.images.images[IMAGE]
    cloud.images.images[IMAGE] = msgspec.structs.replace(present, properties=given)


SNAPPED = {
    "source_type": "snapshot",
    "destination_type": "volume",
    "snapshot_id": S1,
    "boot_index": 0,
    "device_name": "/dev/vda",
    "delete_on_termination": True,
    "volume_size": 2,
    "volume_id": None,
    "guest_format": None,
    "tag": None,
}
DATA = {**SNAPPED, "boot_index": None, "device_name": "/dev/vdb", "volume_size": None}


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"block_device_mapping_v2": [LOCAL]},
        {"imageRef": "", "block_device_mapping_v2": [
            volume("image", IMAGE, boot_index=0, volume_size=9)]},
        {"block_device_mapping": [{"device_name": "vdx", "no_device": True}]},
    ],
)  # fmt: skip
async def test_an_image_with_snapshots(cloud: Cloud, asked: dict[str, Any]) -> None:
    picture(cloud, bdm_v2="True", root_device_name="/dev/vda", block_device_mapping=[SNAPPED, DATA])
    wanted = body(networks="none", **asked)
    answer = await cloud.client(version="2.37").post("/v2.1/servers", json=wanted)
    assert answer.status == 202, answer.text
    server_id = answer.json()["server"]["id"]
    root, data = await disks(cloud, server_id)
    assert (root.role, root.origin, root.origin_id, root.size_mb) == ("root", "snapshot", S1, 2048)
    assert (root.device, root.delete_on_termination) == ("vda", True)
    assert (data.role, data.origin, data.device) == ("volume", "snapshot", "vdb")
    assert data.size_mb == 2048
    shown = (await cloud.client().get(f"/v2.1/servers/{server_id}")).json()["server"]
    assert (shown["image"] or {"id": ""})["id"] == wanted["server"]["imageRef"]


async def test_what_is_asked_for_goes_before_the_image(cloud: Cloud) -> None:
    picture(cloud, bdm_v2="true", block_device_mapping=[SNAPPED, DATA])
    over = volume(key=V2, device_name="/dev/vdb", boot_index=-1, delete_on_termination=False)
    for items, names in (
        ([over], ["vda", "vdb"]),
        ([{"device_name": "/dev/vdb", "no_device": True}], ["vda"]),
    ):
        wanted = body(networks="none", block_device_mapping_v2=[LOCAL, *items])
        answer = await cloud.client(version="2.37").post("/v2.1/servers", json=wanted)
        assert answer.status == 202, answer.text
        found = await disks(cloud, answer.json()["server"]["id"])
        assert [disk.device for disk in found] == names
        assert all(disk.volume_id == V2 for disk in found[1:])


async def test_old_mappings_of_an_image(cloud: Cloud) -> None:
    picture(
        cloud,
        root_device_name="/dev/sda",
        block_device_mapping=[{"device_name": "/dev/sda", "snapshot_id": S1, "volume_size": 3}],
        mappings=[
            {"virtual": "ami", "device": "sda1"},
            {"virtual": "root", "device": "/dev/sda1"},
            {"virtual": "ephemeral0", "device": "sdb"},
        ],
    )
    answer = await cloud.client(version="2.37").post("/v2.1/servers", json=body(networks="none"))
    assert answer.status == 202, answer.text
    [root] = await disks(cloud, answer.json()["server"]["id"])
    assert (root.role, root.device, root.size_mb, root.origin) == ("root", "sda", 3072, "snapshot")


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"block_device_mapping": "no JSON"}, "no JSON list"),
        ({"bdm_v2": "1", "block_device_mapping": [{**SNAPPED, "snapshot_id": None}]}, "UUID"),
        ({"bdm_v2": "1", "block_device_mapping": [{**DATA, "boot_index": 1}]}, ""),
        ({"bdm_v2": "1", "block_device_mapping": [{**SNAPPED, "snapshot_id": NOBODY}]}, "snapshot"),
        ({"block_device_mapping": [{"device_name": "vdb"}]}, "legacy format"),
        (
            {
                "bdm_v2": "1",
                "block_device_mapping": [
                    {"source_type": "image", "destination_type": "local", "image_id": NOBODY,
                     "boot_index": 0}
                ],
            },
            "to local is not supported",
        ),
    ],
)  # fmt: skip
async def test_images_that_bring_nonsense(
    cloud: Cloud, properties: dict[str, Any], words: str
) -> None:
    picture(cloud, **properties)
    wanted = body(networks="none")
    answer = await cloud.client(version="2.37").post("/v2.1/servers", json=wanted)
    assert (answer.status, words in answer.text) == (202 if not words else 400, True), answer.text
    assert cloud.volumes.uses == {}


SEQUENCE = "Boot sequence"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (on(volume(key=NOBODY, boot_index=0)), "failed to get volume"),
        (on(volume("snapshot", NOBODY, boot_index=0)), "failed to get snapshot"),
        (on(volume("image", NOBODY, boot_index=0, volume_size=1)), "failed to get image"),
        (on(volume(key=V2, boot_index=0)), "is not bootable"),
        (on(volume(boot_index=1)), SEQUENCE),
        (on(volume()), SEQUENCE),
        (on(LOCAL, volume(boot_index=0)), SEQUENCE),
        (on(volume(boot_index=0), volume(boot_index=1)), "more than once"),
        (on(volume("blank", None, boot_index=0)), "need to have non-zero size"),
        (on(volume("image", IMAGE, boot_index=0)), "non-zero size"),
        (on(volume("blank", V1, volume_size=1)), "Invalid device UUID"),
        (on(volume("volume", None)), "Missing device UUID"),
        (on(LOCAL, volume(destination_type="local")), "to local is not supported"),
        (on(LOCAL, volume(key=V2, disk_bus="warp")), "Disk bus"),
        (on(LOCAL, volume(key=V2, device_name="/dev/vda")), ""),
        (on(LOCAL, volume(key=V2, volume_type="fast")), "volume_type"),
        (on(LOCAL, volume("blank", None, volume_size=1, volume_type="none")), "Volume type none"),
        (on(volume("snapshot", S1, boot_index=0, volume_size=1)), "smaller"),
        (on(volume(boot_index=0), min_count=2), "multiple instances"),
        (
            on(volume(boot_index=0), block_device_mapping=[{"volume_id": V2}]),
            "Using different block_device_mapping syntaxes",
        ),
        (body(networks="none", block_device_mapping=[{"device_name": "vdb"}]), "legacy format"),
        (body(networks="none", imageRef=""), "Missing imageRef"),
        (body(networks="none", block_device_mapping_v2=[volume(key=V2)]), SEQUENCE),
        (
            body(
                networks="none",
                imageRef="",
                block_device_mapping=[{"device_name": "vdb", "volume_id": V1}],
            ),
            SEQUENCE,
        ),
    ],
)
async def test_refused_devices(cloud: Cloud, values: dict[str, Any], words: str) -> None:
    if words == "":
        values["server"]["block_device_mapping_v2"][0]["device_name"] = "/dev/vda"
        words = "same device name as the root device"
    answer = await cloud.client(version="2.67").post("/v2.1/servers", json=values)
    assert (answer.status, words in answer.text) == (400, True), answer.text
    assert cloud.volumes.uses == {}


async def test_a_volume_in_use_is_refused(cloud: Cloud) -> None:
    await cloud.volumes.reserve(V1, NOBODY)
    wanted = on(volume(boot_index=0))
    answer = await cloud.client(version="2.37").post("/v2.1/servers", json=wanted)
    assert answer.status == 400
    assert "status must be 'available'" in answer.text


# -- servers that are there ------------------------------------------------------------------------


async def there(cloud: Cloud) -> str:
    """A server that runs."""
    made = await cloud.client(version="2.37").post("/v2.1/servers", json=body(networks="none"))
    server_id = str(made.json()["server"]["id"])
    cloud.run(server_id)
    return server_id


def path(server_id: str, volume_id: str | None = None) -> str:
    """Where the attachments are."""
    base = f"/v2.1/servers/{server_id}/os-volume_attachments"
    return f"{base}/{volume_id}" if volume_id else base


def attach(volume_id: str = V2, **more: Any) -> dict[str, Any]:
    """The body of an attachment."""
    return {"volumeAttachment": {"volumeId": volume_id, **more}}


async def attached(cloud: Cloud, server_id: str, volume_id: str = V2) -> None:
    """The conductor has done its work."""
    for use in await cloud.volumes.attachments(server_id):
        if use.volume_id == volume_id:
            await cloud.volumes.connect(use.id, {})
            await cloud.volumes.complete(use.id)
    cloud.end_sagas()


@pytest.mark.parametrize(
    ("version", "keys"),
    [
        ("2.1", {"id", "volumeId", "serverId", "device"}),
        ("2.70", {"id", "volumeId", "serverId", "device", "tag"}),
        ("2.79", {"id", "volumeId", "serverId", "device", "tag", "delete_on_termination"}),
        (
            "2.89",
            {"volumeId", "serverId", "device", "tag", "delete_on_termination", "attachment_id",
             "bdm_uuid"},
        ),
    ],
)  # fmt: skip
async def test_attach_and_show(cloud: Cloud, version: str, keys: set[str]) -> None:
    server_id = await there(cloud)
    client = cloud.client(version=version)
    made = await client.post(path(server_id), json=attach())
    assert made.status == 200, made.text
    assert made.json()["volumeAttachment"]["id"] == V2
    assert made.json()["volumeAttachment"]["device"] == "/dev/vdb"
    assert cloud.volumes.table[V2].status == "reserved"
    listed = (await client.get(path(server_id))).json()["volumeAttachments"]
    shown = (await client.get(path(server_id, V2))).json()["volumeAttachment"]
    assert listed == [shown]
    assert set(shown) == keys
    server = (await client.get(f"/v2.1/servers/{server_id}")).json()["server"]
    [ref] = server["os-extended-volumes:volumes_attached"]
    assert ref["id"] == V2


async def test_attach_answers_202_at_last(cloud: Cloud) -> None:
    server_id = await there(cloud)
    answer = await cloud.client(version="2.101").post(path(server_id), json=attach())
    assert (answer.status, answer.body) == (202, b"")


async def test_attach_is_refused(cloud: Cloud) -> None:
    server_id = await there(cloud)
    client = cloud.client(version="2.60")
    assert (await client.post(path(server_id), json=attach(NOBODY))).status == 404
    assert (await client.post(path(server_id), json=attach("x"))).status == 400
    assert (await client.post(path(server_id), json=attach(device="/dev/vda"))).status == 400
    assert cloud.volumes.uses == {}
    assert (await client.post(path(NOBODY), json=attach())).status == 404
    await cloud.volumes.reserve(V1, NOBODY)
    assert (await client.post(path(server_id), json=attach(V1))).status == 400
    assert (await cloud.client("other").post(path(server_id), json=attach())).status == 404
    cloud.volumes.add(V1, project_id=PROJECT, multiattach=True)
    assert (await cloud.client(version="2.59").post(path(server_id), json=attach(V1))).status == 400
    assert (await client.post(path(server_id), json=attach(V1))).status == 200
    await attached(cloud, server_id, V1)
    again = await client.post(path(server_id), json=attach(V1))
    assert again.status == 400
    assert "already attached" in again.text


async def test_detach(cloud: Cloud) -> None:
    server_id = await there(cloud)
    client = cloud.client()
    assert (await client.delete(path(server_id, V2))).status == 404
    await client.post(path(server_id), json=attach())
    cloud.end_sagas()
    assert (await client.delete(path(server_id, V2))).status == 400  # it is not there yet
    await attached(cloud, server_id)
    assert (await client.delete(path(server_id, V2))).status == 202
    assert cloud.volumes.table[V2].status == "detaching"


async def test_the_root_volume_stays(cloud: Cloud) -> None:
    made = await cloud.client(version="2.37").post("/v2.1/servers", json=on(volume(boot_index=0)))
    server_id = str(made.json()["server"]["id"])
    cloud.run(server_id)
    answer = await cloud.client().delete(path(server_id, V1))
    assert answer.status == 400
    assert "Cannot detach a root device volume" in answer.text


async def test_delete_on_termination_changes(cloud: Cloud) -> None:
    server_id = await there(cloud)
    client = cloud.client(version="2.85")
    await client.post(path(server_id), json=attach())
    await attached(cloud, server_id)
    wanted = attach(delete_on_termination=True)
    assert (await cloud.client(version="2.84").put(path(server_id, V2), json=wanted)).status == 400
    answer = await client.put(path(server_id, V2), json=wanted)
    assert answer.status == 202, answer.text
    shown = (await client.get(path(server_id, V2))).json()["volumeAttachment"]
    assert shown["delete_on_termination"] is True
    other = attach(tag="new")
    assert (await client.put(path(server_id, V2), json=other)).status == 400


async def test_swap(cloud: Cloud) -> None:
    server_id = await there(cloud)
    await cloud.client().post(path(server_id), json=attach())
    await attached(cloud, server_id)
    wanted = attach(V1)
    assert (await cloud.client().put(path(server_id, V2), json=wanted)).status == 403
    admin = cloud.client("admin")
    assert (await admin.put(path(server_id, V2), json=attach(NOBODY))).status == 400
    answer = await admin.put(path(server_id, V2), json=wanted)
    assert answer.status == 202, answer.text
    states = {key: v.status for key, v in cloud.volumes.table.items()}
    assert states == {V1: "reserved", V2: "detaching"}


async def test_extended(cloud: Cloud) -> None:
    server_id = await there(cloud)
    await cloud.client().post(path(server_id), json=attach())
    await attached(cloud, server_id)
    event = {"name": "volume-extended", "server_uuid": server_id, "tag": V2}
    admin = cloud.client("admin", "2.51")
    answer = await admin.post("/v2.1/os-server-external-events", json={"events": [event]})
    assert answer.status == 200, answer.text
    other = {**event, "tag": V1}
    answer = await admin.post("/v2.1/os-server-external-events", json={"events": [other]})
    assert (answer.status, answer.json()["events"][0]["code"]) == (200, 200)
    listed = (await cloud.client().get(f"/v2.1/servers/{server_id}/os-instance-actions")).json()
    names = [action["action"] for action in listed["instanceActions"]]
    assert names[0] == "extend_volume"


async def test_most_disks(cloud: Cloud) -> None:
    settings = cloud.services.settings
    compute = msgspec.structs.replace(settings.compute, max_disk_devices_to_attach=1)
    cloud.services = msgspec.structs.replace(
        cloud.services, settings=msgspec.structs.replace(settings, compute=compute)
    )
    cloud.app = cloud.build()
    server_id = await there(cloud)
    assert (await cloud.client().post(path(server_id), json=attach())).status == 403


@pytest.mark.parametrize(
    ("zones", "asked", "expected"),
    [
        (("east", "east"), None, "east"),
        (("nova", "nova"), None, None),
        (("east", "west"), None, "are in different availability zones"),
        (("east", "east"), "nova", "not in the same availability zone"),
    ],
)
async def test_volumes_say_where_the_server_is(
    cloud: Cloud, zones: tuple[str, str], asked: str | None, expected: str | None
) -> None:
    settings = cloud.services.settings
    cinder = msgspec.structs.replace(settings.cinder, cross_az_attach=False)
    cloud.services = msgspec.structs.replace(
        cloud.services, settings=msgspec.structs.replace(settings, cinder=cinder)
    )
    cloud.app = cloud.build()
    for key, zone in zip((V1, V2), zones, strict=True):
        cloud.volumes.add(key, project_id=PROJECT, bootable=True, zone=zone)
    more = {"availability_zone": asked} if asked else {}
    wanted = on(volume(boot_index=0), volume(key=V2), **more)
    answer = await cloud.client(version="2.37").post("/v2.1/servers", json=wanted)
    if expected is not None and " " in expected:
        assert (answer.status, expected in answer.text) == (400, True), answer.text
        return
    assert answer.status == 202, answer.text
    spec = await cloud.db.read(mappings.find_spec, answer.json()["server"]["id"])
    assert spec is not None
    assert spec.zone == expected
