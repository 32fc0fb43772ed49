"""What the candidate search needs of every provider, loaded only where it changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
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
    if since.gaps:
        return tx.execute(_news(since).limit(1)).first() is not None
    return _ANY.first(tx, {"seq": since.seq}) is not None


_log = t.provider_changes.c
_later = _log.seq > sa.bindparam("seq")
_ANY = Prepared(sa.select(_log.seq).where(_later).order_by(_log.seq.desc()).limit(1))
_AFTER = Prepared(sa.select(_log.seq, _log.provider_id).where(_later))
_PRUNED = Prepared(sa.select(t.counters.c.value).where(t.counters.c.name == "changes_pruned"))


def _news(since: Mark) -> sa.Select[int, int]:
    c = t.provider_changes.c
    where = c.seq > since.seq
    if since.gaps:
        where |= c.seq.in_(list(since.gaps))
    return sa.select(c.seq, c.provider_id).where(where)


def changes(tx: Tx, since: Mark, now: float) -> Delta | None:
    """The changes after ``since``, all of one moment of the database; None when the log does not
    go back so far.

    ``now``: monotonic seconds, by which gaps grow old. To be called first in a transaction that
    only reads.
    """
    _freeze(tx)
    if since.seq < (_PRUNED.scalar(tx) or 0):
        return None
    rows = tx.execute(_news(since)).all() if since.gaps else _AFTER.all(tx, {"seq": since.seq})
    newest = max((row[0] for row in rows), default=since.seq)
    newest = max(newest, since.seq)
    come = {row[0] for row in rows}
    missed = _missing(come, since.seq + 1, newest)
    mark = Mark(newest, _waited_for(since.gaps, come, missed, now))
    ids = {int(row[1]) for row in rows}
    loaded = _load(tx, ids)
    return Delta(mark, tuple(loaded), tuple(ids - {stock.id for stock in loaded}))


def everything(tx: Tx, now: float) -> Delta:
    """All providers, of one moment of the database; as ``changes``."""
    _freeze(tx)
    seq = t.provider_changes.c.seq
    latest = set(tx.execute(sa.select(seq).order_by(seq.desc()).limit(GAPS)).scalars())
    newest = max(latest, default=0)
    gaps = _missing(latest, min(latest, default=1), newest)
    mark = Mark(newest, _waited_for({}, (), gaps, now))
    return Delta(mark, tuple(_load(tx, None)), whole=True)


def _freeze(tx: Tx) -> None:
    """Let every statement of this transaction see the same moment (SQLite's do anyway)."""
    if tx.dialect.name != "sqlite":
        tx.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


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
        found = _read(tx, _ALL, {})
        return found if ids is None else [stock for stock in found if stock.id in ids]
    loaded: list[Stock] = []
    for part in chunks(sorted(ids)):
        loaded.extend(_read(tx, _SOME, {"ids": part}))
    return loaded


class _Statements(msgspec.Struct, frozen=True):
    """What reads providers with all they have."""

    inventories: Prepared
    used: Prepared
    traits: Prepared
    aggregates: Prepared
    providers: Prepared


def _statements(ids: sa.BindParameter[Any] | None) -> _Statements:
    p, i, a = t.providers.c, t.inventories.c, t.allocations.c

    def read(key: sa.Column[Any], *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        query = sa.select(key, *columns)
        return query if ids is None else query.where(key.in_(ids))

    fields = [i[field.name] for field in msgspec.structs.fields(Inventory)]
    used = read(a.provider_id, a.resource_class, sa.func.sum(a.used))
    return _Statements(
        Prepared(read(i.provider_id, i.resource_class, *fields)),
        Prepared(used.group_by(a.provider_id, a.resource_class)),
        Prepared(read(t.provider_traits.c.provider_id, t.provider_traits.c.trait)),
        Prepared(read(t.provider_aggregates.c.provider_id, t.provider_aggregates.c.aggregate)),
        Prepared(read(p.id, p.uuid, p.name, p.generation, p.parent_id, p.root_id)),
    )


_ALL = _statements(None)
_SOME = _statements(sa.bindparam("ids", expanding=True))


def _read(tx: Tx, statements: _Statements, values: Mapping[str, Any]) -> list[Stock]:
    same: dict[Any, Any] = {}
    stock: dict[int, dict[str, Inventory]] = {}
    for row in statements.inventories.all(tx, values):
        inventory = _one(same, Inventory(*row[2:]))
        stock.setdefault(row[0], {})[_one(same, row[1])] = inventory
    used: dict[int, dict[str, int]] = {}
    for provider, name, amount in statements.used.all(tx, values):
        used.setdefault(provider, {})[_one(same, name)] = int(amount)
    traits = _sets(statements.traits.all(tx, values))
    aggregates = _sets(statements.aggregates.all(tx, values))
    return [
        Stock(
            id=row[0],
            uuid=row[1],
            name=row[2],
            generation=row[3],
            parent_id=row[4],
            root_id=row[5],
            inventories=stock.get(row[0], {}),
            used=used.get(row[0], {}),
            traits=_one(same, frozenset(traits.get(row[0], ()))),
            aggregates=_one(same, frozenset(aggregates.get(row[0], ()))),
        )
        for row in statements.providers.all(tx, values)
    ]


def _one(same: dict[Any, Any], thing: T) -> T:
    """An equal thing met before, or this: thousands of hosts share few values."""
    found: T = same.setdefault(thing, thing)
    return found


def _sets(rows: Iterable[tuple[Any, ...]]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for provider, value in rows:
        found.setdefault(provider, []).append(value)
    return found
