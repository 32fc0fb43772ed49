"""What compute may expect of a volume service: the one in memory, and Cinder's API over HTTP."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from kilonova.base.errors import BadRequest, NotFound
from kilonova.clients.cinder import Cinder
from kilonova.clients.keystone import Endpoint
from kilonova.interfaces.volume import NewVolume, VolumeService
from kilonova.web.client import HttpClient
from tests.support.volume import start
from tests.support.volumes import Volumes

ORIGIN = "http://volumes.test"
PROJECT = "p-alice"
SERVER, OTHER = str(uuid.uuid4()), str(uuid.uuid4())


class Token:
    """A token source with the administrator's."""

    async def token(self) -> str:
        return "admin"

    async def endpoint(self, service_type: str, *, interface: str, region: str | None) -> str:
        return f"{ORIGIN}/v3"

    def forget(self) -> None:
        """Nothing to forget."""


class Lab(msgspec.Struct):
    """A service and how to wait for it; ``image`` is one it can write onto volumes."""

    volumes: VolumeService
    done: Callable[[], Awaitable[None]]
    image: str = str(uuid.uuid4())

    async def made(self, **more: Any) -> str:
        """A volume that is ready."""
        wanted = NewVolume(str(uuid.uuid4()), PROJECT, "alice", size=1, **more)
        await self.volumes.create(wanted)
        await self.done()
        for _ in range(5):
            if (await self.volumes.show(wanted.id)).status == "available":
                return wanted.id
        raise AssertionError("the volume did not become ready")


@pytest.fixture(params=["memory", "cinder"])
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    if request.param == "memory":
        yield Lab(Volumes(), lambda: asyncio.sleep(0))
        return
    place = await start(tmp_path)
    http = HttpClient(loopback={ORIGIN: place.app})
    made = Lab(Cinder(Endpoint(http, Token(), "block-storage")), place.done)
    place.images.add(made.image, b"data")
    yield made
    await http.close()
    await place.volumes.close()


async def test_a_volume_is_made_once(lab: Lab) -> None:
    wanted = NewVolume(str(uuid.uuid4()), PROJECT, "alice", size=2)
    for _ in range(2):
        made = await lab.volumes.create(wanted)
        assert (made.id, made.size, made.project_id) == (wanted.id, 2, PROJECT)
    await lab.done()
    for _ in range(3):
        shown = await lab.volumes.show(wanted.id)
    assert shown.status == "available"
    for _ in range(2):
        await lab.volumes.delete(wanted.id)
        await lab.done()
    with pytest.raises(NotFound):
        await lab.volumes.show(wanted.id)


async def test_the_life_of_an_attachment(lab: Lab) -> None:
    key = await lab.made()
    attachment = await lab.volumes.reserve(key, SERVER)
    assert await lab.volumes.reserve(key, SERVER) == attachment
    assert (await lab.volumes.show(key)).status == "reserved"
    with pytest.raises(BadRequest):
        await lab.volumes.reserve(key, OTHER)
    for _ in range(2):
        info = await lab.volumes.connect(attachment, {"host": "h1", "mountpoint": "/dev/vdb"})
        assert info["driver_volume_type"] == "local"
        assert key in info["data"]["device_path"]
    for _ in range(2):
        await lab.volumes.complete(attachment)
    shown = await lab.volumes.show(key)
    assert (shown.status, shown.attachments) == ("in-use", {SERVER: attachment})
    with pytest.raises(BadRequest):
        await lab.volumes.delete(key)
    [item] = await lab.volumes.attachments(SERVER)
    assert (item.id, item.volume_id, item.status) == (attachment, key, "attached")
    assert await lab.volumes.attachments(OTHER) == []
    assert len(await lab.volumes.all_attachments()) == 1
    await lab.volumes.begin_detaching(key)
    assert (await lab.volumes.show(key)).status == "detaching"
    await lab.volumes.roll_detaching(key)
    await lab.volumes.roll_detaching(key)
    assert (await lab.volumes.show(key)).status == "in-use"
    for _ in range(2):
        await lab.volumes.release(attachment)
    assert (await lab.volumes.show(key)).status == "available"
    with pytest.raises(BadRequest):
        await lab.volumes.begin_detaching(key)


