"""Inventories: what a provider has of each resource class."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping

import msgspec
import sqlalchemy as sa

from kilonova.base.errors import BadRequest, Conflict, NotFound
from kilonova.placement.rows import Inventory, Provider
from kilonova.placement.store import names, providers
from kilonova.placement.store import tables as t
from kilonova.placement.store.common import CONCURRENT, Tx, naive
from kilonova.placement.store.providers import Held

_FIELDS = tuple(field.name for field in msgspec.structs.fields(Inventory))
_query = sa.select(t.inventories.c.resource_class, *(t.inventories.c[name] for name in _FIELDS))


def listing(tx: Tx, provider_id: int) -> dict[str, Inventory]:
    """Class → inventory of one provider, in the order classes are listed."""
    rows = tx.execute(_query.where(t.inventories.c.provider_id == provider_id)).all()
    found = {row[0]: Inventory(*row[1:]) for row in rows}
    return {name: found[name] for name in names.in_order(found)}


def usage(tx: Tx, provider_id: int) -> dict[str, int]:
    """Class → amount in use, for every class the provider has an inventory of."""
    used = in_use(tx, [provider_id])
    return {name: used.get((provider_id, name), 0) for name in listing(tx, provider_id)}


def in_use(tx: Tx, provider_ids: Collection[int]) -> dict[tuple[int, str], int]:
    """(provider, class) → amount in use, without those nothing is used of."""
    held = t.allocations.c
    rows = tx.execute(
        sa.select(held.provider_id, held.resource_class, sa.func.sum(held.used))
        .where(held.provider_id.in_(sorted(provider_ids)))
        .group_by(held.provider_id, held.resource_class)
    )
    return {(provider, name): int(amount) for provider, name, amount in rows}


def write(
    tx: Tx, provider: Provider | Held, wanted: Mapping[str, Inventory], now: dt.datetime
) -> None:
    """Make the inventories of a locked provider those; the generation stays.

    BadRequest for an unknown class, Conflict when a class that goes is in use.
    """
    unknown = names.unknown_classes(tx, list(wanted))
    if unknown:
        raise BadRequest(
            f"Unknown resource class in inventory for resource provider {provider.uuid}: "
            f"No such resource class {unknown[0]}"
        )
    there = listing(tx, provider.id)
    _remove(tx, provider, [name for name in there if name not in wanted])
    for name, inventory in wanted.items():
        values = msgspec.structs.asdict(inventory) | {"updated_at": naive(now)}
        if name not in there:
            tx.execute(
                sa.insert(t.inventories).values(
                    provider_id=provider.id, resource_class=name, **values
                )
            )
        elif there[name] != inventory:
            tx.execute(
                sa.update(t.inventories)
                .where(
                    t.inventories.c.provider_id == provider.id,
                    t.inventories.c.resource_class == name,
                )
                .values(**values)
            )


def _remove(tx: Tx, provider: Provider | Held, gone: Collection[str]) -> None:
    if not gone:
        return
    used = in_use(tx, [provider.id])
    busy = names.in_order(name for name in gone if (provider.id, name) in used)
    if busy:
        raise Conflict(
            f"Inventory for '{', '.join(busy)}' on resource provider '{provider.uuid}' in use.",
            code="placement.inventory.inuse",
        )
    tx.execute(
        sa.delete(t.inventories).where(
            t.inventories.c.provider_id == provider.id,
            t.inventories.c.resource_class.in_(list(gone)),
        )
    )


def replace(
    tx: Tx, uuid: str, wanted: Mapping[str, Inventory], *, generation: int, now: dt.datetime
) -> int:
    """Replace all inventories; the new generation. NotFound, BadRequest, Conflict."""
    provider = providers.lock(tx, uuid, generation=generation)
    write(tx, provider, wanted, now)
    return providers.bump(tx, provider, now)


def add(tx: Tx, uuid: str, name: str, inventory: Inventory, now: dt.datetime) -> int:
    """One more inventory; the new generation. Conflict when the class is there already."""
    provider = providers.lock(tx, uuid)
    there = listing(tx, provider.id)
    if name in there:
        raise Conflict(
            f"Update conflict: resource provider {uuid} has an inventory of {name}; use PUT.",
            code=CONCURRENT,
        )
    if names.unknown_classes(tx, [name]):
        raise BadRequest(
            f"Bad inventory {name} for resource provider {uuid}: No such resource class {name}"
        )
    write(tx, provider, there | {name: inventory}, now)
    return providers.bump(tx, provider, now)


def update(
    tx: Tx, uuid: str, name: str, inventory: Inventory, *, generation: int, now: dt.datetime
) -> int:
    """Replace one inventory; the new generation. BadRequest when there is none of that class."""
    provider = providers.lock(tx, uuid, generation=generation)
    there = listing(tx, provider.id)
    if name not in there:
        raise BadRequest(
            f"No inventory record with resource class {name} on resource provider {uuid}."
        )
    write(tx, provider, there | {name: inventory}, now)
    return providers.bump(tx, provider, now)


def delete(tx: Tx, uuid: str, name: str, now: dt.datetime) -> None:
    """Remove one inventory. NotFound, Conflict while in use."""
    provider = providers.lock(tx, uuid)
    there = listing(tx, provider.id)
    if name not in there:
        raise NotFound(f"No inventory of class {name} found for delete on provider {uuid}.")
    _remove(tx, provider, [name])
    providers.bump(tx, provider, now)


def delete_all(tx: Tx, uuid: str, now: dt.datetime) -> None:
    """Remove every inventory. NotFound, Conflict while one is in use."""
    provider = providers.lock(tx, uuid)
    _remove(tx, provider, list(listing(tx, provider.id)))
    providers.bump(tx, provider, now)
