"""Unified limits: registered defaults and what projects and domains have instead."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from kilonova.base.errors import Conflict, Forbidden, NotFound
from kilonova.db.database import Tx
from kilonova.embedded.identity.records import Limit, RegisteredLimit
from kilonova.embedded.identity.store import rows
from kilonova.embedded.identity.tables import LIMIT, REGISTERED_LIMIT

_WHAT = "registered limit"


def get_registered(tx: Tx, limit_id: str) -> RegisteredLimit:
    """A registered limit; NotFound."""
    found = rows.find(tx, RegisteredLimit, REGISTERED_LIMIT, id=limit_id)
    if found is None:
        raise NotFound(f"Could not find registered limit: {limit_id}.")
    return found


def find_registered(
    tx: Tx, service_id: str, region_id: str, resource_name: str
) -> RegisteredLimit | None:
    """The registered limit of a resource."""
    return rows.find(
        tx,
        RegisteredLimit,
        REGISTERED_LIMIT,
        service_id=service_id,
        region_id=region_id,
        resource_name=resource_name,
    )


def registered_page(
    tx: Tx, filters: Sequence[rows.Where], part: rows.Part | None = None
) -> list[RegisteredLimit]:
    """Registered limits by filters."""
    found = tx.execute(rows.select(REGISTERED_LIMIT, filters, part))
    return [rows.load(RegisteredLimit, row) for row in found]


def save_registered(tx: Tx, item: RegisteredLimit, *, new: bool) -> None:
    """Write a registered limit; Conflict when the resource has another one."""
    other = find_registered(tx, item.service_id, item.region_id, item.resource_name)
    if other is not None and other.id != item.id:
        raise Conflict(f"The resource {item.resource_name} has a registered limit already.")
    if new:
        rows.insert(tx, REGISTERED_LIMIT, item, what=_WHAT)
    else:
        rows.replace(tx, REGISTERED_LIMIT, item, what=_WHAT)


def delete_registered(tx: Tx, limit_id: str) -> None:
    """Remove a registered limit that nothing refers to; NotFound, Forbidden."""
    get_registered(tx, limit_id)
    used = sa.select(LIMIT.c.id).where(LIMIT.c.registered_id == limit_id)
    if tx.execute(used).first() is not None:
        raise Forbidden("Remove the limits of projects and domains first.")
    rows.remove(tx, REGISTERED_LIMIT, id=limit_id)


def get(tx: Tx, limit_id: str) -> tuple[Limit, RegisteredLimit]:
    """A limit and the registered one it replaces; NotFound."""
    found = rows.find(tx, Limit, LIMIT, id=limit_id)
    if found is None:
        raise NotFound(f"Could not find limit: {limit_id}.")
    return found, get_registered(tx, found.registered_id)


def page(
    tx: Tx,
    own: Sequence[rows.Where],
    registered: Sequence[rows.Where],
    part: rows.Part | None = None,
) -> list[tuple[Limit, RegisteredLimit]]:
    """Limits by filters on themselves and on what they replace."""
    known = {item.id: item for item in registered_page(tx, registered)}
    within = [LIMIT.c.registered_id.in_(list(known))]
    found = tx.execute(rows.select(LIMIT, own, part, within))
    return [(item, known[item.registered_id]) for item in (rows.load(Limit, r) for r in found)]


def create(tx: Tx, item: Limit) -> None:
    """Write a new limit; Conflict when the project or domain has one for the resource."""
    same = rows.find(
        tx,
        Limit,
        LIMIT,
        registered_id=item.registered_id,
        project_id=item.project_id,
        domain_id=item.domain_id,
    )
    if same is not None:
        raise Conflict("There is a limit for this resource already.")
    rows.insert(tx, LIMIT, item, what="limit")


def update(tx: Tx, item: Limit) -> None:
    """Write a changed limit."""
    rows.replace(tx, LIMIT, item, what="limit")


def delete(tx: Tx, limit_id: str) -> None:
    """Remove a limit; NotFound."""
    if not rows.remove(tx, LIMIT, id=limit_id):
        raise NotFound(f"Could not find limit: {limit_id}.")
