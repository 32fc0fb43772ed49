"""Our Placement client against our Placement, in process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kilonova.base.clock import SystemClock
from kilonova.base.errors import BadRequest, Conflict, NotFound
from kilonova.base.ids import RandomIds
from kilonova.clients.keystone import Endpoint
from kilonova.clients.placement import Placement
from kilonova.db.database import Database
from kilonova.interfaces.placement import Claim, Inventory, PlacementService
from kilonova.placement.policies import Enforcer
from kilonova.placement.service import application, prepare
from kilonova.web.client import HttpClient

ORIGIN = "http://placement.test"
A = "6d2f1f6a-8f0c-4a55-9f0e-1a1f3f0d0001"
B = "6d2f1f6a-8f0c-4a55-9f0e-1a1f3f0d0002"
AGG = "6d2f1f6a-8f0c-4a55-9f0e-1a1f3f0d0003"
ME = "6d2f1f6a-8f0c-4a55-9f0e-1a1f3f0d0004"
YOU = "6d2f1f6a-8f0c-4a55-9f0e-1a1f3f0d0005"


class Token:
    """A token source that always has the same one."""

    async def token(self) -> str:
        return "admin"

    async def endpoint(self, service_type: str, *, interface: str, region: str | None) -> str:
        return ORIGIN

    def forget(self) -> None:
        pass


@pytest.fixture
async def placement(tmp_path: Path) -> AsyncIterator[PlacementService]:
    db = Database(f"sqlite:///{tmp_path}/placement.db")
    prepare(db, SystemClock())
    app = application(db, policy=Enforcer(), clock=SystemClock(), ids=RandomIds(), auth=None)
    async with HttpClient(loopback={ORIGIN: app}) as http:
        yield Placement(Endpoint(http, Token(), "placement"))
    db.close()


def claim(consumer: str, vcpus: int, generation: int | None = None) -> Claim:
    held = {A: {"VCPU": vcpus}} if vcpus else {}
    return Claim(consumer, held, "p", "u", generation=generation)


async def host(placement: PlacementService) -> None:
    await placement.ensure_provider(A, "h1")
    await placement.set_inventory(A, {"VCPU": Inventory(8), "CUSTOM_IRON": Inventory(1)})
    await placement.set_traits(A, {"CUSTOM_FAST", "COMPUTE_NODE"})
    await placement.set_aggregates(A, {AGG})


async def test_providers_are_kept_as_wanted(placement: PlacementService) -> None:
    await host(placement)
    await host(placement)
    await placement.ensure_provider(B, "child", A)
    await placement.ensure_provider(B, "renamed", A)
    assert await placement.traits(A) == {"CUSTOM_FAST", "COMPUTE_NODE"}
    await placement.set_traits(A, {"HW_CPU_X86_AVX"}, owned={"COMPUTE_NODE"})
    assert await placement.traits(A) == {"CUSTOM_FAST", "HW_CPU_X86_AVX"}
    assert await placement.aggregates(A) == {AGG}
    await placement.set_aggregates(A, (), owned=[AGG])
    assert await placement.aggregates(A) == frozenset()
    assert (await placement.inventory(A))["VCPU"] == Inventory(8)
    with pytest.raises(Conflict):
        await placement.ensure_provider(AGG, "h1")
    with pytest.raises(Conflict):
        await placement.delete_provider(A)
    await placement.delete_provider(B)
    await placement.delete_provider(B)
    assert await placement.inventory(B) == {}
    with pytest.raises(NotFound):
        await placement.set_inventory(B, {})


async def test_candidates_claims_and_releases(placement: PlacementService) -> None:
    await host(placement)
    query = [("resources", "VCPU:8"), ("member_of", AGG), ("required", "!COMPUTE_STATUS_DISABLED")]
    found = await placement.candidates(query)
    assert [r.allocations for r in found.requests] == [{A: {"VCPU": 8}}]
    assert found.summaries[A].resources["VCPU"].capacity == 8
    assert await placement.claim(claim(ME, 8))
    assert await placement.claim(claim(ME, 8)), "a repetition of the same claim is the same claim"
    assert not await placement.claim(claim(YOU, 1))
    with pytest.raises(Conflict):
        await placement.claim(claim(ME, 1))
    assert (await placement.candidates(query)).requests == ()
    held = await placement.allocations_of(ME)
    assert (held.allocations, held.generation) == ({A: {"VCPU": 8}}, 1)
    assert await placement.claim_all([claim(ME, 0, 1), claim(YOU, 8)])
    assert await placement.allocations_for_provider(A) == {YOU: {"VCPU": 8}}
    assert await placement.usages("p") == {"INSTANCE": {"VCPU": 8, "consumer_count": 1}}
    await placement.release(YOU)
    await placement.release(YOU)
    assert (await placement.allocations_of(YOU)).generation is None
    with pytest.raises(BadRequest):
        await placement.candidates([("resources", "NOTHING:1")])


async def test_writers_at_the_same_time_all_come_through(placement: PlacementService) -> None:
    await host(placement)
    names = [f"CUSTOM_T{n}" for n in range(6)]
    await asyncio.gather(*(placement.set_traits(A, {n}, owned=()) for n in names))
    assert set(names) <= await placement.traits(A)


async def test_why_there_are_no_candidates(placement: PlacementService) -> None:
    await host(placement)
    query = [("resources", "VCPU:9"), ("limit", "10")]
    assert (await placement.candidates(query)).requests == ()
    told = await placement.explain(query)
    assert told is not None
    (found,) = told.obstacles
    assert (told.trees, told.left, found.names, found.removed) == (1, 0, ("VCPU",), 1)
    assert (found.constraint, found.most, found.fits, found.roots) == ("capacity", 8, 8, (A,))
    with pytest.raises(BadRequest):
        await placement.explain([("resources", "NOTHING:1")])
