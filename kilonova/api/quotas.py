"""``/os-quota-sets`` and ``/os-quota-class-sets``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kilonova.api import quota_rules
from kilonova.api.flavors import check_project
from kilonova.api.schemas import BOOLEAN, closed, no_query, truth
from kilonova.base.errors import BadRequest
from kilonova.context import Context, Services
from kilonova.db.database import Tx
from kilonova.domain.quotas import NETWORK, NOOP, UNIFIED, UNLIMITED, Rules
from kilonova.store import quotas as store
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers, between, pick, since, until

ROUTES: Routes[Services] = Routes(tag="quotas")
RULE = "os_compute_api:os-quota-sets:"
CLASS_RULE = "os_compute_api:os-quota-class-sets:"

_FILES = ("injected_files", "injected_file_content_bytes", "injected_file_path_bytes")
_GROUPS = ("server_groups", "server_group_members")
_ALWAYS = ("instances", "cores", "ram", "metadata_items", "key_pairs")
_MOST = 2147483647

_LIMIT = {
    "type": ["integer", "string"],
    "pattern": "^-?[0-9]+$",
    "minimum": -1,
    "maximum": _MOST,
    "minLength": 1,
}
_EVERY: dict[str, Any] = dict.fromkeys((*_ALWAYS, *_GROUPS), _LIMIT)
_OLD_FILES = {name: until(56, _LIMIT) for name in _FILES}
UPDATE = Schema(
    closed(
        {
            "quota_set": closed(
                {
                    **_EVERY,
                    **_OLD_FILES,
                    **{name: until(35, _LIMIT) for name in NETWORK},
                    "force": BOOLEAN,
                }
            )
        },
        "quota_set",
    )
)
UPDATE_CLASS = Schema(
    closed(
        {
            "quota_class_set": closed(
                {
                    **_EVERY,
                    **_OLD_FILES,
                    **{name: until(49, _LIMIT) for name in NETWORK},
                }
            )
        },
        "quota_class_set",
    )
)
_EXTRA = pick(between(0, 74, True), since(75, False))
LIST = Schema(
    {
        "type": "object",
        "properties": {"user_id": {"type": "string"}},
        "additionalProperties": _EXTRA,
    }
)


def _names(version: int, *, of_class: bool = False) -> list[str]:
    """Which resources that version shows."""
    names = [*_ALWAYS]
    if not of_class or version >= 50:
        names += _GROUPS
    if version <= 56:
        names += _FILES
    if version <= (49 if of_class else 35):
        names += NETWORK
    return names


def _shown(limits: Mapping[str, Any], version: int, *, of_class: bool = False) -> dict[str, Any]:
    return {name: limits[name] for name in _names(version, of_class=of_class)}


_USE = {"limit": int, "in_use": int, "reserved": int}


def _quota(form: Any, *texts: str, of_class: bool = False) -> dict[Any, Any]:
    """The form of a quota set: each resource at the versions that show it."""
    return {
        **dict.fromkeys(texts, str),
        **dict.fromkeys(_ALWAYS, since(0, form)),
        **dict.fromkeys(_GROUPS, since(50 if of_class else 0, form)),
        **dict.fromkeys(_FILES, until(56, form)),
        **dict.fromkeys(NETWORK, until(49 if of_class else 35, form)),
    }


def _target(project_id: str) -> dict[str, str]:
    return {"project_id": project_id}


def _limits(tx: Tx, rules: Rules, project_id: str, user_id: str | None) -> dict[str, int]:
    return quota_rules.limits(tx, rules, project_id, user_id or "", shown=True)


@ROUTES.get(
    "/os-quota-sets/{project_id}",
    query=LIST,
    responses=answers(quota_set=_quota(int, "id")),
    summary="Show a project's quota",
)
async def show(call: Context, project_id: str) -> dict[str, Any]:
    """Limits of a project, or of one user in it (``user_id``)."""
    call.enforce(RULE + "show", _target(project_id))
    await check_project(call, project_id)
    rules = await quota_rules.load(call, project_id)
    found = await call.app.db.read(_limits, rules, project_id, call.query.get("user_id"))
    return {"quota_set": {"id": project_id, **_shown(found, call.version)}}


@ROUTES.get(
    "/os-quota-sets/{project_id}/detail",
    query=LIST,
    responses=answers(quota_set=_quota(_USE, "id")),
    summary="Quota with what is used",
)
async def detail(call: Context, project_id: str) -> dict[str, Any]:
    """Limits with use; nothing is ever reserved."""
    call.enforce(RULE + "detail", _target(project_id))
    await check_project(call, project_id)
    user = call.query.get("user_id")
    rules = await quota_rules.load(call, project_id, user_id=user or "", counting=True)
    limits, used = await call.app.db.read(_detailed, rules, project_id, user)
    reserved = UNLIMITED if rules.driver == NOOP else 0
    rows = {
        name: {"limit": limit, "in_use": used.get(name, reserved), "reserved": reserved}
        for name, limit in _shown(limits, call.version).items()
    }
    return {"quota_set": {"id": project_id, **rows}}


def _detailed(
    tx: Tx, rules: Rules, project_id: str, user_id: str | None
) -> tuple[dict[str, int], dict[str, int]]:
    limits = _limits(tx, rules, project_id, user_id)
    return limits, {} if rules.driver == NOOP else _used(tx, rules, project_id, user_id)


def _used(tx: Tx, rules: Rules, project_id: str, user_id: str | None) -> dict[str, int]:
    user = None if rules.unified else user_id
    usage = quota_rules.usage(tx, rules, project_id, user)
    return {
        "instances": usage.instances,
        "cores": usage.cores,
        "ram": usage.ram,
        "server_groups": store.groups_used(tx, project_id, user),
    }


@ROUTES.get(
    "/os-quota-sets/{project_id}/defaults",
    query=no_query(),
    responses=answers(quota_set=_quota(int, "id")),
    summary="Show default quota",
)
async def defaults(call: Context, project_id: str) -> dict[str, Any]:
    """What a project has when nothing else is said."""
    call.enforce(RULE + "defaults", _target(project_id))
    await check_project(call, project_id)
    rules = await quota_rules.load(call, project_id)
    found = await call.app.db.read(quota_rules.class_limits, rules)
    return {"quota_set": {"id": project_id, **_shown(found, call.version)}}


@ROUTES.put(
    "/os-quota-sets/{project_id}",
    query=LIST,
    body=UPDATE,
    responses=answers(quota_set=_quota(int)),
    summary="Change a project's quota",
)
async def update(call: Context, project_id: str) -> dict[str, Any]:
    """Set limits; past what is used or left only with ``force``.

    Unified limits are changed at the identity service: here nothing happens to them.
    """
    call.enforce(RULE + "update", _target(project_id))
    await check_project(call, project_id)
    body = dict(call.body["quota_set"])
    force = truth(body.pop("force", False))
    user = call.query.get("user_id")
    rules = await quota_rules.load(call, project_id, user_id=user or "", counting=True)
    values = {name: int(value) for name, value in body.items() if name in rules.defaults}

    def write(tx: Tx) -> dict[str, int]:
        if not rules.unified:
            if rules.stored and not force:
                _check(tx, rules, project_id, user, values)
            store.set_limits(tx, values, project_id, user or "")
        return _limits(tx, rules, project_id, user)

    return {"quota_set": _shown(await call.app.db.run(write), call.version)}


def _check(
    tx: Tx, rules: Rules, project_id: str, user: str | None, values: Mapping[str, int]
) -> None:
    """BadRequest for limits below what is used or given to users, or above what is left to one."""
    used = _used(tx, rules, project_id, user)
    project = _limits(tx, rules, project_id, None)
    users = store.users_limits(tx, project_id)
    for name, value in values.items():
        given = sum(limits.get(name, 0) for limits in users.values())
        least, most = used.get(name, 0), math.inf
        if user is None:
            least = max(least, given)
        elif project[name] >= 0:
            most = project[name] - given + users.get(user, {}).get(name, 0)
        wanted = math.inf if value == UNLIMITED else value
        if wanted < least:
            raise BadRequest(
                f"Quota limit {value} for {name} must be greater than or equal to already used "
                f"and reserved {least}."
            )
        if wanted > most:
            raise BadRequest(
                f"Quota limit {value} for {name} must be less than or equal to {most}."
            )


@ROUTES.delete("/os-quota-sets/{project_id}", query=LIST, status=202, summary="Reset quota")
async def delete(call: Context, project_id: str) -> None:
    """Back to the defaults; of unified limits nothing is changed."""
    call.enforce(RULE + "delete", _target(project_id))
    if call.app.settings.quota.driver != UNIFIED:
        await call.app.db.run(store.reset, project_id, call.query.get("user_id"))


@ROUTES.get(
    "/os-quota-class-sets/{name}",
    policy=CLASS_RULE + "show",
    query=no_query(),
    responses=answers(quota_class_set=_quota(int, "id", of_class=True)),
    summary="Show a quota class",
)
async def show_class(call: Context, name: str) -> dict[str, Any]:
    """Only the class ``default`` has an effect."""
    rules = await quota_rules.load(call, call.caller.project_id or "")
    found = await call.app.db.read(quota_rules.class_limits, rules, name)
    return {"quota_class_set": {"id": name, **_shown(found, call.version, of_class=True)}}


@ROUTES.put(
    "/os-quota-class-sets/{name}",
    policy=CLASS_RULE + "update",
    body=UPDATE_CLASS,
    responses=answers(quota_class_set=_quota(int, of_class=True)),
    summary="Change a quota class",
)
async def update_class(call: Context, name: str) -> dict[str, Any]:
    """Set limits of a class; of unified limits nothing is changed."""
    if not 1 <= len(name) <= 255:
        raise BadRequest("A quota class has a name of 1 to 255 characters.")
    rules = await quota_rules.load(call, call.caller.project_id or "")
    body = call.body["quota_class_set"]
    values = {key: int(value) for key, value in body.items() if key in rules.defaults}

    def write(tx: Tx) -> dict[str, int]:
        if not rules.unified:
            store.set_class_limits(tx, values, name)
        return quota_rules.class_limits(tx, rules, name)

    found = await call.app.db.run(write)
    return {"quota_class_set": _shown(found, call.version, of_class=True)}
