"""What the candidate search needs of every provider, loaded only where it changed."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import sqlalchemy as sa

from kilonova.placement.rows import Inventory
from kilonova.placement.store import inventories
from kilonova.placement.store import tables as t
from kilonova.placement.store.common import Tx, chunks


class Stock(msgspec.Struct, frozen=True):
    """A provider with all it has."""

    id: int
    uuid: str
    name: str
    generation: int
    version: int
    parent_id: int | None
    root_id: int
    inventories: dict[str, Inventory]
    used: dict[str, int]
    traits: frozenset[str]
    aggregates: frozenset[str]


class Mark(msgspec.Struct, frozen=True):
    """Where a follower is: equal marks mean nothing changed in between.

    Versions only grow, so their sum does, unless a provider was deleted, which is counted.
    """

    providers: int = 0
    versions: int = 0
    deleted: int = -1


class Delta(msgspec.Struct, frozen=True):
    """What to change to be at ``mark``."""

    mark: Mark
    changed: tuple[Stock, ...] = ()
    gone: tuple[int, ...] = ()


def changes(tx: Tx, since: Mark, known: Mapping[int, int]) -> Delta:
    """The changes after ``since``; ``known`` is id → version of what the follower has.

    One statement when there are none, seven when there are.
    """
    p = t.providers.c
    deleted = (
        sa.select(t.counters.c.value)
        .where(t.counters.c.name == "providers_deleted")
        .scalar_subquery()
    )
    row = tx.execute(
        sa.select(
            sa.func.count(), sa.func.coalesce(sa.func.sum(p.version), 0), deleted
        ).select_from(t.providers)
    ).one()
    mark = Mark(int(row[0]), int(row[1]), int(row[2] or 0))
    if mark == since:
        return Delta(mark)
    versions = {row[0]: row[1] for row in tx.execute(sa.select(p.id, p.version))}
    fresh = [id_ for id_, version in versions.items() if known.get(id_) != version]
    gone = tuple(id_ for id_ in known if id_ not in versions)
    # The mark must not promise more than what is loaded below: another writer may have committed
    # between the two statements, and then the next look has to find a difference.
    loaded: list[Stock] = []
    for part in chunks(fresh):
        loaded.extend(_load(tx, list(part)))
    return Delta(mark, tuple(loaded), gone)


def _load(tx: Tx, ids: list[int]) -> list[Stock]:
    p = t.providers.c
    rows = tx.execute(
        sa.select(p.id, p.uuid, p.name, p.generation, p.version, p.parent_id, p.root_id).where(
            p.id.in_(ids)
        )
    ).all()
    stock: dict[int, dict[str, Inventory]] = {}
    fields = [t.inventories.c[field.name] for field in msgspec.structs.fields(Inventory)]
    for row in tx.execute(
        sa.select(t.inventories.c.provider_id, t.inventories.c.resource_class, *fields).where(
            t.inventories.c.provider_id.in_(ids)
        )
    ):
        stock.setdefault(row[0], {})[row[1]] = Inventory(*row[2:])
    used: dict[int, dict[str, int]] = {}
    for (provider, name), amount in inventories.in_use(tx, ids).items():
        used.setdefault(provider, {})[name] = amount
    traits = _sets(tx, t.provider_traits, "trait", ids)
    aggregates = _sets(tx, t.provider_aggregates, "aggregate", ids)
    return [
        Stock(
            *row,
            inventories=stock.get(row.id, {}),
            used=used.get(row.id, {}),
            traits=frozenset(traits.get(row.id, ())),
            aggregates=frozenset(aggregates.get(row.id, ())),
        )
        for row in rows
    ]


def _sets(tx: Tx, table: sa.Table, column: str, ids: list[int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for provider, value in tx.execute(
        sa.select(table.c.provider_id, table.c[column]).where(table.c.provider_id.in_(ids))
    ):
        found.setdefault(provider, []).append(value)
    return found
