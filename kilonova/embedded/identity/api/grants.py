"""Giving roles to users and groups on projects, domains and the system."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from kilonova.base.errors import NotFound
from kilonova.db.database import Tx
from kilonova.embedded.identity import listing, views
from kilonova.embedded.identity.app import Identity
from kilonova.embedded.identity.records import EVERYWHERE, Assignment, Role
from kilonova.embedded.identity.store import credentials, projects, roles, users
from kilonova.web.call import Call
from kilonova.web.routes import Routes

routes: Routes[Identity] = Routes(tag="role assignments")

Handler = Callable[..., Awaitable[Any]]


def _check_ends(tx: Tx, item: Assignment) -> None:
    """NotFound unless the role, the actor and the target are there."""
    roles.get(tx, item.role_id)
    _check_actor(tx, item.actor_kind, item.actor_id)
    _check_target(tx, item.target_kind, item.target_id)


def _check_actor(tx: Tx, kind: str, actor_id: str) -> None:
    if kind == "user":
        users.get(tx, actor_id)
    else:
        users.get_group(tx, actor_id)


def _check_target(tx: Tx, kind: str, target_id: str) -> None:
    if kind == "project":
        projects.get(tx, target_id)
    elif kind == "domain":
        projects.get_domain(tx, target_id)


async def _list(call: Call[Identity], item: Assignment) -> dict[str, Any]:
    def find(tx: Tx) -> list[Role]:
        _check_actor(tx, item.actor_kind, item.actor_id)
        _check_target(tx, item.target_kind, item.target_id)
        given = roles.assignments(
            tx,
            actor_kind=item.actor_kind,
            actor_id=item.actor_id,
            target_kind=item.target_kind,
            target_id=item.target_id,
            inherited=item.inherited,
        )
        return roles.page(tx, (), ids=[one.role_id for one in given])

    return listing.answer(call, "roles", await call.app.db.read(find), views.role)


async def _grant(call: Call[Identity], item: Assignment) -> None:
    def work(tx: Tx) -> None:
        _check_ends(tx, item)
        roles.grant(tx, item)

    await call.app.change(work)


async def _check(call: Call[Identity], item: Assignment) -> None:
    def find(tx: Tx) -> bool:
        _check_ends(tx, item)
        return roles.has(tx, item)

    if not await call.app.db.read(find):
        raise NotFound("There is no such role assignment.")


async def _take(call: Call[Identity], item: Assignment) -> None:
    def work(tx: Tx) -> None:
        _check_ends(tx, item)
        roles.take(tx, item)
        if item.target_kind == "project":
            holders = (
                [item.actor_id]
                if item.actor_kind == "user"
                else users.member_ids(tx, item.actor_id)
            )
            for user_id in holders:
                credentials.delete_applications(tx, user_id, item.target_id)

    await call.app.change(work)


def _item(call: Call[Identity], target: str, actor: str, *, inherited: bool) -> Assignment:
    values = call.params
    return Assignment(
        actor,
        values["actor_id"],
        target,
        values.get("target_id", EVERYWHERE),
        values.get("role_id", ""),
        inherited,
    )


def _bind(work: Handler, target: str, actor: str, *, inherited: bool) -> Handler:
    async def handler(call: Call[Identity]) -> Any:
        return await work(call, _item(call, target, actor, inherited=inherited))

    handler.__doc__ = work.__doc__
    return handler


def _declare(base: str, target: str, actor: str, *, inherited: bool) -> None:
    end = "/inherited_to_projects" if inherited else ""
    one = f"{base}/{{role_id}}{end}"

    def bind(work: Handler) -> Handler:
        return _bind(work, target, actor, inherited=inherited)

    routes.add("GET", base + end, bind(_list), head=True, policy="identity:list_grants")
    routes.add("PUT", one, bind(_grant), status=204, policy="identity:create_grant")
    routes.add("GET", one, bind(_check), status=204, head=True, policy="identity:list_grants")
    routes.add("DELETE", one, bind(_take), status=204, policy="identity:delete_grant")


for _actor in ("user", "group"):
    _declare(f"/system/{_actor}s/{{actor_id}}/roles", "system", _actor, inherited=False)
    for _target in ("project", "domain"):
        _path = f"/{_target}s/{{target_id}}/{_actor}s/{{actor_id}}/roles"
        _declare(_path, _target, _actor, inherited=False)
        _declare("/OS-INHERIT" + _path, _target, _actor, inherited=True)
