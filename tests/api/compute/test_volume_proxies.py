"""The old addresses of volumes, snapshots and servers on volumes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from kilonova.clients.cinder import Cinder
from kilonova.clients.keystone import Endpoint
from kilonova.embedded.volume import service
from kilonova.web.auth import StaticAuthenticator
from kilonova.web.client import HttpClient
from tests.support import cloud as support
from tests.support.cloud import Cloud, body
from tests.support.volume import start

ORIGIN = "http://volumes.test"


class Token:
    """A token source with the administrator's."""

    async def token(self) -> str:
        return "admin"

    async def endpoint(self, service_type: str, *, interface: str, region: str | None) -> str:
        return f"{ORIGIN}/v3"

    def forget(self) -> None:
        """Nothing to forget."""


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    """A Compute API with a real block storage service behind it."""
    place = await start(tmp_path)
    app = service.build(place.volumes, auth=StaticAuthenticator(support.CALLERS))
    http = HttpClient(loopback={ORIGIN: app})
    made = Cloud()
    volumes = Cinder(Endpoint(http, Token(), "block-storage"))
    made.services = msgspec.structs.replace(made.services, volumes=volumes)
    made.app = made.build()
    yield made
    made.close()
    await http.close()
    await place.done()
    await place.volumes.close()


async def test_volumes_to_235(cloud: Cloud) -> None:
    client = cloud.client(version="2.35")
    wanted = {"volume": {"size": 1, "display_name": "old", "metadata": {"a": "b"}}}
    answer = await client.post("/v2.1/os-volumes", json=wanted)
    assert answer.status == 200, answer.text
    made = answer.json()["volume"]
    assert (made["displayName"], made["size"], made["attachments"]) == ("old", 1, [{}])
    assert answer.headers["location"].endswith(f"/os-volumes/{made['id']}")
    for path in ("os-volumes", "os-volumes/detail"):
        found = (await client.get(f"/v2.1/{path}")).json()["volumes"]
        assert [item["id"] for item in found] == [made["id"]]
    one = f"/v2.1/os-volumes/{made['id']}"
    assert (await client.get(one)).json()["volume"]["metadata"] == {"a": "b"}
    assert (await client.get(f"{one[:-1]}x")).status == 404
    assert (await client.post("/v2.1/os-volumes", json={"volume": {}})).status == 400
    wanted = {"snapshot": {"volume_id": made["id"], "display_name": "s", "force": True}}
    answer = await client.post("/v2.1/os-snapshots", json=wanted)
    while answer.status == 400:  # the volume is not ready yet
        answer = await client.post("/v2.1/os-snapshots", json=wanted)
    snapshot = answer.json()["snapshot"]
    assert (snapshot["displayName"], snapshot["volumeId"]) == ("s", made["id"])
    shown = await client.get(f"/v2.1/os-snapshots/{snapshot['id']}")
    assert shown.json()["snapshot"]["id"] == snapshot["id"]
    assert len((await client.get("/v2.1/os-snapshots/detail")).json()["snapshots"]) == 1
    assert (await client.delete(one)).status == 400
    later = cloud.client(version="2.36")
    assert (await later.get("/v2.1/os-volumes")).status == 404
    assert (await later.get("/v2.1/os-snapshots")).status == 404


async def test_servers_on_volumes_to_2102(cloud: Cloud) -> None:
    client = cloud.client(version="2.102")
    answer = await client.post("/v2.1/os-volumes_boot", json=body(networks="none"))
    assert answer.status == 202, answer.text
    server_id = answer.json()["server"]["id"]
    assert (await client.get(f"/v2.1/os-volumes_boot/{server_id}")).status == 200
    listed = (await client.get("/v2.1/os-volumes_boot/detail")).json()["servers"]
    assert [item["id"] for item in listed] == [server_id]
    last = cloud.client(version="2.103")
    assert (await last.get(f"/v2.1/os-volumes_boot/{server_id}")).status == 404


async def test_the_volume_service_is_told_of_snapshots_it_asked_for(cloud: Cloud) -> None:
    client = cloud.client(version="2.35")
    made = (await client.post("/v2.1/os-volumes", json={"volume": {"size": 1}})).json()["volume"]
    wanted = {"snapshot": {"volume_id": made["id"], "force": True}}
    answer = await client.post("/v2.1/os-snapshots", json=wanted)
    while answer.status == 400:  # the volume is not ready yet
        answer = await client.post("/v2.1/os-snapshots", json=wanted)
    snapshot = answer.json()["snapshot"]["id"]
    volumes = cloud.services.volumes
    while (await volumes.snapshot(snapshot)).status == "creating":
        await asyncio.sleep(0.01)
    for status in ("creating", "error", "error_deleting"):
        await volumes.tell_snapshot(snapshot, status)
        assert (await volumes.snapshot(snapshot)).status == status
    await volumes.tell_snapshot(made["id"], "creating")  # there is no such snapshot
