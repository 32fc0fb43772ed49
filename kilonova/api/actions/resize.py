"""``resize`` and ``migrate``, and what is said afterwards: ``confirmResize``, ``revertResize``."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from kilonova.api import quota_rules
from kilonova.api.actions.checks import allowed, check, compute_of, host_is_up, require_up
from kilonova.api.actions.power import PATH, begin
from kilonova.api.find import Found, find, is_admin, require_cell, target
from kilonova.api.schemas import HOST, Tree, closed
from kilonova.api.servers.resolve import check_shape
from kilonova.api.servers.schema import DISK_CONFIG
from kilonova.base.errors import BadRequest, Conflict
from kilonova.context import Context, Services
from kilonova.domain import moves, sagas
from kilonova.domain.resources import Migration
from kilonova.domain.sagas import MigrateArgs, ResizeArgs, SagaKind, ServerArgs
from kilonova.domain.states import Task
from kilonova.store import flavors, migrations
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, pick, since, until

A = TypeVar("A", bound=msgspec.Struct)

ROUTES: Routes[Services] = Routes(tag="server actions")
MIGRATE_RULE = "os_compute_api:os-migrate-server:"

MAYBE_HOST: Tree = {**HOST, "type": ["string", "null"]}
RESIZE = Schema(
    closed(
        {
            "resize": closed(
                {
                    "flavorRef": {"type": ["string", "integer"], "minLength": 1},
                    "OS-DCF:diskConfig": DISK_CONFIG,
                },
                "flavorRef",
            )
        },
        "resize",
    )
)
MIGRATE = Schema(
    closed(
        {
            "migrate": pick(
                until(55, {}),
                since(56, closed({"host": MAYBE_HOST}, type=["object", "null"])),
            )
        },
        "migrate",
    )
)
CONFIRM = Schema(closed({"confirmResize": {}}, "confirmResize"))
REVERT = Schema(closed({"revertResize": {}}, "revertResize"))


@ROUTES.post(PATH, action="resize", body=RESIZE, status=202, summary="Resize")
async def resize(call: Context, server_id: str) -> None:
    """Another flavor, which must differ, exist, be enabled and have room for the root disk.

    The server ends in VERIFY_RESIZE. A flavor whose disk is too small is refused by its action.
    """
    found = await find(call, server_id, "os_compute_api:servers:resize")
    check(call, found, "resize")
    server = found.server
    wanted = str(call.body["resize"]["flavorRef"]).rstrip("/").rsplit("/", 1)[-1]
    flavor = await call.app.db.read(
        flavors.get, wanted, project_id=call.caller.project_id, everybody=is_admin(call)
    )
    if flavor is None or flavor.disabled:
        raise BadRequest(f"Flavor {wanted} could not be found.")
    if flavor.flavorid == server.flavor.flavorid:
        raise BadRequest("When resizing, instances must change flavor!")
    if flavor.root_gb == 0 and server.flavor.root_gb != 0 and not server.from_volume:
        raise BadRequest(
            "Server disk was unable to be resized because: Resize to zero disk flavor is not "
            "allowed."
        )
    properties = server.image.properties if server.image else {}
    check_shape(flavor, properties, call.app.settings.pci)
    await quota_rules.check_growth(call, server, flavor)
    await require_up(call, found)
    disk_config = call.body["resize"].get("OS-DCF:diskConfig")
    values = {} if disk_config is None else {"auto_disk_config": disk_config == "AUTO"}
    args = ResizeArgs(server_id, flavor)
    await _start(call, found, "resize", Task.RESIZE_PREP, sagas.RESIZE, args, **values)


@ROUTES.post(
    PATH,
    action="confirmResize",
    body=CONFIRM,
    status=204,
    summary="Confirm a resize",
)
async def confirm(call: Context, server_id: str) -> None:
    """Keep the new flavor or host; the old host must be up."""
    found = await allowed(call, server_id, "os_compute_api:servers:confirm_resize", "confirmResize")
    waiting = await _waiting(call, found)
    if not await host_is_up(call, waiting.source_host):
        raise Conflict("Service is unavailable at this time.")
    task, args = Task.RESIZE_CONFIRMING, ServerArgs(server_id)
    await _start(call, found, "confirmResize", task, sagas.CONFIRM_RESIZE, args)


@ROUTES.post(
    PATH,
    action="revertResize",
    body=REVERT,
    status=202,
    summary="Revert a resize",
)
async def revert(call: Context, server_id: str) -> None:
    """Go back to the old flavor or host; OverQuota when the old flavor does not fit any more."""
    found = await allowed(call, server_id, "os_compute_api:servers:revert_resize", "revertResize")
    before = moves.read(await _waiting(call, found))
    if before is not None:
        await quota_rules.check_growth(call, found.server, before.flavor)
    task, args = Task.RESIZE_REVERTING, ServerArgs(server_id)
    await _start(call, found, "revertResize", task, sagas.REVERT_RESIZE, args)


@ROUTES.post(PATH, action="migrate", body=MIGRATE, status=202, summary="Migrate")
async def migrate(call: Context, server_id: str) -> None:
    """To another host, by the scheduler's choice or (2.56) a named one, and VERIFY_RESIZE."""
    found = await find(call, server_id, MIGRATE_RULE + "migrate")
    options = call.body["migrate"] if call.version >= 56 else None
    host = (options or {}).get("host")
    if host is not None:
        call.enforce(MIGRATE_RULE + "migrate:host", target(found.server))
    check(call, found, "migrate")
    if host is not None:
        if await compute_of(call, host) is None:
            raise BadRequest(f"Compute host {host} could not be found.")
        if host == found.server.host:
            raise BadRequest("Cannot migrate to the host where the server exists.")
    await require_up(call, found)
    args = MigrateArgs(server_id, host)
    await _start(call, found, "migrate", Task.RESIZE_PREP, sagas.MIGRATE, args)


async def _start(
    call: Context,
    found: Found,
    action: str,
    task: Task,
    kind: SagaKind[A],
    args: A,
    **values: Any,
) -> None:
    cell = require_cell(found, action)
    await cell.db.run(begin, call, found.server.id, action, task, kind, args, **values)
    await call.app.wake()


async def _waiting(call: Context, found: Found) -> Migration:
    """The move that waits to be confirmed or taken back; BadRequest when there is none."""
    if found.cell is not None:
        for row in await found.cell.db.read(migrations.unsettled, found.server.id):
            if row.type in moves.COLD and row.status == moves.Status.FINISHED:
                return row
    raise BadRequest("Instance has not been resized.")
