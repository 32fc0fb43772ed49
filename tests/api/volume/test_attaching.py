"""Attachments and the actions around them, extending, uploading, transfers."""

from __future__ import annotations

import uuid
from typing import Any

from kilonova.embedded.volume.records import GIB
from tests.support.volume import Place, good

CONNECTOR = {"host": "h1", "ip": "127.0.0.1", "mountpoint": "/dev/vdb"}


async def reserve(place: Place, volume_id: str, server: str | None = None) -> dict[str, Any]:
    """A new attachment."""
    given = {"volume_uuid": volume_id, "instance_uuid": server or str(uuid.uuid4())}
    answer = await place.alice.post("/v3/attachments", json={"attachment": given})
    made: dict[str, Any] = good(answer)["attachment"]
    return made


async def status(place: Place, volume_id: str) -> str:
    """The volume's status."""
    return str(good(await place.alice.get(f"/v3/volumes/{volume_id}"))["volume"]["status"])


async def act(place: Place, volume_id: str, **body: Any) -> int:
    """An action of Alice's; the answer's status."""
    named = {name.replace("_", "-", 1): value for name, value in body.items()}
    return (await place.alice.post(f"/v3/volumes/{volume_id}/action", json=named)).status


async def test_a_server_without_a_host_has_the_volume(place: Place) -> None:
    volume = (await place.make(place.alice))["id"]
    made = await reserve(place, volume)
    path = f"/v3/attachments/{made['id']}"
    good(await place.alice.post(f"{path}/action", json={"os-complete": {}}), 204)
    shown = good(await place.alice.get(f"/v3/volumes/{volume}"))["volume"]
    assert shown["status"] == "in-use"
    assert [told["host_name"] for told in shown["attachments"]] == [None]
    body = {"attachment": {"connector": CONNECTOR}}
    info = good(await place.alice.put(path, json=body))["attachment"]["connection_info"]
    assert info["driver_volume_type"] == "local"
    assert await status(place, volume) == "in-use"


async def test_life_of_an_attachment(place: Place) -> None:
    volume = (await place.make(place.alice))["id"]
    made = await reserve(place, volume)
    path = f"/v3/attachments/{made['id']}"
    assert (made["status"], made["connection_info"]) == ("reserved", {})
    assert await status(place, volume) == "reserved"
    second = {"volume_uuid": volume, "instance_uuid": str(uuid.uuid4())}
    assert (await place.alice.post("/v3/attachments", json={"attachment": second})).status == 400
    body = {"attachment": {"connector": CONNECTOR}}
    info = good(await place.alice.put(path, json=body))["attachment"]["connection_info"]
    assert info["driver_volume_type"] == "local"
    assert info["device_path"] == str(place.volumes.files.volume(volume))
    assert (info["attachment_id"], info["access_mode"]) == (made["id"], "rw")
    assert await status(place, volume) == "attaching"
    good(await place.alice.post(f"{path}/action", json={"os-complete": {}}), 204)
    shown = good(await place.alice.get(f"/v3/volumes/{volume}"))["volume"]
    assert shown["status"] == "in-use"
    [told] = shown["attachments"]
    assert (told["attachment_id"], told["device"]) == (made["id"], "/dev/vdb")
    assert (await place.alice.delete(f"/v3/volumes/{volume}")).status == 400
    listed = good(await place.alice.get(f"/v3/attachments?volume_id={volume}"))["attachments"]
    assert [item["id"] for item in listed] == [made["id"]]
    assert (await place.bob.get(path)).status == 404
    assert good(await place.bob.get("/v3/attachments/detail"))["attachments"] == []
    assert await act(place, volume, os_begin_detaching={}) == 202
    assert await status(place, volume) == "detaching"
    assert await act(place, volume, os_roll_detaching={}) == 202
    assert await status(place, volume) == "in-use"
    assert good(await place.alice.delete(path))["attachments"] == []
    assert await status(place, volume) == "available"
    assert (await place.alice.delete(path)).status == 404
    assert (await place.at("alice", "3.26").get("/v3/attachments")).status == 404


