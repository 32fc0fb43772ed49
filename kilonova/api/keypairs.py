"""``/os-keypairs``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from kilonova.api import quota_rules
from kilonova.api.schemas import closed
from kilonova.base.clock import isoformat_micro
from kilonova.base.errors import BadRequest, NotFound
from kilonova.context import Context, Services
from kilonova.db.database import Tx
from kilonova.domain.quotas import Rules
from kilonova.domain.resources import KeyPair
from kilonova.store import keypairs as store
from kilonova.web import pages
from kilonova.web.call import Reply
from kilonova.web.routes import Routes
from kilonova.web.schema import NO_BODY, Schema, answers, pick, since, single, until
from kilonova.web.view import Field, View

if TYPE_CHECKING:  # slow to import, and needed only where a key is made or read
    from kilonova.api import crypto

ROUTES: Routes[Services] = Routes(prefix="/os-keypairs", tag="keypairs")
RULE = "os_compute_api:os-keypairs:"

_NAME = {"type": "string", "minLength": 1, "maxLength": 255}
_OLD = {**_NAME, "pattern": r"^(?! )[a-zA-Z0-9 _-]+(?<! )$"}
_NEW = {**_NAME, "pattern": r"^(?! )[a-zA-Z0-9 @._-]+(?<! )$"}
CREATE = Schema(
    closed(
        {
            "keypair": closed(
                {
                    "name": pick(until(91, _OLD), since(92, _NEW)),
                    "public_key": {"type": "string"},
                    "type": since(2, {"type": "string", "enum": ["ssh", "x509"]}),
                    "user_id": since(10, _NAME),
                },
                "name",
                since(92, "public_key"),
            )
        },
        "keypair",
    )
)
_USER = since(10, single({"type": "string"}))
LIST = Schema(
    {
        "type": "object",
        "properties": {
            "user_id": _USER,
            "limit": since(35, single({"type": "string", "pattern": "^[0-9]+$"})),
            "marker": since(35, single({"type": "string"})),
        },
        "additionalProperties": pick(until(74, True), since(75, False)),
    }
)
ONE = Schema(
    {
        "type": "object",
        "properties": {"user_id": _USER},
        "additionalProperties": pick(until(74, True), since(75, False)),
    }
)

_COMMON = [
    Field("name"),
    Field("public_key"),
    Field("fingerprint"),
    Field("type", since=2),
]
LISTED = View("keypair", _COMMON)
MADE = View("keypair", [*_COMMON, Field("user_id")])
_GENERATED = View("keypair", [*MADE.fields, Field("private_key")])
SHOWN = View(
    "keypair",
    [
        *_COMMON,
        Field("user_id"),
        Field("id"),
        Field("created_at", lambda k: isoformat_micro(k.created_at)),
        Field("deleted", lambda k: False),
        Field("deleted_at", lambda k: None),
        Field("updated_at", lambda k: None),
    ],
)


def _user(call: Context, given: str | None, rule: str) -> str:
    """Whose keys: the caller's own, or (2.10) somebody else's if the policy allows."""
    user = given if given is not None and call.version >= 10 else call.caller.user_id
    call.enforce(RULE + rule, {"user_id": user, "project_id": call.caller.project_id})
    return user


def _missing(name: str, user_id: str) -> NotFound:
    return NotFound(f"Keypair {name} not found for user {user_id}")


@ROUTES.get(
    "", query=LIST, responses=answers(keypairs=[answers(keypair=LISTED)]), summary="List key pairs"
)
async def index(call: Context) -> dict[str, Any]:
    """A user's key pairs by name."""
    user = _user(call, call.query.get("user_id"), "index")
    limit, marker = None, None
    if call.version >= 35:
        page = pages.page(call.query, maximum=call.app.settings.api.max_limit)
        limit, marker = page.limit, page.marker
    found = await call.app.db.read(store.page, user, limit=limit, marker=marker)
    if found is None:
        raise BadRequest(f"marker [{marker}] not found")
    body: dict[str, Any] = {
        "keypairs": [{"keypair": row} for row in LISTED.render_all(found, call.version)]
    }
    if limit and len(found) == limit:
        body["keypairs_links"] = [pages.next_link(call, found[-1].name, "os-keypairs")]
    return body


@ROUTES.get("/{name}", query=ONE, responses=answers(keypair=SHOWN), summary="Show a key pair")
async def show(call: Context, name: str) -> dict[str, Any]:
    """One key pair."""
    user = _user(call, call.query.get("user_id"), "show")
    found = await call.app.db.read(store.get, user, name)
    if found is None:
        raise _missing(name, user)
    return {"keypair": SHOWN.render(found, call.version)}


@ROUTES.delete(
    "/{name}",
    query=ONE,
    status=204,
    also=(until(1, 202),),
    responses=NO_BODY,
    summary="Delete a key pair",
)
async def delete(call: Context, name: str) -> Reply:
    """Servers keep their copy."""
    user = _user(call, call.query.get("user_id"), "delete")
    if not await call.app.db.run(store.delete, user, name):
        raise _missing(name, user)
    return Reply(status=202 if call.version < 2 else 204)


@ROUTES.post(
    "",
    body=CREATE,
    status=201,
    also=(until(1, 200),),
    responses=answers(keypair=_GENERATED),
    summary="Create or import a key pair",
)
async def create(call: Context) -> Reply:
    """Import ``public_key``, or (before 2.92) generate a pair and show its private half once."""
    body = call.body["keypair"]
    user = _user(call, body.get("user_id"), "create")
    kind = body.get("type", "ssh")
    given = body.get("public_key")
    private = None
    if given is not None:
        public = given.strip() if kind == "ssh" else given
        fingerprint = await asyncio.to_thread(_fingerprint, kind, public)
    else:
        made = await asyncio.to_thread(_generate, kind, user, call)
        public, private, fingerprint = made.public_key, made.private_key, made.fingerprint
    pair = KeyPair(0, user, body["name"].strip(), kind, fingerprint, public, call.clock.now())

    async def write(rules: Rules) -> None:
        project = call.caller.project_id or ""
        await call.app.db.run(_create, pair, rules, project, imported=given is not None)

    await quota_rules.within(call, call.caller.project_id or "", write)
    shown = MADE.render(pair, call.version)
    if private is not None:
        shown["private_key"] = private
    return Reply({"keypair": shown}, status=200 if call.version < 2 else 201)


def _fingerprint(kind: str, public: str) -> str:
    from kilonova.api import crypto  # noqa: PLC0415 (see above)

    return crypto.ssh_fingerprint(public) if kind == "ssh" else crypto.x509_fingerprint(public)


def _generate(kind: str, user: str, call: Context) -> crypto.Generated:
    from kilonova.api import crypto  # noqa: PLC0415 (see above)

    if kind == "ssh":
        return crypto.generate_ssh()
    return crypto.generate_x509(user, call.caller.project_id or "", call.clock.now())


def _create(tx: Tx, pair: KeyPair, rules: Rules, project_id: str, *, imported: bool) -> None:
    limits = quota_rules.limits(tx, rules, project_id, pair.user_id)
    store.create(tx, pair, limit=limits["key_pairs"], unified=rules.unified, imported=imported)
