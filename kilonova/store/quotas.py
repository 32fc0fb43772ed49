"""Quota limits and what is used of them (API database)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence

import msgspec
import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.prepared import Prepared
from kilonova.db.tables.api import (
    build_requests,
    instance_group_members,
    instance_groups,
    instance_mappings,
    key_pairs,
    quota_classes,
    quota_locks,
    quotas,
    request_specs,
)
from kilonova.domain.guest import FlavorSpec, ImageRef
from kilonova.domain.quotas import UNLIMITED, exceeded
from kilonova.store import sql

Limits = Mapping[str, int]

_LOCK = Prepared(
    quota_locks.update()
    .where(quota_locks.c.owner == sa.bindparam("key"))
    .values(turns=quota_locks.c.turns + 1)
)
_LIMITS = Prepared(
    sa.select(quotas.c.resource, quotas.c.hard_limit)
    .where(
        quotas.c.project_id == sa.bindparam("project"),
        quotas.c.user_id.in_(sa.bindparam("users", expanding=True)),
    )
    .order_by(quotas.c.user_id)
)
_CLASS_LIMITS = Prepared(
    sa.select(quota_classes.c.resource, quota_classes.c.hard_limit).where(
        quota_classes.c.class_name == sa.bindparam("name")
    )
)
_USED = sa.select(
    sa.func.count(),
    sa.func.coalesce(sa.func.sum(instance_mappings.c.vcpus), 0),
    sa.func.coalesce(sa.func.sum(instance_mappings.c.memory_mb), 0),
).where(
    instance_mappings.c.project_id == sa.bindparam("project"),
    instance_mappings.c.queued_for_delete == sa.false(),
    instance_mappings.c.set_aside == sa.false(),
)
_PROJECT_USAGE = Prepared(_USED)
_USER_USAGE = Prepared(_USED.where(instance_mappings.c.user_id == sa.bindparam("user")))


class Usage(msgspec.Struct, frozen=True):
    """What a project (or one user of it) has. ram: MiB."""

    instances: int = 0
    cores: int = 0
    ram: int = 0


def lock(tx: Tx, owner: str) -> None:
    """Let nobody else change the usage of a project or user until this transaction ends."""
    if not _LOCK.run(tx, {"key": owner}):
        sql.insert_missing(tx, quota_locks, [{"owner": owner, "turns": 0}])
        _LOCK.run(tx, {"key": owner})


def limits(tx: Tx, defaults: Limits, project_id: str, user_id: str = "") -> dict[str, int]:
    """Resource → limit: the user's, else the project's, else the default class's, else config's."""
    found = class_limits(tx, defaults)
    rows = _LIMITS.all(tx, {"project": project_id, "users": {"", user_id}})
    found.update({resource: limit for resource, limit in rows if resource in found})
    return found


def class_limits(tx: Tx, defaults: Limits, class_name: str = "default") -> dict[str, int]:
    """Resource → limit of a quota class over the configured defaults."""
    rows = _CLASS_LIMITS.all(tx, {"name": class_name})
    return {**defaults, **{name: limit for name, limit in rows if name in defaults}}


def set_limits(tx: Tx, values: Limits, project_id: str, user_id: str = "") -> None:
    """Set limits of a project or of a user in it."""
    for resource, limit in values.items():
        where = (
            quotas.c.project_id == project_id,
            quotas.c.user_id == user_id,
            quotas.c.resource == resource,
        )
        row = {
            "project_id": project_id,
            "user_id": user_id,
            "resource": resource,
            "hard_limit": limit,
        }
        if not tx.execute(quotas.update().where(*where).values(hard_limit=limit)).rowcount:
            sql.insert_missing(tx, quotas, [row])


def set_class_limits(tx: Tx, values: Limits, class_name: str) -> None:
    """Set limits of a quota class."""
    for resource, limit in values.items():
        where = (quota_classes.c.class_name == class_name, quota_classes.c.resource == resource)
        row = {"class_name": class_name, "resource": resource, "hard_limit": limit}
        if not tx.execute(quota_classes.update().where(*where).values(hard_limit=limit)).rowcount:
            sql.insert_missing(tx, quota_classes, [row])


def reset(tx: Tx, project_id: str, user_id: str | None = None) -> None:
    """Back to the defaults: a project with all its users, or one user."""
    where = [quotas.c.project_id == project_id]
    if user_id is not None:
        where.append(quotas.c.user_id == user_id)
    tx.execute(quotas.delete().where(*where))


def usage(tx: Tx, project_id: str, user_id: str | None = None) -> Usage:
    """Servers, cores and memory in use; servers that are set aside (soft-deleted) use nothing."""
    if user_id is None:
        row = _PROJECT_USAGE.first(tx, {"project": project_id})
    else:
        row = _USER_USAGE.first(tx, {"project": project_id, "user": user_id})
    assert row is not None
    return Usage(*map(int, row))


def key_pairs_used(tx: Tx, user_id: str) -> int:
    """Key pairs a user has."""
    query = sa.select(sa.func.count()).where(key_pairs.c.user_id == user_id)
    return int(tx.execute(query).scalar_one())


def groups_used(tx: Tx, project_id: str, user_id: str | None = None) -> int:
    """Server groups a project (or one user of it) has."""
    query = sa.select(sa.func.count()).where(instance_groups.c.project_id == project_id)
    if user_id is not None:
        query = query.where(instance_groups.c.user_id == user_id)
    return int(tx.execute(query).scalar_one())


def members_used(tx: Tx, group_id: int) -> int:
    """Servers in a group."""
    query = sa.select(sa.func.count()).where(instance_group_members.c.group_id == group_id)
    return int(tx.execute(query).scalar_one())


def own_limits(tx: Tx, project_id: str) -> dict[str, int]:
    """Resource → limit, of those a project has of its own."""
    rows = tx.execute(
        sa.select(quotas.c.resource, quotas.c.hard_limit).where(
            quotas.c.project_id == project_id, quotas.c.user_id == ""
        )
    )
    return {row[0]: row[1] for row in rows}


def users_limits(tx: Tx, project_id: str) -> dict[str, dict[str, int]]:
    """User → resource → limit, of the users of a project that have limits of their own."""
    rows = tx.execute(
        sa.select(quotas.c.user_id, quotas.c.resource, quotas.c.hard_limit).where(
            quotas.c.project_id == project_id, quotas.c.user_id != ""
        )
    )
    found: dict[str, dict[str, int]] = {}
    for user_id, resource, limit in rows:
        found.setdefault(user_id, {})[resource] = limit
    return found


def unplaced(tx: Tx, project_id: str) -> list[str]:
    """The servers of a project that are in no cell yet."""
    m = instance_mappings.c
    query = sa.select(m.server_id).where(_living(project_id), m.cell_id.is_(None))
    return list(tx.execute(query).scalars())


def late(
    tx: Tx,
    project_id: str,
    since: dt.datetime,
    pending: Collection[str],
    *,
    user_id: str | None = None,
) -> Usage:
    """What servers take that are in no cell, made since, or ``pending``."""
    m = instance_mappings.c
    query = sa.select(
        sa.func.count(),
        sa.func.coalesce(sa.func.sum(m.vcpus), 0),
        sa.func.coalesce(sa.func.sum(m.memory_mb), 0),
    ).where(_living(project_id), _late(since, pending))
    if user_id is not None:
        query = query.where(m.user_id == user_id)
    return Usage(*(int(value) for value in tx.execute(query).one()))


def late_flavors(
    tx: Tx, project_id: str, since: dt.datetime, pending: Collection[str]
) -> list[tuple[FlavorSpec, ImageRef | None]]:
    """Flavor and image of each server that ``late`` counts."""
    m = instance_mappings.c
    query = (
        sa.select(build_requests.c.request, request_specs.c.spec)
        .select_from(
            instance_mappings.join(
                request_specs, request_specs.c.server_id == m.server_id
            ).outerjoin(build_requests, build_requests.c.server_id == m.server_id)
        )
        .where(_living(project_id), _late(since, pending))
    )
    found: list[tuple[FlavorSpec, ImageRef | None]] = []
    for request, spec in tx.execute(query):
        if request is not None:
            found.append((request.server.flavor, request.server.local_image))
        elif spec.flavor is not None:
            found.append((spec.flavor, spec.image))
    return found


def _living(project_id: str) -> sa.ColumnElement[bool]:
    m = instance_mappings.c
    return sa.and_(m.project_id == project_id, m.queued_for_delete == sa.false())


def _late(since: dt.datetime, pending: Collection[str]) -> sa.ColumnElement[bool]:
    m = instance_mappings.c
    return sa.or_(m.cell_id.is_(None), m.created_at >= since, m.server_id.in_(list(pending)))


def room(
    checks: Sequence[tuple[Limits, Usage]], *, vcpus: int, memory_mb: int, least: int, most: int
) -> int:
    """How many servers of that size fit into all of these limits, at most ``most``.

    OverQuota, saying which limits are met, when it is less than ``least``.
    """
    allowed = most
    sizes = {"instances": 1, "cores": vcpus, "ram": memory_mb}
    over: dict[str, tuple[int, int]] = {}
    for bounds, used in checks:
        for resource, size in sizes.items():
            limit = bounds[resource]
            if limit == UNLIMITED or not size:
                continue
            fitting = (limit - getattr(used, resource)) // size
            if fitting < most:
                over.setdefault(resource, (getattr(used, resource), limit))
            allowed = min(allowed, max(fitting, 0))
    if allowed < least:
        requested: dict[str, int | str] = {name: size * most for name, size in sizes.items()}
        requested["instances"] = str(least) if least == most else f"{least}-{most}"
        raise exceeded(over, requested)
    return allowed
