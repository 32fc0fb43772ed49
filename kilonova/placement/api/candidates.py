"""``GET /allocation_candidates``."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Generator
from typing import Any, TypeVar

from kilonova.placement import queries
from kilonova.placement.api import schemas
from kilonova.placement.api.common import Page, Placement, Request, serve
from kilonova.placement.api.providers import check_names
from kilonova.placement.candidates import Bounds, Candidate, searching, summaries
from kilonova.placement.explain import explaining
from kilonova.placement.rows import CUSTOM
from kilonova.placement.store.snapshot import Stock
from kilonova.placement.world import World
from kilonova.web.routes import Routes

T = TypeVar("T")

routes: Routes[Placement] = Routes(tag="allocation candidates")


@serve(
    routes,
    "GET",
    "/allocation_candidates",
    policy="placement:allocation_candidates:list",
    query=schemas.CANDIDATES_QUERY,
    since=10,
    summary="Find the ways to serve a request",
)
async def index(call: Request) -> Page:
    """Sets of allocations any of which would serve, and the providers they are of.

    With ``Prefer: explain`` also why the other trees are not among them (a ``WhyNot``).
    """
    wanted = queries.wanted(call.query.lists(), call.version)
    resources = {name: 1 for group in wanted.groups for name in group.resources}
    traits = wanted.root.names.union(*(group.traits.names for group in wanted.groups))
    nested = call.version >= 29
    classes = frozenset(resources) if call.version < 27 else None
    explain = _explanation_preferred(call)
    if explain:
        call.enforce("placement:allocation_candidates:explain", {})
    async with call.app.index.held() as world:
        await check_names(call, world, resources, traits)
        steps = searching(world, wanted, nested=nested, bounds=_bounds(call))
        found = await _paced(steps)
        shown = summaries(world, found, nested=nested)
        answer: dict[str, Any] = {
            "allocation_requests": [_request(world, one, call.version) for one in found],
            "provider_summaries": {
                stock.uuid: _summary(world, stock, classes, call.version) for stock in shown
            },
        }
        if not explain:
            return Page(answer)
        answer["explanation"] = await _paced(explaining(world, wanted, nested=nested))
        return Page(answer, headers={"preference-applied": "explain"})


async def _paced(steps: Generator[None, None, T]) -> T:
    """What the generator returns; others get their turn wherever it pauses."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            found: T = done.value
            return found
        await asyncio.sleep(0)


def _explanation_preferred(call: Request) -> bool:
    """Whether the header ``Prefer`` (RFC 7240) asks for more than Placement's own API has."""
    given = call.request.headers.get("prefer")
    return given is not None and "explain" in {part.strip().lower() for part in given.split(",")}


def _bounds(call: Request) -> Bounds:
    limits = call.app.limits
    most = limits.max_allocation_candidates
    return Bounds(
        at_most=most if most >= 0 else None,
        breadth_first=limits.allocation_candidates_generation_strategy == "breadth-first",
        chance=random.Random(call.ids.hex()) if limits.randomize_allocation_candidates else None,
    )


def _request(world: World, candidate: Candidate, version: int) -> dict[str, Any]:
    uuid = world.stocks
    if version < 12:
        return {
            "allocations": [
                {"resource_provider": {"uuid": uuid[id_].uuid}, "resources": resources}
                for id_, resources in candidate.allocations.items()
            ]
        }
    shown: dict[str, Any] = {
        "allocations": {
            uuid[id_].uuid: {"resources": resources}
            for id_, resources in candidate.allocations.items()
        }
    }
    if version >= 34:
        shown["mappings"] = {
            suffix: [uuid[id_].uuid for id_ in ids] for suffix, ids in candidate.mappings.items()
        }
    return shown


def _summary(
    world: World, stock: Stock, classes: frozenset[str] | None, version: int
) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "resources": {
            name: {"capacity": inventory.capacity, "used": stock.used.get(name, 0)}
            for name, inventory in stock.inventories.items()
            if classes is None or name in classes
        }
    }
    if version >= 17:
        shown["traits"] = sorted(stock.traits, key=lambda name: (name.startswith(CUSTOM), name))
    if version >= 29:
        parent = world.stocks.get(stock.parent_id) if stock.parent_id is not None else None
        shown["parent_provider_uuid"] = parent.uuid if parent else None
        shown["root_provider_uuid"] = world.stocks[stock.root_id].uuid
    return shown
