"""Volume types, their extra specs, and who may use those that are not public."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.errors import BadRequest, Conflict, NotFound
from kilonova.db.database import Tx
from kilonova.embedded.volume import views
from kilonova.embedded.volume.api.metadata import texts
from kilonova.embedded.volume.app import Volumes, find_type, may_use
from kilonova.embedded.volume.records import DEFAULT_TYPE, Volume, VolumeType
from kilonova.embedded.volume.rules import is_admin
from kilonova.embedded.volume.schemas import (
    CREATE_TYPE,
    EXTRA_SPECS,
    METADATA,
    UPDATE_TYPE,
    body,
    closed,
    truth,
)
from kilonova.embedded.volume.store import rows
from kilonova.web.call import Call
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema

routes: Routes[Volumes] = Routes(prefix="/types", tag="types")

_MANAGE = "volume:types_manage"


def _named(tx: Tx, call: Call[Volumes], type_id: str) -> VolumeType:
    if type_id == "default":
        return find_type(tx, None, call.caller)
    found = rows.find(tx, VolumeType, type_id, lock=True)
    if found is None or not may_use(found, call.caller):
        raise NotFound(f"Volume type {type_id} could not be found.")
    return found


@routes.get("", policy="volume:types")
async def index(call: Call[Volumes]) -> dict[str, Any]:
    """The types the caller may use (administrators: ``is_public`` chooses)."""
    found = await call.app.db.read(rows.where, VolumeType)
    asked = call.query.get("is_public")
    shown = [item for item in found if may_use(item, call.caller)]
    if is_admin(call.caller):
        if asked is None:
            shown = [item for item in found if item.is_public]
        elif asked.lower() != "none":
            shown = [item for item in found if item.is_public == truth(asked)]
    return {"volume_types": [views.volume_type(call, item) for item in shown]}


@routes.post("", body=CREATE_TYPE, policy=_MANAGE)
async def create(call: Call[Volumes]) -> dict[str, Any]:
    """A new type."""
    given = call.body["volume_type"]
    name = given["name"].strip()
    if not name:
        raise BadRequest("Volume type name can not be empty.")
    made = VolumeType(
        id=call.ids.uuid(),
        name=name,
        description=given.get("description"),
        is_public=truth(given.get("os-volume-type-access:is_public", True)),
        extra_specs=texts(given.get("extra_specs")),
        projects=[],
        created_at=call.app.clock.now(),
        updated_at=None,
    )

    def work(tx: Tx) -> VolumeType:
        present = rows.where(tx, VolumeType, name=name)
        if present and present[0].id != made.id:
            raise Conflict(f"Volume Type {name} already exists.")
        if not present:
            rows.create(tx, made)
        return made

    shown = views.volume_type(call, await call.app.db.run(work))
    # A new type's answer does not tell of it.
    shown.pop("qos_specs_id", None)
    return {"volume_type": shown}


@routes.get("/{type_id}", policy="volume:types")
async def get(call: Call[Volumes], type_id: str) -> dict[str, Any]:
    """One type; ``default`` names the default one."""
    found = await call.app.db.read(_named, call, type_id)
    return {"volume_type": views.volume_type(call, found)}


@routes.put("/{type_id}", body=UPDATE_TYPE, policy=_MANAGE)
async def update(call: Call[Volumes], type_id: str) -> dict[str, Any]:
    """Change name, description, visibility."""
    given = call.body["volume_type"]

    def work(tx: Tx) -> None:
        item = _named(tx, call, type_id)
        changes: dict[str, Any] = {}
        if given.get("name"):
            others = rows.where(tx, VolumeType, name=given["name"].strip())
            if any(other.id != item.id for other in others):
                raise Conflict(f"Volume Type {given['name']} already exists.")
            changes["name"] = given["name"].strip()
        if "description" in given:
            changes["description"] = given["description"]
        if given.get("is_public") is not None:
            changes["is_public"] = truth(given["is_public"])
        if not changes:
            raise BadRequest("Specify volume type name, description, is_public or a combination.")
        rows.change(tx, VolumeType, item.id, **changes, updated_at=call.app.clock.now())

    await call.app.db.run(work)
    return await get(call, type_id)


@routes.delete("/{type_id}", status=202, policy=_MANAGE)
async def delete(call: Call[Volumes], type_id: str) -> None:
    """Remove a type no volume has."""

    def work(tx: Tx) -> None:
        item = _named(tx, call, type_id)
        if rows.where(tx, Volume, type_id=item.id):
            raise BadRequest("Target volume type is still in use.")
        if item.name == DEFAULT_TYPE:
            raise BadRequest(f"The volume type {item.name} is the default and cannot be deleted.")
        rows.delete(tx, VolumeType, item.id)

    await call.app.db.run(work)


# -- extra specs ---------------------------------------------------------------------------------


@routes.get("/{type_id}/extra_specs", policy="volume:types")
async def extra_specs(call: Call[Volumes], type_id: str) -> dict[str, Any]:
    """All extra specs."""
    found = await call.app.db.read(_named, call, type_id)
    return {"extra_specs": views.volume_type(call, found)["extra_specs"]}


@routes.post("/{type_id}/extra_specs", body=EXTRA_SPECS, policy=_MANAGE)
async def add_extra_specs(call: Call[Volumes], type_id: str) -> dict[str, Any]:
    """Add extra specs."""
    given = texts(call.body["extra_specs"])
    await _specs(call, type_id, given, ())
    return {"extra_specs": given}


@routes.get("/{type_id}/extra_specs/{key}", policy="volume:types")
async def extra_spec(call: Call[Volumes], type_id: str, key: str) -> dict[str, Any]:
    """One extra spec."""
    specs = (await extra_specs(call, type_id))["extra_specs"]
    if key not in specs:
        raise NotFound(f"Volume Type {type_id} has no extra specs with key {key}.")
    return {key: specs[key]}


@routes.put("/{type_id}/extra_specs/{key}", body=Schema(METADATA), policy=_MANAGE)
async def set_extra_spec(call: Call[Volumes], type_id: str, key: str) -> dict[str, Any]:
    """Set one extra spec."""
    given = texts(call.body)
    if set(given) != {key}:
        raise BadRequest("Request body and URI mismatch")
    await _specs(call, type_id, given, ())
    return given


@routes.delete("/{type_id}/extra_specs/{key}", status=202, policy=_MANAGE)
async def delete_extra_spec(call: Call[Volumes], type_id: str, key: str) -> None:
    """Remove one extra spec."""
    await _specs(call, type_id, {}, (key,))


async def _specs(
    call: Call[Volumes], type_id: str, added: dict[str, str], removed: tuple[str, ...]
) -> None:
    def work(tx: Tx) -> None:
        item = _named(tx, call, type_id)
        for key in removed:
            if key not in item.extra_specs:
                raise NotFound(f"Volume Type {type_id} has no extra specs with key {key}.")
        after = {k: v for k, v in {**item.extra_specs, **added}.items() if k not in removed}
        changed = msgspec.structs.replace(item, extra_specs=after)
        users = [v for v in rows.where(tx, Volume, type_id=item.id) if v.status == "in-use"]
        if users and changed.multiattach != item.multiattach:
            raise BadRequest("Volume Type is currently in use: its multiattach cannot change.")
        rows.change(tx, VolumeType, item.id, extra_specs=after)

    await call.app.db.run(work)


# -- access --------------------------------------------------------------------------------------


@routes.get("/{type_id}/os-volume-type-access", policy=_MANAGE)
async def access(call: Call[Volumes], type_id: str) -> dict[str, Any]:
    """The projects that may use a type that is not public."""
    found = await call.app.db.read(_named, call, type_id)
    if found.is_public:
        raise NotFound("Access list not available for public volume types.")
    rows_ = [{"volume_type_id": found.id, "project_id": one} for one in found.projects]
    return {"volume_type_access": rows_}


_PROJECT = closed({"project": {"type": "string", "minLength": 1, "maxLength": 255}}, "project")


@routes.post(
    "/{type_id}/action",
    action="addProjectAccess",
    body=body("addProjectAccess", _PROJECT),
    policy=_MANAGE,
    status=202,
)
async def add_access(call: Call[Volumes], type_id: str) -> None:
    """Let a project use it."""
    await _access(call, type_id, call.body["addProjectAccess"]["project"], add=True)


@routes.post(
    "/{type_id}/action",
    action="removeProjectAccess",
    body=body("removeProjectAccess", _PROJECT),
    policy=_MANAGE,
    status=202,
)
async def remove_access(call: Call[Volumes], type_id: str) -> None:
    """Let a project not use it any more."""
    await _access(call, type_id, call.body["removeProjectAccess"]["project"], add=False)


async def _access(call: Call[Volumes], type_id: str, project: str, *, add: bool) -> None:
    def work(tx: Tx) -> None:
        item = _named(tx, call, type_id)
        if item.is_public:
            raise Conflict("Type access modification is not applicable to public volume type.")
        if add and project in item.projects:
            raise Conflict(f"Volume type access for {type_id} / {project} already exists.")
        if not add and project not in item.projects:
            raise NotFound(f"Volume type access not found for {type_id} / {project}.")
        left = [one for one in item.projects if one != project]
        rows.change(tx, VolumeType, item.id, projects=[*left, project] if add else left)

    await call.app.db.run(work)
