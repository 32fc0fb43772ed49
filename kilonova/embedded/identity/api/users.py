"""Users, their passwords, and what they can see of themselves."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.errors import BadRequest, Conflict, NotFound, Unauthorized
from kilonova.db.database import Tx
from kilonova.embedded.identity import listing, schemas, views
from kilonova.embedded.identity.app import Identity
from kilonova.embedded.identity.records import DEFAULT_DOMAIN, Project, User
from kilonova.embedded.identity.store import projects, roles, rows, users
from kilonova.embedded.identity.tables import GROUP, PROJECT, USER
from kilonova.web.call import Call
from kilonova.web.routes import Routes

routes: Routes[Identity] = Routes(prefix="/users", tag="users")

KNOWN = ("name", "domain_id", "default_project_id", "enabled", "password", "options")
_IGNORED = ("links", "federated", "password_expires_at", "original_password")


@routes.get("", head=True)
async def index(call: Call[Identity]) -> dict[str, Any]:
    """Users by ``name``, ``domain_id`` and ``enabled``."""
    call.enforce("identity:list_users", {"domain_id": call.query.get("domain_id", "")})
    part = listing.part(call)
    where = listing.filters(call, USER, ("name", "domain_id", "enabled"))
    found = await call.app.db.read(users.page, where, part)
    return listing.answer(call, "users", found, views.user, part.limit)


@routes.post("", status=201, body=schemas.USER, policy="identity:create_user")
async def create(call: Call[Identity]) -> dict[str, Any]:
    """A new user, with or without a password."""
    given, extra = rows.pick(call.body["user"], KNOWN)
    _own_words_only(extra)
    password = given.get("password")
    user = User(
        id=call.ids.hex(),
        name=given["name"].strip(),
        domain_id=given.get("domain_id") or call.caller.domain_id or DEFAULT_DOMAIN,
        default_project_id=given.get("default_project_id"),
        enabled=given.get("enabled", True),
        options=given.get("options", {}),
        extra=extra,
        password_hash=None if password is None else await call.app.passwords.hash(password),
        created_at=call.app.now(),
        valid_from=0,
    )

    def work(tx: Tx) -> None:
        projects.get_domain(tx, user.domain_id)
        users.create(tx, user)

    await call.app.change(work)
    return {"user": views.user(user, call.link)}


@routes.get("/{user_id}", head=True)
async def show(call: Call[Identity], user_id: str) -> dict[str, Any]:
    """One user."""
    user = await call.app.db.read(users.find, user_id)
    domain_id = "" if user is None else user.domain_id
    call.enforce("identity:get_user", {"user_id": user_id, "domain_id": domain_id})
    if user is None:
        raise NotFound(f"Could not find user: {user_id}.")
    return {"user": views.user(user, call.link)}


@routes.patch("/{user_id}", body=schemas.USER_CHANGE, policy="identity:update_user")
async def update(call: Call[Identity], user_id: str) -> dict[str, Any]:
    """Change a user; a new password, or disabling, ends their tokens."""
    given, extra = rows.pick(call.body["user"], KNOWN)
    _own_words_only(extra, user_id)
    password = given.get("password")
    digest = None if password is None else await call.app.passwords.hash(password)
    now = call.app.now()

    def work(tx: Tx) -> User:
        user = users.get(tx, user_id)
        if given.get("domain_id", user.domain_id) != user.domain_id:
            raise BadRequest("The domain of a user cannot be changed.")
        user = _changed(user, given, extra, digest, now)
        users.update(tx, user)
        return user

    return {"user": views.user(await call.app.change(work), call.link)}


@routes.delete("/{user_id}", status=204, policy="identity:delete_user")
async def delete(call: Call[Identity], user_id: str) -> None:
    """Remove a user with their roles and credentials."""
    await call.app.change(users.delete, user_id)


@routes.post(
    "/{user_id}/password", status=204, body=schemas.PASSWORD_CHANGE, public=True, also=(401,)
)
async def change_password(call: Call[Identity], user_id: str) -> None:
    """Change a password by giving the present one, which is proof enough; all tokens end."""
    given = call.body["user"]
    user = await call.app.db.read(users.find, user_id)
    old = None if user is None else user.password_hash
    right = await call.app.passwords.check(given["original_password"], old)
    if user is None or not user.enabled or not right:
        raise Unauthorized("The original password is not right.")
    if given["password"] == given["original_password"]:
        raise BadRequest("The new password must differ from the original one.")
    digest = await call.app.passwords.hash(given["password"])
    now = call.app.now()

    def work(tx: Tx) -> None:
        present = users.get(tx, user_id)
        if present.password_hash != old:
            raise Conflict("The password was changed by somebody else meanwhile.")
        users.update(tx, msgspec.structs.replace(present, password_hash=digest, valid_from=now))

    await call.app.change(work)


@routes.get("/{user_id}/groups", head=True)
async def list_groups(call: Call[Identity], user_id: str) -> dict[str, Any]:
    """The groups a user is in."""
    call.enforce("identity:list_groups_for_user", {"user_id": user_id})
    part = listing.part(call)
    where = listing.filters(call, GROUP, ("name", "domain_id"))

    def find(tx: Tx) -> list[Any]:
        users.get(tx, user_id)
        return users.group_page(tx, where, part, user_id=user_id)

    found = await call.app.db.read(find)
    return listing.answer(call, "groups", found, views.group, part.limit)


@routes.get("/{user_id}/projects", head=True)
async def list_projects(call: Call[Identity], user_id: str) -> dict[str, Any]:
    """The projects on which a user has a role."""
    call.enforce("identity:list_user_projects", {"user_id": user_id})
    part = listing.part(call)
    where = listing.filters(call, PROJECT, ("name", "domain_id", "enabled"))

    def find(tx: Tx) -> list[Project]:
        users.get(tx, user_id)
        return projects.page(tx, where, part, ids=roles.project_ids(tx, user_id))

    found = await call.app.db.read(find)
    return listing.answer(call, "projects", found, views.project, part.limit)


def _changed(
    user: User, given: dict[str, Any], extra: dict[str, Any], digest: str | None, now: int
) -> User:
    options = {**user.options, **given.get("options", {})}
    enabled = given.get("enabled", user.enabled)
    ended = digest is not None or (user.enabled and not enabled)
    return msgspec.structs.replace(
        user,
        name=given.get("name", user.name).strip(),
        default_project_id=given.get("default_project_id", user.default_project_id),
        enabled=enabled,
        options={name: value for name, value in options.items() if value is not None},
        extra={**user.extra, **extra},
        password_hash=digest or user.password_hash,
        valid_from=now if ended else user.valid_from,
    )


def _own_words_only(extra: dict[str, Any], own_id: str | None = None) -> None:
    for name in _IGNORED:
        extra.pop(name, None)
    if extra.pop("id", own_id) != own_id:
        raise BadRequest("The id of a user cannot be set.")
