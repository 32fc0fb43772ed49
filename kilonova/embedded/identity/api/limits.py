"""Unified limits: what services look up before they let a project use more of a resource."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.errors import BadRequest, Forbidden
from kilonova.db.database import Tx
from kilonova.embedded.identity import listing, schemas, views
from kilonova.embedded.identity.app import Identity
from kilonova.embedded.identity.records import Limit, RegisteredLimit
from kilonova.embedded.identity.store import catalog, limits, projects, rows
from kilonova.embedded.identity.tables import LIMIT, REGISTERED_LIMIT
from kilonova.web.call import Call
from kilonova.web.routes import Routes

routes: Routes[Identity] = Routes(tag="limits")

_RESOURCE = ("service_id", "region_id", "resource_name")


@routes.get("/limits/model", head=True, policy="identity:get_limit_model")
async def model(call: Call[Identity]) -> dict[str, Any]:
    """How limits of nested projects relate: not at all."""
    text = "The limits of a project do not depend on those of the projects above or below it."
    return {"model": {"name": "flat", "description": text}}


@routes.get("/registered_limits", head=True, policy="identity:get_registered_limit")
async def list_registered(call: Call[Identity]) -> dict[str, Any]:
    """Registered limits, by service, region and resource."""
    part = listing.part(call)
    where = listing.filters(call, REGISTERED_LIMIT, _RESOURCE)
    found = await call.app.db.read(limits.registered_page, where, part)
    return listing.answer(call, "registered_limits", found, views.registered_limit, part.limit)


@routes.post(
    "/registered_limits",
    status=201,
    body=schemas.REGISTERED_LIMITS,
    policy="identity:create_registered_limit",
)
async def create_registered(call: Call[Identity]) -> dict[str, Any]:
    """New registered limits, all or none."""
    made = [
        RegisteredLimit(
            id=call.ids.hex(),
            service_id=given["service_id"],
            region_id=given.get("region_id") or "",
            resource_name=given["resource_name"],
            default_limit=given["default_limit"],
            description=given.get("description") or "",
        )
        for given in call.body["registered_limits"]
    ]

    def work(tx: Tx) -> None:
        for item in made:
            _check_place(tx, item)
            limits.save_registered(tx, item, new=True)

    await call.app.db.run(work)
    return listing.answer(call, "registered_limits", made, views.registered_limit)


@routes.get("/registered_limits/{limit_id}", head=True, policy="identity:get_registered_limit")
async def show_registered(call: Call[Identity], limit_id: str) -> dict[str, Any]:
    """One registered limit."""
    item = await call.app.db.read(limits.get_registered, limit_id)
    return {"registered_limit": views.registered_limit(item, call.link)}


@routes.patch(
    "/registered_limits/{limit_id}",
    body=schemas.REGISTERED_LIMIT_CHANGE,
    policy="identity:update_registered_limit",
)
async def update_registered(call: Call[Identity], limit_id: str) -> dict[str, Any]:
    """Change a registered limit."""
    given = dict(call.body["registered_limit"])
    for name in ("region_id", "description"):
        if name in given:
            given[name] = given[name] or ""

    def work(tx: Tx) -> RegisteredLimit:
        item = msgspec.structs.replace(limits.get_registered(tx, limit_id), **given)
        _check_place(tx, item)
        limits.save_registered(tx, item, new=False)
        return item

    item = await call.app.db.run(work)
    return {"registered_limit": views.registered_limit(item, call.link)}


@routes.delete(
    "/registered_limits/{limit_id}", status=204, policy="identity:delete_registered_limit"
)
async def delete_registered(call: Call[Identity], limit_id: str) -> None:
    """Remove a registered limit nobody has an own limit for."""
    await call.app.db.run(limits.delete_registered, limit_id)


@routes.get("/limits", head=True, policy="identity:list_limits")
async def index(call: Call[Identity]) -> dict[str, Any]:
    """Limits, by service, region, resource, project and domain; ordinary callers see their own."""
    part = listing.part(call)
    own = listing.filters(call, LIMIT, ("project_id", "domain_id"))
    if not call.allows("identity:list_all_limits"):
        if call.caller.domain_id is not None:
            own.append(rows.Where("domain_id", call.caller.domain_id))
        else:
            own.append(rows.Where("project_id", call.caller.project_id or ""))
    registered = listing.filters(call, REGISTERED_LIMIT, _RESOURCE)
    found = await call.app.db.read(limits.page, own, registered, part)
    return listing.answer(call, "limits", found, views.limit, part.limit)


@routes.post("/limits", status=201, body=schemas.LIMITS, policy="identity:create_limit")
async def create(call: Call[Identity]) -> dict[str, Any]:
    """New limits of projects or domains, all or none."""

    def work(tx: Tx) -> list[tuple[Limit, RegisteredLimit]]:
        return [_create(tx, call.ids.hex(), given) for given in call.body["limits"]]

    return listing.answer(call, "limits", await call.app.db.run(work), views.limit)


@routes.get("/limits/{limit_id}", head=True)
async def show(call: Call[Identity], limit_id: str) -> dict[str, Any]:
    """One limit."""
    pair = await call.app.db.read(limits.get, limit_id)
    target = {"project_id": pair[0].project_id, "domain_id": pair[0].domain_id}
    call.enforce("identity:get_limit", target)
    return {"limit": views.limit(pair, call.link)}


@routes.patch("/limits/{limit_id}", body=schemas.LIMIT_CHANGE, policy="identity:update_limit")
async def update(call: Call[Identity], limit_id: str) -> dict[str, Any]:
    """Change a limit."""
    given = dict(call.body["limit"])
    if "description" in given:
        given["description"] = given["description"] or ""

    def work(tx: Tx) -> tuple[Limit, RegisteredLimit]:
        item, registered = limits.get(tx, limit_id)
        item = msgspec.structs.replace(item, **given)
        limits.update(tx, item)
        return item, registered

    return {"limit": views.limit(await call.app.db.run(work), call.link)}


@routes.delete("/limits/{limit_id}", status=204, policy="identity:delete_limit")
async def delete(call: Call[Identity], limit_id: str) -> None:
    """Remove a limit; the registered one counts again."""
    await call.app.db.run(limits.delete, limit_id)


def _create(tx: Tx, limit_id: str, given: dict[str, Any]) -> tuple[Limit, RegisteredLimit]:
    project_id, domain_id = given.get("project_id"), given.get("domain_id")
    if (project_id is None) == (domain_id is None):
        raise BadRequest("A limit is for a project or for a domain.")
    if project_id is not None:
        projects.get(tx, project_id)
    else:
        projects.get_domain(tx, domain_id or "")
    registered = limits.find_registered(
        tx, given["service_id"], given.get("region_id") or "", given["resource_name"]
    )
    if registered is None:
        raise Forbidden(f"Register a limit for the resource {given['resource_name']} first.")
    text = given.get("description") or ""
    item = Limit(limit_id, registered.id, project_id, domain_id, given["resource_limit"], text)
    limits.create(tx, item)
    return item, registered


def _check_place(tx: Tx, item: RegisteredLimit) -> None:
    if not catalog.services(tx, [rows.Where("id", item.service_id)]):
        raise BadRequest(f"There is no service {item.service_id}.")
    if item.region_id and not catalog.has_region(tx, item.region_id):
        raise BadRequest(f"There is no region {item.region_id}.")
