"""Allocations: claiming, moving and freeing amounts, never more than there is.

A claim takes the rows of its consumers and then of its providers, each in the order of their ids,
and holds them until it commits; so what it reads of inventories and use cannot change under it,
and two claims cannot wait for each other.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from kilonova.base.errors import BadRequest, Conflict, NotFound
from kilonova.db.prepared import Prepared
from kilonova.placement.rows import Allocation, Consumer, Inventory
from kilonova.placement.store import names, providers
from kilonova.placement.store import tables as t
from kilonova.placement.store.common import CONCURRENT, Tx, aware, chunks, naive
from kilonova.placement.store.providers import Held

_CONSUMER = tuple(t.consumers.c[field.name] for field in msgspec.structs.fields(Consumer))
_consumers: sa.BindParameter[Any] = sa.bindparam("consumers", expanding=True)
_LOCK = Prepared(
    sa.select(*_CONSUMER)
    .where(t.consumers.c.uuid.in_(sa.bindparam("uuids", expanding=True)))
    .order_by(t.consumers.c.id)
    .with_for_update()
)
_MEET = Prepared(sa.insert(t.consumers))
_MEET_AGAIN = Prepared(
    sa.update(t.consumers)
    .where(t.consumers.c.id == sa.bindparam("consumer"))
    .values(
        generation=t.consumers.c.generation + 1,
        project_id=sa.bindparam("b_project_id"),
        user_id=sa.bindparam("b_user_id"),
        type=sa.func.coalesce(sa.bindparam("b_type", type_=sa.String()), t.consumers.c.type),
    )
)
_FORGET = Prepared(sa.delete(t.consumers).where(t.consumers.c.id == sa.bindparam("consumer")))
_RELEASED = Prepared(
    sa.select(t.allocations.c.provider_id)
    .where(t.allocations.c.consumer_id.in_(_consumers))
    .distinct()
)
_FREE = Prepared(sa.delete(t.allocations).where(t.allocations.c.consumer_id.in_(_consumers)))
_HOLD = Prepared(sa.insert(t.allocations))
_STOCK = Prepared(
    sa.select(
        t.inventories.c.provider_id,
        t.inventories.c.resource_class,
        sa.select(sa.func.coalesce(sa.func.sum(t.allocations.c.used), 0))
        .where(
            t.allocations.c.provider_id == t.inventories.c.provider_id,
            t.allocations.c.resource_class == t.inventories.c.resource_class,
        )
        .scalar_subquery(),
        *(t.inventories.c[field.name] for field in msgspec.structs.fields(Inventory)),
    ).where(
        t.inventories.c.provider_id.in_(sa.bindparam("providers", expanding=True)),
        t.inventories.c.resource_class.in_(sa.bindparam("names", expanding=True)),
    )
)

ANY = -1
"""As ``Claim.generation``: whatever the consumer's present generation is (before 1.28)."""


class Claim(msgspec.Struct, frozen=True):
    """What a consumer shall hold: provider uuid → class → amount; nothing frees everything.

    ``generation`` is what the caller knows of the consumer: None for a new one, or ``ANY``.
    ``type`` None leaves the type as it is.
    """

    consumer: str
    resources: Mapping[str, Mapping[str, int]]
    project_id: str
    user_id: str
    generation: int | None = ANY
    type: str | None = None


def replace(tx: Tx, claims: Sequence[Claim], now: dt.datetime) -> None:
    """Make every consumer hold exactly what its claim says: all of them or none.

    Raises BadRequest for an unknown provider or class; Conflict when a consumer's generation has
    moved, when an inventory is missing or too small, or an amount breaks its units.
    """
    known = _lock_consumers(tx, [claim.consumer for claim in claims])
    for claim in claims:
        _check_generation(claim, known.get(claim.consumer))
    released = _released(tx, [consumer.id for consumer in known.values()])
    wanted = {uuid for claim in claims for uuid in claim.resources}
    held = providers.lock_many(tx, wanted, released)
    _check_names(tx, claims, held)
    if known:
        _FREE.run(tx, {"consumers": [consumer.id for consumer in known.values()]})
    _check_room(tx, claims, [held[uuid] for uuid in wanted], held)
    ids_of = _write_consumers(tx, claims, known)
    rows = [
        {
            "consumer_id": ids_of[claim.consumer],
            "provider_id": held[uuid].id,
            "resource_class": name,
            "used": amount,
            "updated_at": naive(now),
        }
        for claim in claims
        for uuid, resources in claim.resources.items()
        for name, amount in resources.items()
    ]
    _HOLD.many(tx, rows)
    for uuid in sorted(wanted):
        providers.bump(tx, held[uuid], now)
    providers.note(tx, released - {held[uuid].id for uuid in wanted})


