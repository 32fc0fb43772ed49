"""``/os-server-groups``."""

from __future__ import annotations

from typing import Any

from kilonova.api import quota_rules
from kilonova.api.find import is_admin
from kilonova.api.schemas import NAME, closed, no_query
from kilonova.base.errors import BadRequest, NotFound
from kilonova.context import Context, Services
from kilonova.db.database import Tx
from kilonova.domain.quotas import Rules
from kilonova.domain.resources import Group
from kilonova.store import groups as store
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers, between, pick, since, until
from kilonova.web.view import Field, View

ROUTES: Routes[Services] = Routes(prefix="/os-server-groups", tag="server groups")
RULE = "os_compute_api:os-server-groups:"

_HARD = ["anti-affinity", "affinity"]
_ALL = [*_HARD, "soft-anti-affinity", "soft-affinity"]


def _one_of(words: list[str]) -> dict[str, Any]:
    return {"type": "array", "items": {"enum": words}, "minItems": 1, "maxItems": 1}


CREATE = Schema(
    closed(
        {
            "server_group": closed(
                {
                    "name": NAME,
                    "policies": pick(until(14, _one_of(_HARD)), between(15, 63, _one_of(_ALL))),
                    "policy": since(64, {"type": "string", "enum": _ALL}),
                    "rules": since(
                        64,
                        closed(
                            {
                                "max_server_per_host": {
                                    "type": ["integer", "string"],
                                    "pattern": "^[0-9]+$",
                                    "minimum": 1,
                                    "minLength": 1,
                                }
                            }
                        ),
                    ),
                },
                "name",
                until(63, "policies"),
                since(64, "policy"),
            )
        },
        "server_group",
    )
)
LIST = Schema(
    {
        "type": "object",
        "properties": {
            "all_projects": {"type": "string"},
            "limit": {"type": "string", "pattern": "^[0-9]+$"},
            "offset": {"type": "string", "pattern": "^[0-9]+$"},
        },
        "additionalProperties": pick(until(74, True), since(75, False)),
    }
)

GROUP = View(
    "server_group",
    [
        Field("id"),
        Field("name"),
        Field("members"),
        Field("policies", lambda g: [g.policy], until=63),
        Field("metadata", lambda g: {}, until=63),
        Field("policy", since=64),
        Field("rules", since=64),
        Field("project_id", since=13),
        Field("user_id", since=13),
    ],
)


def _scope(call: Context) -> str | None:
    return None if is_admin(call) else call.caller.project_id


async def _find(call: Context, group_id: str, rule: str) -> Group:
    found = await call.app.db.read(store.get, group_id, project_id=_scope(call))
    if found is None:
        raise NotFound(f"Instance group {group_id} could not be found.")
    call.enforce(RULE + rule, {"project_id": found.project_id, "user_id": found.user_id})
    return found


@ROUTES.get(
    "",
    policy=RULE + "index",
    responses=answers(server_groups=[GROUP]),
    query=LIST,
    summary="List server groups",
)
async def index(call: Context) -> dict[str, Any]:
    """The project's groups; ``all_projects`` for administrators."""
    project = call.caller.project_id
    if "all_projects" in call.query and is_admin(call):
        call.enforce(RULE + "index:all_projects")
        project = None
    limit = call.query.number("limit")
    most = call.app.settings.api.max_limit
    found = await call.app.db.read(
        store.page,
        project_id=project,
        limit=most if not limit else min(limit, most),
        offset=call.query.number("offset") or 0,
    )
    return {"server_groups": GROUP.render_all(found, call.version)}


@ROUTES.post(
    "",
    policy=RULE + "create",
    responses=answers(server_group=GROUP),
    body=CREATE,
    summary="Create a server group",
)
async def create(call: Context) -> dict[str, Any]:
    """A new, empty group."""
    body = call.body["server_group"]
    policy = body["policy"] if call.version >= 64 else body["policies"][0]
    rules = {key: int(value) for key, value in body.get("rules", {}).items()}
    if rules and policy != "anti-affinity":
        raise BadRequest("Only anti-affinity policy supports rules.")
    caller = call.caller
    group = Group(
        call.ids.uuid(),
        body["name"].strip(),
        caller.project_id or "",
        caller.user_id,
        policy,
        rules,
    )

    async def write(rules: Rules) -> None:
        await call.app.db.run(_create, call, group, rules)

    await quota_rules.within(call, group.project_id, write)
    return {"server_group": GROUP.render(group, call.version)}


def _create(tx: Tx, call: Context, group: Group, rules: Rules) -> None:
    limits = quota_rules.limits(tx, rules, group.project_id, group.user_id)
    store.create(
        tx,
        group,
        now=call.clock.now(),
        limit=limits["server_groups"],
        unified=rules.unified,
    )


@ROUTES.get(
    "/{group_id}",
    policy=RULE + "show",
    responses=answers(server_group=GROUP),
    query=no_query(),
    summary="Show a server group",
)
async def show(call: Context, group_id: str) -> dict[str, Any]:
    """One group."""
    return {"server_group": GROUP.render(await _find(call, group_id, "show"), call.version)}


@ROUTES.delete("/{group_id}", policy=RULE + "delete", status=204, summary="Delete a server group")
async def delete(call: Context, group_id: str) -> None:
    """Its servers stay."""
    await _find(call, group_id, "delete")
    await call.app.db.run(store.delete, group_id)
