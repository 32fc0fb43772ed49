"""Quota limits and what is used of them (API database)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import sqlalchemy as sa

from kilonova.base.errors import Forbidden
from kilonova.db.database import Tx
from kilonova.db.tables.api import (
    instance_group_members,
    instance_groups,
    instance_mappings,
    key_pairs,
    quota_classes,
    quota_locks,
    quotas,
)
from kilonova.store import sql

Limits = Mapping[str, int]
UNLIMITED = -1


class Usage(msgspec.Struct, frozen=True):
    """What a project (or one user of it) has. ram: MiB."""

    instances: int = 0
    cores: int = 0
    ram: int = 0


def lock(tx: Tx, owner: str) -> None:
    """Let nobody else change the usage of a project or user until this transaction ends."""
    taken = tx.execute(
        quota_locks.update()
        .where(quota_locks.c.owner == owner)
        .values(turns=quota_locks.c.turns + 1)
    )
    if not taken.rowcount:
        sql.insert_missing(tx, quota_locks, [{"owner": owner, "turns": 0}])
        tx.execute(
            quota_locks.update()
            .where(quota_locks.c.owner == owner)
            .values(turns=quota_locks.c.turns + 1)
        )


def limits(tx: Tx, defaults: Limits, project_id: str, user_id: str = "") -> dict[str, int]:
    """Resource → limit: the user's, else the project's, else the default class's, else config's."""
    found = class_limits(tx, defaults)
    users = {"", user_id}
    rows = tx.execute(
        sa.select(quotas.c.resource, quotas.c.hard_limit)
        .where(quotas.c.project_id == project_id, quotas.c.user_id.in_(users))
        .order_by(quotas.c.user_id)
    )
    found.update({resource: limit for resource, limit in rows if resource in found})
    return found


def class_limits(tx: Tx, defaults: Limits, class_name: str = "default") -> dict[str, int]:
    """Resource → limit of a quota class over the configured defaults."""
    rows = tx.execute(
        sa.select(quota_classes.c.resource, quota_classes.c.hard_limit).where(
            quota_classes.c.class_name == class_name
        )
    )
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
    """Servers, cores and memory in use."""
    m = instance_mappings.c
    query = sa.select(
        sa.func.count(),
        sa.func.coalesce(sa.func.sum(m.vcpus), 0),
        sa.func.coalesce(sa.func.sum(m.memory_mb), 0),
    ).where(m.project_id == project_id, m.queued_for_delete == sa.false())
    if user_id is not None:
        query = query.where(m.user_id == user_id)
    count, cores, ram = tx.execute(query).one()
    return Usage(int(count), int(cores), int(ram))


def key_pairs_used(tx: Tx, user_id: str) -> int:
    """Key pairs a user has."""
    query = sa.select(sa.func.count()).where(key_pairs.c.user_id == user_id)
    return int(tx.execute(query).scalar_one())


def groups_used(tx: Tx, project_id: str) -> int:
    """Server groups a project has."""
    query = sa.select(sa.func.count()).where(instance_groups.c.project_id == project_id)
    return int(tx.execute(query).scalar_one())


def members_used(tx: Tx, group_id: int) -> int:
    """Servers in a group."""
    query = sa.select(sa.func.count()).where(instance_group_members.c.group_id == group_id)
    return int(tx.execute(query).scalar_one())


def fit(
    tx: Tx,
    defaults: Limits,
    *,
    project_id: str,
    user_id: str,
    vcpus: int,
    memory_mb: int,
    least: int,
    most: int,
) -> int:
    """How many servers of that size may still be made, at most ``most``.

    Takes the project's lock. Forbidden, saying which limits are met, when it is less than
    ``least``.
    """
    lock(tx, project_id)
    return room(
        tx,
        defaults,
        project_id=project_id,
        user_id=user_id,
        vcpus=vcpus,
        memory_mb=memory_mb,
        least=least,
        most=most,
    )


def room(
    tx: Tx,
    defaults: Limits,
    *,
    project_id: str,
    user_id: str,
    vcpus: int,
    memory_mb: int,
    least: int,
    most: int,
) -> int:
    """``fit`` without the lock: what it would say, for who only wants to know."""
    allowed = most
    sizes = {"instances": 1, "cores": vcpus, "ram": memory_mb}
    blocked: dict[str, tuple[int, int]] = {}
    project_limits = limits(tx, defaults, project_id)
    user_limits = limits(tx, defaults, project_id, user_id)
    checks = [(project_limits, usage(tx, project_id))]
    if user_limits != project_limits:
        checks.append((user_limits, usage(tx, project_id, user_id)))
    for bounds, used in checks:
        for resource, size in sizes.items():
            limit = bounds[resource]
            if limit == UNLIMITED or not size:
                continue
            free = (limit - getattr(used, resource)) // size
            if free < most:
                blocked.setdefault(resource, (getattr(used, resource), limit))
            allowed = min(allowed, max(free, 0))
    if allowed < least:
        raise _exceeded(sizes, blocked, least)
    return allowed


def _exceeded(
    sizes: Mapping[str, int], blocked: Mapping[str, tuple[int, int]], count: int
) -> Forbidden:
    over = sorted(blocked)
    names = ", ".join(over)
    wanted = ", ".join(str(sizes[name] * count) for name in over)
    used = ", ".join(str(blocked[name][0]) for name in over)
    limit = ", ".join(str(blocked[name][1]) for name in over)
    return Forbidden(
        f"Quota exceeded for {names}: Requested {wanted}, but already used {used} of "
        f"{limit} {names}"
    )
