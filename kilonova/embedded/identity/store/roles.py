"""Roles, which imply which, and who has them where."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import sqlalchemy as sa

from kilonova.base.errors import NotFound
from kilonova.db.database import Tx
from kilonova.embedded.identity.records import EVERYWHERE, Assignment, Project, Role
from kilonova.embedded.identity.store import projects, rows, users
from kilonova.embedded.identity.tables import (
    APPLICATION_CREDENTIAL_ROLE,
    ASSIGNMENT,
    IMPLIED,
    ROLE,
)

_COLUMNS = tuple(column.name for column in ASSIGNMENT.columns)


def get(tx: Tx, role_id: str) -> Role:
    """A role; NotFound."""
    found = rows.find(tx, Role, ROLE, id=role_id)
    if found is None:
        raise NotFound(f"Could not find role: {role_id}.")
    return found


def by_name(tx: Tx, name: str, domain_id: str = "") -> Role | None:
    """The role of that name."""
    return rows.find(tx, Role, ROLE, name=name, domain_id=domain_id)


def page(
    tx: Tx,
    filters: Sequence[rows.Where],
    part: rows.Part | None = None,
    *,
    ids: Collection[str] | None = None,
) -> list[Role]:
    """Roles, of ``ids`` only if given."""
    more = [] if ids is None else [ROLE.c.id.in_(list(ids))]
    return [rows.load(Role, row) for row in tx.execute(rows.select(ROLE, filters, part, more))]


def create(tx: Tx, role: Role) -> None:
    """Write a new role; Conflict."""
    rows.insert(tx, ROLE, role, what="role")


def update(tx: Tx, role: Role) -> None:
    """Write a changed role; Conflict."""
    rows.replace(tx, ROLE, role, what="role")


def delete(tx: Tx, role_id: str) -> None:
    """Remove a role, and from everybody who has it; NotFound."""
    if not rows.remove(tx, ROLE, id=role_id):
        raise NotFound(f"Could not find role: {role_id}.")
    rows.remove(tx, ASSIGNMENT, role_id=role_id)
    rows.remove(tx, APPLICATION_CREDENTIAL_ROLE, role_id=role_id)
    rows.remove(tx, IMPLIED, prior_id=role_id)
    rows.remove(tx, IMPLIED, implied_id=role_id)


def implications(tx: Tx) -> dict[str, list[str]]:
    """Prior role id → the ids it implies directly."""
    result: dict[str, list[str]] = {}
    query = sa.select(IMPLIED).order_by(IMPLIED.c.prior_id, IMPLIED.c.implied_id)
    for row in tx.execute(query):
        result.setdefault(row.prior_id, []).append(row.implied_id)
    return result


def imply(tx: Tx, prior_id: str, implied_id: str) -> None:
    """Let a role imply another one; nothing happens when it does."""
    if implied_id not in implications(tx).get(prior_id, ()):
        tx.execute(IMPLIED.insert().values(prior_id=prior_id, implied_id=implied_id))


def stop_implying(tx: Tx, prior_id: str, implied_id: str) -> None:
    """Undo `imply`; NotFound."""
    if not rows.remove(tx, IMPLIED, prior_id=prior_id, implied_id=implied_id):
        raise NotFound(f"Role {prior_id} does not imply role {implied_id}.")


def expand(role_ids: Iterable[str], implied: Mapping[str, Sequence[str]]) -> list[str]:
    """The roles and everything they imply, each once, given ones first."""
    result = list(dict.fromkeys(role_ids))
    for role_id in result:
        result.extend(other for other in implied.get(role_id, ()) if other not in result)
    return result


def has(tx: Tx, item: Assignment) -> bool:
    """Whether exactly this assignment is there."""
    return tx.execute(sa.select(ASSIGNMENT).where(*_same(item))).first() is not None


def grant(tx: Tx, item: Assignment) -> None:
    """Write an assignment; nothing happens when it is there."""
    if not has(tx, item):
        tx.execute(ASSIGNMENT.insert().values(**rows.fields(item, ASSIGNMENT)))


def take(tx: Tx, item: Assignment) -> None:
    """Remove an assignment; NotFound."""
    if tx.execute(ASSIGNMENT.delete().where(*_same(item))).rowcount == 0:
        raise NotFound("There is no such role assignment.")


def assignments(tx: Tx, **equal: object) -> list[Assignment]:
    """Assignments as they were written, by column values (a list means one of them)."""
    query = sa.select(ASSIGNMENT)
    for name, value in equal.items():
        column = ASSIGNMENT.c[name]
        query = query.where(column.in_(value) if isinstance(value, list) else column == value)
    return sorted(rows.load(Assignment, row) for row in tx.execute(query))


def of_user(tx: Tx, user_id: str) -> list[Assignment]:
    """Everything a user has, also by groups."""
    own = sa.and_(ASSIGNMENT.c.actor_kind == "user", ASSIGNMENT.c.actor_id == user_id)
    groups = users.group_ids(tx, user_id)
    if groups:
        own = sa.or_(
            own,
            sa.and_(ASSIGNMENT.c.actor_kind == "group", ASSIGNMENT.c.actor_id.in_(groups)),
        )
    found = tx.execute(sa.select(ASSIGNMENT).where(own))
    return sorted(rows.load(Assignment, row) for row in found)


def on_project(tx: Tx, user_id: str, project: Project) -> list[str]:
    """The role ids a user has on a project: own, of groups, inherited, implied."""
    targets = [("project", project.id, False)]
    for above in projects.parents(tx, project):
        targets.append(("domain" if above.is_domain else "project", above.id, True))
    return _effective(tx, user_id, targets)


def on_domain(tx: Tx, user_id: str, domain_id: str) -> list[str]:
    """The role ids a user has on a domain."""
    return _effective(tx, user_id, [("domain", domain_id, False)])


def on_system(tx: Tx, user_id: str) -> list[str]:
    """The role ids a user has on the system."""
    return _effective(tx, user_id, [("system", EVERYWHERE, False)])


def project_ids(tx: Tx, user_id: str) -> list[str]:
    """The ids of all projects on which a user has a role."""
    result: list[str] = []
    for item in of_user(tx, user_id):
        if item.target_kind == "project" and not item.inherited:
            result.append(item.target_id)
        elif item.target_kind != "system" and item.inherited:
            result.extend(project.id for project in projects.subtree(tx, item.target_id))
    return list(dict.fromkeys(result))


def domain_ids(tx: Tx, user_id: str) -> list[str]:
    """The ids of all domains on which a user has a role."""
    mine = of_user(tx, user_id)
    found = [a.target_id for a in mine if a.target_kind == "domain" and not a.inherited]
    return list(dict.fromkeys(found))


def _effective(tx: Tx, user_id: str, targets: list[tuple[str, str, bool]]) -> list[str]:
    wanted = set(targets)
    mine = [
        item.role_id
        for item in of_user(tx, user_id)
        if (item.target_kind, item.target_id, item.inherited) in wanted
    ]
    return expand(mine, implications(tx)) if mine else []


def _same(item: Assignment) -> list[sa.ColumnElement[bool]]:
    return [ASSIGNMENT.c[name] == getattr(item, name) for name in _COLUMNS]
