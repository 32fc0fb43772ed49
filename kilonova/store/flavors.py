"""Flavors, their extra specs and who may use them (API database)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from kilonova.base.errors import Conflict, NotFound
from kilonova.db.database import Tx
from kilonova.db.prepared import Prepared
from kilonova.db.tables.api import flavor_projects, flavors
from kilonova.domain.guest import FlavorSpec
from kilonova.store import sql
from kilonova.store.noting import note, notes

_NAMES = list(FlavorSpec.__struct_fields__)
_COLUMNS = [flavors.c[name] for name in _NAMES]
SORT_KEYS = {
    "flavorid": flavors.c.flavorid,
    "name": flavors.c.name,
    "memory_mb": flavors.c.memory_mb,
    "root_gb": flavors.c.root_gb,
    "vcpus": flavors.c.vcpus,
    "id": flavors.c.id,
    "swap": flavors.c.swap_mb,
    "ephemeral_gb": flavors.c.ephemeral_gb,
    "is_public": flavors.c.is_public,
    "disabled": flavors.c.disabled,
    "rxtx_factor": flavors.c.rxtx_factor,
    "created_at": flavors.c.created_at,
    "updated_at": flavors.c.updated_at,
    "description": flavors.c.description,
}


def missing(flavorid: str) -> NotFound:
    """The error of a flavor that is not there."""
    return NotFound(f"Flavor {flavorid} could not be found.")


def _allowed(project_id: Any) -> sa.ColumnElement[bool]:
    mine = sa.select(flavor_projects.c.flavor_id).where(flavor_projects.c.project_id == project_id)
    return sa.or_(flavors.c.is_public == sa.true(), flavors.c.id.in_(mine))


_ANY = sa.select(*_COLUMNS).where(flavors.c.flavorid == sa.bindparam("flavor"))
_GET_ANY = Prepared(_ANY)
_GET = Prepared(_ANY.where(_allowed(sa.bindparam("project"))))


def get(
    tx: Tx, flavorid: str, *, project_id: str | None = None, everybody: bool = False
) -> FlavorSpec | None:
    """A flavor the project may use; any with ``everybody``."""
    if everybody:
        row = _GET_ANY.first(tx, {"flavor": flavorid})
    else:
        row = _GET.first(tx, {"flavor": flavorid, "project": project_id})
    return FlavorSpec(*row) if row else None


def page(
    tx: Tx,
    *,
    project_id: str | None,
    is_public: bool | None = True,
    admin: bool = False,
    min_ram: int = 0,
    min_disk: int = 0,
    name: str | None = None,
    order: Sequence[tuple[str, bool]] = (("flavorid", False), ("id", False)),
    limit: int = 1000,
    marker: str | None = None,
) -> list[FlavorSpec] | None:
    """Flavors in order (key, descending); None for a marker that is not there.

    ``is_public`` True shows public ones and, for who is no admin, those of the project too; False
    only private ones; None all.
    """
    query = sa.select(*_COLUMNS).where(
        flavors.c.memory_mb >= min_ram, flavors.c.root_gb >= min_disk
    )
    if is_public is not None:
        public = flavors.c.is_public == (sa.true() if is_public else sa.false())
        if is_public and not admin:
            public = _allowed(project_id)
        query = query.where(public)
    if name is not None:
        query = query.where(flavors.c.name.regexp_match(name))
    keys = [(SORT_KEYS[key], descending) for key, descending in order]
    if marker is not None:
        row = tx.execute(
            sa.select(*(key for key, _ in keys)).where(flavors.c.flavorid == marker)
        ).first()
        if row is None:
            return None
        ways = []
        for index, (key, descending) in enumerate(keys):
            same = [k == v for (k, _), v in zip(keys[:index], row[:index], strict=True)]
            ways.append(sa.and_(*same, key < row[index] if descending else key > row[index]))
        query = query.where(sa.or_(*ways))
    query = query.order_by(*(key.desc() if down else key.asc() for key, down in keys))
    return [FlavorSpec(*row) for row in tx.execute(query.limit(limit))]


def create(tx: Tx, flavor: FlavorSpec, *, now: dt.datetime) -> FlavorSpec:
    """Add a flavor (its ``id`` is chosen here); Conflict when name or flavorid is taken."""
    for column, value in ((flavors.c.flavorid, flavor.flavorid), (flavors.c.name, flavor.name)):
        if tx.execute(sa.select(flavors.c.id).where(column == value)).first():
            what = "ID" if column is flavors.c.flavorid else "name"
            raise Conflict(f"Flavor with {what} {value} already exists.")
    values = {name: getattr(flavor, name) for name in _NAMES if name != "id"}
    result = tx.execute(flavors.insert().values(**values, created_at=now))
    made = msgspec.structs.replace(flavor, id=sql.inserted_id(result))
    note(tx, "flavor.create", made, projects=())
    return made


def update(tx: Tx, /, flavorid: str, *, now: dt.datetime, **values: Any) -> None:
    """Change columns of a flavor."""
    changed = tx.execute(
        flavors.update().where(flavors.c.flavorid == flavorid).values(updated_at=now, **values)
    )
    if not changed.rowcount:
        raise missing(flavorid)
    _changed(tx, flavors.c.flavorid == flavorid)


def _changed(tx: Tx, which: sa.ColumnElement[bool]) -> None:
    """Tell of a flavor as it is now, if anybody wants to know."""
    if notes(tx) is None:
        return
    row = tx.execute(sa.select(*_COLUMNS).where(which)).first()
    if row is not None:
        flavor = FlavorSpec(*row)
        note(tx, "flavor.update", flavor, projects=tuple(projects(tx, flavor.id)))


def describe(tx: Tx, flavorid: str, text: str | None, *, now: dt.datetime) -> None:
    """Change the description."""
    update(tx, flavorid, now=now, description=text)


def delete(tx: Tx, flavorid: str) -> None:
    """Remove a flavor; servers keep their copy."""
    flavor = get(tx, flavorid, everybody=True)
    if flavor is None:
        raise missing(flavorid)
    note(tx, "flavor.delete", flavor)
    tx.execute(flavor_projects.delete().where(flavor_projects.c.flavor_id == flavor.id))
    tx.execute(flavors.delete().where(flavors.c.id == flavor.id))


def change_extra_specs(
    tx: Tx,
    flavorid: str,
    *,
    now: dt.datetime,
    put: Mapping[str, str] = {},
    remove: Sequence[str] = (),
) -> dict[str, str]:
    """Add and remove extra specs; NotFound when flavor or a removed key is not there."""
    query = sa.select(flavors.c.extra_specs).where(flavors.c.flavorid == flavorid)
    found = tx.execute(query.with_for_update()).scalar()
    if found is None:
        raise missing(flavorid)
    for key in remove:
        if key not in found:
            raise NotFound(f"Flavor {flavorid} has no extra specs with key {key}.")
    changed = {key: value for key, value in {**found, **put}.items() if key not in remove}
    update(tx, flavorid, now=now, extra_specs=changed)
    return changed


def projects(tx: Tx, flavor_id: int) -> list[str]:
    """Who may use a private flavor."""
    query = (
        sa.select(flavor_projects.c.project_id)
        .where(flavor_projects.c.flavor_id == flavor_id)
        .order_by(flavor_projects.c.project_id)
    )
    return list(tx.execute(query).scalars())


def add_project(tx: Tx, flavor_id: int, project_id: str) -> None:
    """Let a project use a flavor; Conflict when it may already."""
    if project_id in projects(tx, flavor_id):
        raise Conflict(f"Flavor access already exists for flavor and project {project_id}.")
    tx.execute(flavor_projects.insert().values(flavor_id=flavor_id, project_id=project_id))
    _changed(tx, flavors.c.id == flavor_id)


def remove_project(tx: Tx, flavor_id: int, project_id: str) -> None:
    """The opposite; NotFound when it may not."""
    where = (flavor_projects.c.flavor_id == flavor_id, flavor_projects.c.project_id == project_id)
    if not tx.execute(flavor_projects.delete().where(*where)).rowcount:
        raise NotFound(f"Flavor access not found for project {project_id}.")
    _changed(tx, flavors.c.id == flavor_id)
