"""Snapshots that the volume service asks for, of volumes that servers have."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.domain.guest import PowerState
from kilonova.domain.states import Task, VmState
from kilonova.store import block_devices, servers
from tests.support.cloud import PROJECT, Cloud, body
from tests.support.compute import NOW

VOLUME = "11111111-aaaa-4000-8000-000000000001"
SNAPSHOT = "22222222-aaaa-4000-8000-000000000001"
ROOT = "/v2.1/os-assisted-volume-snapshots"


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    """A cloud with a server that has a volume."""
    made = Cloud()
    made.volumes.add(VOLUME, project_id=PROJECT)
    yield made
    made.close()


async def server_with(cloud: Cloud) -> str:
    client = cloud.client(version="2.37")
    made = await client.post("/v2.1/servers", json=body(networks="none"))
    server_id = str(made.json()["server"]["id"])
    cloud.run(server_id)
    path = f"/v2.1/servers/{server_id}/os-volume_attachments"
    answer = await client.post(path, json={"volumeAttachment": {"volumeId": VOLUME}})
    assert answer.status == 200, answer.text
    cloud.end_sagas()
    return server_id


def wanted(**more: Any) -> dict[str, Any]:
    info = {"snapshot_id": SNAPSHOT, "type": "qcow2", "new_file": "volume-1.s1", **more}
    return {"snapshot": {"volume_id": VOLUME, "create_info": info}}


def gone(**more: Any) -> str:
    info = {"volume_id": VOLUME, "type": "qcow2", **more}
    return f"{ROOT}/{SNAPSHOT}?delete_info={urllib.parse.quote(json.dumps(info))}"


def sagas(cloud: Cloud) -> list[tuple[str, Any]]:
    """Names and arguments of what is to be done in the cell."""
    t = cloud.sagas.table

    def read(tx: Tx) -> list[tuple[str, Any]]:
        rows = tx.execute(sa.select(t.c.name, t.c.args))
        return [(row[0], msgspec.json.decode(row[1])) for row in rows]

    return cloud.cell1.db.run_sync(read)


async def test_the_agents_are_asked(cloud: Cloud) -> None:
    server_id = await server_with(cloud)
    disk = next(
        d for d in await cloud.cell1.db.read(block_devices.of_server, server_id) if d.volume_id
    )
    admin = cloud.client("admin")
    answer = await admin.post(ROOT, json=wanted(id="521752a6-acf6-4b2d-bc7a-119f9148cd8c"))
    assert answer.status == 200, answer.text
    shown = {"id": "521752a6-acf6-4b2d-bc7a-119f9148cd8c", "volumeId": VOLUME}
    assert answer.json() == {"snapshot": shown}
    about = {"server_id": server_id, "disk_id": disk.id, "snapshot_id": SNAPSHOT}
    assert sagas(cloud) == [("server.snapshot_volume", {**about, "file": "volume-1.s1"})]
    cloud.end_sagas()
    answer = await admin.delete(gone(file_to_merge="/mnt/a/volume-1.s1", merge_target_file="b"))
    assert answer.status == 204, answer.text
    files = {"file": "volume-1.s1", "into": "b"}
    assert sagas(cloud) == [("server.merge_volume", {**about, **files})]
    cloud.end_sagas()
    assert (await admin.delete(gone(file_to_merge=None, merge_target_file=None))).status == 204
    actions = await admin.get(f"/v2.1/servers/{server_id}/os-instance-actions")
    assert "volume_snapshot" not in actions.text


async def test_who_may_and_what_is_wrong(cloud: Cloud) -> None:
    admin = cloud.client("admin")
    assert (await cloud.client().post(ROOT, json=wanted())).status == 403
    assert (await cloud.client().delete(gone())).status == 403
    wrong: list[dict[str, Any]] = [wanted(type="raw"), wanted(new_file=""), {"snapshot": {}}]
    for asked in wrong:
        assert (await admin.post(ROOT, json=asked)).status == 400
    assert (await admin.post(ROOT, json=wanted())).status == 400  # no server has it
    assert (await admin.delete(gone())).status == 400
    await server_with(cloud)
    for file in ("..", "/", "x" * 300):
        assert (await admin.post(ROOT, json=wanted(new_file=file))).status == 400, file
    for info in ("", "x", "[]", "{}", '{"volume_id":1}'):
        path = f"{ROOT}/{SNAPSHOT}?delete_info={urllib.parse.quote(info)}"
        assert (await admin.delete(path)).status == 400, info
    assert (await admin.delete(f"{ROOT}/{SNAPSHOT}")).status == 400
    assert (await admin.delete(gone() + "&x=1", version="2.74")).status == 204
    assert (await admin.delete(gone() + "&x=1", version="2.75")).status == 400


async def test_states(cloud: Cloud) -> None:
    server_id = await server_with(cloud)
    admin = cloud.client("admin")

    def busy(tx: Tx) -> None:
        servers.begin(tx, server_id, "pause", task=Task.PAUSING, now=NOW)

    cloud.cell1.db.run_sync(busy)
    answer = await admin.post(ROOT, json=wanted())
    assert (answer.status, "task_state" in answer.text) == (400, True)
    assert (await admin.delete(gone())).status == 400
    cloud.finish(server_id, VmState.STOPPED, PowerState.SHUTDOWN)
    # Files below others are merged by the guest's own process.
    assert (await admin.delete(gone(merge_target_file="a"))).status == 400
    assert (await admin.delete(gone())).status == 204
    cloud.end_sagas()
    assert (await admin.post(ROOT, json=wanted())).status == 200
