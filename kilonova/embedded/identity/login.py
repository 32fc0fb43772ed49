"""From the body of ``POST /v3/auth/tokens`` to claims: who it is, and for what scope."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.errors import BadRequest, Unauthorized
from kilonova.db.database import Tx
from kilonova.embedded.identity.app import Identity
from kilonova.embedded.identity.records import (
    ApplicationCredential,
    Project,
    User,
)
from kilonova.embedded.identity.store import credentials, projects, roles, users
from kilonova.embedded.identity.store.standing import Claims
from kilonova.embedded.identity.tokens import Known

_REFUSED = "The request you have made requires authentication."


class Who(msgspec.Struct, frozen=True):
    """An identity that was proved: by which methods, and what it is bound to."""

    user_id: str
    methods: tuple[str, ...]
    credential: ApplicationCredential | None = None
    parent: Claims | None = None


async def log_in(app: Identity, auth: dict[str, Any]) -> tuple[str, Known]:
    """A token for the ``auth`` object; Unauthorized, BadRequest."""
    methods = list(dict.fromkeys(auth["identity"]["methods"]))
    proofs = [await _prove(app, method, auth["identity"]) for method in methods]
    who = proofs[0]
    for other in proofs[1:]:
        if other.user_id != who.user_id:
            raise Unauthorized(_REFUSED)
        who = msgspec.structs.replace(
            who,
            methods=(*who.methods, *(m for m in other.methods if m not in who.methods)),
            credential=who.credential or other.credential,
            parent=who.parent or other.parent,
        )
    if not who.methods:
        raise BadRequest("Name at least one method in identity.methods.")
    claims = _claims(app, who)
    claims = await _placed(app, who, claims, auth.get("scope"))
    issued = await app.tokens.issue(claims)
    if issued is None:
        raise Unauthorized(_REFUSED)
    return issued


async def _prove(app: Identity, method: str, identity: dict[str, Any]) -> Who:
    given = identity.get(method)
    if given is None:
        raise BadRequest(f"Expecting to find {method} in identity, as identity.methods says.")
    if method == "password":
        return await _by_password(app, given["user"])
    if method == "token":
        return await _by_token(app, given["id"])
    if method == "application_credential":
        return await _by_application_credential(app, given)
    raise Unauthorized("Attempted to authenticate with an unsupported method.")


async def _by_password(app: Identity, given: dict[str, Any]) -> Who:
    user = await app.db.read(_user, given)
    stored = None if user is None else user.password_hash
    right = await app.passwords.check(given["password"], stored)
    if user is None or not right or not user.enabled:
        raise Unauthorized(_REFUSED)
    return Who(user.id, ("password",))


async def _by_token(app: Identity, raw: str) -> Who:
    known = await app.tokens.inspect(raw)
    if known is None:
        raise Unauthorized(_REFUSED)
    claims = known.standing.claims
    methods = ("token", *(m for m in claims.methods if m != "token"))
    return Who(claims.user_id, methods, known.standing.application_credential, claims)


async def _by_application_credential(app: Identity, given: dict[str, Any]) -> Who:
    item = await app.db.read(_application_credential, given)
    stored = None if item is None else item.secret_hash
    right = await app.passwords.check(given["secret"], stored)
    if item is None or not right:
        raise Unauthorized(_REFUSED)
    if item.expires_at is not None and item.expires_at <= app.now():
        raise Unauthorized("The application credential has expired.")
    return Who(item.user_id, ("application_credential",), item)


def _claims(app: Identity, who: Who) -> Claims:
    now = app.now()
    ends = now + app.settings.token_seconds * 1_000_000
    chain: tuple[str, ...] = ()
    if who.parent is not None:
        ends = min(ends, who.parent.expires_at)
        chain = (who.parent.audit_ids[-1],)
    if who.credential is not None and who.credential.expires_at is not None:
        ends = min(ends, who.credential.expires_at)
    return Claims(
        user_id=who.user_id,
        methods=who.methods,
        audit_ids=(app.tokens.new_audit_id(), *chain),
        issued_at=now,
        expires_at=ends,
        application_credential_id=None if who.credential is None else who.credential.id,
    )


async def _placed(app: Identity, who: Who, claims: Claims, scope: Any) -> Claims:
    if who.credential is not None:
        project_id = who.credential.project_id
        if scope is not None:
            same = who.parent is not None and scope.get("project", {}).get("id") == project_id
            if not same:
                raise Unauthorized("Application credentials cannot request a scope.")
        return msgspec.structs.replace(claims, project_id=project_id)
    if scope is None:
        default = await app.db.read(_default_project, claims.user_id)
        return msgspec.structs.replace(claims, project_id=default)
    if scope == "unscoped" or "unscoped" in scope:
        return claims
    if len(scope) != 1:
        raise BadRequest("Ask for exactly one scope: project, domain or system.")
    if "system" in scope:
        return msgspec.structs.replace(claims, system=True)
    project = await app.db.read(_scope, scope)
    if project is None:
        raise Unauthorized(_REFUSED)
    if "project" in scope:
        return msgspec.structs.replace(claims, project_id=project.id)
    return msgspec.structs.replace(claims, domain_id=project.id)


def _user(tx: Tx, given: dict[str, Any]) -> User | None:
    if "id" in given:
        return users.find(tx, given["id"])
    if "name" not in given:
        raise BadRequest("Expecting to find id or name in user.")
    domain = _domain(tx, given.get("domain"))
    return None if domain is None else users.by_name(tx, given["name"], domain.id)


def _application_credential(tx: Tx, given: dict[str, Any]) -> ApplicationCredential | None:
    if "id" in given:
        return credentials.find_application(tx, id=given["id"])
    if "name" not in given or "user" not in given:
        raise BadRequest("Expecting to find id, or name and user, in application_credential.")
    user = _user(tx, given["user"])
    if user is None:
        return None
    return credentials.find_application(tx, user_id=user.id, name=given["name"])


def _scope(tx: Tx, scope: dict[str, Any]) -> Project | None:
    if "domain" in scope:
        return _domain(tx, scope["domain"])
    given = scope["project"]
    if "id" in given:
        return projects.find(tx, given["id"])
    domain = _domain(tx, given.get("domain"))
    if domain is None:
        return None
    return projects.by_name(tx, given["name"], domain.id)


def _domain(tx: Tx, given: dict[str, Any] | None) -> Project | None:
    if given is None:
        raise BadRequest("Expecting to find domain beside the name.")
    if "id" in given:
        found = projects.find(tx, given["id"])
    else:
        found = projects.by_name(tx, given["name"], "")
    return found if found is not None and found.is_domain and found.enabled else None


def _default_project(tx: Tx, user_id: str) -> str | None:
    """The user's default project if they have a role on it and it is enabled."""
    user = users.find(tx, user_id)
    if user is None or user.default_project_id is None:
        return None
    project = projects.find(tx, user.default_project_id)
    if project is None or not project.enabled or not roles.on_project(tx, user_id, project):
        return None
    return project.id
