"""Resource classes and traits: the standard ones of the libraries and those operators add."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable

import os_resource_classes
import os_traits
import sqlalchemy as sa

from kilonova.base.errors import BadRequest, Conflict, NotFound
from kilonova.placement.rows import CUSTOM, Named
from kilonova.placement.store import providers
from kilonova.placement.store import tables as t
from kilonova.placement.store.common import Tx, aware, chunks, insert_missing, naive, stale

STANDARD_CLASSES: tuple[str, ...] = tuple(os_resource_classes.STANDARDS)
KNOWN_CLASSES = frozenset(STANDARD_CLASSES)
STANDARD_TRAITS = frozenset(os_traits.get_traits())
_RANK = {name: rank for rank, name in enumerate(STANDARD_CLASSES)}


def in_order(names: Iterable[str]) -> list[str]:
    """Class names as they are listed: standard ones in the library's order, then the others."""
    return sorted(names, key=lambda name: (_RANK.get(name, len(_RANK)), name))


def sync(tx: Tx, now: dt.datetime) -> None:
    """Add standard classes and standard traits a newer release brought."""
    wanted: tuple[tuple[sa.Table, Collection[str]], ...] = (
        (t.classes, STANDARD_CLASSES),
        (t.traits, STANDARD_TRAITS),
    )
    for table, names in wanted:
        there = set(tx.execute(sa.select(table.c.name)).scalars())
        missing = [{"name": n, "updated_at": naive(now)} for n in sorted(set(names) - there)]
        insert_missing(tx, table, missing)


def _all(tx: Tx, table: sa.Table) -> list[Named]:
    rows = tx.execute(sa.select(table.c.name, table.c.updated_at).order_by(table.c.name))
    return [Named(name, aware(when)) for name, when in rows]


def _one(tx: Tx, table: sa.Table, name: str) -> Named | None:
    row = tx.execute(
        sa.select(table.c.name, table.c.updated_at).where(table.c.name == name)
    ).first()
    return None if row is None else Named(row[0], aware(row[1]))


def classes(tx: Tx) -> list[Named]:
    """All resource classes."""
    found = {named.name: named for named in _all(tx, t.classes)}
    return [found[name] for name in in_order(found)]


def find_class(tx: Tx, name: str) -> Named:
    """One class; NotFound."""
    found = _one(tx, t.classes, name)
    if found is None:
        raise NotFound(f"No such resource class {name}.")
    return found


def unknown_classes(tx: Tx, names: Collection[str]) -> list[str]:
    """Those of the names that are no class."""
    there = set(KNOWN_CLASSES.intersection(names))
    for part in chunks(set(names) - there):
        there |= set(
            tx.execute(sa.select(t.classes.c.name).where(t.classes.c.name.in_(part))).scalars()
        )
    return in_order(set(names) - there)


def create_class(tx: Tx, name: str, now: dt.datetime) -> None:
    """A new custom class; Conflict when it is there."""
    if _one(tx, t.classes, name) is not None:
        raise Conflict(f"Conflicting resource class already exists: {name}")
    try:
        tx.execute(sa.insert(t.classes).values(name=name, updated_at=naive(now)))
    except sa.exc.IntegrityError as error:
        raise Conflict(f"Conflicting resource class already exists: {name}") from error


def ensure_class(tx: Tx, name: str, now: dt.datetime) -> bool:
    """Make a custom class unless it is there; True when it was made."""
    if _one(tx, t.classes, name) is not None:
        return False
    insert_missing(tx, t.classes, [{"name": name, "updated_at": naive(now)}])
    return True


def rename_class(tx: Tx, name: str, new: str, now: dt.datetime) -> None:
    """Another name for a custom class (until 1.6). NotFound, BadRequest, Conflict."""
    find_class(tx, name)
    if not name.startswith(CUSTOM):
        raise BadRequest(f"Cannot update standard resource class {name}.")
    if new != name and _one(tx, t.classes, new) is not None:
        raise Conflict(f"Resource class already exists: {new}.")
    holders = tx.execute(
        sa.select(t.inventories.c.provider_id).where(t.inventories.c.resource_class == name)
    ).scalars()
    providers.note(tx, list(holders))
    tx.execute(
        sa.update(t.classes).where(t.classes.c.name == name).values(name=new, updated_at=naive(now))
    )


def delete_class(tx: Tx, name: str) -> None:
    """Remove a custom class. NotFound, BadRequest for a standard one, Conflict while in use."""
    find_class(tx, name)
    if not name.startswith(CUSTOM):
        raise BadRequest(f"Cannot delete standard resource class {name}.")
    used = sa.select(t.inventories.c.provider_id).where(t.inventories.c.resource_class == name)
    in_use = Conflict(f"Error in delete resource class: Class is in use in inventory ({name}).")
    if tx.execute(used.limit(1)).first() is not None:
        raise in_use
    try:
        tx.execute(sa.delete(t.classes).where(t.classes.c.name == name))
    except sa.exc.IntegrityError as error:
        raise in_use from error


