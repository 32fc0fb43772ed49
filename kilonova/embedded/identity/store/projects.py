"""Projects, domains and their tags."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec
import sqlalchemy as sa

from kilonova.base.errors import NotFound
from kilonova.db.database import Tx
from kilonova.embedded.identity.records import Project
from kilonova.embedded.identity.store import rows
from kilonova.embedded.identity.tables import (
    APPLICATION_CREDENTIAL,
    APPLICATION_CREDENTIAL_ROLE,
    ASSIGNMENT,
    CREDENTIAL,
    GROUP,
    LIMIT,
    PROJECT,
    PROJECT_TAG,
    ROLE,
    USER,
)

_DEEPEST = 64


def get(tx: Tx, project_id: str) -> Project:
    """A project or domain; NotFound."""
    found = find(tx, project_id)
    if found is None:
        raise NotFound(f"Could not find project: {project_id}.")
    return found


def find(tx: Tx, project_id: str) -> Project | None:
    """The same, None when it is not there."""
    found = rows.find(tx, Project, PROJECT, id=project_id)
    return None if found is None else _tagged(tx, [found])[0]


def get_domain(tx: Tx, domain_id: str) -> Project:
    """A domain; NotFound also for ordinary projects."""
    found = find(tx, domain_id)
    if found is None or not found.is_domain:
        raise NotFound(f"Could not find domain: {domain_id}.")
    return found


def by_name(tx: Tx, name: str, domain_id: str) -> Project | None:
    """The project of that name in a domain; a domain for an empty ``domain_id``."""
    return rows.find(tx, Project, PROJECT, name=name, domain_id=domain_id)


def page(
    tx: Tx,
    filters: Sequence[rows.Where],
    part: rows.Part | None = None,
    *,
    ids: Collection[str] | None = None,
    tags: Mapping[str, Sequence[str]] | None = None,
) -> list[Project]:
    """Projects (not domains unless filtered so), of ``ids`` only if given.

    ``tags``: ``tags`` all of them, ``tags-any`` one, ``not-tags`` not all, ``not-tags-any`` none.
    """
    more: list[sa.ColumnElement[bool]] = [] if ids is None else [PROJECT.c.id.in_(list(ids))]
    for how, names in (tags or {}).items():
        more.append(_tag_clause(how, list(dict.fromkeys(names))))
    found = tx.execute(rows.select(PROJECT, filters, part, more)).all()
    return _tagged(tx, [rows.load(Project, row) for row in found])


def children(tx: Tx, project_id: str) -> list[Project]:
    """The projects directly below."""
    found = tx.execute(
        sa.select(PROJECT).where(PROJECT.c.parent_id == project_id).order_by(PROJECT.c.id)
    )
    return _tagged(tx, [rows.load(Project, row) for row in found])


def subtree(tx: Tx, project_id: str) -> list[Project]:
    """All projects below, parents before their children."""
    result: list[Project] = []
    level = [project_id]
    while level and len(result) < 100_000:
        found = tx.execute(
            sa.select(PROJECT).where(PROJECT.c.parent_id.in_(level)).order_by(PROJECT.c.id)
        )
        below = [rows.load(Project, row) for row in found]
        result += below
        level = [project.id for project in below]
    return _tagged(tx, result)


def parents(tx: Tx, project: Project) -> list[Project]:
    """The projects above, nearest first; the last one is the domain."""
    result: list[Project] = []
    while project.parent_id is not None and len(result) < _DEEPEST:
        above = find(tx, project.parent_id)
        if above is None:
            break
        result.append(above)
        project = above
    return result


def create(tx: Tx, project: Project) -> None:
    """Write a new project; Conflict."""
    rows.insert(tx, PROJECT, project, what="project in the domain")
    set_tags(tx, project.id, project.tags)


def update(tx: Tx, project: Project) -> None:
    """Write a changed project with its tags; Conflict."""
    rows.replace(tx, PROJECT, project, what="project in the domain")
    set_tags(tx, project.id, project.tags)


def set_tags(tx: Tx, project_id: str, tags: Iterable[str]) -> None:
    """Make ``tags`` the tags of the project."""
    rows.remove(tx, PROJECT_TAG, project_id=project_id)
    values = [{"project_id": project_id, "name": name} for name in sorted(set(tags))]
    if values:
        tx.execute(PROJECT_TAG.insert(), values)


def delete(tx: Tx, project_id: str) -> None:
    """Remove a project and what hangs on it: assignments, tags, application credentials."""
    mine = sa.select(APPLICATION_CREDENTIAL.c.id).where(
        APPLICATION_CREDENTIAL.c.project_id == project_id
    )
    tx.execute(
        APPLICATION_CREDENTIAL_ROLE.delete().where(
            APPLICATION_CREDENTIAL_ROLE.c.credential_id.in_(mine)
        )
    )
    rows.remove(tx, APPLICATION_CREDENTIAL, project_id=project_id)
    rows.remove(tx, CREDENTIAL, project_id=project_id)
    tx.execute(
        ASSIGNMENT.delete().where(
            ASSIGNMENT.c.target_kind.in_(["project", "domain"]),
            ASSIGNMENT.c.target_id == project_id,
        )
    )
    rows.remove(tx, PROJECT_TAG, project_id=project_id)
    rows.remove(tx, LIMIT, project_id=project_id)
    rows.remove(tx, LIMIT, domain_id=project_id)
    tx.execute(
        USER.update().where(USER.c.default_project_id == project_id).values(default_project_id=None)
    )
    rows.remove(tx, PROJECT, id=project_id)


def inside(tx: Tx, domain_id: str) -> dict[str, list[str]]:
    """The ids of everything in a domain: ``projects``, ``users``, ``groups``, ``roles``."""
    tables = {"projects": PROJECT, "users": USER, "groups": GROUP, "roles": ROLE}
    return {
        name: list(
            tx.execute(sa.select(table.c.id).where(table.c.domain_id == domain_id)).scalars()
        )
        for name, table in tables.items()
    }


def _tag_clause(how: str, names: list[str]) -> sa.ColumnElement[bool]:
    having = sa.select(PROJECT_TAG.c.project_id).where(PROJECT_TAG.c.name.in_(names))
    if how in ("tags", "not-tags"):
        having = having.group_by(PROJECT_TAG.c.project_id).having(sa.func.count() == len(names))
    column = PROJECT.c.id
    return column.not_in(having) if how.startswith("not-") else column.in_(having)


def _tagged(tx: Tx, found: list[Project]) -> list[Project]:
    if not found:
        return found
    tags: dict[str, list[str]] = {}
    query = sa.select(PROJECT_TAG).order_by(PROJECT_TAG.c.name)
    if len(found) <= 500:
        query = query.where(PROJECT_TAG.c.project_id.in_([project.id for project in found]))
    for row in tx.execute(query):
        tags.setdefault(row.project_id, []).append(row.name)
    if not tags:
        return found
    return [
        msgspec.structs.replace(project, tags=tuple(tags.get(project.id, ()))) for project in found
    ]
