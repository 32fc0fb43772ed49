"""Groups and who is in them."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.errors import BadRequest, NotFound
from kilonova.db.database import Tx
from kilonova.embedded.identity import listing, schemas, views
from kilonova.embedded.identity.app import Identity
from kilonova.embedded.identity.records import DEFAULT_DOMAIN, Group
from kilonova.embedded.identity.store import projects, rows, users
from kilonova.embedded.identity.tables import GROUP, USER
from kilonova.web.call import Call
from kilonova.web.routes import Routes

routes: Routes[Identity] = Routes(prefix="/groups", tag="groups")

KNOWN = ("name", "domain_id", "description")


@routes.get("", head=True)
async def index(call: Call[Identity]) -> dict[str, Any]:
    """Groups by ``name`` and ``domain_id``."""
    call.enforce("identity:list_groups", {"domain_id": call.query.get("domain_id", "")})
    part = listing.part(call)
    where = listing.filters(call, GROUP, ("name", "domain_id"))
    found = await call.app.db.read(users.group_page, where, part)
    return listing.answer(call, "groups", found, views.group, part.limit)


@routes.post("", status=201, body=schemas.GROUP, policy="identity:create_group")
async def create(call: Call[Identity]) -> dict[str, Any]:
    """A new group."""
    given, extra = rows.pick(call.body["group"], KNOWN)
    _own_words_only(extra)
    group = Group(
        id=call.ids.hex(),
        name=given["name"].strip(),
        domain_id=given.get("domain_id") or call.caller.domain_id or DEFAULT_DOMAIN,
        description=given.get("description") or "",
        extra=extra,
    )

    def work(tx: Tx) -> None:
        projects.get_domain(tx, group.domain_id)
        users.create_group(tx, group)

    await call.app.change(work)
    return {"group": views.group(group, call.link)}


@routes.get("/{group_id}", head=True, policy="identity:get_group")
async def show(call: Call[Identity], group_id: str) -> dict[str, Any]:
    """One group."""
    return {"group": views.group(await call.app.db.read(users.get_group, group_id), call.link)}


@routes.patch("/{group_id}", body=schemas.GROUP_CHANGE, policy="identity:update_group")
async def update(call: Call[Identity], group_id: str) -> dict[str, Any]:
    """Change a group."""
    given, extra = rows.pick(call.body["group"], KNOWN)
    _own_words_only(extra, group_id)

    def work(tx: Tx) -> Group:
        group = users.get_group(tx, group_id)
        if given.get("domain_id", group.domain_id) != group.domain_id:
            raise BadRequest("The domain of a group cannot be changed.")
        group = msgspec.structs.replace(
            group,
            name=given.get("name", group.name).strip(),
            description=given.get("description", group.description) or "",
            extra={**group.extra, **extra},
        )
        users.update_group(tx, group)
        return group

    return {"group": views.group(await call.app.change(work), call.link)}


@routes.delete("/{group_id}", status=204, policy="identity:delete_group")
async def delete(call: Call[Identity], group_id: str) -> None:
    """Remove a group."""
    await call.app.change(users.delete_group, group_id)


@routes.get("/{group_id}/users", head=True, policy="identity:list_users_in_group")
async def list_members(call: Call[Identity], group_id: str) -> dict[str, Any]:
    """The users in a group."""
    part = listing.part(call)
    where = listing.filters(call, USER, ("name", "domain_id", "enabled"))

    def find(tx: Tx) -> list[Any]:
        users.get_group(tx, group_id)
        return users.page(tx, where, part, group_id=group_id)

    found = await call.app.db.read(find)
    return listing.answer(call, "users", found, views.user, part.limit)


@routes.put("/{group_id}/users/{user_id}", status=204, policy="identity:add_user_to_group")
async def add_member(call: Call[Identity], group_id: str, user_id: str) -> None:
    """Put a user into a group."""

    def work(tx: Tx) -> None:
        users.get_group(tx, group_id)
        users.get(tx, user_id)
        users.add_member(tx, user_id, group_id)

    await call.app.change(work)


@routes.get(
    "/{group_id}/users/{user_id}",
    head=True,
    status=204,
    policy="identity:list_users_in_group",
)
async def check_member(call: Call[Identity], group_id: str, user_id: str) -> None:
    """204 if the user is in the group, else 404."""

    def find(tx: Tx) -> bool:
        users.get_group(tx, group_id)
        users.get(tx, user_id)
        return users.is_member(tx, user_id, group_id)

    if not await call.app.db.read(find):
        raise NotFound(f"User {user_id} is not in group {group_id}.")


@routes.delete("/{group_id}/users/{user_id}", status=204, policy="identity:remove_user_from_group")
async def remove_member(call: Call[Identity], group_id: str, user_id: str) -> None:
    """Take a user out of a group."""
    await call.app.change(users.remove_member, user_id, group_id)


def _own_words_only(extra: dict[str, Any], own_id: str | None = None) -> None:
    extra.pop("links", None)
    if extra.pop("id", own_id) != own_id:
        raise BadRequest("The id of a group cannot be set.")