def traits(tx: Tx) -> list[Named]:
    """All traits, by name."""
    return _all(tx, t.traits)


def used_traits(tx: Tx) -> set[str]:
    """The traits some provider has."""
    return set(tx.execute(sa.select(t.provider_traits.c.trait).distinct()).scalars())


def find_trait(tx: Tx, name: str) -> Named:
    """One trait; NotFound."""
    found = _one(tx, t.traits, name)
    if found is None:
        raise NotFound(f"No such trait(s): {name}.")
    return found


def unknown_traits(tx: Tx, names: Collection[str]) -> list[str]:
    """Those of the names that are no trait."""
    there: set[str] = set()
    for part in chunks(names):
        there |= set(
            tx.execute(sa.select(t.traits.c.name).where(t.traits.c.name.in_(part))).scalars()
        )
    return sorted(set(names) - there)


def ensure_trait(tx: Tx, name: str, now: dt.datetime) -> tuple[Named, bool]:
    """A custom trait, made unless it is there; whether it was made."""
    found = _one(tx, t.traits, name)
    if found is not None:
        return found, False
    insert_missing(tx, t.traits, [{"name": name, "updated_at": naive(now)}])
    return Named(name, now), True


def delete_trait(tx: Tx, name: str) -> None:
    """Remove a custom trait. BadRequest for a standard one, NotFound, Conflict while in use."""
    if not name.startswith(CUSTOM):
        raise BadRequest(f"Cannot delete standard trait {name}.")
    find_trait(tx, name)
    in_use = Conflict(f"The trait {name} is in use by a resource provider.")
    used = sa.select(t.provider_traits.c.provider_id).where(t.provider_traits.c.trait == name)
    if tx.execute(used.limit(1)).first() is not None:
        raise in_use
    try:
        tx.execute(sa.delete(t.traits).where(t.traits.c.name == name))
    except sa.exc.IntegrityError as error:
        raise in_use from error


def provider_traits(tx: Tx, provider_id: int) -> list[Named]:
    """The traits of a provider, by name."""
    rows = tx.execute(
        sa.select(t.traits.c.name, t.traits.c.updated_at)
        .join(t.provider_traits, t.provider_traits.c.trait == t.traits.c.name)
        .where(t.provider_traits.c.provider_id == provider_id)
        .order_by(t.traits.c.name)
    )
    return [Named(name, aware(when)) for name, when in rows]


def set_provider_traits(
    tx: Tx, uuid: str, names: Collection[str], *, generation: int | None, now: dt.datetime
) -> int:
    """Replace the traits of a provider; its new generation.

    ``generation`` None writes whatever the present one is. NotFound, BadRequest for an unknown
    trait, Conflict.
    """
    provider = providers.lock(tx, uuid)
    missing = unknown_traits(tx, names)
    if missing:
        raise BadRequest(f"No such trait {', '.join(missing)}")
    if generation is not None and generation != provider.generation:
        fault = stale("resource provider", actual=provider.generation, given=generation)
        raise Conflict(
            "Resource provider's generation already changed. "
            "Please update the generation and try again.",
            code=fault.code,
        )
    tx.execute(sa.delete(t.provider_traits).where(t.provider_traits.c.provider_id == provider.id))
    if names:
        tx.execute(
            sa.insert(t.provider_traits),
            [{"provider_id": provider.id, "trait": name} for name in sorted(names)],
        )
    return providers.bump(tx, provider, now)


def provider_aggregates(tx: Tx, provider_id: int) -> list[str]:
    """The aggregates a provider is in, by uuid."""
    column = t.provider_aggregates.c.aggregate
    return list(
        tx.execute(
            sa.select(column)
            .where(t.provider_aggregates.c.provider_id == provider_id)
            .order_by(column)
        ).scalars()
    )


def set_provider_aggregates(
    tx: Tx, uuid: str, aggregates: Collection[str], *, generation: int | None, now: dt.datetime
) -> int:
    """Replace the aggregates; the provider's generation afterwards.

    Without ``generation`` (before 1.19) nothing is compared and the generation stays.
    """
    provider = providers.lock(tx, uuid, generation=generation)
    table = t.provider_aggregates
    tx.execute(sa.delete(table).where(table.c.provider_id == provider.id))
    if aggregates:
        tx.execute(
            sa.insert(table),
            [{"provider_id": provider.id, "aggregate": a} for a in sorted(set(aggregates))],
        )
    if generation is None:
        providers.note(tx, [provider.id])
        return provider.generation
    return providers.bump(tx, provider, now)
