"""Tokens: getting, looking at and ending them; what a token's holder may ask for next."""

from __future__ import annotations

from typing import Any

from kilonova.base.errors import BadRequest, NotFound, Unauthorized
from kilonova.db.database import Tx
from kilonova.embedded.identity import listing, login, schemas, views
from kilonova.embedded.identity.app import Identity
from kilonova.embedded.identity.records import Project
from kilonova.embedded.identity.store import projects, roles, rows, standing
from kilonova.embedded.identity.tokens import Known
from kilonova.web.call import Call, Reply
from kilonova.web.routes import Routes

routes: Routes[Identity] = Routes(prefix="/auth", tag="tokens")

_VARY = {"Vary": "X-Auth-Token", "Content-Type": "application/json"}


@routes.post("/tokens", public=True, body=schemas.TOKEN, status=201, also=(401,))
async def issue(call: Call[Identity]) -> Reply:
    """A new token, in the header ``X-Subject-Token``."""
    raw, known = await login.log_in(call.app, call.body["auth"])
    body = known.bare_body if "nocatalog" in call.query else known.body
    return Reply(body, status=201, headers={"X-Subject-Token": raw, **_VARY})


async def _subject(call: Call[Identity]) -> tuple[str, Known]:
    raw = call.request.headers.get("x-subject-token")
    if not raw:
        raise BadRequest("The header X-Subject-Token is missing.")
    late = call.query.flag("allow_expired")
    known = await call.app.tokens.inspect(raw, beside=call.caller.token, allow_expired=late)
    if known is None:
        raise NotFound("Could not find token.")
    return raw, known


@routes.get("/tokens", head=True, also=(404,))
async def validate(call: Call[Identity]) -> Reply:
    """What the token in ``X-Subject-Token`` stands for; 404 if it is not valid."""
    raw, known = await _subject(call)
    call.enforce("identity:validate_token", {"user_id": known.caller.user_id})
    body = known.bare_body if "nocatalog" in call.query else known.body
    return Reply(body, headers={"X-Subject-Token": raw, **_VARY})


@routes.delete("/tokens", status=204)
async def revoke(call: Call[Identity]) -> None:
    """End the token in ``X-Subject-Token``."""
    _, known = await _subject(call)
    call.enforce("identity:revoke_token", {"user_id": known.caller.user_id})
    await call.app.change(standing.revoke, known.standing.claims, call.app.now())


@routes.get("/catalog", head=True)
async def catalog(call: Call[Identity]) -> dict[str, Any]:
    """The catalog of the caller's own token."""
    known = await call.app.tokens.inspect(call.caller.token, beside=call.caller.token)
    if known is None:
        raise Unauthorized
    links = {"next": None, "self": listing.self_link(call), "previous": None}
    return {"catalog": views.service_catalog(known.standing), "links": links}


@routes.get("/projects", head=True)
async def own_projects(call: Call[Identity]) -> dict[str, Any]:
    """The projects the caller may get a token for."""

    def find(tx: Tx) -> list[Project]:
        ids = roles.project_ids(tx, call.caller.user_id)
        return projects.page(tx, [rows.Where("enabled", value=True)], ids=ids)

    return listing.answer(call, "projects", await call.app.db.read(find), views.project)


@routes.get("/domains", head=True)
async def own_domains(call: Call[Identity]) -> dict[str, Any]:
    """The domains the caller may get a token for."""

    def find(tx: Tx) -> list[Project]:
        ids = roles.domain_ids(tx, call.caller.user_id)
        return projects.page(tx, [rows.Where("enabled", value=True)], ids=ids)

    return listing.answer(call, "domains", await call.app.db.read(find), views.domain)


@routes.get("/system", head=True)
async def own_system(call: Call[Identity]) -> dict[str, Any]:
    """Whether the caller may get a token for the system."""
    some = await call.app.db.read(roles.on_system, call.caller.user_id)
    links = {"next": None, "self": listing.self_link(call), "previous": None}
    return {"system": [{"all": True}] if some else [], "links": links}
