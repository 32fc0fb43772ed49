"""Dry runs of ``POST /servers``, and what is told of servers that found no host."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from kilonova.base.clock import SystemClock
from kilonova.base.ids import RandomIds
from kilonova.clients.keystone import Endpoint
from kilonova.clients.placement import Placement
from kilonova.db.database import Database
from kilonova.domain.explain import Change, Why
from kilonova.domain.explanation import Explanation, Failure
from kilonova.domain.guest import HostReport
from kilonova.domain.request import Cut
from kilonova.interfaces.placement import Claim, Inventory
from kilonova.placement.policies import Enforcer
from kilonova.placement.service import application, prepare
from kilonova.scheduler.service import Scheduler
from kilonova.scheduler.warm import WarmHosts
from kilonova.store import aggregates, explanations, mappings, nodes, quotas, services
from kilonova.web.client import Answer, HttpClient
from tests.api.compute.test_admin import need
from tests.api.placement.test_client import ORIGIN, Token
from tests.support.cloud import CELL1, PROJECT, Cloud, body

DRY = {"Prefer": "dry-run"}
HOSTS = ("h1", "h2", "h3")
EAST = str(uuid.UUID(int=99))


def node(host: str) -> str:
    return f"55555555-0000-4000-8000-00000000000{host[1:]}"


class Stage(msgspec.Struct):
    """A cloud of three hosts (h3 in zone east) with scheduler and Placement."""

    cloud: Cloud
    placement: Placement

    async def dry(self, who: str = "member", *, version: str = "2.90", **values: Any) -> Any:
        given = dict(values)
        hints = given.pop("hints", None)
        asked: dict[str, Any] = {**body(networks="none", **given)}
        if hints:
            asked["os:scheduler_hints"] = hints
        client = self.cloud.client(who, version)
        answer = await client.post("/v2.1/servers", json=asked, headers=DRY)
        told = need(answer)["dry_run"]
        assert answer.headers["preference-applied"] == "dry-run"
        if who != "admin":
            for host in HOSTS:
                assert f'"{host}' not in answer.text
                assert node(host) not in answer.text
        return told

    async def fill(self, *hosts: str) -> None:
        for host in hosts:
            claim = Claim(str(uuid.uuid4()), {node(host): {"VCPU": 4, "MEMORY_MB": 4096}}, "p", "u")
            assert await self.placement.claim(claim)


@pytest.fixture
async def stage(cloud: Cloud) -> AsyncIterator[Stage]:
    db = Database("sqlite://")
    prepare(db, SystemClock())
    app = application(db, policy=Enforcer(), clock=SystemClock(), ids=RandomIds(), auth=None)
    async with HttpClient(loopback={ORIGIN: app}) as http:
        placement = Placement(Endpoint(http, Token(), "placement"))
        now = cloud.clock.now()
        for host in HOSTS:
            report = HostReport(host, "QEMU", 8_002_000, 4, 4096, 100)
            cell = cloud.cell1.db
            cell.run_sync(nodes.delete_host, host)
            cell.run_sync(nodes.save, uuid=node(host), host=host, report=report, now=now)
            own = str(uuid.uuid4())
            cell.run_sync(services.heartbeat, host, "nova-compute", uuid=own, now=now)
            cloud.db.run_sync(mappings.map_host, host, CELL1)
            await placement.ensure_provider(node(host), host)
            stock = {"VCPU": 4, "MEMORY_MB": 4096, "DISK_GB": 100}
            await placement.set_inventory(node(host), {n: Inventory(t) for n, t in stock.items()})
        zone = {"availability_zone": "east"}
        made = cloud.db.run_sync(aggregates.create, uuid=EAST, name="east", metadata=zone, now=now)
        cloud.db.run_sync(aggregates.add_host, made.id, "h3", now=now)
        await placement.set_aggregates(node("h3"), [EAST])
        states = WarmHosts(cloud.db, cloud.services.cells, cloud.clock)
        serving = await Scheduler(placement, states, cloud.clock).serve(cloud.bus)
        yield Stage(cloud, placement)
        await serving.close()
    db.close()


async def test_where_it_would_go(stage: Stage) -> None:
    told = await stage.dry()
    assert told["fits"]
    assert [sorted(place) for place in told["servers"]] == [["availability_zone"]]
    told = await stage.dry("admin", max_count=2)
    assert len(told["servers"]) == 2
    assert told["servers"][0]["host"] in HOSTS
    assert told["servers"][0]["hypervisor_hostname"] in HOSTS
    assert len(told["servers"][0]["alternates"]) == 2
    assert (await stage.dry(availability_zone="east"))["servers"] == [{"availability_zone": "east"}]


async def test_nothing_is_written(stage: Stage) -> None:
    client = stage.cloud.client("member", "2.90")
    headers = {**DRY, "Idempotency-Key": "one"}
    need(await client.post("/v2.1/servers", json=body(networks="none"), headers=headers))
    assert need(await client.get("/v2.1/servers"))["servers"] == []
    assert stage.cloud.db.run_sync(stage.cloud.sagas.names) == []
    assert stage.cloud.db.run_sync(quotas.usage, PROJECT).instances == 0
    used = await stage.placement.usages(PROJECT)
    assert used == {}
    real = {"Idempotency-Key": "one"}
    need(await client.post("/v2.1/servers", json=body(networks="none"), headers=real), 202)


async def test_a_wrong_body_is_wrong_in_a_dry_run_too(stage: Stage) -> None:
    client = stage.cloud.client("member", "2.90")
    for values in ({"flavorRef": "none"}, {"availability_zone": "moon"}, {"networks": 5}):
        asked = body(**{"networks": "none", **values})
        assert (await client.post("/v2.1/servers", json=asked, headers=DRY)).status == 400
    reader = stage.cloud.client("reader", "2.90")
    answer = await reader.post("/v2.1/servers", json=body(networks="none"), headers=DRY)
    assert answer.status == 403


async def test_a_full_cloud_names_the_smaller_flavor(stage: Stage) -> None:
    for host in HOSTS:
        claim = Claim(str(uuid.uuid4()), {node(host): {"MEMORY_MB": 3000}}, "p", "u")
        assert await stage.placement.claim(claim)
    assert (await stage.dry(flavorRef="1"))["fits"]
    told = await stage.dry(flavorRef="2")
    assert not told["fits"]
    assert told["blame"] == ["resource:MEMORY_MB"]
    assert told["placement"]["providers"] == 3
    first, room = told["changes"]
    less = {"resource": "MEMORY_MB", "asked": 2048, "to": 1096, "less": 952}
    assert (first["kind"], first["who"], first["args"]) == ("resource", "user", less)
    assert (room["kind"], room["who"], room["args"]["more"]) == ("room", "operator", 952)
    assert (await stage.dry("admin", flavorRef="2"))["changes"][1]["host"] in HOSTS


async def test_another_zone(stage: Stage) -> None:
    await stage.fill("h3")
    told = await stage.dry(availability_zone="east")
    change = next(one for one in told["changes"] if one["kind"] == "zone")
    assert change["args"] == {"asked": "east", "zone": "nova"}


async def test_a_disabled_host(stage: Stage) -> None:
    await stage.fill("h1", "h2")
    found = stage.cloud.cell1.db.run_sync(services.find, "h3", "nova-compute")
    assert found is not None
    now = stage.cloud.clock.now()
    stage.cloud.cell1.db.run_sync(services.update, found.id, now=now, disabled=True)
    await stage.placement.set_traits(node("h3"), ["COMPUTE_STATUS_DISABLED"])
    told = await stage.dry()
    assert told["blame"] == ["disabled"]
    assert [one["kind"] for one in told["changes"]] == ["enable"]
    assert (await stage.dry("admin"))["changes"][0]["host"] == "h3"


async def test_hosts_that_are_silent(stage: Stage) -> None:
    stage.cloud.pass_time(3600)
    told = await stage.dry("admin")
    assert told["blame"] == ["down"]
    step = next(step for step in told["steps"] if step["step"] == "ComputeFilter")
    assert (step["before"], step["left"], set(step["hosts"])) == (3, 0, set(HOSTS))
    assert all("hosts" not in step for step in (await stage.dry())["steps"])


async def test_a_group_and_a_hint(stage: Stage) -> None:
    member = stage.cloud.client("member", "2.90")
    given = {"server_group": {"name": "g", "policy": "anti-affinity"}}
    group = need(await member.post("/v2.1/os-server-groups", json=given))["server_group"]["id"]
    assert (await stage.dry(hints={"group": group}, max_count=3, min_count=3))["fits"]
    told = await stage.dry(hints={"group": group}, max_count=4, min_count=4)
    assert not told["fits"]
    kinds = {change["kind"]: change for change in told["changes"]}
    assert kinds["count"]["args"] == {"asked": 4, "to": 3}
    assert kinds["group"]["args"] == {"policy": "anti-affinity"}
    assert (await stage.dry(hints={"group": group}, max_count=4, min_count=2))["fits"]


async def test_forced_and_requested_hosts(stage: Stage) -> None:
    told = await stage.dry("admin", availability_zone="nova:h2")
    assert told["servers"][0]["host"] == "h2"
    await stage.fill("h2")
    for values in ({"availability_zone": "nova:h2"}, {"host": "h2"}):
        told = await stage.dry("admin", **values)
        assert not told["fits"]
        assert "host" in {change["kind"] for change in told["changes"]}
    client = stage.cloud.client("member", "2.90")
    asked = body(networks="none", host="h2")
    assert (await client.post("/v2.1/servers", json=asked, headers=DRY)).status == 403


async def test_quota(stage: Stage) -> None:
    stage.cloud.db.run_sync(quotas.set_limits, {"ram": 1000}, PROJECT)
    told = await stage.dry(flavorRef="2")
    assert told["blame"] == ["quota"]
    smaller, raised = told["changes"]
    assert smaller["args"]["to"] == 1000
    assert raised["args"] == {"more": {"ram": 1048}}


def kept(**values: Any) -> Explanation:
    plain = Explanation(
        "req-1",
        "s1",
        PROJECT,
        "fake",
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        cuts=(
            Cut("There is no compute host h9", 0, 0),
            Cut("ComputeFilter", 2, 0, {"h1": "its service is down", "h2": "its service is down"}),
        ),
        why=Why(
            "The suitable hosts are down.", ("down",), changes=(Change("up", "Up.", host="h1"),)
        ),
        failures=(Failure("h3", "no room"),),
    )
    return msgspec.structs.replace(plain, **values)


async def test_who_may_see_what_afterwards(cloud: Cloud) -> None:
    cloud.db.run_sync(explanations.put, kept())
    cloud.db.run_sync(explanations.put, kept(server_id="s2", why=None, cuts=()))

    async def ask(who: str, name: str) -> Answer:
        return await cloud.client(who, "2.1").get(f"/v2.1/ext/explain/{name}")

    mine = need(await ask("member", "req-1"))["explanations"]
    assert [one["server_id"] for one in mine] == ["s1", "s2"]
    told = (await ask("reader", "s1")).text
    assert not any(host in told for host in ("h1", "h2", "h3", "h9"))
    full = need(await ask("admin", "s1"))["explanations"][0]
    assert full["steps"][1]["hosts"] == {"h1": "its service is down", "h2": "its service is down"}
    assert full["failures"] == [{"host": "h3", "text": "no room"}]
    assert full["changes"][0]["host"] == "h1"
    assert need(await ask("reader", "s1"))["explanations"][0]["failed_hosts"] == 1
    assert (await ask("other", "req-1")).status == 404
    assert (await ask("member", "req-none")).status == 404


async def test_old_explanations_go(cloud: Cloud) -> None:
    cloud.db.run_sync(explanations.put, kept())
    cloud.db.run_sync(explanations.note, kept(server_id="s2", failures=()), Failure("h1", "x"))
    cloud.db.run_sync(explanations.note, kept(), Failure("h4", "y"))
    found = cloud.db.run_sync(explanations.find, "req-1")
    assert [[f.host for f in one.failures] for one in found] == [["h3", "h4"], ["h1"]]
    assert cloud.db.run_sync(explanations.prune, before=kept().at) == 0
    later = kept().at + dt.timedelta(seconds=1)
    assert cloud.db.run_sync(explanations.prune, before=later) == 2