def _lock_consumers(tx: Tx, uuids: Collection[str]) -> dict[str, Consumer]:
    found: dict[str, Consumer] = {}
    for part in chunks(sorted(set(uuids))):
        found.update({row[1]: Consumer(*row) for row in _LOCK.all(tx, {"uuids": part})})
    return found


def _check_generation(claim: Claim, consumer: Consumer | None) -> None:
    present = None if consumer is None else consumer.generation
    if claim.generation in (ANY, present):
        return
    expected = "null" if present is None else present
    given = "null" if claim.generation is None else claim.generation
    raise Conflict(
        f"consumer generation conflict - expected {expected} but got {given}", code=CONCURRENT
    )


def _released(tx: Tx, consumer_ids: Collection[int]) -> set[int]:
    if not consumer_ids:
        return set()
    return set(_RELEASED.scalars(tx, {"consumers": list(consumer_ids)}))


def _check_names(tx: Tx, claims: Sequence[Claim], held: Mapping[str, Held]) -> None:
    for claim in claims:
        for uuid in claim.resources:
            if uuid not in held:
                raise BadRequest(
                    f"Allocation for resource provider '{uuid}' that does not exist.",
                    code="placement.resource_provider.not_found",
                )
    wanted = {name for claim in claims for part in claim.resources.values() for name in part}
    unknown = names.unknown_classes(tx, wanted)
    for claim in claims:
        for part in claim.resources.values():
            for name in unknown:
                if name in part:
                    raise BadRequest(
                        f"Unable to allocate inventory for consumer {claim.consumer}: "
                        f"No such resource class {name}"
                    )


def _check_room(
    tx: Tx, claims: Iterable[Claim], wanted: Sequence[Held], held: Mapping[str, Held]
) -> None:
    if not wanted:
        return
    names = {name for claim in claims for part in claim.resources.values() for name in part}
    stock: dict[tuple[int, str], Inventory] = {}
    used: dict[tuple[int, str], int] = {}
    for row in _STOCK.all(
        tx, {"providers": [provider.id for provider in wanted], "names": sorted(names)}
    ):
        stock[row[0], row[1]] = Inventory(*row[3:])
        used[row[0], row[1]] = int(row[2])
    for claim in claims:
        for uuid, resources in claim.resources.items():
            for name, amount in resources.items():
                key = (held[uuid].id, name)
                used[key] = used.get(key, 0) + amount
                _check_one(uuid, name, amount, stock.get(key), used[key])


def _check_one(uuid: str, name: str, amount: int, inventory: Inventory | None, used: int) -> None:
    """``used`` is what would be in use with this amount."""
    if inventory is None:
        raise Conflict(
            f"Unable to allocate inventory: Inventory for '{name}' on resource provider "
            f"'{uuid}' invalid: there is none."
        )
    title = f"Unable to allocate inventory: '{name}' on resource provider '{uuid}'."
    if not inventory.admits(amount):
        raise Conflict(
            f"{title} The requested amount would violate inventory constraints: {amount} is not "
            f"between {inventory.min_unit} and {inventory.max_unit} in steps of "
            f"{inventory.step_size}."
        )
    if used > inventory.capacity:
        raise Conflict(
            f"{title} The requested amount would exceed the capacity: {used} of "
            f"{inventory.capacity} would be in use."
        )


