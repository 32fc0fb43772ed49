"""``/os-assisted-volume-snapshots``: the volume service asks for a snapshot inside a hypervisor.

The block storage service that comes with the cloud takes its snapshots by itself.
"""

from __future__ import annotations

import msgspec

from kilonova.api.actions.later import not_yet
from kilonova.api.schemas import closed
from kilonova.base.errors import BadRequest, NotFound
from kilonova.context import Context, Services
from kilonova.store import block_devices
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, pick, since, until

TAGS = ("assisted snapshots", "answers 501")
ROUTES: Routes[Services] = Routes(prefix="/os-assisted-volume-snapshots", tag=TAGS[0])
RULE = "os_compute_api:os-assisted-volume-snapshots:"
CREATE = Schema(
    closed(
        {
            "snapshot": closed(
                {
                    "volume_id": {"type": "string", "minLength": 1},
                    "create_info": closed(
                        {
                            "snapshot_id": {"type": "string", "minLength": 1},
                            "type": {"type": "string", "enum": ["qcow2"]},
                            "new_file": {"type": "string", "minLength": 1},
                            "id": {"type": "string", "minLength": 1},
                        },
                        "snapshot_id",
                        "type",
                        "new_file",
                    ),
                },
                "volume_id",
                "create_info",
            )
        },
        "snapshot",
    )
)
DELETE = Schema(
    {
        "type": "object",
        "properties": {"delete_info": {"type": "array", "items": {"type": "string"}}},
        "required": ["delete_info"],
        "additionalProperties": pick(until(74, True), since(75, False)),
    }
)


async def _used(call: Context, volume_id: str) -> None:
    answers = await call.app.cells.gather(block_devices.users_of, volume_id)
    if not any(found for _, found in answers.found):
        raise NotFound(f"No volume Block Device Mapping with id {volume_id}.")


@ROUTES.post("", policy=RULE + "create", body=CREATE, tags=TAGS, summary="Create a snapshot")
async def create(call: Context) -> None:
    """Of a volume that a server has."""
    try:
        await _used(call, call.body["snapshot"]["volume_id"])
    except NotFound as error:
        raise BadRequest(error.message) from None
    raise not_yet("assisted volume snapshot")


@ROUTES.delete(
    "/{snapshot_id}",
    policy=RULE + "delete",
    query=DELETE,
    status=204,
    tags=TAGS,
    summary="Delete a snapshot",
)
async def delete(call: Context, snapshot_id: str) -> None:
    """``delete_info`` is JSON that names the volume."""
    try:
        info = msgspec.json.decode(call.query.get("delete_info") or "", type=dict[str, object])
    except msgspec.MsgspecError:
        raise BadRequest("delete_info must be a JSON object.") from None
    if "volume_id" not in info:
        raise BadRequest("delete_info must name the volume_id.")
    await _used(call, str(info["volume_id"]))
    raise not_yet("assisted volume snapshot")
