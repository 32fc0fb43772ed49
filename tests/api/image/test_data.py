"""Uploading, resuming, staging and fetching the data of images."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kilonova.embedded.image.app import reconcile
from kilonova.embedded.image.content import Reader
from kilonova.embedded.image.files import Writer
from kilonova.embedded.image.store import images as store
from kilonova.web.testing import Client
from tests.support.image import OCTETS, Place, gpt_disk, make, put, qemu_image, start

DATA = os.urandom(3 * 1024 * 1024 + 17)


async def offset(client: Client, image_id: str) -> int:
    """Where an upload goes on."""
    answer = await client.head(f"/v2/images/{image_id}/file")
    assert answer.status == 204
    return int(answer.headers["X-Image-Upload-Offset"])


async def status(client: Client, image_id: str) -> str:
    """The status of an image."""
    return str((await client.get(f"/v2/images/{image_id}")).json()["status"])


async def test_upload_and_download(place: Place) -> None:
    image = await make(place.alice)
    path = f"/v2/images/{image['id']}/file"
    assert (await place.alice.get(path)).status == 204
    assert (await put(place.alice, image["id"], DATA)).status == 204
    shown = (await place.alice.get(f"/v2/images/{image['id']}")).json()
    assert shown["status"] == "active"
    assert (shown["size"], shown["virtual_size"]) == (len(DATA), len(DATA))
    assert shown["checksum"] == hashlib.md5(DATA).hexdigest()
    assert shown["os_hash_algo"] == "sha512"
    assert shown["os_hash_value"] == hashlib.sha512(DATA).hexdigest()
    answer = await place.alice.get(path)
    assert answer.body == DATA
    assert answer.headers["Content-MD5"] == shown["checksum"]
    assert answer.headers["Content-Type"] == "application/octet-stream"
    head = await place.alice.head(path)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(DATA))
    cached = await place.alice.get(path, headers={"If-None-Match": answer.headers["ETag"]})
    assert cached.status == 304
    assert (await put(place.alice, image["id"], b"again")).status == 409
    file = place.images.settings.directory / image["id"]
    assert oct(file.stat().st_mode)[-3:] == "600"


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [("bytes=0-0", 0, 0), ("bytes=10-", 10, 99), ("bytes=90-500", 90, 99), ("bytes=-5", 95, 99)],
)
async def test_ranges(place: Place, wanted: str, first: int, last: int) -> None:
    image = await make(place.alice)
    data = bytes(range(100))
    await put(place.alice, image["id"], data)
    answer = await place.alice.get(f"/v2/images/{image['id']}/file", headers={"Range": wanted})
    assert answer.status == 206
    assert answer.body == data[first : last + 1]
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/100"
    for bad in ("bytes=100-", "bytes=5-4", "bytes=a-b", "bytes=0-1,5-6", "bytes=-0", "lines=1-2"):
        answer = await place.alice.get(f"/v2/images/{image['id']}/file", headers={"Range": bad})
        assert answer.status == 416, bad
        assert answer.headers["Content-Range"] == "bytes */100"


async def test_upload_in_parts(place: Place) -> None:
    image = await make(place.alice)
    total = len(DATA)
    cut = 1024 * 1024 + 5

    async def send(first: int, data: bytes) -> int:
        content_range = f"bytes {first}-{first + len(data) - 1}/{total}"
        answer = await put(place.alice, image["id"], data, Content_Range=content_range)
        return answer.status

    assert await send(0, DATA[:cut]) == 202
    assert await offset(place.alice, image["id"]) == cut
    assert await status(place.alice, image["id"]) == "queued"
    assert await send(cut + 1, DATA[cut + 1 :]) == 409
    assert await send(cut, DATA[cut:]) == 204
    assert (await place.alice.get(f"/v2/images/{image['id']}/file")).body == DATA
    shown = (await place.alice.get(f"/v2/images/{image['id']}")).json()
    assert shown["checksum"] == hashlib.md5(DATA).hexdigest()


async def test_broken_upload_goes_on(place: Place) -> None:
    image = await make(place.alice)
    total = len(DATA)
    sent = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield DATA[: total // 2]
        sent.set()
        await asyncio.sleep(3600)

    task = asyncio.create_task(put(place.alice, image["id"], half()))
    await sent.wait()
    assert await status(place.alice, image["id"]) == "saving"
    assert (await put(place.alice, image["id"], DATA)).status == 409
    task.cancel()
    await asyncio.wait([task])
    async with asyncio.timeout(10):
        while await status(place.alice, image["id"]) != "queued":
            await asyncio.sleep(0.02)
    kept = await offset(place.alice, image["id"])
    assert 0 < kept <= total // 2
    rest = DATA[kept:]
    answer = await put(
        place.alice, image["id"], rest, Content_Range=f"bytes {kept}-{total - 1}/{total}"
    )
    assert answer.status == 204
    assert (await place.alice.get(f"/v2/images/{image['id']}/file")).body == DATA


async def test_plain_upload_begins_again(place: Place) -> None:
    image = await make(place.alice)
    await put(place.alice, image["id"], b"xxxx", Content_Range="bytes 0-3/100")
    assert (await put(place.alice, image["id"], b"whole")).status == 204
    assert (await place.alice.get(f"/v2/images/{image['id']}/file")).body == b"whole"


async def test_crash_leaves_an_upload_that_goes_on(tmp_path: Path) -> None:
    place = await start(tmp_path)
    images = [await make(place.alice) for _ in range(3)]
    one, two, written = (image["id"] for image in images)
    for image_id in (one, two, written):
        moved = await place.images.db.run(store.move, image_id, ["queued"], "saving", 1)
        assert moved
    files = place.images.files
    files.part(one).write_bytes(DATA[:1000])
    files.path(two).write_bytes(DATA)
    (files.directory / "00000000-0000-0000-0000-000000000000").write_bytes(b"of nobody")
    writer = Writer(files, written, Reader("raw", "bare"), offset=0, most=10)
    assert await reconcile(place.images) == {"requeued": 2, "removed": 1}
    assert await status(place.alice, written) == "saving"
    writer.close()
    place.images.close()

    place = await start(tmp_path)
    assert await status(place.alice, written) == "queued"
    assert await offset(place.alice, one) == 1000
    assert await offset(place.alice, two) == len(DATA)
    answer = await put(place.alice, two, b"", Content_Range=f"bytes */{len(DATA)}")
    assert answer.status == 204, answer.text
    assert (await place.alice.get(f"/v2/images/{two}/file")).body == DATA
    place.images.close()


async def test_bounds(tmp_path: Path) -> None:
    place = await start(tmp_path, most_bytes=1000, idle_seconds=0.2)
    image = await make(place.alice)
    assert (await put(place.alice, image["id"], b"x" * 1001)).status == 413

    async def many() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100

    assert (await put(place.alice, image["id"], many())).status == 413
    assert await offset(place.alice, image["id"]) == 0

    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * 10
        await asyncio.sleep(3600)

    assert (await put(place.alice, image["id"], slow())).status == 400
    assert await status(place.alice, image["id"]) == "queued"
    assert await offset(place.alice, image["id"]) == 10
    place.images.settings.directory.chmod(0o700)
    place.images.close()


async def test_full_disk(tmp_path: Path) -> None:
    place = await start(tmp_path)
    place.images.files._reserve = 1 << 60
    image = await make(place.alice)
    assert (await put(place.alice, image["id"], b"data")).status == 413
    assert await status(place.alice, image["id"]) == "queued"
    place.images.close()


async def test_bad_uploads(place: Place) -> None:
    bare = (await place.alice.post("/v2/images", json={"name": "x"})).json()
    assert (await put(place.alice, bare["id"], b"data")).status == 400
    image = await make(place.alice)
    path = f"/v2/images/{image['id']}/file"
    assert (await place.alice.put(path, json={})).status == 415
    for content_range in ("bytes 5-1/10", "bytes 0-20/10", "lines 0-1/2", "bytes 0-1/2"):
        answer = await put(place.alice, image["id"], b"data", Content_Range=content_range)
        assert answer.status == 400, content_range
    assert (await put(place.bob, image["id"], b"data")).status == 404
    assert (await put(place.reader, image["id"], b"data")).status == 403


async def test_formats_are_looked_at(place: Place, tmp_path: Path) -> None:
    qcow2 = qemu_image(tmp_path, "qcow2")
    good = {
        "qcow2": qcow2,
        "vmdk": qemu_image(tmp_path, "vmdk"),
        "vdi": qemu_image(tmp_path, "vdi"),
        "raw": gpt_disk(),
        "gpt": gpt_disk(),
        "aki": b"\x7fELF" + b"\0" * 4096,
    }
    for disk_format, data in good.items():
        image = await make(place.alice, disk_format=disk_format)
        answer = await put(place.alice, image["id"], data)
        assert answer.status == 204, (disk_format, answer.text)
        shown = (await place.alice.get(f"/v2/images/{image['id']}")).json()
        if disk_format in ("qcow2", "vmdk", "vdi"):
            assert shown["virtual_size"] == 16 * 1024 * 1024
    (tmp_path / "base").write_bytes(b"\0" * 65536)
    backed = qemu_image(tmp_path, "qcow2", "-b", str(tmp_path / "base"), "-F", "raw")
    external = qemu_image(tmp_path, "qcow2", "-o", f"data_file={tmp_path}/data,data_file_raw=on")
    flat = qemu_image(tmp_path, "vmdk", "-o", "subformat=monolithicFlat")
    for disk_format, data in (
        ("qcow2", backed),
        ("qcow2", external),
        ("qcow2", b"plain text " * 1000),
        ("raw", qcow2),
        ("aki", qcow2),
        ("vmdk", flat),
        ("vmdk", qcow2),
        ("iso", qcow2),
    ):
        image = await make(place.alice, disk_format=disk_format)
        answer = await put(place.alice, image["id"], data)
        assert answer.status == 415, (disk_format, data[:20])
        assert await status(place.alice, image["id"]) == "queued"
        assert await offset(place.alice, image["id"]) == 0
    image = await make(place.alice, disk_format="vmdk", container_format="ova")
    assert (await put(place.alice, image["id"], b"a tape")).status == 204


async def test_stage_and_import(place: Place) -> None:
    image = await make(place.alice)
    path = f"/v2/images/{image['id']}"
    direct = {"method": {"name": "glance-direct"}}
    assert (await place.alice.post(f"{path}/import", json=direct)).status == 409
    answer = await place.alice.put(f"{path}/stage", data=DATA, headers=OCTETS)
    assert answer.status == 204, answer.text
    assert await status(place.alice, image["id"]) == "uploading"
    assert (await place.alice.get(f"{path}/file")).status == 204
    download = {"method": {"name": "web-download", "uri": "http://example.org/x"}}
    refused = await place.alice.post(f"{path}/import", json=download)
    assert refused.status == 400
    assert "web-download" in refused.json()["message"]
    answer = await place.alice.post(f"{path}/import", json=direct)
    assert answer.status == 202
    assert await status(place.alice, image["id"]) == "active"
    assert (await place.alice.get(f"{path}/file")).body == DATA
    shown = (await place.alice.get(path)).json()
    assert shown["checksum"] == hashlib.md5(DATA).hexdigest()
    assert shown["stores"] == "files"
    (task,) = (await place.alice.get(f"{path}/tasks")).json()["tasks"]
    assert (task["status"], task["type"]) == ("success", "api_image_import")
    assert task["request_id"] == answer.headers["x-openstack-request-id"]
    assert (await place.admin.get(f"/v2/tasks/{task['id']}")).json() == task


async def test_bad_staged_data_is_found_by_the_import(place: Place) -> None:
    image = await make(place.alice, disk_format="qcow2")
    path = f"/v2/images/{image['id']}"
    answer = await place.alice.put(f"{path}/stage", data=DATA, headers=OCTETS)
    assert answer.status == 204
    direct = {"method": {"name": "glance-direct"}}
    assert (await place.alice.post(f"{path}/import", json=direct)).status == 202
    assert await status(place.alice, image["id"]) == "queued"
    (task,) = (await place.alice.get(f"{path}/tasks")).json()["tasks"]
    assert task["status"] == "failure"
    assert "qcow2" in task["message"]
    assert await offset(place.alice, image["id"]) == 0
    assert (await put(place.alice, image["id"], DATA[:10])).status == 415


async def test_crash_during_an_import(tmp_path: Path) -> None:
    place = await start(tmp_path)
    image = await make(place.alice)
    path = f"/v2/images/{image['id']}"
    await place.alice.put(f"{path}/stage", data=DATA, headers=OCTETS)
    assert await place.images.db.run(store.move, image["id"], ["uploading"], "importing", 1)
    place.images.files.finish(image["id"])
    place.images.close()
    place = await start(tmp_path)
    assert await status(place.alice, image["id"]) == "uploading"
    direct = {"method": {"name": "glance-direct"}}
    assert (await place.alice.post(f"{path}/import", json=direct)).status == 202
    assert (await place.alice.get(f"{path}/file")).body == DATA
    place.images.close()


async def test_deactivated_data_is_kept_from_users(place: Place) -> None:
    image = await make(place.alice)
    path = f"/v2/images/{image['id']}"
    assert (await place.alice.post(f"{path}/actions/deactivate")).status == 403
    await put(place.alice, image["id"], b"data")
    assert (await place.reader.post(f"{path}/actions/deactivate")).status == 403
    assert (await place.alice.post(f"{path}/actions/deactivate")).status == 204
    assert (await place.alice.get(f"{path}/file")).status == 403
    assert (await place.admin.get(f"{path}/file")).body == b"data"
    assert (await place.admin.post(f"{path}/actions/reactivate")).status == 204
    assert (await place.alice.get(f"{path}/file")).body == b"data"


async def test_deleting_during_an_upload(place: Place) -> None:
    image = await make(place.alice)
    deleted = asyncio.Event()

    async def data() -> AsyncIterator[bytes]:
        yield DATA[: 2 * 1024 * 1024]
        await deleted.wait()
        yield b"end"

    task = asyncio.create_task(put(place.alice, image["id"], data()))
    async with asyncio.timeout(10):
        while await status(place.alice, image["id"]) != "saving":
            await asyncio.sleep(0.01)
    assert (await place.alice.delete(f"/v2/images/{image['id']}")).status == 204
    deleted.set()
    assert (await task).status == 410
    assert list(place.images.settings.directory.iterdir()) == []
