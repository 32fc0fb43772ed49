"""Application credentials: secrets that stand for their user in one project."""

from __future__ import annotations

import datetime as dt
from typing import Any

from kilonova.base.errors import BadRequest, Forbidden, Unauthorized
from kilonova.db.database import Tx
from kilonova.embedded.identity import listing, schemas, views
from kilonova.embedded.identity.app import Identity
from kilonova.embedded.identity.records import ApplicationCredential, Role
from kilonova.embedded.identity.store import credentials, roles, rows, users
from kilonova.embedded.identity.store.standing import Standing
from kilonova.embedded.identity.tables import APPLICATION_CREDENTIAL
from kilonova.embedded.identity.tokens import micros
from kilonova.web.call import Call
from kilonova.web.routes import Routes

routes: Routes[Identity] = Routes(
    prefix="/users/{user_id}/application_credentials", tag="application credentials"
)


@routes.get("", head=True)
async def index(call: Call[Identity], user_id: str) -> dict[str, Any]:
    """A user's application credentials, by ``name``."""
    call.enforce("identity:list_application_credentials", {"user_id": user_id})
    part = listing.part(call)
    where = listing.filters(call, APPLICATION_CREDENTIAL, ("name",))
    where.append(rows.Where("user_id", user_id))

    def find(tx: Tx) -> tuple[list[ApplicationCredential], dict[str, Role]]:
        users.get(tx, user_id)
        return credentials.application_page(tx, where, part), _roles(tx)

    found, known = await call.app.db.read(find)
    return listing.answer(
        call,
        "application_credentials",
        found,
        lambda item, link: views.application_credential(item, known, link),
        part.limit,
    )


@routes.post("", status=201, body=schemas.APPLICATION_CREDENTIAL)
async def create(call: Call[Identity], user_id: str) -> dict[str, Any]:
    """A new application credential; the answer shows its secret for the only time."""
    call.enforce("identity:create_application_credential", {"user_id": user_id})
    given = call.body["application_credential"]
    own = await _own_standing(call)
    if own.project is None:
        raise BadRequest("Application credentials are made with a token for a project.")
    if given.get("project_id") not in (None, own.project.id):
        raise BadRequest("The project must be that of the token.")
    if given.get("access_rules"):
        raise BadRequest("Access rules are not supported: leave access_rules out.")
    secret = given.get("secret") or call.ids.token(64)
    item = ApplicationCredential(
        id=given.get("id") or call.ids.hex(),
        name=given["name"].strip(),
        user_id=user_id,
        project_id=own.project.id,
        description=given.get("description") or "",
        secret_hash=await call.app.passwords.hash(secret),
        unrestricted=bool(given.get("unrestricted")),
        expires_at=_expiry(call, given.get("expires_at")),
        role_ids=_chosen(own, given.get("roles")),
    )
    await call.app.change(credentials.create_application, item)
    known = {role.id: role for role in own.roles}
    shown = views.application_credential(item, known, call.link)
    return {"application_credential": {**shown, "secret": secret}}


@routes.get("/{credential_id}", head=True)
async def show(call: Call[Identity], user_id: str, credential_id: str) -> dict[str, Any]:
    """One application credential."""
    call.enforce("identity:get_application_credential", {"user_id": user_id})

    def find(tx: Tx) -> tuple[ApplicationCredential, dict[str, Role]]:
        return credentials.get_application(tx, user_id, credential_id), _roles(tx)

    item, known = await call.app.db.read(find)
    return {"application_credential": views.application_credential(item, known, call.link)}


@routes.delete("/{credential_id}", status=204)
async def delete(call: Call[Identity], user_id: str, credential_id: str) -> None:
    """Remove an application credential; its tokens end."""
    call.enforce("identity:delete_application_credential", {"user_id": user_id})
    await _own_standing(call)
    await call.app.change(credentials.delete_application, user_id, credential_id)


async def _own_standing(call: Call[Identity]) -> Standing:
    """What the caller's token stands for; Forbidden for restricted application credentials."""
    known = await call.app.tokens.inspect(call.caller.token)
    if known is None:
        raise Unauthorized
    credential = known.standing.application_credential
    if credential is not None and not credential.unrestricted:
        raise Forbidden(
            "A restricted application credential cannot manage application credentials."
        )
    return known.standing


def _chosen(own: Standing, given: list[dict[str, str]] | None) -> tuple[str, ...]:
    if not given:
        return tuple(role.id for role in own.roles)
    by_id = {role.id: role for role in own.roles}
    by_name = {role.name: role for role in own.roles}
    chosen = []
    for item in given:
        role = by_id.get(item["id"]) if "id" in item else by_name.get(item["name"])
        if role is None:
            raise BadRequest(
                f"The role {item.get('id', item.get('name'))} is not one of the token's roles."
            )
        chosen.append(role.id)
    return tuple(dict.fromkeys(chosen))


def _expiry(call: Call[Identity], text: str | None) -> int | None:
    if text is None:
        return None
    try:
        when = dt.datetime.fromisoformat(text)
    except ValueError:
        raise BadRequest("expires_at must be a time as 2026-01-31T12:00:00.") from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=dt.UTC)
    number = micros(when)
    if number <= call.app.now():
        raise BadRequest("expires_at must lie in the future.")
    return number


def _roles(tx: Tx) -> dict[str, Role]:
    return {role.id: role for role in roles.page(tx, ())}
