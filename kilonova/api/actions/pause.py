"""``pause``, ``unpause``, ``suspend``, ``resume``, ``trigger_crash_dump``."""

from __future__ import annotations

from kilonova.api.actions.power import PATH, run
from kilonova.api.find import find, require_cell
from kilonova.api.schemas import closed
from kilonova.api.work import begin_unseen, record, start
from kilonova.context import Context, Services
from kilonova.db.database import Tx
from kilonova.domain.sagas import CRASH_DUMP, PAUSE, RESUME, SUSPEND, UNPAUSE, ServerArgs
from kilonova.domain.states import Task
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema

ROUTES: Routes[Services] = Routes(tag="server actions")
PAUSE_RULE = "os_compute_api:os-pause-server:"
SUSPEND_RULE = "os_compute_api:os-suspend-server:"

PAUSE_BODY = Schema(closed({"pause": {}}, "pause"))
UNPAUSE_BODY = Schema(closed({"unpause": {}}, "unpause"))
SUSPEND_BODY = Schema(closed({"suspend": {}}, "suspend"))
RESUME_BODY = Schema(closed({"resume": {}}, "resume"))
DUMP_BODY = Schema(closed({"trigger_crash_dump": {"type": "null"}}, "trigger_crash_dump"))


@ROUTES.post(PATH, action="pause", body=PAUSE_BODY, status=202, summary="Pause a server")
async def pause(call: Context, server_id: str) -> None:
    """ACTIVE becomes PAUSED: the CPUs stand still, the guest stays in memory."""
    args = ServerArgs(server_id)
    await run(call, server_id, PAUSE_RULE + "pause", "pause", Task.PAUSING, PAUSE, args)


@ROUTES.post(PATH, action="unpause", body=UNPAUSE_BODY, status=202, summary="Unpause a server")
async def unpause(call: Context, server_id: str) -> None:
    """PAUSED becomes ACTIVE."""
    args = ServerArgs(server_id)
    await run(call, server_id, PAUSE_RULE + "unpause", "unpause", Task.UNPAUSING, UNPAUSE, args)


@ROUTES.post(PATH, action="suspend", body=SUSPEND_BODY, status=202, summary="Suspend a server")
async def suspend(call: Context, server_id: str) -> None:
    """ACTIVE becomes SUSPENDED: the guest's memory is kept on its host's disk."""
    args = ServerArgs(server_id)
    await run(call, server_id, SUSPEND_RULE + "suspend", "suspend", Task.SUSPENDING, SUSPEND, args)


@ROUTES.post(PATH, action="resume", body=RESUME_BODY, status=202, summary="Resume a server")
async def resume(call: Context, server_id: str) -> None:
    """SUSPENDED becomes ACTIVE: the guest goes on where it was."""
    args = ServerArgs(server_id)
    await run(call, server_id, SUSPEND_RULE + "resume", "resume", Task.RESUMING, RESUME, args)


@ROUTES.post(
    PATH,
    action="trigger_crash_dump",
    body=DUMP_BODY,
    since=17,
    status=202,
    summary="Make the guest dump its memory",
)
async def crash_dump(call: Context, server_id: str) -> None:
    """By a non-maskable interrupt; the server's state stays."""
    found = await find(call, server_id, "os_compute_api:servers:trigger_crash_dump")
    cell = require_cell(found, "trigger_crash_dump")
    await cell.db.run(_dump, call, server_id)
    await call.app.wake()


def _dump(tx: Tx, call: Context, server_id: str) -> None:
    begin_unseen(tx, call, server_id, "trigger_crash_dump")
    record(tx, call, CRASH_DUMP.action, server_id)
    start(tx, call, CRASH_DUMP, ServerArgs(server_id), server_id)
