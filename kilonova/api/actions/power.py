"""``os-start``, ``os-stop``, ``reboot``: one transaction each, the work is a saga."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from kilonova.api.actions import special
from kilonova.api.find import find, is_admin, require_cell
from kilonova.api.schemas import closed
from kilonova.api.work import record, start
from kilonova.context import Context, Services
from kilonova.db.database import Tx
from kilonova.domain.sagas import REBOOT, START, STOP, RebootArgs, SagaKind, ServerArgs
from kilonova.domain.states import Task
from kilonova.store import servers
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema

A = TypeVar("A", bound=msgspec.Struct)

ROUTES: Routes[Services] = Routes(tag="server actions")
PATH = "/servers/{server_id}/action"

START_BODY = Schema(closed({"os-start": {}}, "os-start"))
STOP_BODY = Schema(closed({"os-stop": {}}, "os-stop"))
REBOOT_BODY = Schema(
    closed(
        {
            "reboot": closed(
                {"type": {"enum": ["HARD", "Hard", "hard", "SOFT", "Soft", "soft"]}}, "type"
            )
        },
        "reboot",
    )
)


@ROUTES.post(PATH, action="os-start", body=START_BODY, status=202, summary="Start a server")
async def start_server(call: Context, server_id: str) -> None:
    """SHUTOFF becomes ACTIVE."""
    await run(
        call,
        server_id,
        "os_compute_api:servers:start",
        "os-start",
        Task.POWERING_ON,
        START,
        ServerArgs(server_id),
    )


@ROUTES.post(PATH, action="os-stop", body=STOP_BODY, status=202, summary="Stop a server")
async def stop_server(call: Context, server_id: str) -> None:
    """ACTIVE becomes SHUTOFF."""
    await run(
        call,
        server_id,
        "os_compute_api:servers:stop",
        "os-stop",
        Task.POWERING_OFF,
        STOP,
        ServerArgs(server_id),
    )


@ROUTES.post(PATH, action="reboot", body=REBOOT_BODY, status=202, summary="Reboot a server")
async def reboot_server(call: Context, server_id: str) -> None:
    """Ask the guest to restart (SOFT), or re-make it from its description (HARD)."""
    hard = call.body["reboot"]["type"].upper() == "HARD"
    await run(
        call,
        server_id,
        "os_compute_api:servers:reboot",
        "reboot-hard" if hard else "reboot-soft",
        Task.REBOOTING_HARD if hard else Task.REBOOTING,
        REBOOT,
        RebootArgs(server_id, hard),
    )


async def run(
    call: Context,
    server_id: str,
    rule: str,
    action: str,
    task: Task,
    kind: SagaKind[A],
    args: A,
) -> None:
    """Check the state, set the task, record the action and write the saga; then wake."""
    found = await find(call, server_id, rule)
    cell = require_cell(found, action.removeprefix("os-").partition("-")[0])
    await cell.db.run(begin, call, server_id, action, task, kind, args)
    await call.app.wake()


def begin(
    tx: Tx,
    call: Context,
    server_id: str,
    action: str,
    task: Task,
    kind: SagaKind[A],
    args: A,
    /,
    **values: Any,
) -> None:
    """That transaction (cell database); ``values`` are fields of the server that change with it."""
    special.check(tx, server_id, action)
    now = call.clock.now()
    override = is_admin(call)
    servers.begin(tx, server_id, action, task=task, now=now, override_lock=override, **values)
    record(tx, call, kind.action, server_id)
    start(tx, call, kind, args, server_id)