async def test_a_snapshot_of_a_volume_in_use(lab: Lab) -> None:
    key = await lab.made()
    attachment = await lab.volumes.reserve(key, SERVER)
    await lab.volumes.connect(attachment, {"host": "h1", "mountpoint": "/dev/vdb"})
    await lab.volumes.complete(attachment)
    made = await lab.volumes.make_snapshot(key, name="one", description="x", token="admin")
    assert (made.volume_id, made.size, made.name) == (key, 1, "one")
    await lab.done()
    assert (await lab.volumes.snapshot(made.id)).description == "x"
    for _ in range(2):
        await lab.volumes.delete_snapshot(made.id, token="admin")
        await lab.done()
    with pytest.raises(NotFound):
        await lab.volumes.snapshot(made.id)


async def test_another_attachment_and_other_data(lab: Lab) -> None:
    key = await lab.made()
    first = await lab.volumes.reserve(key, SERVER)
    await lab.volumes.connect(first, {"host": "h1", "mountpoint": "/dev/vdb"})
    await lab.volumes.complete(first)
    second = await lab.volumes.reserve(key, SERVER, another=True)
    assert second != first
    with pytest.raises(BadRequest):
        await lab.volumes.reserve(key, OTHER, another=True)
    image = lab.image
    with pytest.raises(BadRequest):
        await lab.volumes.reimage(key, image)
    await lab.volumes.release(first)
    await lab.volumes.reimage(key, image)
    await lab.done()
    shown = await lab.volumes.show(key)
    assert (shown.status, shown.image_metadata["image_id"]) == ("reserved", image)
    await lab.volumes.connect(second, {"host": "h1", "mountpoint": "/dev/vdb"})
    await lab.volumes.complete(second)
    assert (await lab.volumes.show(key)).status == "in-use"


async def test_what_is_not_there(lab: Lab) -> None:
    nobody = str(uuid.uuid4())
    for ask in (
        lab.volumes.show(nobody),
        lab.volumes.snapshot(nobody),
        lab.volumes.reserve(nobody, SERVER),
        lab.volumes.connect(nobody, {"host": "h1"}),
    ):
        with pytest.raises(NotFound):
            await ask
    await lab.volumes.delete(nobody)
    await lab.volumes.release(nobody)
    assert "__DEFAULT__" in await lab.volumes.types(token="alice")


ATTACHED = {
    "iscsi": {
        "target_discovered": False,
        "target_portal": "10.0.0.5:3260",
        "target_iqn": "iqn.2010-10.org.openstack:volume-1",
        "target_lun": 1,
        "volume_id": "v1",
        "auth_method": "CHAP",
        "auth_username": "u",
        "auth_password": "p",
    },
    "rbd": {
        "name": "volumes/volume-1",
        "hosts": ["10.0.0.6"],
        "ports": ["6789"],
        "cluster_name": "ceph",
        "auth_enabled": True,
        "auth_username": "cinder",
        "secret_type": "ceph",
        "secret_uuid": "s1",
        "volume_id": "v1",
        "discard": True,
    },
    "fibre_channel": {"target_discovered": True, "target_wwn": ["5001"], "target_lun": 1},
}
"""What volume services of different back ends tell compute, in the form of Cinder's attachments."""


@pytest.mark.parametrize("kind", sorted(ATTACHED))
@pytest.mark.parametrize("status", [200, 202])
async def test_connections_of_other_back_ends(kind: str, status: int) -> None:
    more = {"access_mode": "rw", "encrypted": False, "qos_specs": None, "attachment_id": "a1"}
    host = {"host": "h1", "initiator": "iqn.h1"}
    info = {**ATTACHED[kind], **more, "driver_volume_type": kind, "connector": host}
    seen: list[tuple[str, str]] = []

    async def answer(request: Request) -> JSONResponse:
        seen.append((request.method, request.headers["openstack-api-version"]))
        shown = {"id": "a1", "status": "attaching", "instance": SERVER, "volume_id": "v1"}
        return JSONResponse({"attachment": {**shown, "connection_info": info}}, status)

    app = Starlette(
        routes=[Route("/v3/attachments{rest:path}", answer, methods=["POST", "PUT", "GET"])]
    )
    http = HttpClient(loopback={ORIGIN: app})
    volumes = Cinder(Endpoint(http, Token(), "block-storage"))
    assert await volumes.reserve("v1", SERVER, another=True) == "a1"
    found = await volumes.connect("a1", host)
    assert found["driver_volume_type"] == kind
    assert found["data"] == {**ATTACHED[kind], **more}
    assert seen == [("POST", "volume 3.44"), ("PUT", "volume 3.44")]
    await http.close()