async def test_multiattach(place: Place) -> None:
    specs = {"name": "multi", "extra_specs": {"multiattach": "<is> True"}}
    good(await place.admin.post("/v3/types", json={"volume_type": specs}))
    volume = (await place.make(place.alice, volume_type="multi"))["id"]
    both = [await reserve(place, volume) for _ in range(2)]
    for made in both:
        body = {"attachment": {"connector": CONNECTOR}}
        good(await place.alice.put(f"/v3/attachments/{made['id']}", json=body))
        done: dict[str, Any] = {"os-complete": {}}
        good(await place.alice.post(f"/v3/attachments/{made['id']}/action", json=done), 204)
    assert await status(place, volume) == "in-use"
    left = good(await place.alice.delete(f"/v3/attachments/{both[0]['id']}"))["attachments"]
    assert [item["id"] for item in left] == [both[1]["id"]]
    assert await status(place, volume) == "in-use"


async def test_old_actions(place: Place) -> None:
    volume = (await place.make(place.alice))["id"]
    assert await act(place, volume, os_reserve={}) == 202
    assert await act(place, volume, os_reserve={}) == 400
    assert await act(place, volume, os_unreserve={}) == 202
    server = str(uuid.uuid4())
    wanted = {"instance_uuid": server, "mountpoint": "/dev/vdb", "mode": "rw"}
    assert await act(place, volume, os_attach=wanted) == 202
    assert await status(place, volume) == "in-use"
    assert await act(place, volume, os_detach={}) == 202
    assert await status(place, volume) == "available"
    answer = await place.alice.post(
        f"/v3/volumes/{volume}/action",
        json={"os-initialize_connection": {"connector": CONNECTOR}},
    )
    assert good(answer)["connection_info"]["data"]["format"] == "raw"


async def test_extend(place: Place) -> None:
    volume = (await place.make(place.alice))["id"]
    assert await act(place, volume, os_extend={"new_size": 1}) == 400
    assert await act(place, volume, os_extend={"new_size": 2}) == 202
    await place.done()
    assert place.volumes.files.volume(volume).stat().st_size == 2 * GIB
    server = str(uuid.uuid4())
    made = await reserve(place, volume, server)
    path = f"/v3/attachments/{made['id']}"
    good(await place.alice.put(path, json={"attachment": {"connector": CONNECTOR}}))
    good(await place.alice.post(f"{path}/action", json={"os-complete": {}}), 204)
    old = place.at("alice", "3.41")
    wanted = {"os-extend": {"new_size": 3}}
    assert (await old.post(f"/v3/volumes/{volume}/action", json=wanted)).status == 400
    assert await act(place, volume, os_extend={"new_size": 3}) == 202
    await place.done()
    assert place.told == [{"name": "volume-extended", "server_uuid": server, "tag": volume}]
    assert await status(place, volume) == "in-use"


async def test_an_image_over_a_volume_in_hand(place: Place) -> None:
    image = place.images.add(str(uuid.uuid4()), b"fresh" * 100, os_distro="alpine")
    volume = (await place.make(place.alice))["id"]
    server = str(uuid.uuid4())
    first = await reserve(place, volume, server)
    path = f"/v3/attachments/{first['id']}"
    good(await place.alice.put(path, json={"attachment": {"connector": CONNECTOR}}))
    good(await place.alice.post(f"{path}/action", json={"os-complete": {}}), 204)
    wanted = {"image_id": image, "reimage_reserved": True}
    assert await act(place, volume, os_reimage=wanted) == 400
    second = await reserve(place, volume, server)
    assert await status(place, volume) == "in-use"
    other = {"volume_uuid": volume, "instance_uuid": str(uuid.uuid4())}
    assert (await place.alice.post("/v3/attachments", json={"attachment": other})).status == 400
    good(await place.alice.delete(path))
    assert await status(place, volume) == "reserved"
    assert await act(place, volume, os_reimage={"image_id": image}) == 400
    old = place.at("alice", "3.67")
    body = {"os-reimage": wanted}
    assert (await old.post(f"/v3/volumes/{volume}/action", json=body)).status == 404
    assert await act(place, volume, os_reimage={**wanted, "image_id": str(uuid.uuid4())}) == 400
    assert await act(place, volume, os_reimage=wanted) == 202
    await place.done()
    with place.volumes.files.volume(volume).open("rb") as data:
        assert data.read(10) == b"freshfresh"
    event = {"name": "volume-reimaged", "server_uuid": server, "tag": volume}
    assert place.told == [{**event, "status": "completed"}]
    shown = good(await place.alice.get(f"/v3/volumes/{volume}"))["volume"]
    assert shown["status"] == "reserved"
    metadata = shown["volume_image_metadata"]
    assert (metadata["image_id"], metadata["os_distro"]) == (image, "alpine")
    place.images.data[image] = b"short"
    place.images.documents[image]["disk_format"] = "qcow2"
    assert await act(place, volume, os_reimage=wanted) == 202
    await place.done()
    assert place.told[1:] == [{**event, "status": "failed"}]
    assert await status(place, volume) == "error"
    good(await place.alice.delete(f"/v3/attachments/{second['id']}"))


