"""Domains."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.errors import BadRequest, Forbidden
from kilonova.db.database import Tx
from kilonova.embedded.identity import listing, schemas, views
from kilonova.embedded.identity.app import Identity
from kilonova.embedded.identity.records import DEFAULT_DOMAIN, Project
from kilonova.embedded.identity.store import projects, roles, rows, users
from kilonova.embedded.identity.tables import PROJECT
from kilonova.web.call import Call
from kilonova.web.routes import Routes

routes: Routes[Identity] = Routes(prefix="/domains", tag="domains")

KNOWN = ("name", "description", "enabled", "tags", "options", "explicit_domain_id")


@routes.get("", head=True, policy="identity:list_domains")
async def index(call: Call[Identity]) -> dict[str, Any]:
    """Domains, filtered by ``name`` and ``enabled``."""
    part = listing.part(call)
    where = [*listing.filters(call, PROJECT, ("name", "enabled")), rows.Where("is_domain", True)]
    found = await call.app.db.read(projects.page, where, part)
    return listing.answer(call, "domains", found, views.domain, part.limit)


@routes.post("", status=201, body=schemas.DOMAIN, policy="identity:create_domain")
async def create(call: Call[Identity]) -> dict[str, Any]:
    """A new domain."""
    given, extra = rows.pick(call.body["domain"], KNOWN)
    _own_words_only(extra)
    domain = Project(
        id=given.get("explicit_domain_id") or call.ids.hex(),
        name=given["name"].strip(),
        domain_id="",
        parent_id=None,
        description=given.get("description") or "",
        enabled=given.get("enabled", True),
        is_domain=True,
        options=given.get("options", {}),
        extra=extra,
        valid_from=0,
        tags=tuple(given.get("tags", ())),
    )
    await call.app.change(projects.create, domain)
    return {"domain": views.domain(domain, call.link)}


@routes.get("/{domain_id}", head=True)
async def show(call: Call[Identity], domain_id: str) -> dict[str, Any]:
    """One domain."""
    call.enforce("identity:get_domain", {"domain_id": domain_id})
    domain = await call.app.db.read(projects.get_domain, domain_id)
    return {"domain": views.domain(domain, call.link)}


@routes.patch("/{domain_id}", body=schemas.DOMAIN_CHANGE, policy="identity:update_domain")
async def update(call: Call[Identity], domain_id: str) -> dict[str, Any]:
    """Change a domain; disabling it ends the tokens of its users and projects."""
    given, extra = rows.pick(call.body["domain"], KNOWN)
    _own_words_only(extra, domain_id)
    now = call.app.now()

    def work(tx: Tx) -> Project:
        domain = changed(projects.get_domain(tx, domain_id), given, extra, now)
        projects.update(tx, domain)
        return domain

    return {"domain": views.domain(await call.app.change(work), call.link)}


@routes.delete("/{domain_id}", status=204, policy="identity:delete_domain")
async def delete(call: Call[Identity], domain_id: str) -> None:
    """Remove a disabled domain with everything in it."""

    await call.app.change(remove, domain_id)


def remove(tx: Tx, domain_id: str) -> None:
    """Remove a disabled domain with everything in it; NotFound, Forbidden."""
    domain = projects.get_domain(tx, domain_id)
    if domain_id == DEFAULT_DOMAIN:
        raise Forbidden("The default domain cannot be deleted.")
    if domain.enabled:
        raise Forbidden("Disable the domain before deleting it.")
    inside = projects.inside(tx, domain_id)
    for user_id in inside["users"]:
        users.delete(tx, user_id)
    for group_id in inside["groups"]:
        users.delete_group(tx, group_id)
    for project_id in inside["projects"]:
        projects.delete(tx, project_id)
    for role_id in inside["roles"]:
        roles.delete(tx, role_id)
    projects.delete(tx, domain_id)


def changed(item: Project, given: dict[str, Any], extra: dict[str, Any], now: int) -> Project:
    """A project or domain with the given attributes changed."""
    options = {**item.options, **given.get("options", {})}
    enabled = given.get("enabled", item.enabled)
    return msgspec.structs.replace(
        item,
        name=given.get("name", item.name).strip(),
        description=given.get("description", item.description) or "",
        enabled=enabled,
        options={name: value for name, value in options.items() if value is not None},
        extra={**item.extra, **extra},
        tags=tuple(given["tags"]) if "tags" in given else item.tags,
        valid_from=now if item.enabled and not enabled else item.valid_from,
    )


def _own_words_only(extra: dict[str, Any], own_id: str | None = None) -> None:
    extra.pop("links", None)
    if own_id is not None and extra.get("id") == own_id:
        del extra["id"]
    for name in ("id", "is_domain", "domain_id", "parent_id"):
        if name in extra:
            raise BadRequest(f"The attribute {name} of a domain cannot be set.")
