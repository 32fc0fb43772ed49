"""``GET /v3/role_assignments``: who has which role where, as written or as it works out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from kilonova.base.errors import BadRequest
from kilonova.db.database import Tx
from kilonova.embedded.identity import listing
from kilonova.embedded.identity.app import Identity
from kilonova.embedded.identity.records import Assignment
from kilonova.embedded.identity.store import projects, roles, users
from kilonova.web.call import Call
from kilonova.web.routes import Routes

routes: Routes[Identity] = Routes(tag="role assignments")


class Wanted(msgspec.Struct, frozen=True):
    """What the query string asks for."""

    user_id: str | None
    group_id: str | None
    role_id: str | None
    project_id: str | None
    domain_id: str | None
    system: bool
    inherited: bool
    effective: bool
    names: bool
    subtree: bool


class Found(msgspec.Struct, frozen=True):
    """An assignment to show; ``via``: the written one an effective one comes from."""

    item: Assignment
    via: Assignment
    prior_role_id: str | None = None


class Names(msgspec.Struct, frozen=True):
    """Name and domain of everything that may be shown, by id."""

    roles: dict[str, tuple[str, str]]
    users: dict[str, tuple[str, str]]
    groups: dict[str, tuple[str, str]]
    projects: dict[str, tuple[str, str]]


@routes.get("/role_assignments", head=True)
async def index(call: Call[Identity]) -> dict[str, Any]:
    """Role assignments; ``effective`` resolves groups, inheritance and implied roles."""
    query = call.query
    domain_id = query.get("scope.domain.id")
    call.enforce("identity:list_role_assignments", {"domain_id": domain_id or ""})
    wanted = Wanted(
        user_id=query.get("user.id"),
        group_id=query.get("group.id"),
        role_id=query.get("role.id"),
        project_id=query.get("scope.project.id"),
        domain_id=domain_id,
        system=query.get("scope.system") is not None,
        inherited=query.get("scope.OS-INHERIT:inherited_to") is not None,
        effective=_flag(call, "effective"),
        names=_flag(call, "include_names"),
        subtree=_flag(call, "include_subtree"),
    )
    _check(wanted)
    found, names = await call.app.db.read(_find, wanted)
    links = {"next": None, "self": listing.self_link(call), "previous": None}
    shown = [_view(call, one, names) for one in found]
    return {"role_assignments": shown, "links": links}


def _flag(call: Call[Identity], name: str) -> bool:
    value = call.query.get(name)
    return value is not None and value.strip().lower() not in ("0", "false", "no")


def _check(wanted: Wanted) -> None:
    scopes = (wanted.project_id, wanted.domain_id, wanted.system or None)
    if sum(scope is not None for scope in scopes) > 1:
        raise BadRequest("Filter by one scope only: project, domain or system.")
    if wanted.user_id is not None and wanted.group_id is not None:
        raise BadRequest("Filter by user.id or by group.id, not by both.")
    if wanted.effective and wanted.group_id is not None:
        raise BadRequest("Effective assignments are those of users: filter by user.id.")
    if wanted.subtree and wanted.project_id is None:
        raise BadRequest("include_subtree needs scope.project.id.")


def _find(tx: Tx, wanted: Wanted) -> tuple[list[Found], Names | None]:
    targets = None
    if wanted.project_id is not None:
        below = projects.subtree(tx, wanted.project_id) if wanted.subtree else []
        targets = {wanted.project_id, *(project.id for project in below)}
    elif wanted.domain_id is not None:
        targets = {wanted.domain_id}
    found = list(_effective(tx) if wanted.effective else _written(tx))
    found = [one for one in found if _fits(one, wanted, targets)]
    return found, _names(tx) if wanted.names else None


def _written(tx: Tx) -> Iterator[Found]:
    for item in roles.assignments(tx):
        yield Found(item, item)


def _effective(tx: Tx) -> Iterator[Found]:
    implied = roles.implications(tx)
    # Roles of a domain never reach a token: only what they imply does.
    hidden = {role.id for role in roles.page(tx, ()) if role.domain_id}
    seen: set[tuple[Assignment, Assignment]] = set()
    for written in roles.assignments(tx):
        for placed in _placed(tx, written):
            for held in _held(tx, placed):
                for role_id in roles.expand([held.role_id], implied):
                    if role_id in hidden:
                        continue
                    item = msgspec.structs.replace(held, role_id=role_id)
                    prior = written.role_id if role_id != written.role_id else None
                    if (item, written) not in seen:
                        seen.add((item, written))
                        yield Found(item, written, prior)


def _placed(tx: Tx, item: Assignment) -> Iterable[Assignment]:
    if not item.inherited:
        return [item]
    return [
        msgspec.structs.replace(item, target_kind="project", target_id=project.id, inherited=False)
        for project in projects.subtree(tx, item.target_id)
    ]


def _held(tx: Tx, item: Assignment) -> Iterable[Assignment]:
    if item.actor_kind == "user":
        return [item]
    return [
        msgspec.structs.replace(item, actor_kind="user", actor_id=user_id)
        for user_id in users.member_ids(tx, item.actor_id)
    ]


def _fits(one: Found, wanted: Wanted, targets: set[str] | None) -> bool:
    item = one.item
    kind = None
    if wanted.project_id is not None:
        kind = "project"
    elif wanted.domain_id is not None:
        kind = "domain"
    elif wanted.system:
        kind = "system"
    return (
        (wanted.user_id is None or (item.actor_kind, item.actor_id) == ("user", wanted.user_id))
        and (
            wanted.group_id is None
            or (item.actor_kind, item.actor_id) == ("group", wanted.group_id)
        )
        and (wanted.role_id is None or item.role_id == wanted.role_id)
        and (kind is None or item.target_kind == kind)
        and (targets is None or item.target_id in targets)
        and (not wanted.inherited or one.via.inherited)
    )


def _names(tx: Tx) -> Names:
    return Names(
        {role.id: (role.name, role.domain_id) for role in roles.page(tx, ())},
        {user.id: (user.name, user.domain_id) for user in users.page(tx, ())},
        {group.id: (group.name, group.domain_id) for group in users.group_page(tx, ())},
        {project.id: (project.name, project.domain_id) for project in projects.page(tx, ())},
    )


def _view(call: Call[Identity], one: Found, names: Names | None) -> dict[str, Any]:
    item, via = one.item, one.via
    actor_names = None if names is None else getattr(names, f"{item.actor_kind}s")
    shown: dict[str, Any] = {
        "role": _thing(item.role_id, None if names is None else names.roles, names),
        item.actor_kind: _thing(item.actor_id, actor_names, names),
    }
    if item.target_kind == "system":
        shown["scope"] = {"system": {"all": True}}
    else:
        target = _thing(item.target_id, None if names is None else names.projects, names)
        shown["scope"] = {item.target_kind: target}
        if via.inherited:
            shown["scope"]["OS-INHERIT:inherited_to"] = "projects"
    links = {"assignment": _link(call, via)}
    if via.actor_kind == "group" and item.actor_kind == "user":
        links["membership"] = call.link("groups", via.actor_id, "users", item.actor_id)
    if one.prior_role_id is not None:
        links["prior_role"] = call.link("prior_roles", one.prior_role_id, "implies", item.role_id)
    return {**shown, "links": links}


def _thing(
    key: str, table: dict[str, tuple[str, str]] | None, names: Names | None
) -> dict[str, Any]:
    if table is None or names is None or key not in table:
        return {"id": key}
    name, domain_id = table[key]
    shown: dict[str, Any] = {"id": key, "name": name}
    if domain_id:
        domain_name = names.projects.get(domain_id, ("", ""))[0]
        shown["domain"] = {"id": domain_id, "name": domain_name}
    return shown


def _link(call: Call[Identity], item: Assignment) -> str:
    actor = (f"{item.actor_kind}s", item.actor_id, "roles", item.role_id)
    if item.target_kind == "system":
        return call.link("system", *actor)
    place = (f"{item.target_kind}s", item.target_id, *actor)
    if item.inherited:
        return call.link("OS-INHERIT", *place, "inherited_to_projects")
    return call.link(*place)
