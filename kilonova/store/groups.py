"""Server groups (API database)."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.prepared import Prepared
from kilonova.db.tables.api import instance_group_members as members
from kilonova.db.tables.api import instance_group_places as places
from kilonova.db.tables.api import instance_groups as groups
from kilonova.domain.group import broken_rule
from kilonova.domain.quotas import refusal
from kilonova.domain.resources import Group
from kilonova.store import quotas
from kilonova.store.noting import note, notes

_G = groups.c
_COLUMNS = [_G.uuid, _G.name, _G.project_id, _G.user_id, _G.policy, _G.rules]


def get(tx: Tx, group_id: str, *, project_id: str | None = None) -> Group | None:
    """One group, of that project if given."""
    query = sa.select(_G.id, *_COLUMNS).where(_G.uuid == group_id)
    if project_id is not None:
        query = query.where(_G.project_id == project_id)
    return next(iter(_load(tx, query)), None)


def page(
    tx: Tx, *, project_id: str | None, limit: int | None = None, offset: int = 0
) -> list[Group]:
    """A project's groups (all when None), oldest first."""
    query = sa.select(_G.id, *_COLUMNS).order_by(_G.id)
    if project_id is not None:
        query = query.where(_G.project_id == project_id)
    if limit is not None:
        query = query.limit(limit)
    return _load(tx, query.offset(offset) if offset else query)


def _load(tx: Tx, query: sa.Select[Any]) -> list[Group]:
    rows = tx.execute(query).all()
    if not rows:
        return []
    own: dict[int, list[str]] = defaultdict(list)
    found = tx.execute(sa.select(members).where(members.c.group_id.in_([row[0] for row in rows])))
    for group, server_id in found:
        own[group].append(server_id)
    return [Group(*(*row[1:], tuple(sorted(own[row[0]])))) for row in rows]


_OF_SERVER = Prepared(
    sa.select(_G.uuid)
    .join(members, members.c.group_id == _G.id)
    .where(members.c.server_id == sa.bindparam("server"))
)


def of_server(tx: Tx, server_id: str) -> tuple[str, ...]:
    """The ids of a server's groups (one at most)."""
    return tuple(_OF_SERVER.scalars(tx, {"server": server_id}))


def create(tx: Tx, group: Group, *, now: dt.datetime, limit: int, unified: bool = False) -> Group:
    """A new group; OverQuota (in the words of a ``unified`` limit) when the project has enough."""
    quotas.lock(tx, group.project_id)
    used = quotas.groups_used(tx, group.project_id)
    if 0 <= limit <= used:
        raise refusal("server_groups", limit, unified=unified, used=used)
    tx.execute(
        groups.insert().values(
            uuid=group.id,
            project_id=group.project_id,
            user_id=group.user_id,
            name=group.name,
            policy=group.policy,
            rules=group.rules,
            created_at=now,
        )
    )
    note(tx, "server_group.create", group)
    return group


def delete(tx: Tx, group_id: str) -> None:
    """Remove a group; its servers stay."""
    gone = get(tx, group_id) if notes(tx) is not None else None
    if gone is not None:
        note(tx, "server_group.delete", gone)
    mine = sa.select(_G.id).where(_G.uuid == group_id)
    tx.execute(members.delete().where(members.c.group_id.in_(mine)))
    tx.execute(places.delete().where(places.c.group_id == group_id))
    tx.execute(groups.delete().where(_G.uuid == group_id))


def add_members(
    tx: Tx, group_id: str, server_ids: list[str], *, limit: int, unified: bool = False
) -> None:
    """Put servers in; OverQuota (in the words of a ``unified`` limit) when they are too many."""
    number = tx.execute(sa.select(_G.id).where(_G.uuid == group_id).with_for_update()).scalar_one()
    used, wanted = quotas.members_used(tx, number), len(server_ids)
    if 0 <= limit < used + wanted:
        raise refusal("server_group_members", limit, unified=unified, used=used, wanted=wanted)
    tx.execute(
        members.insert(), [{"group_id": number, "server_id": server_id} for server_id in server_ids]
    )
    group = get(tx, group_id) if notes(tx) is not None else None
    if group is not None:
        note(tx, "server_group.add_member", group, added=tuple(server_ids))


def counts(tx: Tx, group_id: str, *, but: Collection[str] = ()) -> dict[str, int]:
    """Host → members with a place there, the servers ``but`` left out."""
    rows = tx.execute(
        sa.select(places.c.server_id, places.c.host).where(places.c.group_id == group_id)
    )
    return dict(Counter(host for server_id, host in rows if server_id not in but))


def take_place(tx: Tx, group_id: str, server_id: str, host: str) -> str | None:
    """Give a member its place on a host; None, or what rule of its group forbids it.

    Members of a group are served one after another, so a rule that holds here holds for good. A
    place that the member has is given again; in a group that is gone nothing is written.
    """
    found = tx.execute(
        sa.select(_G.policy, _G.rules).where(_G.uuid == group_id).with_for_update()
    ).first()
    if found is None:
        return None
    here = {"group_id": group_id, "server_id": server_id, "host": host}
    if tx.execute(sa.select(places.c.host).filter_by(**here)).first() is not None:
        return None
    others = counts(tx, group_id, but=(server_id,))
    broken = broken_rule(found.policy, found.rules, others, host)
    if broken is None:
        tx.execute(places.insert().values(**here))
    return broken


def leave_place(tx: Tx, server_id: str, host: str) -> None:
    """Take a member's place on a host back; none is success."""
    tx.execute(places.delete().where(places.c.server_id == server_id, places.c.host == host))
