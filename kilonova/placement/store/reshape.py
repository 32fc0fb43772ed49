"""Reshaping: new inventories and new allocations of several providers in one transaction."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

import msgspec

from kilonova.base.errors import BadRequest
from kilonova.placement.rows import Inventory
from kilonova.placement.store import allocations, inventories, providers
from kilonova.placement.store.common import Tx, stale


class Shape(msgspec.Struct, frozen=True):
    """The inventories a provider shall have, written on that generation."""

    generation: int
    inventories: Mapping[str, Inventory]


def reshape(
    tx: Tx, shapes: Mapping[str, Shape], claims: Sequence[allocations.Claim], now: dt.datetime
) -> None:
    """Bring inventories and allocations to what is given, or change nothing.

    First every inventory that any side needs is there, then allocations move, then inventories
    that nobody needs go. Raises BadRequest for a provider that is not there, and what writing
    inventories and allocations raises.
    """
    held = providers.lock_many(tx, list(shapes))
    for uuid, shape in shapes.items():
        if uuid not in held:
            raise BadRequest(
                f"Resource provider {uuid} in inventories not found.",
                code="placement.resource_provider.not_found",
            )
        if held[uuid].generation != shape.generation:
            raise stale("resource provider", actual=held[uuid].generation, given=shape.generation)
    for uuid, shape in shapes.items():
        there = inventories.listing(tx, held[uuid].id)
        inventories.write(tx, held[uuid], {**there, **shape.inventories}, now)
        providers.bump(tx, held[uuid], now)
    allocations.replace(tx, claims, now)
    for uuid, shape in shapes.items():
        provider = providers.find(tx, uuid)
        inventories.write(tx, provider, shape.inventories, now)
        providers.bump(tx, provider, now)
