"""``evacuate``: the guest is made anew on another host, as its own is down."""

from __future__ import annotations

from typing import Any

from kilonova.api.actions.checks import check, compute_of, host_is_up
from kilonova.api.actions.power import PATH, begin
from kilonova.api.find import Found, find, require_cell
from kilonova.api.schemas import BOOLEAN, HOST, closed, truth
from kilonova.base.errors import BadRequest, NotFound
from kilonova.context import Context, Services
from kilonova.db.database import Tx
from kilonova.domain import sagas
from kilonova.domain.moves import Kind, Status
from kilonova.domain.resources import Migration
from kilonova.domain.sagas import EvacuateArgs
from kilonova.domain.states import Task
from kilonova.store import migrations
from kilonova.store.noting import note
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, between, shape, until

ROUTES: Routes[Services] = Routes(tag="server actions")

EVACUATE = Schema(
    closed(
        {
            "evacuate": closed(
                {
                    "host": HOST,
                    "onSharedStorage": until(13, BOOLEAN),
                    "adminPass": {"type": "string"},
                    "force": between(29, 67, BOOLEAN),
                },
                until(13, "onSharedStorage"),
            )
        },
        "evacuate",
    )
)


@ROUTES.post(
    PATH,
    action="evacuate",
    body=EVACUATE,
    responses=Schema(until(13, shape({"adminPass?": str}))),
    summary="Evacuate",
)
async def evacuate(call: Context, server_id: str) -> dict[str, Any] | None:
    """From its image, or on its volumes; its host must be down. It is off afterwards from 2.95."""
    options = call.body["evacuate"]
    found = await find(call, server_id, "os_compute_api:os-evacuate")
    host = options.get("host")
    forced = truth(options.get("force", False))
    if forced and not host:
        raise BadRequest("Can't force to a non-provided destination")
    shared = call.version < 14 and truth(options["onSharedStorage"])
    if shared and "adminPass" in options:
        raise BadRequest("admin password can't be changed on existing disk")
    if host is not None and await compute_of(call, host) is None:
        raise NotFound(f"Compute host {host} not found.")
    if host is not None and host == found.server.host:
        raise BadRequest("The target host can't be the same one.")
    check(call, found, "evacuate")
    if await host_is_up(call, found.server.host):
        raise BadRequest(f"Compute service of {found.server.host} is still in use.")
    password = None if shared else options.get("adminPass") or call.ids.token(9)
    row = _record(call, found, password)
    forced = forced or (host is not None and call.version < 29)
    args = EvacuateArgs(server_id, row.uuid, host, forced, call.version >= 95)
    await require_cell(found, "evacuate").db.run(_begin, call, row, args)
    await call.app.wake()
    told = call.version < 14 and call.app.settings.api.enable_instance_password
    return {"adminPass": password} if told and password else None


def _record(call: Context, found: Found, password: str | None) -> Migration:
    server, now = found.server, call.clock.now()
    return Migration(
        id=0,
        uuid=call.ids.uuid(),
        server_id=server.id,
        type=Kind.EVACUATION,
        status=Status.ACCEPTED,
        project_id=call.caller.project_id,
        user_id=call.caller.user_id,
        source_host=server.host,
        source_node=server.node,
        dest_host=None,
        dest_node=None,
        old_flavor_id=server.flavor.id,
        new_flavor_id=server.flavor.id,
        created_at=now,
        updated_at=None,
        data={"admin_pass": password} if password else {},
    )


def _begin(tx: Tx, call: Context, row: Migration, args: EvacuateArgs) -> None:
    begin(tx, call, row.server_id, "evacuate", Task.REBUILDING, sagas.EVACUATE, args)
    migrations.add(tx, row)
    note(tx, "instance.evacuate", row.server_id)
