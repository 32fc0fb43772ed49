"""What the candidate search needs of every provider, loaded only where it changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from kilonova.db.prepared import Prepared
from kilonova.placement.rows import Inventory
from kilonova.placement.store import tables as t
from kilonova.placement.store.common import Tx, chunks

T = TypeVar("T")

KEPT = 50_000
"""Rows of the log that pruning leaves; a follower further behind loads everything."""
GAPS = 500
"""Numbers of the log that are waited for at most."""
GAP_SECONDS = 600.0
"""After that long a missing number belongs to a transaction that was rolled back."""
_MANY = 5_000


class Stock(msgspec.Struct, frozen=True):
    """A provider with all it has."""

    id: int
    uuid: str
    name: str
    generation: int
    parent_id: int | None
    root_id: int
    inventories: dict[str, Inventory]
    used: dict[str, int]
    traits: frozenset[str]
    aggregates: frozenset[str]


class Mark(msgspec.Struct, frozen=True):
    """Where in the log a follower is: it knows all up to ``seq`` but the ``gaps``, numbers that
    were given to transactions not yet committed then, with when each was first missed."""

    seq: int = -1
    gaps: Mapping[int, float] = {}


class Delta(msgspec.Struct, frozen=True):
    """What to change to be at ``mark``; ``whole``: the changed ones are all there are."""

    mark: Mark
    changed: tuple[Stock, ...] = ()
    gone: tuple[int, ...] = ()
    whole: bool = False


def moved(tx: Tx, since: Mark) -> bool:
    """Whether anything was committed after ``since``."""
    if since.seq < 0:
        return True
    if since.gaps:
        return tx.execute(_news(since).limit(1)).first() is not None
    return _any.first(tx, {"seq": since.seq}) is not None


_any = Prepared(
    sa.select(t.provider_changes.c.seq)
    .where(t.provider_changes.c.seq > sa.bindparam("seq"))
    .order_by(t.provider_changes.c.seq.desc())
    .limit(1)
)


def _news(since: Mark) -> sa.Select[int, int]:
    c = t.provider_changes.c
    where = c.seq > since.seq
    if since.gaps:
        where |= c.seq.in_(list(since.gaps))
    return sa.select(c.seq, c.provider_id).where(where)


def changes(tx: Tx, since: Mark, now: float) -> Delta:
    """The changes after ``since``, all of one moment of the database.

    ``now``: monotonic seconds, by which gaps grow old. To be called first in a transaction that
    only reads.
    """
    _freeze(tx)
    if since.seq >= 0:
        pruned = tx.execute(
            sa.select(t.counters.c.value).where(t.counters.c.name == "changes_pruned")
        ).scalar()
        if since.seq >= (pruned or 0):
            return _since(tx, since, now)
    return _whole(tx, now)


def _freeze(tx: Tx) -> None:
    """Let every statement of this transaction see the same moment (SQLite's do anyway)."""
    if tx.dialect.name != "sqlite":
        tx.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


def _since(tx: Tx, since: Mark, now: float) -> Delta:
    rows = tx.execute(_news(since)).all()
    newest = max((row.seq for row in rows), default=since.seq)
    newest = max(newest, since.seq)
    come = {row.seq for row in rows}
    missed = _missing(come, since.seq + 1, newest)
    mark = Mark(newest, _waited_for(since.gaps, come, missed, now))
    ids = {row.provider_id for row in rows}
    loaded = _load(tx, ids)
    return Delta(mark, tuple(loaded), tuple(ids - {stock.id for stock in loaded}))


def _whole(tx: Tx, now: float) -> Delta:
    seq = t.provider_changes.c.seq
    latest = set(tx.execute(sa.select(seq).order_by(seq.desc()).limit(GAPS)).scalars())
    newest = max(latest, default=0)
    gaps = _missing(latest, min(latest, default=1), newest)
    mark = Mark(newest, _waited_for({}, (), gaps, now))
    return Delta(mark, tuple(_load(tx, None)), whole=True)


def _missing(come: Collection[int], first: int, last: int) -> list[int]:
    # A jump further than what is waited for is no sum of transactions under way.
    first = max(first, last - 20 * GAPS)
    return [number for number in range(first, last) if number not in come]


def _waited_for(
    old: Mapping[int, float], come: Collection[int], missed: Iterable[int], now: float
) -> dict[int, float]:
    gaps = {n: since for n, since in old.items() if n not in come and now - since < GAP_SECONDS}
    gaps.update(dict.fromkeys(missed, now))
    return dict(sorted(gaps.items())[-GAPS:])


def prune(tx: Tx) -> None:
    """Delete old rows of the log."""
    c = t.provider_changes.c
    newest = tx.execute(sa.select(sa.func.max(c.seq))).scalar() or 0
    if newest <= KEPT:
        return
    tx.execute(
        sa.update(t.counters)
        .where(t.counters.c.name == "changes_pruned", t.counters.c.value < newest - KEPT)
        .values(value=newest - KEPT)
    )
    tx.execute(sa.delete(t.provider_changes).where(c.seq <= newest - KEPT))


def _load(tx: Tx, ids: Collection[int] | None) -> list[Stock]:
    """Those providers, or all (None)."""
    if ids is None or len(ids) > _MANY:
        found = _load_where(tx, lambda _column: sa.true())
        return found if ids is None else [stock for stock in found if stock.id in ids]
    loaded: list[Stock] = []
    for part in chunks(sorted(ids)):
        loaded.extend(_load_where(tx, lambda column, part=part: column.in_(part)))  # type: ignore[misc]
    return loaded


def _load_where(
    tx: Tx, where: Callable[[sa.ColumnElement[Any]], sa.ColumnElement[bool]]
) -> list[Stock]:
    p, i, a = t.providers.c, t.inventories.c, t.allocations.c
    same: dict[Any, Any] = {}
    fields = [i[field.name] for field in msgspec.structs.fields(Inventory)]
    stock: dict[int, dict[str, Inventory]] = {}
    for row in tx.execute(
        sa.select(i.provider_id, i.resource_class, *fields).where(where(i.provider_id))
    ):
        inventory = Inventory(*row[2:])
        stock.setdefault(row[0], {})[_one(same, row[1])] = _one(same, inventory)
    used: dict[int, dict[str, int]] = {}
    for provider, name, amount in tx.execute(
        sa.select(a.provider_id, a.resource_class, sa.func.sum(a.used))
        .where(where(a.provider_id))
        .group_by(a.provider_id, a.resource_class)
    ):
        used.setdefault(provider, {})[_one(same, name)] = int(amount)
    traits = _sets(tx, t.provider_traits.c.trait, where(t.provider_traits.c.provider_id))
    aggregates = _sets(
        tx, t.provider_aggregates.c.aggregate, where(t.provider_aggregates.c.provider_id)
    )
    rows = tx.execute(
        sa.select(p.id, p.uuid, p.name, p.generation, p.parent_id, p.root_id).where(where(p.id))
    )
    return [
        Stock(
            *row,
            inventories=stock.get(row[0], {}),
            used=used.get(row[0], {}),
            traits=_one(same, frozenset(traits.get(row[0], ()))),
            aggregates=_one(same, frozenset(aggregates.get(row[0], ()))),
        )
        for row in rows
    ]


def _one(same: dict[Any, Any], thing: T) -> T:
    """An equal thing met before, or this: thousands of hosts share few values."""
    found: T = same.setdefault(thing, thing)
    return found


def _sets(
    tx: Tx, column: sa.Column[str], where: sa.ColumnElement[bool]
) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for provider, value in tx.execute(
        sa.select(column.table.c.provider_id, column).where(where)
    ):
        found.setdefault(provider, []).append(value)
    return found
