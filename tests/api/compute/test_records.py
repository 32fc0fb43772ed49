"""What is told of the past: migrations, usage, audits; soft deletion; images on hosts."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

import msgspec
import pytest

from kilonova.config.settings import Settings
from kilonova.db.database import counted
from kilonova.domain.agent import CONDUCTOR
from kilonova.domain.guest import PowerState
from kilonova.domain.resources import Migration
from kilonova.domain.states import VmState
from kilonova.store import migrations
from kilonova.web.client import Answer
from kilonova.workflows.reconcilers.images import ImageCacher
from tests.support.agents import FakeAgent
from tests.support.cloud import IMAGE, OTHER, PROJECT, Cloud, body
from tests.support.compute import NOW

LIVE = "live-migration"


def need(answer: Answer, status: int = 200) -> Any:
    assert answer.status == status, (answer.status, answer.text)
    return answer.json() if answer.body else None


async def running(cloud: Cloud, **values: Any) -> str:
    made = await cloud.client("member", "2.37").post(
        "/v2.1/servers", json=body(networks="none", **values)
    )
    server_id = str(made.json()["server"]["id"])
    cloud.run(server_id)
    return server_id


def moved(cloud: Cloud, sid: str, number: int, **values: Any) -> Migration:
    """A record of a move."""
    base = Migration(
        id=0,
        uuid=f"77777777-0000-4000-8000-{number:012d}",
        server_id=sid,
        type="migration",
        status="confirmed",
        project_id=PROJECT,
        user_id="fake",
        source_host="h1",
        source_node="n1",
        dest_host="h2",
        dest_node="n2",
        old_flavor_id=1,
        new_flavor_id=1,
        created_at=NOW + dt.timedelta(seconds=number),
        updated_at=NOW + dt.timedelta(seconds=number),
        data={"dest_host": "192.0.2.2"},
    )
    row = msgspec.structs.replace(base, **values)
    return cloud.cell1.db.run_sync(migrations.add, row)


# --- migrations -----------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2.1", "2.23", "2.59", "2.80", "2.104"])
async def test_migrations(cloud: Cloud, version: str) -> None:
    admin, sid = cloud.client("admin", version), await running(cloud)
    number = int(version[2:])
    assert need(await admin.get("/v2.1/os-migrations")) == {"migrations": []}
    moved(cloud, sid, 1)
    live = moved(cloud, sid, 2, type=LIVE, status="running")
    moved(cloud, sid, 3, project_id=OTHER, source_host="h9")
    rows = need(await admin.get("/v2.1/os-migrations"))["migrations"]
    assert [row["id"] for row in rows] == [3, 2, 1]
    assert (rows[2]["source_compute"], rows[2]["dest_host"]) == ("h1", "192.0.2.2")
    assert ("migration_type" in rows[0], "uuid" in rows[0], "user_id" in rows[0]) == (
        number >= 23,
        number >= 59,
        number >= 80,
    )
    assert ("links" in rows[1], "links" in rows[2]) == (number >= 23, False)
    for query, found in (
        ("status=running", [2]),
        ("host=h9", [3]),
        ("host=h2", [3, 2, 1]),
        ("source_compute=h1", [2, 1]),
        ("migration_type=migration", [3, 1]),
        (f"instance_uuid={IMAGE}", []),
        ("hidden=True", []),
        ("hidden=False", [3, 2, 1]),
    ):
        some = need(await admin.get(f"/v2.1/os-migrations?{query}"))["migrations"]
        assert [row["id"] for row in some] == found, query
    path = f"/v2.1/servers/{sid}/migrations"
    if number < 23:
        assert (await admin.get(path)).status == 404
        return
    (row,) = need(await admin.get(path))["migrations"]
    assert (row["id"], row["status"], row["memory_total_bytes"]) == (live.id, "running", None)
    assert need(await admin.get(f"{path}/{live.id}"))["migration"] == row
    for wrong in ("1", "9", "x"):
        assert (await admin.get(f"{path}/{wrong}")).status == 404


async def test_migrations_in_pages(cloud: Cloud) -> None:
    admin, sid = cloud.client("admin", "2.80"), await running(cloud)
    for number in range(1, 6):
        moved(cloud, sid, number)
    path: str | None = "/v2.1/os-migrations?limit=2"
    seen = []
    while path is not None:
        page = need(await admin.get(path))
        seen += [row["id"] for row in page["migrations"]]
        links = page.get("migrations_links")
        path = links[0]["href"].partition("testserver")[2] if links else None
    assert seen == [5, 4, 3, 2, 1]
    for query in ("marker=nothing", "limit=x", "changes-since=never", "unknown=1", "limit=-1"):
        assert (await admin.get(f"/v2.1/os-migrations?{query}")).status == 400, query
    late = (NOW + dt.timedelta(seconds=4)).isoformat().replace("+", "%2B")
    some = need(await admin.get(f"/v2.1/os-migrations?changes-since={late}"))["migrations"]
    assert [row["id"] for row in some] == [5, 4]
    some = need(await admin.get(f"/v2.1/os-migrations?changes-before={late}"))["migrations"]
    assert [row["id"] for row in some] == [4, 3, 2, 1]
    early = f"changes-since={late}&changes-before=2020-01-01T00:00:00"
    assert (await admin.get(f"/v2.1/os-migrations?{early}")).status == 400
    assert (await admin.get("/v2.1/os-migrations?limit=1", version="2.65")).status == 200
    assert (
        await admin.get(f"/v2.1/os-migrations?changes-before={late}", version="2.65")
    ).status == 400
    assert (await admin.get("/v2.1/os-migrations?user_id=fake", version="2.79")).status == 400
    assert len(need(await admin.get("/v2.1/os-migrations?user_id=fake"))["migrations"]) == 5


async def test_migrations_cost_one_statement_for_a_cell(cloud: Cloud) -> None:
    admin, sid = cloud.client("admin", "2.80"), await running(cloud)
    costs = []
    for number in range(1, 40):
        moved(cloud, sid, number)
        if number in (1, 39):
            with counted() as statements:
                need(await admin.get("/v2.1/os-migrations"))
            costs.append(len(statements))
    assert costs[0] == costs[1]


# --- usage ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2.1", "2.40", "2.75"])
async def test_usage(cloud: Cloud, version: str) -> None:
    admin, member = cloud.client("admin", version), cloud.client("member", version)
    sid = await running(cloud)
    gone = await running(cloud)
    cloud.pass_time(1800)
    cloud.delete(gone)
    cloud.pass_time(1800)
    root = "/v2.1/os-simple-tenant-usage"
    span = "start=2026-01-01T00:00:00&end=2026-01-31T13:00:00.123456"
    (row,) = need(await admin.get(f"{root}?{span}"))["tenant_usages"]
    assert (row["tenant_id"], row["total_hours"]) == (PROJECT, 1.5)
    assert (row["total_memory_mb_usage"], row["total_vcpus_usage"]) == (768, 1.5)
    assert row["total_local_gb_usage"] == 1.5
    assert "server_usages" not in row
    (full,) = need(await admin.get(f"{root}?{span}&detailed=1"))["tenant_usages"]
    states = {used["instance_id"]: used["state"] for used in full["server_usages"]}
    assert states == {sid: "active", gone: "terminated"}
    one = need(await member.get(f"{root}/{PROJECT}?{span}"))["tenant_usage"]
    assert one["total_hours"] == 1.5
    (used,) = [u for u in one["server_usages"] if u["instance_id"] == sid]
    assert (used["hours"], used["uptime"], used["ended_at"]) == (1.0, 3600, None)
    assert need(await member.get(f"{root}/{PROJECT}?start=2020-01-01T00:00:00"))["tenant_usage"]
    early = "start=2020-01-01T00:00:00&end=2020-02-01T00:00:00"
    assert need(await member.get(f"{root}/{PROJECT}?{early}")) == {"tenant_usage": {}}
    assert need(await admin.get(f"{root}?{early}")) == {"tenant_usages": []}
    assert (await member.get(root)).status == 403
    assert (await member.get(f"{root}/{OTHER}")).status == 403
    for wrong in ("start=now", "start=2026-02-01T00:00:00&end=2026-01-01T00:00:00"):
        assert (await admin.get(f"{root}?{wrong}")).status == 400
    assert (await admin.get(f"{root}?more=1")).status == (400 if version == "2.75" else 200)


async def test_usage_in_pages(cloud: Cloud) -> None:
    admin = cloud.client("admin", "2.40")
    made = sorted([await running(cloud) for _ in range(3)])
    cloud.pass_time(3600)
    path: str | None = f"/v2.1/os-simple-tenant-usage/{PROJECT}?limit=2"
    seen = []
    while path is not None:
        page = need(await admin.get(path))
        seen += [used["instance_id"] for used in page["tenant_usage"].get("server_usages", ())]
        links = page.get("tenant_usage_links")
        path = links[0]["href"].partition("testserver")[2] if links else None
    assert seen == made
    listed = need(await admin.get("/v2.1/os-simple-tenant-usage?limit=1&detailed=1"))
    assert "marker" in listed["tenant_usages_links"][0]["href"]
    wrong = await admin.get(f"/v2.1/os-simple-tenant-usage?marker={IMAGE}")
    assert wrong.status == 400


async def test_audit_log(cloud: Cloud) -> None:
    admin = cloud.client("admin", "2.101")
    root = "/v2.1/os-instance_usage_audit_log"
    log = need(await admin.get(root))["instance_usage_audit_logs"]
    assert (log["period_beginning"], log["period_ending"]) == (
        "2025-12-01 00:00:00",
        "2026-01-01 00:00:00",
    )
    assert (log["num_hosts"], log["overall_status"]) == (0, "ALL hosts done. 0 errors.")
    older = need(await admin.get(f"{root}/2012-07-05 10:00:00"))["instance_usage_audit_log"]
    assert older["period_beginning"] == "2012-06-01 00:00:00"
    assert (await admin.get(f"{root}/yesterday")).status == 400
    assert (await admin.get(f"{root}?a=b")).status == 200
    assert (await admin.get(f"{root}?a=b", version="2.102")).status == 400
    assert (await cloud.client().get(root)).status == 403


# --- soft deletion, images ----------------------------------------------------------------------


async def test_delete_with_time_to_think(cloud: Cloud) -> None:
    plain = Settings()
    default = msgspec.structs.replace(plain.default, reclaim_instance_interval=3600)
    late = Cloud(msgspec.structs.replace(plain, default=default))
    client, sid = late.client(), await running(late)
    path = f"/v2.1/servers/{sid}"
    need(await client.delete(path), 204)
    need(await client.delete(path), 204)
    assert late.cell1.db.run_sync(late.sagas.names) == ["server.soft_delete"]
    shown = need(await client.get(path))["server"]
    assert shown["OS-EXT-STS:task_state"] == "soft-deleting"
    late.finish(sid, VmState.SOFT_DELETED, PowerState.SHUTDOWN)
    assert need(await client.get(path))["server"]["status"] == "SOFT_DELETED"
    need(await client.delete(path), 204)
    assert late.cell1.db.run_sync(late.sagas.names) == []
    need(await client.post(f"{path}/action", json={"restore": None}), 202)
    assert late.cell1.db.run_sync(late.sagas.names) == ["server.restore"]
    late.finish(sid, VmState.ACTIVE, PowerState.RUNNING)
    assert (await client.post(f"{path}/action", json={"restore": None})).status == 409
    need(await client.post(f"{path}/action", json={"forceDelete": None}), 202)
    assert late.cell1.db.run_sync(late.sagas.names) == ["server.delete"]
    sid = await running(late)
    path = f"/v2.1/servers/{sid}"
    need(await client.post(f"{path}/action", json={"reboot": {"type": "HARD"}}), 202)
    need(await client.delete(path), 204)
    need(await client.post(f"{path}/action", json={"forceDelete": None}), 202)
    need(await client.post(f"{path}/action", json={"forceDelete": None}), 202)
    need(await client.delete(path), 204)
    assert late.cell1.db.run_sync(late.sagas.names) == [
        "server.reboot",
        "server.soft_delete",
        "server.delete",
    ]
    building = await client.post("/v2.1/servers", json=body(networks="none"), version="2.37")
    need(await client.delete(f"/v2.1/servers/{building.json()['server']['id']}"), 204)
    assert late.db.run_sync(late.sagas.names) == ["server.build", "server.delete"]
    late.close()


async def test_images_on_the_hosts_of_an_aggregate(cloud: Cloud) -> None:
    agent = FakeAgent(cloud)
    await agent.start()
    cacher = ImageCacher(cloud.db, cloud.bus)
    await cloud.bus.serve(CONDUCTOR, {"cache_images": cacher.cache_images})
    admin = cloud.client("admin", "2.81")
    root = "/v2.1/os-aggregates"
    made = need(await admin.post(root, json={"aggregate": {"name": "a"}}))["aggregate"]
    path = f"{root}/{made['id']}"
    need(await admin.post(f"{path}/action", json={"add_host": {"host": "h1"}}))
    need(await admin.post(f"{path}/images", json={"cache": [{"id": IMAGE}]}), 202)
    for _ in range(100):
        await asyncio.sleep(0.01)
        if agent.images:
            break
    assert agent.images == [IMAGE]
    for wrong, status in (
        ({"cache": []}, 400),
        ({"cache": [{"id": IMAGE}, {"id": IMAGE}]}, 400),
        ({"cache": [{"id": "x"}]}, 400),
        ({"cache": [{"id": IMAGE[:-1] + "0"}]}, 400),
    ):
        assert (await admin.post(f"{path}/images", json=wrong)).status == status
    wanted = {"cache": [{"id": IMAGE}]}
    assert (await admin.post(f"{root}/99/images", json=wanted)).status == 404
    assert (await admin.post(f"{path}/images", json=wanted, version="2.80")).status == 404
    await cacher.close()
