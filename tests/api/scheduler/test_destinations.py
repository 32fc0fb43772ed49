"""The scheduler on the bus over a real Placement."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import msgspec
import pytest

from kilonova.base.clock import SystemClock
from kilonova.base.ids import RandomIds
from kilonova.clients.keystone import Endpoint
from kilonova.clients.placement import Placement
from kilonova.config.filter_scheduler import FilterScheduler
from kilonova.db.database import Database
from kilonova.domain.request import RequestSpec, Selection, ServerGroup
from kilonova.interfaces.placement import Claim, Inventory
from kilonova.messaging.memory import MemoryBus
from kilonova.placement.policies import Enforcer
from kilonova.placement.service import application, prepare
from kilonova.scheduler.service import METHOD, TOPIC, Scheduler
from kilonova.scheduler.state import Aggregate, HostState
from kilonova.web.client import HttpClient
from tests.api.placement.test_client import ORIGIN, Token
from tests.support.scheduling import host, request

EAST = str(uuid.UUID(int=99))


class States:
    """Host states held in a table."""

    def __init__(self) -> None:
        self.table: dict[str, HostState] = {}
        self.zones = [Aggregate(1, EAST, "east", {"availability_zone": "east"})]

    async def hosts(self, providers: Collection[str]) -> list[HostState]:
        return [self.table[p] for p in providers if p in self.table]

    async def providers_of(self, host: str | None, node: str | None) -> list[str]:
        return [s.provider for s in self.table.values() if (host or node) in (s.host, s.node)]

    async def aggregates(self) -> list[Aggregate]:
        return self.zones


class Cloud(msgspec.Struct):
    """What a test talks to."""

    bus: MemoryBus
    placement: Placement
    states: States

    async def select(self, asked: RequestSpec) -> Selection:
        return await self.bus.call(TOPIC, METHOD, asked, reply=Selection)


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    db = Database(f"sqlite:///{tmp_path}/placement.db")
    prepare(db, SystemClock())
    app = application(db, policy=Enforcer(), clock=SystemClock(), ids=RandomIds(), auth=None)
    async with HttpClient(loopback={ORIGIN: app}) as http:
        placement = Placement(Endpoint(http, Token(), "placement"))
        states, bus = States(), MemoryBus()
        for number in range(1, 4):
            provider = str(uuid.UUID(int=number))
            states.table[provider] = host(f"h{number}", provider=provider)
            await placement.ensure_provider(provider, f"h{number}")
            stock = {"VCPU": 8, "MEMORY_MB": 4096, "DISK_GB": 100}
            await placement.set_inventory(provider, {n: Inventory(t) for n, t in stock.items()})
            await placement.set_traits(provider, ["OWNER_NOVA"])
        await placement.set_aggregates(str(uuid.UUID(int=3)), [EAST])
        serving = await Scheduler(placement, states, SystemClock()).serve(bus)
        yield Cloud(bus, placement, states)
        await serving.close()
        await bus.close()
    db.close()


def hosts(selection: Selection) -> list[str]:
    return [ref.host for refs in selection.servers for ref in refs]


async def test_a_host_with_what_to_claim_there(cloud: Cloud) -> None:
    found = await cloud.select(request())
    assert sorted(hosts(found)) == ["h1", "h2", "h3"]
    best = found.servers[0][0]
    assert best.allocations == {best.provider: {"VCPU": 2, "MEMORY_MB": 512, "DISK_GB": 10}}
    claim = Claim(str(uuid.UUID(int=50)), best.allocations, "p", "u", mappings=best.mappings)
    assert await cloud.placement.claim(claim)
    again = await cloud.select(request(servers=("s2",)))
    assert hosts(again)[0] != best.host


async def test_zones_hosts_and_traits_reach_placement(cloud: Cloud) -> None:
    assert hosts(await cloud.select(request(availability_zone="east"))) == ["h3"]
    assert sorted(hosts(await cloud.select(request(availability_zone="nova")))) == ["h1", "h2"]
    assert hosts(await cloud.select(request(requested_host="h2"))) == ["h2"]
    off = ["COMPUTE_STATUS_DISABLED"]
    await cloud.placement.set_traits(str(uuid.UUID(int=1)), off, owned=off)
    assert sorted(hosts(await cloud.select(request(servers=("x",))))) == ["h2", "h3"]
    assert hosts(await cloud.select(request(force_host="h1"))) == ["h1"]


async def test_what_another_service_keeps_in_placement_is_no_host(cloud: Cloud) -> None:
    await cloud.placement.set_traits(str(uuid.UUID(int=2)), [], owned=["OWNER_NOVA"])
    assert sorted(hosts(await cloud.select(request()))) == ["h1", "h3"]


async def test_why_there_is_no_host(cloud: Cloud) -> None:
    for asked, word in (
        (request(flavor={"memory_mb": 5000}), "MEMORY_MB:5000"),
        (request(availability_zone="moon"), "moon"),
        (request(requested_host="h9"), "h9"),
        (request(extra_specs={"trait:CUSTOM_NO": "required"}), "CUSTOM_NO"),
        (request(ignore_hosts=("h1", "h2", "h3")), "left out"),
    ):
        found = await cloud.select(asked)
        assert found.servers == ()
        assert found.reason.startswith("No valid host was found. ")
        assert word in found.reason


async def test_a_dry_run_leaves_no_trace(cloud: Cloud) -> None:
    group = ServerGroup("g", "anti-affinity")
    first = hosts(await cloud.select(request(servers=("a",), group=group, dry_run=True)))[0]
    assert hosts(await cloud.select(request(servers=("b",), group=group)))[0] == first
    assert hosts(await cloud.select(request(servers=("c",), group=group)))[0] != first


async def test_memories_never_refuse_a_server(cloud: Cloud) -> None:
    """Three members were placed and are gone again: the next one still finds a host."""
    group = ServerGroup("g", "anti-affinity")
    for name in ("a", "b", "c", "d"):
        assert (await cloud.select(request(servers=(name,), group=group))).servers


async def test_a_rebuild_needs_no_room(cloud: Cloud) -> None:
    big = {"memory_mb": 5000}
    found = await cloud.select(request(flavor=big, requested_host="h1", rebuild=True))
    assert hosts(found) == ["h1"]
    wrong = request(properties={"hw_architecture": "mips"}, requested_host="h1", rebuild=True)
    assert "ImagePropertiesFilter" in (await cloud.select(wrong)).reason


async def test_an_unknown_filter_stops_the_scheduler(cloud: Cloud) -> None:
    options = FilterScheduler(enabled_filters=("ComputeFilter", "NoFilter"))
    with pytest.raises(LookupError, match="NoFilter"):
        Scheduler(cloud.placement, cloud.states, SystemClock(), filter_options=options)
