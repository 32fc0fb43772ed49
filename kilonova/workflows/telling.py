"""What sagas tell other systems: the phases of the notification each is registered with.

A phase is written in the transaction of the step it belongs to, see ``kilonova.store.noting``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.db.database import Tx
from kilonova.domain.server import Server
from kilonova.notifications.facts import Cause
from kilonova.store import block_devices
from kilonova.store.noting import note, notes
from kilonova.workflows.engine.errors import ErrorInfo
from kilonova.workflows.engine.steps import SAGAS
from kilonova.workflows.world import Env

START, END, ERROR = "start", "end", "error"
ALONGSIDE = {"instance.delete": "instance.shutdown"}
"""Notifications that go with the phases of another: inside them."""
STOPPED = "Cancelled"
RESCUE = "instance.rescue"
SHARE = "instance.share_"
VOLUME, SWAP = "instance.volume_", "instance.volume_swap"
SNAPSHOT = "instance.snapshot"


def event_of(saga_name: str) -> str:
    """The notification of a saga; empty for none."""
    return SAGAS.get(saga_name).notify if saga_name in SAGAS else ""


def begun(tx: Tx, event: str, server: Server, **more: Any) -> None:
    """The work begins."""
    note(tx, f"{event}.{START}", server, **more)
    if event in ALONGSIDE:
        note(tx, f"{ALONGSIDE[event]}.{START}", server)


def begins(tx: Tx, env: Env, server_id: str) -> None:
    """The work of a saga that shows no task begins."""
    event = event_of(env.saga_name)
    if event and notes(tx) is not None:
        note(tx, f"{event}.{START}", server_id, **about(tx, env, server_id))


def ended(
    tx: Tx, env: Env, server: Server | str, *, error: ErrorInfo | None = None, **more: Any
) -> None:
    """The work of a saga ended, well or with an error; ``more`` as in ``facts.ServerFacts``."""
    event = event_of(env.saga_name)
    if not event or notes(tx) is None:
        return
    if error is None:
        note(tx, f"{event}.{END}", server, **(more or about(tx, env, _id(server))))
        return
    if error.type == STOPPED:
        return
    known = more or about(tx, env, _id(server))
    note(tx, f"{event}.{ERROR}", server, cause=cause(error), **known)
    exception(tx, error, server)


def exception(tx: Tx, error: ErrorInfo, server: Server | str) -> None:
    """Work on a host failed."""
    host = server.host if isinstance(server, Server) else None
    note(tx, "compute.exception", msgspec.structs.replace(cause(error), host=host or ""))


def cause(error: ErrorInfo) -> Cause:
    """An error as notifications tell it."""
    return Cause(error.type, error.message, error.step)


def about(tx: Tx, env: Env, server_id: str) -> dict[str, Any]:
    """What a saga works on: volumes, a file share, the image it makes or rescues with."""
    event = event_of(env.saga_name)
    if event == SNAPSHOT:
        return {"more": {"snapshot_image_id": msgspec.json.decode(env.args)[1]}}
    if event == RESCUE:
        return {"more": {"rescue_image_ref": msgspec.json.decode(env.args)[2]}}
    if event.startswith(SHARE):
        return {"more": {"share_id": msgspec.json.decode(env.args)[1]}}
    if not event.startswith(VOLUME):
        return {}
    args = msgspec.json.decode(env.args)
    for disk in block_devices.of_server(tx, server_id):
        if len(args) > 1 and disk.id == args[1] and disk.volume_id:
            return volumes(env, disk.volume_id)
    return {}


def volumes(env: Env, volume_id: str | None) -> dict[str, Any]:
    """The volume a saga works on, and the one that takes its place."""
    if volume_id is None:
        return {}
    known = {"volume_id": volume_id}
    if event_of(env.saga_name) == SWAP:
        known["new_volume_id"] = msgspec.json.decode(env.args)[2]
    return known


def _id(server: Server | str) -> str:
    return server.id if isinstance(server, Server) else server