def _write_consumers(
    tx: Tx, claims: Iterable[Claim], known: Mapping[str, Consumer]
) -> dict[str, int]:
    ids: dict[str, int] = {}
    for claim in claims:
        consumer = known.get(claim.consumer)
        if not claim.resources:
            if consumer is not None:
                _FORGET.run(tx, {"consumer": consumer.id})
            continue
        values = {"project_id": claim.project_id, "user_id": claim.user_id, "type": claim.type}
        if consumer is None:
            try:
                ids[claim.consumer] = _MEET.insert(
                    tx, {"uuid": claim.consumer, "generation": 1, **values}
                )
            except sa.exc.IntegrityError as error:
                raise Conflict(
                    f"consumer generation conflict - {claim.consumer} was made at the same time",
                    code=CONCURRENT,
                ) from error
        else:
            _MEET_AGAIN.run(
                tx, {"consumer": consumer.id, **{f"b_{key}": one for key, one in values.items()}}
            )
            ids[claim.consumer] = consumer.id
    return ids


def release(tx: Tx, consumer: str) -> None:
    """Free everything a consumer holds; NotFound when that is nothing."""
    known = _lock_consumers(tx, [consumer])
    if consumer not in known:
        raise NotFound(f"No allocations for consumer '{consumer}'")
    key = known[consumer].id
    touched = _released(tx, [key])
    providers.lock_many(tx, (), touched)
    _FREE.run(tx, {"consumers": [key]})
    _FORGET.run(tx, {"consumer": key})
    providers.note(tx, touched)


_query = (
    sa.select(
        t.providers.c.uuid,
        t.providers.c.generation,
        t.allocations.c.resource_class,
        t.allocations.c.used,
        t.allocations.c.updated_at,
        *_CONSUMER,
    )
    .join(t.providers, t.providers.c.id == t.allocations.c.provider_id)
    .join(t.consumers, t.consumers.c.id == t.allocations.c.consumer_id)
    .order_by(t.consumers.c.uuid, t.providers.c.id, t.allocations.c.resource_class)
)


def _rows(tx: Tx, query: sa.Select[Any]) -> list[Allocation]:
    return [
        Allocation(row[0], row[1], row[2], row[3], Consumer(*row[5:]), aware(row[4]))
        for row in tx.execute(query).all()
    ]


def of_consumer(tx: Tx, uuid: str) -> list[Allocation]:
    """All that a consumer holds."""
    return _rows(tx, _query.where(t.consumers.c.uuid == uuid))


def of_provider(tx: Tx, provider_id: int) -> list[Allocation]:
    """All that is held of a provider."""
    return _rows(tx, _query.where(t.allocations.c.provider_id == provider_id))


class Total(msgspec.Struct, frozen=True):
    """What the consumers of one type use together."""

    type: str | None
    consumers: int
    used: dict[str, int]


def totals(tx: Tx, project_id: str, user_id: str | None = None) -> list[Total]:
    """The use of a project (of one user in it), by consumer type."""
    c = t.consumers.c
    where = [c.project_id == project_id]
    if user_id is not None:
        where.append(c.user_id == user_id)
    counts = tx.execute(sa.select(c.type, sa.func.count()).where(*where).group_by(c.type)).all()
    sums = tx.execute(
        sa.select(c.type, t.allocations.c.resource_class, sa.func.sum(t.allocations.c.used))
        .join(t.allocations, t.allocations.c.consumer_id == c.id)
        .where(*where)
        .group_by(c.type, t.allocations.c.resource_class)
    ).all()
    used: dict[str | None, dict[str, int]] = {}
    for type_, name, amount in sums:
        used.setdefault(type_, {})[name] = int(amount)
    return [Total(type_, int(count), used.get(type_, {})) for type_, count in counts]


def without_consumer(tx: Tx) -> int:
    """How many allocations nobody holds, for the upgrade check."""
    held = t.allocations.c
    there = sa.select(t.consumers.c.id).where(t.consumers.c.id == held.consumer_id).exists()
    query = sa.select(sa.func.count()).select_from(t.allocations).where(~there)
    return int(tx.execute(query).scalar_one())
