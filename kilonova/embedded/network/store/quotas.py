"""Limits of a project and the lock that makes its quota checks take turns."""

from __future__ import annotations

import sqlalchemy as sa

from kilonova.base.errors import Conflict
from kilonova.db.database import Tx
from kilonova.db.prepared import Prepared
from kilonova.embedded.network import kinds
from kilonova.embedded.network.attrs import Kind
from kilonova.embedded.network.store import rows
from kilonova.embedded.network.tables import PROJECT_LOCKS, QUOTAS

DEFAULTS = {
    "network": 100,
    "subnet": 100,
    "port": 500,
    "router": 10,
    "floatingip": 50,
    "security_group": 10,
    "security_group_rule": 100,
    "subnetpool": -1,
    "rbac_policy": 10,
}
COUNTED = {kind.name: kind for kind in kinds.KINDS}

_LIMITS = Prepared(
    sa.select(QUOTAS.c.resource, QUOTAS.c["limit"]).where(
        QUOTAS.c.project_id == sa.bindparam("project")
    )
)
_LOCK = Prepared(
    PROJECT_LOCKS.update()
    .where(PROJECT_LOCKS.c.project_id == sa.bindparam("project"))
    .values(count=PROJECT_LOCKS.c.count + 1)
)


def limits(tx: Tx, project_id: str, defaults: dict[str, int]) -> dict[str, int]:
    """The limits of a project; -1 means none."""
    return defaults | dict(_LIMITS.all(tx, {"project": project_id}))


def set_limits(tx: Tx, project_id: str, changes: dict[str, int]) -> None:
    """Write some limits of a project."""
    for resource, limit in changes.items():
        where = sa.and_(QUOTAS.c.project_id == project_id, QUOTAS.c.resource == resource)
        tx.execute(QUOTAS.delete().where(where))
        tx.execute(QUOTAS.insert().values(project_id=project_id, resource=resource, limit=limit))


def reset(tx: Tx, project_id: str) -> None:
    """Back to the defaults."""
    tx.execute(QUOTAS.delete().where(QUOTAS.c.project_id == project_id))


def projects(tx: Tx) -> list[str]:
    """The projects with limits of their own."""
    return list(tx.execute(sa.select(QUOTAS.c.project_id).distinct()).scalars())


def usage(tx: Tx, project_id: str, kind: Kind) -> int:
    """How many of a resource a project has."""
    return rows.count(tx, kind, project_id)


def check(tx: Tx, project_id: str, kind: Kind, more: int, defaults: dict[str, int]) -> None:
    """Hold the project's lock and make sure ``more`` still fit; Conflict (OverQuota) if not."""
    if not project_id:
        return
    lock(tx, project_id)
    limit = limits(tx, project_id, defaults).get(kind.name, -1)
    if limit >= 0 and usage(tx, project_id, kind) + more > limit:
        raise Conflict(f"Quota exceeded for resources: ['{kind.name}'].", code="OverQuota")


def lock(tx: Tx, project_id: str) -> None:
    """Make other writers of this project wait until the transaction ends."""
    if _LOCK.run(tx, {"project": project_id}):
        return
    try:
        with tx.begin_nested():
            tx.execute(PROJECT_LOCKS.insert().values(project_id=project_id, count=1))
    except sa.exc.IntegrityError:
        _LOCK.run(tx, {"project": project_id})
