"""``/os-quota-sets`` and ``/os-quota-class-sets``."""

from __future__ import annotations

from typing import Any

from kilonova.api.flavors import check_project
from kilonova.api.schemas import BOOLEAN, closed, no_query, truth
from kilonova.base.errors import BadRequest
from kilonova.context import Context, Services
from kilonova.db.database import Tx
from kilonova.store import quotas as store
from kilonova.store.quotas import Usage
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, between, pick, since, until

ROUTES: Routes[Services] = Routes(tag="quotas")
RULE = "os_compute_api:os-quota-sets:"
CLASS_RULE = "os_compute_api:os-quota-class-sets:"

_FILES = ("injected_files", "injected_file_content_bytes", "injected_file_path_bytes")
_NETWORK = ("fixed_ips", "floating_ips", "security_groups", "security_group_rules")
_GROUPS = ("server_groups", "server_group_members")
_ALWAYS = ("instances", "cores", "ram", "metadata_items", "key_pairs")
# Limits of the network service: shown by old versions, kept by the service itself.
_UNKNOWN = -1
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
                    **{name: until(35, _LIMIT) for name in (*_NETWORK, "networks")},
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
                    **dict.fromkeys(_ALWAYS, _LIMIT),
                    **{name: since(50, _LIMIT) for name in _GROUPS},
                    **_OLD_FILES,
                    **{name: until(49, _LIMIT) for name in (*_NETWORK, "networks")},
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
        names += _NETWORK
    return names


def _shown(limits: dict[str, int], version: int, *, of_class: bool = False) -> dict[str, Any]:
    names = _names(version, of_class=of_class)
    return {name: limits.get(name, _UNKNOWN) for name in names}


def _target(project_id: str) -> dict[str, str]:
    return {"project_id": project_id}


def _limits(tx: Tx, call: Context, project_id: str, user_id: str | None) -> dict[str, int]:
    return store.limits(tx, call.app.settings.quota.limits(), project_id, user_id or "")


@ROUTES.get("/os-quota-sets/{project_id}", query=LIST, summary="Show a project's quota")
async def show(call: Context, project_id: str) -> dict[str, Any]:
    """Limits of a project, or of one user in it (``user_id``)."""
    call.enforce(RULE + "show", _target(project_id))
    await check_project(call, project_id)
    found = await call.app.db.read(_limits, call, project_id, call.query.get("user_id"))
    return {"quota_set": {"id": project_id, **_shown(found, call.version)}}


@ROUTES.get("/os-quota-sets/{project_id}/detail", query=LIST, summary="Quota with what is used")
async def detail(call: Context, project_id: str) -> dict[str, Any]:
    """Limits with use; nothing is ever reserved."""
    call.enforce(RULE + "detail", _target(project_id))
    await check_project(call, project_id)
    user = call.query.get("user_id")

    def read(tx: Tx) -> tuple[dict[str, int], Usage, int]:
        limits = _limits(tx, call, project_id, user)
        return limits, store.usage(tx, project_id, user), store.groups_used(tx, project_id)

    limits, usage, groups = await call.app.db.read(read)
    used = {
        "instances": usage.instances,
        "cores": usage.cores,
        "ram": usage.ram,
        "server_groups": groups,
    }
    rows = {
        name: {"limit": limit, "in_use": used.get(name, 0), "reserved": 0}
        for name, limit in _shown(limits, call.version).items()
    }
    return {"quota_set": {"id": project_id, **rows}}


@ROUTES.get("/os-quota-sets/{project_id}/defaults", query=no_query(), summary="Show default quota")
async def defaults(call: Context, project_id: str) -> dict[str, Any]:
    """What a project has when nothing else is said."""
    call.enforce(RULE + "defaults", _target(project_id))
    await check_project(call, project_id)
    found = await call.app.db.read(store.class_limits, call.app.settings.quota.limits())
    return {"quota_set": {"id": project_id, **_shown(found, call.version)}}


@ROUTES.put(
    "/os-quota-sets/{project_id}", query=LIST, body=UPDATE, summary="Change a project's quota"
)
async def update(call: Context, project_id: str) -> dict[str, Any]:
    """Set limits; below what is used only with ``force``."""
    call.enforce(RULE + "update", _target(project_id))
    await check_project(call, project_id)
    body = dict(call.body["quota_set"])
    force = truth(body.pop("force", False))
    known = set(call.app.settings.quota.limits())
    values = {name: int(value) for name, value in body.items() if name in known}
    user = call.query.get("user_id")

    def write(tx: Tx) -> dict[str, int]:
        _check(tx, call, project_id, user, values, force=force)
        store.set_limits(tx, values, project_id, user or "")
        return _limits(tx, call, project_id, user)

    return {"quota_set": _shown(await call.app.db.run(write), call.version)}


def _check(
    tx: Tx,
    call: Context,
    project_id: str,
    user: str | None,
    values: dict[str, int],
    *,
    force: bool,
) -> None:
    usage = store.usage(tx, project_id, user)
    project = _limits(tx, call, project_id, None)
    for name, value in values.items():
        used = getattr(usage, name, 0)
        if 0 <= value < used and not force:
            raise BadRequest(f"Quota value {value} for {name} must be greater than {used} in use.")
        top = project[name]
        if user and top >= 0 and (value < 0 or value > top) and not force:
            raise BadRequest(f"Quota limit {value} for {name} must be at most the project's {top}.")


@ROUTES.delete("/os-quota-sets/{project_id}", query=LIST, status=202, summary="Reset quota")
async def delete(call: Context, project_id: str) -> None:
    """Back to the defaults."""
    call.enforce(RULE + "delete", _target(project_id))
    await check_project(call, project_id)
    await call.app.db.run(store.reset, project_id, call.query.get("user_id"))


@ROUTES.get(
    "/os-quota-class-sets/{name}",
    policy=CLASS_RULE + "show",
    query=no_query(),
    summary="Show a quota class",
)
async def show_class(call: Context, name: str) -> dict[str, Any]:
    """Only the class ``default`` has an effect."""
    defaults_ = call.app.settings.quota.limits()
    found = await call.app.db.read(store.class_limits, defaults_, name)
    return {"quota_class_set": {"id": name, **_shown(found, call.version, of_class=True)}}


@ROUTES.put(
    "/os-quota-class-sets/{name}",
    policy=CLASS_RULE + "update",
    body=UPDATE_CLASS,
    summary="Change a quota class",
)
async def update_class(call: Context, name: str) -> dict[str, Any]:
    """Set limits of a class."""
    defaults_ = call.app.settings.quota.limits()
    body = call.body["quota_class_set"]
    values = {key: int(value) for key, value in body.items() if key in defaults_}

    def write(tx: Tx) -> dict[str, int]:
        store.set_class_limits(tx, values, name)
        return store.class_limits(tx, defaults_, name)

    found = await call.app.db.run(write)
    return {"quota_class_set": _shown(found, call.version, of_class=True)}
