"""Roles, and which imply which."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.errors import BadRequest, Forbidden, NotFound
from kilonova.db.database import Tx
from kilonova.embedded.identity import listing, schemas, views
from kilonova.embedded.identity.app import Identity
from kilonova.embedded.identity.records import Role
from kilonova.embedded.identity.store import projects, roles, rows
from kilonova.embedded.identity.tables import ROLE
from kilonova.web.call import Call
from kilonova.web.routes import Routes

routes: Routes[Identity] = Routes(tag="roles")

KNOWN = ("name", "domain_id", "description", "options")
_NEVER_IMPLIED = ("admin",)


@routes.get("/roles", head=True, policy="identity:list_roles")
async def index(call: Call[Identity]) -> dict[str, Any]:
    """Roles by ``name`` and ``domain_id`` (those of all domains if not given)."""
    part = listing.part(call)
    where = listing.filters(call, ROLE, ("name", "domain_id"))
    where = [rows.Where("domain_id", "") if _global(item) else item for item in where]
    if not any(item.column == "domain_id" for item in where):
        where.append(rows.Where("domain_id", ""))
    found = await call.app.db.read(roles.page, where, part)
    return listing.answer(call, "roles", found, views.role, part.limit)


@routes.post("/roles", status=201, body=schemas.ROLE, policy="identity:create_role")
async def create(call: Call[Identity]) -> dict[str, Any]:
    """A new role."""
    given, extra = rows.pick(call.body["role"], KNOWN)
    _own_words_only(extra)
    role = Role(
        id=call.ids.hex(),
        name=given["name"].strip(),
        domain_id=given.get("domain_id") or "",
        description=given.get("description") or "",
        options=given.get("options", {}),
        extra=extra,
    )

    def work(tx: Tx) -> None:
        if role.domain_id:
            projects.get_domain(tx, role.domain_id)
        roles.create(tx, role)

    await call.app.change(work)
    return {"role": views.role(role, call.link)}


@routes.get("/roles/{role_id}", head=True, policy="identity:get_role")
async def show(call: Call[Identity], role_id: str) -> dict[str, Any]:
    """One role."""
    return {"role": views.role(await call.app.db.read(roles.get, role_id), call.link)}


@routes.patch("/roles/{role_id}", body=schemas.ROLE_CHANGE, policy="identity:update_role")
async def update(call: Call[Identity], role_id: str) -> dict[str, Any]:
    """Change a role that is not immutable."""
    given, extra = rows.pick(call.body["role"], KNOWN)
    _own_words_only(extra, role_id)

    def work(tx: Tx) -> Role:
        role = roles.get(tx, role_id)
        options = {**role.options, **given.get("options", {})}
        if role.options.get("immutable") and (set(given) - {"options"} or extra):
            raise Forbidden("The role is immutable: set its option immutable to false first.")
        if (given.get("domain_id", role.domain_id) or "") != role.domain_id:
            raise BadRequest("The domain of a role cannot be changed.")
        role = msgspec.structs.replace(
            role,
            name=given.get("name", role.name).strip(),
            description=given.get("description", role.description) or "",
            options={name: value for name, value in options.items() if value is not None},
            extra={**role.extra, **extra},
        )
        roles.update(tx, role)
        return role

    return {"role": views.role(await call.app.change(work), call.link)}


@routes.delete("/roles/{role_id}", status=204, policy="identity:delete_role")
async def delete(call: Call[Identity], role_id: str) -> None:
    """Remove a role that is not immutable, from everybody."""

    def work(tx: Tx) -> None:
        if roles.get(tx, role_id).options.get("immutable"):
            raise Forbidden("The role is immutable: set its option immutable to false first.")
        roles.delete(tx, role_id)

    await call.app.change(work)


def _reference(role: Role, call: Call[Identity]) -> dict[str, Any]:
    return {"id": role.id, "name": role.name, "links": {"self": call.link("roles", role.id)}}


@routes.get("/roles/{prior_id}/implies", head=True, policy="identity:get_implied_role")
async def list_implied(call: Call[Identity], prior_id: str) -> dict[str, Any]:
    """What a role implies directly."""

    def find(tx: Tx) -> tuple[Role, list[Role]]:
        prior = roles.get(tx, prior_id)
        return prior, roles.page(tx, (), ids=roles.implications(tx).get(prior_id, []))

    prior, implied = await call.app.db.read(find)
    inference = {
        "prior_role": _reference(prior, call),
        "implies": [_reference(role, call) for role in implied],
    }
    return {"role_inference": inference, "links": {"self": listing.self_link(call)}}


async def _inference(call: Call[Identity], prior_id: str, implied_id: str) -> dict[str, Any]:
    def find(tx: Tx) -> tuple[Role, Role]:
        pair = roles.get(tx, prior_id), roles.get(tx, implied_id)
        if implied_id not in roles.implications(tx).get(prior_id, ()):
            raise NotFound(f"Role {prior_id} does not imply role {implied_id}.")
        return pair

    prior, implied = await call.app.db.read(find)
    inference = {"prior_role": _reference(prior, call), "implies": _reference(implied, call)}
    return {"role_inference": inference, "links": {"self": listing.self_link(call)}}


@routes.get("/roles/{prior_id}/implies/{implied_id}", policy="identity:get_implied_role")
async def show_implied(call: Call[Identity], prior_id: str, implied_id: str) -> dict[str, Any]:
    """One implication; 404 if there is none."""
    return await _inference(call, prior_id, implied_id)


@routes.head(
    "/roles/{prior_id}/implies/{implied_id}", status=204, policy="identity:get_implied_role"
)
async def check_implied(call: Call[Identity], prior_id: str, implied_id: str) -> None:
    """204 if there is the implication, else 404."""
    await _inference(call, prior_id, implied_id)


@routes.put(
    "/roles/{prior_id}/implies/{implied_id}", status=201, policy="identity:create_implied_role"
)
async def imply(call: Call[Identity], prior_id: str, implied_id: str) -> dict[str, Any]:
    """Let a role imply another one."""

    def work(tx: Tx) -> None:
        prior = roles.get(tx, prior_id)
        implied = roles.get(tx, implied_id)
        if implied.domain_id and not prior.domain_id:
            raise Forbidden("A role of all domains cannot imply a role of one domain.")
        if implied.name in _NEVER_IMPLIED:
            raise Forbidden(f"The role {implied.name} must not be implied by others.")
        roles.imply(tx, prior_id, implied_id)

    await call.app.change(work)
    return await _inference(call, prior_id, implied_id)


@routes.delete(
    "/roles/{prior_id}/implies/{implied_id}", status=204, policy="identity:delete_implied_role"
)
async def stop_implying(call: Call[Identity], prior_id: str, implied_id: str) -> None:
    """Take an implication back."""
    await call.app.change(roles.stop_implying, prior_id, implied_id)


@routes.get("/role_inferences", head=True, policy="identity:get_implied_role")
async def list_inferences(call: Call[Identity]) -> dict[str, Any]:
    """All implications there are."""

    def find(tx: Tx) -> tuple[dict[str, Role], dict[str, list[str]]]:
        return {role.id: role for role in roles.page(tx, ())}, roles.implications(tx)

    known, implied = await call.app.db.read(find)
    inferences = [
        {
            "prior_role": _reference(known[prior_id], call),
            "implies": [_reference(known[other], call) for other in others if other in known],
        }
        for prior_id, others in implied.items()
        if prior_id in known
    ]
    return {"role_inferences": inferences, "links": {"self": listing.self_link(call)}}


def _global(item: rows.Where) -> bool:
    return item.column == "domain_id" and item.value in ("", "null", "None")


def _own_words_only(extra: dict[str, Any], own_id: str | None = None) -> None:
    extra.pop("links", None)
    if extra.pop("id", own_id) != own_id:
        raise BadRequest("The id of a role cannot be set.")
