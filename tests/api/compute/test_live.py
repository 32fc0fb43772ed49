"""Conversations about live migrations and evacuations."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from kilonova.db.database import Tx
from kilonova.domain.guest import PowerState
from kilonova.domain.resources import Migration
from kilonova.domain.sagas import LIVE_MIGRATE, EvacuateArgs, LiveArgs
from kilonova.domain.states import Task, VmState
from kilonova.store import actions, migrations, servers, services
from kilonova.web.client import Answer
from tests.api.compute.test_actions import act, message, ready
from tests.support.cloud import Cloud


def args(cloud: Cloud, kind: type[Any]) -> Any:
    """What the newest saga was told."""

    def read(tx: Tx) -> Any:
        row = list(tx.execute(cloud.sagas.table.select()).mappings())[-1]
        return msgspec.json.decode(row["args"], type=kind)

    return cloud.cell1.db.run_sync(read)


def moved(cloud: Cloud, server_id: str, number: int, **changes: Any) -> Migration:
    row = Migration(
        id=0,
        uuid=f"abababab-0000-4000-8000-{number:012d}",
        server_id=server_id,
        type="live-migration",
        status="running",
        project_id="p",
        user_id="u",
        source_host="h1",
        source_node="n1",
        dest_host=None,
        dest_node=None,
        old_flavor_id=1,
        new_flavor_id=1,
        created_at=cloud.clock.now(),
        updated_at=None,
    )
    return cloud.cell1.db.run_sync(migrations.add, msgspec.structs.replace(row, **changes))


def second_host(cloud: Cloud) -> None:
    now = cloud.clock.now()
    cloud.cell1.db.run_sync(services.heartbeat, "h2", "nova-compute", uuid="s-h2", now=now)


@pytest.mark.parametrize(
    ("given", "at", "wanted"),
    [
        ({"block_migration": "auto", "host": None}, 104, (None, None, True, False)),
        ({"block_migration": True, "host": None}, 34, (None, True, True, False)),
        ({"block_migration": "false", "host": "h2"}, 68, ("h2", False, True, False)),
        ({"block_migration": "auto", "host": "h2", "force": "True"}, 67, ("h2", None, True, True)),
    ],
)
async def test_a_live_migration_begins(
    cloud: Cloud, given: dict[str, Any], at: int, wanted: tuple[Any, ...]
) -> None:
    second_host(cloud)
    server_id = await ready(cloud)
    answer = await act(cloud, server_id, "os-migrateLive", given, at=at)
    assert (answer.status, answer.body) == (202, b"")
    assert args(cloud, LiveArgs) == LiveArgs(server_id, *wanted)
    shown = (await cloud.client("admin", "2.104").get(f"/v2.1/servers/{server_id}")).json()
    assert shown["server"]["status"] == "MIGRATING"
    busy = await act(cloud, server_id, "os-migrateLive", given, at=at)
    assert busy.status == 409


async def test_a_paused_guest_may_go_a_stopped_one_not(cloud: Cloud) -> None:
    given = {"block_migration": "auto", "host": None}
    paused = await ready(cloud, VmState.PAUSED)
    assert (await act(cloud, paused, "os-migrateLive", given)).status == 202
    stopped = await ready(cloud, VmState.STOPPED)
    assert (await act(cloud, stopped, "os-migrateLive", given)).status == 409


@pytest.mark.parametrize(("error", "status"), [("The hosts do not fit.", 400), (None, 202)])
async def test_an_old_client_waits_for_the_checks(
    cloud: Cloud, error: str | None, status: int
) -> None:
    server_id = await ready(cloud)
    given = {"block_migration": False, "disk_over_commit": False, "host": None}
    asking = asyncio.create_task(act(cloud, server_id, "os-migrateLive", given, at=24))
    name = "conductor_live_migrate_instance"

    def begun(tx: Tx) -> list[str]:
        return [
            a.request_id
            for a in actions.page(tx, server_id) or []
            if a.action == LIVE_MIGRATE.action
        ]

    while not (asked := cloud.cell1.db.run_sync(begun)):
        await asyncio.sleep(0.01)

    def end(tx: Tx) -> None:
        now = cloud.clock.now()
        actions.start_event(tx, server_id, asked[0], name, now=now)
        actions.finish_event(tx, server_id, asked[0], name, now=now, error=error)
        actions.finish(tx, server_id, asked[0], now=now, message="Error" if error else None)

    cloud.cell1.db.run_sync(end)
    for _ in range(500):
        await cloud.clock.advance(0.2)
        await asyncio.sleep(0.01)
        if asking.done():
            break
    answer = asking.result()
    assert answer.status == status, answer.text
    if error:
        assert message(answer) == error
    # No word about it before 2.25: what is shared has to be told, and room can be asked for.
    assert args(cloud, LiveArgs) == LiveArgs(server_id, None, False, False, False)


async def test_ending_live_migrations(cloud: Cloud) -> None:
    admin, server_id = cloud.client("admin", "2.104"), await ready(cloud)
    path = f"/v2.1/servers/{server_id}/migrations"
    force = {"force_complete": None}
    assert (await admin.delete(f"{path}/1")).status == 409
    assert (await admin.post(f"{path}/1/action", json=force)).status == 409
    given = {"block_migration": "auto", "host": None}
    assert (await act(cloud, server_id, "os-migrateLive", given)).status == 202
    assert (await admin.delete(f"{path}/1")).status == 404
    queued = moved(cloud, server_id, 2, status="queued")
    assert (await admin.post(f"{path}/{queued.id}/action", json=force)).status == 400
    assert (await admin.post(f"{path}/1/action", json={"force_complete": {}})).status == 400
    assert (await admin.delete(f"{path}/{queued.id}", version="2.64")).status == 400
    assert (await admin.delete(f"{path}/{queued.id}", version="2.23")).status == 404
    live = moved(cloud, server_id, 3)
    # Nobody answers for h1 here.
    away = await admin.post(f"{path}/{live.id}/action", json=force)
    assert (away.status, message(away)) == (409, "Host h1 does not answer; try again later.")
    (shown,) = [m for m in (await admin.get(path)).json()["migrations"] if m["id"] == live.id]
    assert shown["memory_total_bytes"] is None
    assert (await admin.delete(f"{path}/{live.id}")).status == 202
    begun = (await admin.get(f"/v2.1/servers/{server_id}/os-instance-actions")).json()
    assert begun["instanceActions"][0]["action"] == "live_migration_cancel"
    over = moved(cloud, server_id, 4, status="completed")
    gone = await admin.delete(f"{path}/{over.id}")
    assert (gone.status, "is completed" in message(gone)) == (400, True)


async def evacuated(cloud: Cloud, server_id: str, at: int, **options: Any) -> Answer:
    answer = await act(cloud, server_id, "evacuate", options, at=at)
    assert answer.status == 200, answer.text
    return answer


@pytest.mark.parametrize(
    ("at", "options", "told", "wanted"),
    [
        (
            13,
            {"onSharedStorage": False, "adminPass": "x"},
            {"adminPass": "x"},
            (None, False, False),
        ),
        (13, {"onSharedStorage": True}, None, (None, False, False)),
        (14, {"adminPass": "x"}, None, (None, False, False)),
        (28, {"host": "h2"}, None, ("h2", True, False)),
        (29, {"host": "h2"}, None, ("h2", False, False)),
        (67, {"host": "h2", "force": True}, None, ("h2", True, False)),
        (94, {}, None, (None, False, False)),
        (95, {}, None, (None, False, True)),
    ],
)
async def test_an_evacuation_begins(
    cloud: Cloud, at: int, options: dict[str, Any], told: Any, wanted: tuple[Any, ...]
) -> None:
    server_id = await ready(cloud)
    cloud.pass_time(61)
    second_host(cloud)
    answer = await evacuated(cloud, server_id, at, **options)
    assert (answer.json() if answer.body else None) == told
    given = args(cloud, EvacuateArgs)
    assert (given.host, given.force, given.off) == wanted
    row = cloud.cell1.db.run_sync(migrations.by_uuid, given.uuid)
    assert row is not None
    assert (row.type, row.status, row.source_host) == ("evacuation", "accepted", "h1")
    assert row.data.get("admin_pass") == (
        "x" if "adminPass" in options else row.data.get("admin_pass")
    )
    shown = (await cloud.client("admin", "2.104").get(f"/v2.1/servers/{server_id}")).json()
    assert shown["server"]["OS-EXT-STS:task_state"] == "rebuilding"


async def test_broken_and_locked_servers_are_evacuated(cloud: Cloud) -> None:
    server_id = await ready(cloud, VmState.ERROR)
    member = cloud.client("member", "2.104")
    locked = await member.post(f"/v2.1/servers/{server_id}/action", json={"lock": None})
    assert locked.status == 202
    cloud.pass_time(61)
    now = cloud.clock.now()
    cloud.cell1.db.run_sync(servers.set_task, server_id, Task.POWERING_ON, now=now)
    await evacuated(cloud, server_id, 104)
    forbidden = await act(cloud, server_id, "evacuate", {}, who="member")
    assert forbidden.status == 403


async def test_a_host_stays_down_until_it_is_clean(cloud: Cloud) -> None:
    server_id = await ready(cloud)
    admin = cloud.client("admin", "2.104")
    (service,) = (await admin.get("/v2.1/os-services?host=h1&binary=nova-compute")).json()[
        "services"
    ]
    path = f"/v2.1/os-services/{service['id']}"
    assert (await admin.put(path, json={"forced_down": True})).status == 200
    await evacuated(cloud, server_id, 104)
    uuid = args(cloud, EvacuateArgs).uuid
    now = cloud.clock.now()
    cloud.cell1.db.run_sync(migrations.update, uuid, now=now, status="done")
    assert (await admin.put(path, json={"forced_down": False})).status == 400
    cloud.cell1.db.run_sync(migrations.update, uuid, now=now, status="completed")
    assert (await admin.put(path, json={"forced_down": False})).status == 200
    cloud.finish(server_id, VmState.ACTIVE, PowerState.RUNNING)
