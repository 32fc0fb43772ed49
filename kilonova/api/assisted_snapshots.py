"""``/os-assisted-volume-snapshots``: the volume service asks for a snapshot inside a hypervisor.

The block storage service that comes with the cloud takes its snapshots by itself.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any, TypeVar

import msgspec

from kilonova.api.schemas import closed
from kilonova.api.work import start, when_free
from kilonova.base.errors import BadRequest, Conflict, NotFound
from kilonova.context import Context, Services
from kilonova.db.cells import Cell
from kilonova.db.database import Tx
from kilonova.domain import states
from kilonova.domain.guest import Disk
from kilonova.domain.sagas import (
    MERGE_VOLUME,
    SNAPSHOT_VOLUME,
    MergeSaga,
    SagaKind,
    SnapshotSaga,
)
from kilonova.domain.server import Server
from kilonova.store import block_devices, servers
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers, pick, since, until

TAGS = ("assisted snapshots",)
ROUTES: Routes[Services] = Routes(prefix="/os-assisted-volume-snapshots", tag=TAGS[0])
RULE = "os_compute_api:os-assisted-volume-snapshots:"
MOST_NAME = 255
A = TypeVar("A", bound=msgspec.Struct)
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


class Target(msgspec.Struct, frozen=True):
    """The one server that has the volume, and its disk there."""

    cell: Cell
    server: Server
    disk: Disk


def _users(tx: Tx, volume_id: str) -> list[tuple[Server, Disk]]:
    found = []
    for server_id in block_devices.users_of(tx, volume_id):
        server = servers.get(tx, server_id)
        for disk in block_devices.of_server(tx, server_id):
            if server is not None and disk.volume_id == volume_id:
                found.append((server, disk))
    return found


async def _target(call: Context, volume_id: str) -> Target:
    """BadRequest when no server has the volume, or several."""
    answers = await call.app.cells.gather(_users, volume_id)
    found = [Target(cell, *use) for cell, uses in answers.found for use in uses]
    if not found:
        raise BadRequest(f"No volume Block Device Mapping with id {volume_id}.")
    if len(found) > 1:
        raise BadRequest(f"Volume {volume_id} is attached to more than one server.")
    return found[0]


def _file(name: str) -> str:
    """The name of a file beside the volume's own, wherever it was said to be."""
    file = PurePosixPath(name).name
    if file in ("", "..") or len(file) > MOST_NAME:
        raise BadRequest(f"{name[:MOST_NAME]} is no name of a file.")
    return file


async def _accept(call: Context, target: Target, word: str, kind: SagaKind[A], args: A) -> None:
    server_id = target.server.id

    def begin(tx: Tx) -> None:
        servers.begin(tx, server_id, word, task=None, now=call.clock.now())
        start(tx, call, kind, args, server_id)

    try:
        states.check(word, target.server)
        await when_free(call, target.cell, begin)
    except (Conflict, NotFound) as fault:
        # This interface has always told wrong states with 400.
        raise BadRequest(fault.message, code=fault.code) from None
    await call.app.wake()


@ROUTES.post(
    "",
    policy=RULE + "create",
    body=CREATE,
    tags=TAGS,
    responses=answers(snapshot={"id": str | None, "volumeId": str}),
    summary="Create a snapshot",
)
async def create(call: Context) -> dict[str, Any]:
    """Of a volume that a server has: it goes on in ``new_file``.

    The volume service made that file, and is told of the progress by the snapshot's status.
    """
    asked = call.body["snapshot"]
    info = asked["create_info"]
    file = _file(info["new_file"])
    target = await _target(call, asked["volume_id"])
    args = SnapshotSaga(target.server.id, target.disk.id, info["snapshot_id"], file)
    await _accept(call, target, "volume_snapshot_create", SNAPSHOT_VOLUME, args)
    return {"snapshot": {"id": info.get("id"), "volumeId": asked["volume_id"]}}


class DeleteInfo(msgspec.Struct):
    """The query parameter ``delete_info``."""

    volume_id: str
    file_to_merge: str | None = None
    merge_target_file: str | None = None


@ROUTES.delete(
    "/{snapshot_id}",
    policy=RULE + "delete",
    query=DELETE,
    status=204,
    tags=TAGS,
    summary="Delete a snapshot",
)
async def delete(call: Context, snapshot_id: str) -> None:
    """``delete_info`` is JSON: the volume, and which of its files are to become one."""
    try:
        info = msgspec.json.decode(call.query.get("delete_info") or "", type=DeleteInfo)
    except msgspec.MsgspecError as error:
        raise BadRequest(f"delete_info is not understood: {error}") from None
    target = await _target(call, info.volume_id)
    server = target.server
    file = _file(info.file_to_merge) if info.file_to_merge else None
    into = _file(info.merge_target_file) if info.merge_target_file else None
    if into is not None and server.vm_state != states.VmState.ACTIVE:
        wrong = states.wrong_state("volume_snapshot_delete", server.id, "vm_state", server.vm_state)
        raise BadRequest(wrong.message, code=wrong.code)
    args = MergeSaga(server.id, target.disk.id, snapshot_id, file, into)
    await _accept(call, target, "volume_snapshot_delete", MERGE_VOLUME, args)
