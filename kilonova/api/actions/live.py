"""``os-migrateLive``: another host while the guest runs."""

from __future__ import annotations

from kilonova.api.actions.checks import check, compute_of
from kilonova.api.actions.power import PATH, begin
from kilonova.api.find import Found, find, require_cell, target
from kilonova.api.schemas import BOOLEAN, HOST, Tree, closed, truth
from kilonova.base.errors import BadRequest
from kilonova.context import Context, Services
from kilonova.db.cells import Cell
from kilonova.db.database import Tx
from kilonova.domain import sagas
from kilonova.domain.moves import Status
from kilonova.domain.sagas import LiveArgs
from kilonova.domain.states import Task
from kilonova.store import actions, migrations
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, between, pick, since, until

ROUTES: Routes[Services] = Routes(tag="server actions")
RULE = "os_compute_api:os-migrate-server:migrate_live"
CHECK_SECONDS, CHECK_PAUSE = 60.0, 0.1

MAYBE_HOST: Tree = {**HOST, "type": ["string", "null"]}
_BLOCK: Tree = {**BOOLEAN, "enum": [*BOOLEAN["enum"], "auto"]}
LIVE = Schema(
    closed(
        {
            "os-migrateLive": closed(
                {
                    "block_migration": pick(until(24, BOOLEAN), since(25, _BLOCK)),
                    "disk_over_commit": until(24, BOOLEAN),
                    "host": MAYBE_HOST,
                    "force": between(30, 67, BOOLEAN),
                },
                "block_migration",
                "host",
                until(24, "disk_over_commit"),
            )
        },
        "os-migrateLive",
    )
)


@ROUTES.post(PATH, action="os-migrateLive", body=LIVE, status=202, summary="Live-migrate")
async def live(call: Context, server_id: str) -> None:
    """To a host of the scheduler's choice, or one that is named; ``force`` passes the scheduler by.

    Before 2.34 the answer waits for the checks, and their failure is 400; after that it is told by
    the migration and the action. Storage that is shared or not is found out from 2.25 (``auto``).
    """
    options = call.body["os-migrateLive"]
    host, block = options["host"], options["block_migration"]
    found = await find(call, server_id, RULE)
    if host is not None:
        call.enforce(RULE + ":host", target(found.server))
    forced = truth(options.get("force", False))
    if forced and host is None:
        raise BadRequest("Can't force to a non-provided destination")
    check(call, found, "os-migrateLive")
    if host is not None and await compute_of(call, host) is None:
        raise BadRequest(f"Compute host {host} could not be found.")
    if host is not None and host == found.server.host:
        raise BadRequest(f"Unable to migrate instance ({server_id}) to current host ({host}).")
    cell = require_cell(found, "os-migrateLive")
    args = LiveArgs(
        server_id,
        host,
        None if block == "auto" else truth(block),
        truth(options.get("disk_over_commit", True)),
        forced or (host is not None and call.version < 30),
    )
    kind = sagas.LIVE_MIGRATE
    await cell.db.run(begin, call, server_id, "os-migrateLive", Task.MIGRATING, kind, args)
    await call.app.wake()
    if call.version < 34:
        await _checked(call, cell, found)


async def _checked(call: Context, cell: Cell, found: Found) -> None:
    """Wait until the guest is on its way; BadRequest when it never will be."""
    end = call.clock.monotonic() + CHECK_SECONDS
    while call.clock.monotonic() < end:
        over, why = await cell.db.read(_checks, found.server.id, call.request_id)
        if why:
            raise BadRequest(why)
        if over:
            return
        await call.clock.sleep(CHECK_PAUSE)


def _checks(tx: Tx, server_id: str, request_id: str) -> tuple[bool, str]:
    """Whether the checks of this request's move are over, and why they failed."""
    action = actions.show(tx, server_id, request_id)
    if action is None:
        return True, ""
    if action.finish is not None:
        told = (event.details for event in action.events if event.details)
        return True, next(told, "Migration pre-check error") if action.message else ""
    under_way = migrations.running(tx, server_id)
    return any(row.status == Status.RUNNING for row in under_way), ""
