"""``POST /os-server-external-events``: what the other services of the cloud tell of servers."""

from __future__ import annotations

import contextlib
from typing import Any

from kilonova.api.work import record, start, when_free
from kilonova.base.errors import Conflict
from kilonova.context import Context, Services
from kilonova.db.cells import Cell
from kilonova.db.database import Tx
from kilonova.domain.sagas import (
    DETACH_INTERFACE,
    EXTEND_VOLUME,
    DiskSaga,
    PortArgs,
    ServerArgs,
)
from kilonova.store import block_devices, mappings, servers
from kilonova.web.call import Reply
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers, since

ROUTES: Routes[Services] = Routes(tag="server events")

PLUGGED = "network-vif-plugged"
DELETED = "network-vif-deleted"
EXTENDED = "volume-extended"
REIMAGED = "volume-reimaged"
TAGGED = (EXTENDED, REIMAGED, "power-update", "accelerator-request-bound")
"""Events that mean nothing without a tag."""
AWAITED = frozenset({PLUGGED, REIMAGED})
"""Events that sagas wait for."""
CHANGED = ("network-changed", "network-vif-unplugged", DELETED)
"""Events after which the cards are read anew; an opened port is the same card as before."""
MOST = 1000

BODY = Schema(
    {
        "type": "object",
        "properties": {
            "events": {
                "type": "array",
                "minItems": 1,
                "maxItems": MOST,
                "items": {
                    "type": "object",
                    "properties": {
                        "server_uuid": {"type": "string", "format": "uuid"},
                        "name": {
                            "type": "string",
                            "enum": [
                                "network-changed",
                                "network-vif-plugged",
                                "network-vif-unplugged",
                                "network-vif-deleted",
                                since(51, "volume-extended"),
                                since(76, "power-update"),
                                since(82, "accelerator-request-bound"),
                                since(93, REIMAGED),
                            ],
                        },
                        "status": {
                            "type": "string",
                            "enum": ["failed", "completed", "in-progress"],
                        },
                        "tag": {"type": "string", "maxLength": 255},
                    },
                    "required": ["server_uuid", "name"],
                    "additionalProperties": False,
                },
            }
        },
        "required": ["events"],
        "additionalProperties": False,
    }
)


_TAKEN = {"server_uuid": str, "name": str, "status": str, "tag?": str, "code": int}


@ROUTES.post(
    "/os-server-external-events",
    policy="os_compute_api:os-server-external-events:create",
    body=BODY,
    also=(207,),
    responses=answers(events=[_TAKEN]),
    summary="Tell of events of servers",
)
async def create(call: Context) -> Reply:
    """Each event gets a code: 200, 404 (no such server), 400 (needs a tag), or 422 (on no host).

    The whole is 200, 207 when some were not taken.
    """
    events = [{"status": "completed", **event} for event in call.body["events"]]
    answers = [await _take(call, event) for event in events]
    codes = {answer["code"] for answer in answers}
    taken = {answer["name"] for answer in answers if answer["code"] == 200}
    if taken and taken <= AWAITED:
        await call.app.wake_waiting()
    elif taken:
        await call.app.wake()
    return Reply({"events": answers}, status=200 if codes == {200} else 207)


async def _take(call: Context, event: dict[str, Any]) -> dict[str, Any]:
    mapping = await call.app.db.read(mappings.find, event["server_uuid"])
    if mapping is None:
        return {**event, "status": "failed", "code": 404}
    if event["name"] in TAGGED and event.get("tag") is None:
        return {**event, "status": "failed", "code": 400}
    if mapping.cell_id is None:
        return {**event, "status": "failed", "code": 422}
    cell = call.app.cells.get(mapping.cell_id)
    server = await cell.db.read(servers.get, event["server_uuid"])
    if server is None:
        return {**event, "status": "failed", "code": 404}
    if server.host is None:
        return {**event, "status": "failed", "code": 422}
    await _apply(call, cell, event)
    return {**event, "status": "completed", "code": 200}


async def _apply(call: Context, cell: Cell, event: dict[str, Any]) -> None:
    server_id = event["server_uuid"]
    if event["name"] in AWAITED:
        name = f"{event['name']}:{event.get('tag', '')}"
        if event["status"] == "failed":
            name += ":failed"

        def write(tx: Tx) -> None:
            call.app.sagas.signal(tx, server_id, name, ids=call.app.ids, clock=call.clock)

        await cell.db.run(write)
    if event["name"] == EXTENDED:
        await _extended(call, cell, server_id, event.get("tag", ""))
    if event["name"] == DELETED:
        with contextlib.suppress(Conflict):
            # Whatever holds the server may be what deleted the port; it ends in order by itself.
            await cell.db.run(_lost_port, call, server_id, event.get("tag", ""))
    if event["name"] in CHANGED:
        await call.app.bus_of(cell.id).cast("conductor", "network_changed", ServerArgs(server_id))


async def _extended(call: Context, cell: Cell, server_id: str, volume_id: str) -> None:
    """A volume of the server has grown: its guest is to see that."""

    def begin(tx: Tx) -> bool:
        for disk in block_devices.of_server(tx, server_id):
            if disk.volume_id == volume_id:
                record(tx, call, EXTEND_VOLUME.action, server_id)
                start(tx, call, EXTEND_VOLUME, DiskSaga(server_id, disk.id), server_id)
                return True
        return False

    # A server that is busy with something else sees the size with its next start.
    with contextlib.suppress(Conflict):
        await when_free(call, cell, begin)


def _lost_port(tx: Tx, call: Context, server_id: str, port_id: str) -> None:
    """A port that somebody deleted leaves its server."""
    if port_id in {nic.port_id for nic in servers.get_nics(tx, server_id)}:
        start(tx, call, DETACH_INTERFACE, PortArgs(server_id, port_id), server_id)
        record(tx, call, DETACH_INTERFACE.action, server_id)
