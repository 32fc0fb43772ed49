"""Credentials kept for users: of any type, and EC2 access keys."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from kilonova.base.errors import BadRequest, NotFound
from kilonova.db.database import Tx
from kilonova.embedded.identity import listing, schemas, views
from kilonova.embedded.identity.app import Identity
from kilonova.embedded.identity.records import Credential
from kilonova.embedded.identity.store import credentials, projects, rows, users
from kilonova.embedded.identity.tables import CREDENTIAL
from kilonova.web.call import Call
from kilonova.web.routes import Routes

routes: Routes[Identity] = Routes(tag="credentials")

_KNOWN = ("user_id", "project_id", "type", "blob")
_EC2 = "/users/{user_id}/credentials/OS-EC2"


@routes.get("/credentials", head=True)
async def index(call: Call[Identity]) -> dict[str, Any]:
    """Credentials by ``user_id`` and ``type``; ordinary callers see their own."""
    part = listing.part(call)
    where = listing.filters(call, CREDENTIAL, ("user_id", "type"))
    if not call.allows("identity:list_credentials"):
        where.append(rows.Where("user_id", call.caller.user_id))
    found = await call.app.db.read(credentials.page, where, part)
    return listing.answer(
        call,
        "credentials",
        found,
        lambda item, link: views.credential(item, _open(call, item), link),
        part.limit,
    )


@routes.post("/credentials", status=201, body=schemas.CREDENTIAL)
async def create(call: Call[Identity]) -> dict[str, Any]:
    """A new credential; ids of EC2 credentials are made of their access key."""
    given, extra = rows.pick(call.body["credential"], _KNOWN)
    extra.pop("links", None)
    user_id = given.get("user_id") or call.caller.user_id
    call.enforce("identity:create_credential", {"user_id": user_id})
    if given["type"] == "ec2":
        credential_id = _ec2_id(_keys(given["blob"])["access"])
        if not given.get("project_id"):
            raise BadRequest("EC2 credentials need a project_id.")
    else:
        credential_id = call.ids.hex()
    item = Credential(
        id=credential_id,
        user_id=user_id,
        project_id=given.get("project_id"),
        type=given["type"],
        blob=call.app.credential_keys.seal(given["blob"].encode()),
        extra=extra,
    )
    await call.app.db.run(_create, item)
    return {"credential": views.credential(item, given["blob"], call.link)}


@routes.get("/credentials/{credential_id}", head=True)
async def show(call: Call[Identity], credential_id: str) -> dict[str, Any]:
    """One credential."""
    item = await _find(call, credential_id, "identity:get_credential")
    return {"credential": views.credential(item, _open(call, item), call.link)}


@routes.patch("/credentials/{credential_id}", body=schemas.CREDENTIAL_CHANGE)
async def update(call: Call[Identity], credential_id: str) -> dict[str, Any]:
    """Change a credential; its user stays."""
    given, extra = rows.pick(call.body["credential"], _KNOWN)
    extra.pop("links", None)
    item = await _find(call, credential_id, "identity:update_credential")
    if given.get("user_id", item.user_id) != item.user_id:
        raise BadRequest("The user of a credential cannot be changed.")
    if "blob" in given:
        given["blob"] = call.app.credential_keys.seal(given["blob"].encode())
    item = msgspec.structs.replace(item, **given, extra={**item.extra, **extra})
    await call.app.db.run(credentials.update, item)
    return {"credential": views.credential(item, _open(call, item), call.link)}


@routes.delete("/credentials/{credential_id}", status=204)
async def delete(call: Call[Identity], credential_id: str) -> None:
    """Remove a credential."""
    await _find(call, credential_id, "identity:delete_credential")
    await call.app.db.run(credentials.delete, credential_id)


@routes.get(_EC2, head=True)
async def list_ec2(call: Call[Identity], user_id: str) -> dict[str, Any]:
    """A user's EC2 access keys."""
    call.enforce("identity:get_credential", {"user_id": user_id})
    where = [rows.Where("user_id", user_id), rows.Where("type", "ec2")]
    found = await call.app.db.read(credentials.page, where)
    links = {"next": None, "self": listing.self_link(call), "previous": None}
    return {"credentials": [_ec2(call, item) for item in found], "links": links}


@routes.post(_EC2, status=201, body=schemas.EC2_CREDENTIAL)
async def create_ec2(call: Call[Identity], user_id: str) -> dict[str, Any]:
    """A new EC2 access key and secret for a project."""
    call.enforce("identity:create_credential", {"user_id": user_id})
    keys = {"access": call.ids.hex(), "secret": call.ids.token(32), "trust_id": None}
    item = Credential(
        id=_ec2_id(keys["access"] or ""),
        user_id=user_id,
        project_id=call.body["tenant_id"],
        type="ec2",
        blob=call.app.credential_keys.seal(msgspec.json.encode(keys)),
        extra={},
    )
    await call.app.db.run(_create, item)
    return {"credential": _ec2(call, item)}


@routes.get(_EC2 + "/{access}", head=True)
async def show_ec2(call: Call[Identity], user_id: str, access: str) -> dict[str, Any]:
    """One EC2 access key."""
    call.enforce("identity:get_credential", {"user_id": user_id})
    return {"credential": _ec2(call, await _find_ec2(call, user_id, access))}


@routes.delete(_EC2 + "/{access}", status=204)
async def delete_ec2(call: Call[Identity], user_id: str, access: str) -> None:
    """Remove an EC2 access key."""
    call.enforce("identity:delete_credential", {"user_id": user_id})
    item = await _find_ec2(call, user_id, access)
    await call.app.db.run(credentials.delete, item.id)


async def _find(call: Call[Identity], credential_id: str, rule: str) -> Credential:
    """The credential; who may not see it learns nothing of whether it is there."""
    try:
        item = await call.app.db.read(credentials.get, credential_id)
    except NotFound:
        call.enforce(rule, {})
        raise
    call.enforce(rule, {"user_id": item.user_id})
    return item


async def _find_ec2(call: Call[Identity], user_id: str, access: str) -> Credential:
    item = await call.app.db.read(credentials.get, _ec2_id(access))
    if item.user_id != user_id:
        raise NotFound(f"Could not find credential: {access}.")
    return item


def _create(tx: Tx, item: Credential) -> None:
    users.get(tx, item.user_id)
    if item.project_id is not None:
        projects.get(tx, item.project_id)
    credentials.create(tx, item)


def _open(call: Call[Identity], item: Credential) -> str:
    raw = call.app.credential_keys.open(item.blob)
    return "" if raw is None else raw.decode()


def _ec2(call: Call[Identity], item: Credential) -> dict[str, Any]:
    keys = _keys(_open(call, item))
    link = call.link("users", item.user_id, "credentials", "OS-EC2", keys["access"])
    return {
        "user_id": item.user_id,
        "tenant_id": item.project_id,
        "access": keys["access"],
        "secret": keys.get("secret"),
        "trust_id": None,
        "links": {"self": link},
    }


def _ec2_id(access: str) -> str:
    return hashlib.sha256(access.encode()).hexdigest()


def _keys(blob: str) -> dict[str, Any]:
    try:
        keys = msgspec.json.decode(blob, type=dict[str, Any])
    except msgspec.MsgspecError:
        keys = {}
    if not isinstance(keys.get("access"), str):
        raise BadRequest("The blob of an EC2 credential must be JSON with access and secret.")
    return keys