async def test_upload_makes_an_image(place: Place) -> None:
    volume = (await place.make(place.alice))["id"]
    with place.volumes.files.volume(volume).open("r+b") as out:
        out.write(b"hello")
    body = {"os-volume_upload_image": {"image_name": "copy", "disk_format": "qcow2"}}
    answer = good(await place.alice.post(f"/v3/volumes/{volume}/action", json=body), 202)
    image = answer["os-volume_upload_image"]["image_id"]
    await place.done()
    assert place.images.documents[image]["status"] == "active"
    assert place.images.data[image][:4] == b"QFI\xfb"
    assert await status(place, volume) == "available"
    assert len(place.volumes.files.names()) == 1


async def test_flags_and_retype(place: Place) -> None:
    volume = (await place.make(place.alice))["id"]
    flag = {"os-set_bootable": {"bootable": True}}
    good(await place.alice.post(f"/v3/volumes/{volume}/action", json=flag))
    only = {"os-update_readonly_flag": {"readonly": True}}
    good(await place.alice.post(f"/v3/volumes/{volume}/action", json=only), 202)
    good(await place.admin.post("/v3/types", json={"volume_type": {"name": "other"}}))
    kind = {"os-retype": {"new_type": "other", "migration_policy": "never"}}
    good(await place.alice.post(f"/v3/volumes/{volume}/action", json=kind), 202)
    shown = good(await place.alice.get(f"/v3/volumes/{volume}"))["volume"]
    assert (shown["bootable"], shown["volume_type"]) == ("true", "other")
    assert shown["metadata"] == {"readonly": "True"}
    reset = {"os-reset_status": {"status": "error"}}
    path = f"/v3/volumes/{volume}/action"
    assert (await place.alice.post(path, json=reset)).status == 403
    good(await place.admin.post(path, json=reset), 202)
    assert await status(place, volume) == "error"


async def test_transfer(place: Place) -> None:
    volume = (await place.make(place.alice))["id"]
    body = {"transfer": {"volume_id": volume, "name": "for bob"}}
    made = good(await place.alice.post("/v3/volume-transfers", json=body), 202)["transfer"]
    assert await status(place, volume) == "awaiting-transfer"
    path = f"/v3/volume-transfers/{made['id']}"
    wrong = {"accept": {"auth_key": "no"}}
    assert (await place.bob.post(f"{path}/accept", json=wrong)).status == 400
    right = {"accept": {"auth_key": made["auth_key"]}}
    good(await place.bob.post(f"{path}/accept", json=right), 202)
    assert (await place.alice.get(f"/v3/volumes/{volume}")).status == 404
    assert good(await place.bob.get(f"/v3/volumes/{volume}"))["volume"]["status"] == "available"


async def test_information(place: Place) -> None:
    zones = good(await place.alice.get("/v3/os-availability-zone"))["availabilityZoneInfo"]
    assert zones == [{"zoneName": "nova", "zoneState": {"available": True}}]
    assert (await place.alice.get("/v3/os-services")).status == 403
    found = good(await place.admin.get("/v3/os-services"))["services"]
    assert {row["binary"] for row in found} == {"cinder-scheduler", "cinder-volume"}
    assert good(await place.admin.get("/v3/scheduler-stats/get_pools"))["pools"]
    assert good(await place.alice.get("/v3/extensions"))["extensions"]
