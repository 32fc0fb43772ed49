"""Volumes: made of nothing, an image, a snapshot, a volume; listed, changed, removed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kilonova.embedded.volume.records import GIB, Volume, Work
from kilonova.embedded.volume.store import rows
from tests.support.image import qemu_image
from tests.support.volume import Place, good, start


async def test_versions_need_no_token(place: Place) -> None:
    answer = await place.anonymous.get("/")
    assert answer.status == 300
    [entry] = answer.json()["versions"]
    assert (entry["id"], entry["min_version"], entry["version"]) == ("v3.0", "3.0", "3.71")
    assert good(await place.anonymous.get("/v3/"))["versions"] == [entry]
    assert (await place.anonymous.get("/v3/volumes")).status == 401


async def test_blank_volume(place: Place) -> None:
    made = await place.make(place.alice, name="data", metadata={"a": "b"}, size=2)
    assert made["status"] == "available"
    assert made["volume_type"] == "__DEFAULT__"
    assert (made["bootable"], made["multiattach"], made["size"]) == ("false", False, 2)
    file = place.volumes.files.volume(made["id"])
    assert file.stat().st_size == 2 * GIB
    assert file.stat().st_blocks == 0
    for wanted in ("p-alice/volumes", "volumes"):
        found = good(await place.alice.get(f"/v3/{wanted}/detail"))["volumes"]
        assert [item["id"] for item in found] == [made["id"]]


async def test_fields_by_version(place: Place) -> None:
    made = await place.make(place.alice)
    path = f"/v3/volumes/{made['id']}"
    old = good(await place.at("alice", "3.0").get(path))["volume"]
    assert not {"group_id", "shared_targets", "volume_type_id", "consumes_quota"} & set(old)
    assert "os-vol-host-attr:host" not in old
    middle = good(await place.at("alice", "3.48").get(path))["volume"]
    assert middle["shared_targets"] is False
    new = good(await place.admin.get(path))["volume"]
    assert new["os-vol-host-attr:host"] == "localhost@files#files"
    assert new["shared_targets"] is None
    assert new["volume_type_id"]


async def test_the_answer_to_a_creation_has_no_words_of_extensions(place: Place) -> None:
    answer = await place.admin.post("/v3/volumes", json={"volume": {"size": 1}})
    made = good(answer, 202)["volume"]
    shown = good(await place.admin.get(f"/v3/volumes/{made['id']}"))["volume"]
    added = {key for key in shown if key.startswith("os-vol-")}
    assert len(added) == 4
    assert set(made) == set(shown) - added


async def test_delete_takes_the_data_away(place: Place) -> None:
    made = await place.make(place.alice)
    good(await place.alice.delete(f"/v3/volumes/{made['id']}"), 202)
    await place.done()
    assert (await place.alice.get(f"/v3/volumes/{made['id']}")).status == 404
    assert not place.volumes.files.names()


async def test_others_see_and_change_nothing(place: Place) -> None:
    made = await place.make(place.alice)
    path = f"/v3/volumes/{made['id']}"
    assert (await place.bob.get(path)).status == 404
    assert (await place.bob.delete(path)).status == 404
    assert (await place.reader.delete(path)).status == 403
    assert good(await place.bob.get("/v3/volumes"))["volumes"] == []
    assert len(good(await place.admin.get("/v3/volumes?all_tenants=1"))["volumes"]) == 1
    assert good(await place.admin.get("/v3/volumes"))["volumes"] == []
    assert (await place.alice.post(f"{path}/action", json={"os-force_delete": {}})).status == 403


async def test_from_image(place: Place, tmp_path: Path) -> None:
    data = b"K" * 5000 + bytes(1 << 20) + b"E"
    image = place.images.add("img-1", data, min_disk=1, hw_disk_bus="virtio")
    made = await place.make(place.alice, imageRef=image, size=1)
    assert (made["status"], made["bootable"]) == ("available", "true")
    about = made["volume_image_metadata"]
    assert (about["image_id"], about["hw_disk_bus"]) == ("img-1", "virtio")
    file = place.volumes.files.volume(made["id"])
    with file.open("rb") as found:
        assert found.read(len(data)) == data
    assert file.stat().st_size == GIB
    assert file.stat().st_blocks * 512 < len(data)
    qcow = place.images.add("img-2", qemu_image(tmp_path, "qcow2"), disk_format="qcow2")
    assert (await place.make(place.alice, imageRef=qcow))["status"] == "available"


async def test_image_that_lies_is_not_opened(place: Place, tmp_path: Path) -> None:
    backed = qemu_image(tmp_path, "qcow2", "-u", "-b", "/etc/hostname", "-F", "raw")
    for name, disk_format in (("bad-1", "raw"), ("bad-2", "qcow2")):
        image = place.images.add(name, backed, disk_format=disk_format)
        assert (await place.make(place.alice, imageRef=image))["status"] == "error"
    assert not place.volumes.files.names()
    answer = await place.alice.post("/v3/volumes", json={"volume": {"size": 1, "imageRef": "no"}})
    assert answer.status == 400


async def test_a_snapshot_is_deleted_the_moment_it_is_there(place: Place) -> None:
    first = await place.make(place.alice)
    body = {"snapshot": {"volume_id": first["id"], "name": "s"}}
    for _ in range(20):
        snap = good(await place.alice.post("/v3/snapshots", json=body), 202)["snapshot"]
        path = f"/v3/snapshots/{snap['id']}"
        while good(await place.alice.get(path))["snapshot"]["status"] == "creating":
            await asyncio.sleep(0)
        good(await place.alice.delete(path), 202)
        await place.done()
        assert (await place.alice.get(path)).status == 404


async def test_snapshot_and_copies(place: Place) -> None:
    first = await place.make(place.alice)
    file = place.volumes.files.volume(first["id"])
    with file.open("r+b") as out:
        out.write(b"before")
    body = {"snapshot": {"volume_id": first["id"], "name": "s"}}
    snap = good(await place.alice.post("/v3/snapshots", json=body), 202)["snapshot"]
    assert snap["status"] == "creating"
    await place.done()
    with file.open("r+b") as out:
        out.write(b"after!")
    shown = good(await place.alice.get(f"/v3/snapshots/{snap['id']}"))["snapshot"]
    assert (shown["status"], shown["size"]) == ("available", 1)
    assert (await place.alice.delete(f"/v3/volumes/{first['id']}")).status == 400
    old = await place.make(place.alice, snapshot_id=snap["id"], size=3)
    new = await place.make(place.alice, source_volid=first["id"], size=None)
    assert (old["size"], new["size"]) == (3, 1)
    for volume, text in ((old, b"before"), (new, b"after!")):
        path = place.volumes.files.volume(volume["id"])
        with path.open("rb") as data:
            assert data.read(6) == text
        assert path.stat().st_size == volume["size"] * GIB
    good(await place.alice.delete(f"/v3/volumes/{first['id']}?cascade=True"), 202)
    await place.done()
    assert good(await place.alice.get("/v3/snapshots/detail"))["snapshots"] == []


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"size": 0},
        {"size": "x"},
        {"size": 1, "volume_type": 5},
        {"size": 1, "availability_zone": "mars"},
        {"size": 1, "unknown": True},
        {"size": 1, "snapshot_id": "no-uuid"},
    ],
)
async def test_bad_bodies(place: Place, given: dict[str, object]) -> None:
    assert (await place.alice.post("/v3/volumes", json={"volume": given})).status == 400


async def test_lists_filter_sort_and_page(place: Place) -> None:
    names = ["c", "a", "b"]
    made = [await place.make(place.alice, name=n, metadata={"k": n}) for n in names]
    found = good(await place.alice.get("/v3/volumes?sort=name:asc&limit=2"))
    assert [item["name"] for item in found["volumes"]] == ["a", "b"]
    link = found["volumes_links"][0]["href"]
    rest = good(await place.alice.get(link))["volumes"]
    assert [item["name"] for item in rest] == ["c"]
    by_name = good(await place.alice.get("/v3/volumes?name=b"))["volumes"]
    assert [item["id"] for item in by_name] == [made[2]["id"]]
    by_meta = good(await place.alice.get("/v3/volumes/detail", params={"metadata": "{'k': 'a'}"}))
    assert [item["id"] for item in by_meta["volumes"]] == [made[1]["id"]]
    counted = good(await place.alice.get("/v3/volumes?with_count=true&limit=1"))
    assert counted["count"] == 3
    total = good(await place.alice.get("/v3/volumes/summary"))["volume-summary"]
    assert (total["total_count"], total["total_size"]) == (3, 3)
    assert (await place.alice.get("/v3/volumes?marker=none")).status == 400


async def test_metadata(place: Place) -> None:
    path = f"/v3/volumes/{(await place.make(place.alice, metadata={'a': '1'}))['id']}/metadata"
    good(await place.alice.post(path, json={"metadata": {"b": "2"}}))
    assert good(await place.alice.get(path))["metadata"] == {"a": "1", "b": "2"}
    good(await place.alice.put(path, json={"metadata": {"c": "3"}}))
    assert good(await place.alice.get(f"{path}/c"))["meta"] == {"c": "3"}
    good(await place.alice.delete(f"{path}/c"))
    assert (await place.alice.delete(f"{path}/c")).status == 404


async def test_a_changed_volume_is_answered_as_a_new_one(place: Place) -> None:
    volume = await place.make(place.alice)
    path = f"/v3/volumes/{volume['id']}"
    changed = good(await place.alice.put(path, json={"volume": {"name": "other"}}))["volume"]
    assert changed["name"] == "other"
    added = set(volume) - set(changed)
    assert added == {"os-vol-tenant-attr:tenant_id"}


async def test_quotas(place: Place) -> None:
    path = "/v3/os-quota-sets/p-alice"
    body = {"quota_set": {"volumes": 1, "gigabytes": 3}}
    assert (await place.alice.put(path, json=body)).status == 403
    good(await place.admin.put(path, json=body))
    great = await place.alice.post("/v3/volumes", json={"volume": {"size": 4}})
    assert great.status == 413
    first = await place.make(place.alice)
    assert (await place.alice.post("/v3/volumes", json={"volume": {"size": 1}})).status == 413
    used = good(await place.alice.get(f"{path}?usage=True"))["quota_set"]["volumes"]
    assert (used["limit"], used["in_use"]) == (1, 1)
    absolute = good(await place.alice.get("/v3/limits"))["limits"]["absolute"]
    assert (absolute["maxTotalVolumes"], absolute["totalGigabytesUsed"]) == (1, 1)
    extend = {"os-extend": {"new_size": 5}}
    assert (await place.alice.post(f"/v3/volumes/{first['id']}/action", json=extend)).status == 413
    good(await place.admin.delete(path))
    assert good(await place.alice.get(path))["quota_set"]["volumes"] == 100


async def test_types(place: Place) -> None:
    body = {"volume_type": {"name": "shared", "extra_specs": {"multiattach": "<is> True"}}}
    assert (await place.alice.post("/v3/types", json=body)).status == 403
    kind = good(await place.admin.post("/v3/types", json=body))["volume_type"]
    assert "qos_specs_id" not in kind
    assert (await place.admin.post("/v3/types", json=body)).status == 409
    names = {t["name"] for t in good(await place.alice.get("/v3/types"))["volume_types"]}
    assert names == {"__DEFAULT__", "shared"}
    made = await place.make(place.alice, volume_type="shared")
    assert (made["multiattach"], made["volume_type"]) == (True, "shared")
    assert (await place.admin.delete(f"/v3/types/{kind['id']}")).status == 400
    secret = {"volume_type": {"name": "secret", "os-volume-type-access:is_public": False}}
    hidden = good(await place.admin.post("/v3/types", json=secret))["volume_type"]
    wanted = {"volume": {"size": 1, "volume_type": "secret"}}
    assert (await place.alice.post("/v3/volumes", json=wanted)).status == 404
    allow = {"addProjectAccess": {"project": "p-alice"}}
    good(await place.admin.post(f"/v3/types/{hidden['id']}/action", json=allow), 202)
    assert (await place.make(place.alice, volume_type="secret"))["status"] == "available"


async def test_work_goes_on_after_a_crash(tmp_path: Path) -> None:
    place = await start(tmp_path)
    source = await place.make(place.alice)
    body = {"volume": {"size": 1, "source_volid": source["id"]}}
    made = good(await place.alice.post("/v3/volumes", json=body), 202)["volume"]
    await place.volumes.worker.stop()
    going = good(await place.alice.post("/v3/volumes", json={"volume": {"size": 1}}), 202)["volume"]
    await place.volumes.worker.stop()
    await place.volumes.db.run(
        rows.change, Volume, source["id"], status="deleting", job=Work("delete")
    )
    stray = place.volumes.files.directory / "volume-nobody.part"
    stray.write_bytes(b"x")
    await place.volumes.close()
    again = await start(tmp_path)
    await again.done()
    status = {}
    for item in good(await again.alice.get("/v3/volumes/detail"))["volumes"]:
        status[item["id"]] = item["status"]
    assert status[going["id"]] == "available"
    assert status[made["id"]] in ("available", "error")
    assert source["id"] not in status
    assert not stray.exists()
    await again.volumes.close()
