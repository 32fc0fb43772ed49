"""Resource providers and the trees they form."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable
from typing import Any

import msgspec
import sqlalchemy as sa

from kilonova.base.errors import BadRequest, Conflict, NotFound
from kilonova.db.prepared import Prepared
from kilonova.placement.rows import Provider
from kilonova.placement.store import tables as t
from kilonova.placement.store.common import Tx, aware, chunks, naive, stale

_parent = t.providers.alias("parent")
_root = t.providers.alias("root")
_columns = (
    t.providers.c.id,
    t.providers.c.uuid,
    t.providers.c.name,
    t.providers.c.generation,
    _parent.c.uuid.label("parent_uuid"),
    _root.c.uuid.label("root_uuid"),
    t.providers.c.updated_at,
)
_query = sa.select(*_columns).select_from(
    t.providers.outerjoin(_parent, _parent.c.id == t.providers.c.parent_id).join(
        _root, _root.c.id == t.providers.c.root_id
    )
)


def _row(row: Any) -> Provider:
    id_, uuid, name, generation, parent, root, updated = row
    return Provider(id_, uuid, name, generation, parent, root, aware(updated))


def absent(uuid: str, why: str = "") -> NotFound:
    """The 404 of a provider."""
    return NotFound(f"No resource provider with uuid {uuid} found{why}.")


def find(tx: Tx, uuid: str) -> Provider:
    """One provider; NotFound."""
    row = tx.execute(_query.where(t.providers.c.uuid == uuid)).first()
    if row is None:
        raise absent(uuid)
    return _row(row)


def by_ids(tx: Tx, ids: Iterable[int]) -> list[Provider]:
    """The providers of those ids that still exist, by id."""
    found: list[Provider] = []
    for part in chunks(sorted(ids)):
        rows = tx.execute(_query.where(t.providers.c.id.in_(part)).order_by(t.providers.c.id))
        found.extend(map(_row, rows))
    return found


def lock(tx: Tx, uuid: str, *, generation: int | None = None) -> Provider:
    """The provider, held against other writers until the transaction ends.

    Raises NotFound, and Conflict when ``generation`` is given and is not the present one.
    """
    tx.execute(
        sa.select(t.providers.c.id).where(t.providers.c.uuid == uuid).with_for_update()
    ).first()
    provider = find(tx, uuid)
    if generation is not None and provider.generation != generation:
        raise stale("resource provider", actual=provider.generation, given=generation)
    return provider


class Held(msgspec.Struct, frozen=True):
    """A provider whose row is locked."""

    id: int
    uuid: str
    generation: int


_held = sa.select(t.providers.c.id, t.providers.c.uuid, t.providers.c.generation)
_of_uuids = t.providers.c.uuid.in_(sa.bindparam("uuids", expanding=True))
_of_ids = t.providers.c.id.in_(sa.bindparam("ids", expanding=True))
_LOCK_UUIDS = Prepared(_held.where(_of_uuids).order_by(t.providers.c.id).with_for_update())
_LOCK_BOTH = Prepared(_held.where(_of_uuids | _of_ids).order_by(t.providers.c.id).with_for_update())
_BUMP = Prepared(
    sa.update(t.providers)
    .where(
        t.providers.c.id == sa.bindparam("b_id"),
        t.providers.c.generation == sa.bindparam("b_generation"),
    )
    .values(generation=t.providers.c.generation + 1, updated_at=sa.bindparam("b_now"))
)
_NOTE = Prepared(sa.insert(t.provider_changes))


def lock_many(tx: Tx, uuids: Collection[str], ids: Collection[int] = ()) -> dict[str, Held]:
    """Those providers by uuid, held until the end; always taken in the order of their ids."""
    if ids:
        rows = _LOCK_BOTH.all(tx, {"uuids": list(uuids), "ids": list(ids)})
    else:
        rows = _LOCK_UUIDS.all(tx, {"uuids": list(uuids)}) if uuids else []
    return {row[1]: Held(*row) for row in rows}


def bump(tx: Tx, provider: Provider | Held, now: dt.datetime) -> int:
    """Advance the generation from the one ``provider`` shows; Conflict when it has moved."""
    expected = {"b_id": provider.id, "b_generation": provider.generation}
    if _BUMP.run(tx, {**expected, "b_now": naive(now)}) != 1:
        raise stale("resource provider", actual="newer", given=provider.generation)
    note(tx, [provider.id])
    return provider.generation + 1


def note(tx: Tx, ids: Collection[int]) -> None:
    """Let followers reload these providers once this transaction is committed."""
    if ids:
        _NOTE.many(tx, [{"provider_id": id_} for id_ in sorted(ids)])


def without_root(tx: Tx) -> int:
    """How many providers have no root, for the upgrade check."""
    query = (
        sa.select(sa.func.count()).select_from(t.providers).where(t.providers.c.root_id.is_(None))
    )
    return int(tx.execute(query).scalar_one())


def create(tx: Tx, *, uuid: str, name: str, parent_uuid: str | None, now: dt.datetime) -> Provider:
    """A new provider without anything. Conflict on a taken uuid or name, BadRequest on a parent
    that is not there."""
    title = f'Unable to create resource provider "{name}", {uuid}'
    parent_id = root_id = None
    if parent_uuid is not None:
        if parent_uuid == uuid:
            raise BadRequest(
                f"{title}: parent provider UUID cannot be same as UUID. "
                "To make it the root of a tree leave the parent out."
            )
        parent = _ancestor(tx, parent_uuid)
        if parent is None:
            raise BadRequest(f"{title}: parent provider UUID does not exist.")
        parent_id, root_id = parent
    _refuse_twins(tx, uuid=uuid, name=name, other_than=None)
    try:
        made = tx.execute(
            sa.insert(t.providers).values(
                uuid=uuid,
                name=name,
                generation=0,
                parent_id=parent_id,
                root_id=root_id,
                updated_at=naive(now),
            )
        )
    except sa.exc.IntegrityError as error:
        raise _twin("uuid or name", f"{uuid}, {name}") from error
    key = made.inserted_primary_key
    assert key is not None
    if root_id is None:
        tx.execute(sa.update(t.providers).where(t.providers.c.id == key[0]).values(root_id=key[0]))
    note(tx, [key[0]])
    return find(tx, uuid)


def _twin(what: str, value: str) -> Conflict:
    return Conflict(
        f"Conflicting resource provider {what}: {value} already exists.",
        code="placement.duplicate_name",
    )


def _refuse_twins(tx: Tx, *, uuid: str | None, name: str, other_than: int | None) -> None:
    rows = tx.execute(
        sa.select(t.providers.c.id, t.providers.c.uuid, t.providers.c.name).where(
            (t.providers.c.name == name) | (t.providers.c.uuid == uuid)
        )
    ).all()
    for row in rows:
        if row.id == other_than:
            continue
        if row.uuid == uuid:
            raise _twin("uuid", row.uuid)
        raise _twin("name", name)


def _ancestor(tx: Tx, uuid: str) -> tuple[int, int] | None:
    row = tx.execute(
        sa.select(t.providers.c.id, t.providers.c.root_id)
        .where(t.providers.c.uuid == uuid)
        .with_for_update()
    ).first()
    return None if row is None else (row.id, row.root_id)


def rename(tx: Tx, provider: Provider, name: str, now: dt.datetime) -> None:
    """Give another name; Conflict when it is taken."""
    _refuse_twins(tx, uuid=None, name=name, other_than=provider.id)
    try:
        tx.execute(
            sa.update(t.providers)
            .where(t.providers.c.id == provider.id)
            .values(name=name, updated_at=naive(now))
        )
    except sa.exc.IntegrityError as error:
        raise _twin("name", name) from error
    note(tx, [provider.id])


def move(tx: Tx, provider: Provider, parent_uuid: str | None, now: dt.datetime) -> None:
    """Put a provider and all below it under another parent, or make it a root (None).

    BadRequest when the parent is not there or is below the provider itself.
    """
    title = f'Unable to save resource provider "{provider.uuid}"'
    parent_id, root_id = None, provider.id
    if parent_uuid is not None:
        parent = _ancestor(tx, parent_uuid)
        if parent is None:
            raise BadRequest(f"{title}: parent provider UUID does not exist.")
        parent_id, root_id = parent
    below = _subtree(tx, provider.id)
    if parent_id in below:
        raise BadRequest(f"{title}: creating loop in the provider tree is not allowed.")
    tx.execute(
        sa.update(t.providers)
        .where(t.providers.c.id == provider.id)
        .values(parent_id=parent_id, updated_at=naive(now))
    )
    tx.execute(
        sa.update(t.providers).where(t.providers.c.id.in_(sorted(below))).values(root_id=root_id)
    )
    note(tx, below)


def _subtree(tx: Tx, top: int) -> set[int]:
    tree = tx.execute(
        sa.select(t.providers.c.id, t.providers.c.parent_id)
        .where(
            t.providers.c.root_id
            == sa.select(t.providers.c.root_id).where(t.providers.c.id == top).scalar_subquery()
        )
        .with_for_update()
    ).all()
    found = {top}
    grown = True
    while grown:
        grown = False
        for id_, parent_id in tree:
            if parent_id in found and id_ not in found:
                found.add(id_)
                grown = True
    return found


def delete(tx: Tx, uuid: str) -> None:
    """Remove a provider with its inventories, traits and aggregates.

    Conflict while it has children or allocations.
    """
    row = tx.execute(
        sa.select(t.providers.c.id).where(t.providers.c.uuid == uuid).with_for_update()
    ).first()
    if row is None:
        raise absent(uuid, " for delete")
    children = sa.select(t.providers.c.id).where(t.providers.c.parent_id == row.id).limit(1)
    if tx.execute(children).first() is not None:
        raise Conflict(
            f"Unable to delete parent resource provider {uuid}: It has child resource providers.",
            code="placement.resource_provider.cannot_delete_parent",
        )
    held = sa.select(t.allocations.c.provider_id).where(t.allocations.c.provider_id == row.id)
    if tx.execute(held.limit(1)).first() is not None:
        raise Conflict(
            f"Unable to delete resource provider {uuid}: Resource provider has allocations.",
            code="placement.resource_provider.inuse",
        )
    for table in (t.inventories, t.provider_traits, t.provider_aggregates):
        tx.execute(sa.delete(table).where(table.c.provider_id == row.id))
    tx.execute(sa.update(t.providers).where(t.providers.c.id == row.id).values(root_id=None))
    tx.execute(sa.delete(t.providers).where(t.providers.c.id == row.id))
    note(tx, [row.id])
