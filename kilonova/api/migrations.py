"""``/os-migrations`` and ``/servers/{server_id}/migrations``: moves, over and under way."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from kilonova.api.actions.checks import check
from kilonova.api.agents import ask
from kilonova.api.find import Found, find, require_cell, target
from kilonova.api.schemas import closed, no_query
from kilonova.api.servers.filters import instant, whole_second
from kilonova.api.work import record
from kilonova.base.clock import isoformat_micro
from kilonova.base.errors import BadRequest, Conflict, Fault, Forbidden, NotFound
from kilonova.context import Context, Services
from kilonova.db.cells import Cell
from kilonova.db.database import Tx
from kilonova.domain.live import LIVE_FORCE, LIVE_LOOK
from kilonova.domain.operations import GuestName, Operation
from kilonova.domain.resources import Migration
from kilonova.domain.sagas import LIVE_MIGRATE
from kilonova.messaging.bus import NoReply, Undelivered
from kilonova.store import actions
from kilonova.store import migrations as store
from kilonova.store.migrations import ENDED, LIVE, MigrationFilter
from kilonova.store.noting import note
from kilonova.web import pages
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers, pick, since, single, until
from kilonova.web.view import OMIT, Field, View

R = TypeVar("R", bound=msgspec.Struct)

ROUTES: Routes[Services] = Routes(tag="migrations")
RULE = "os_compute_api:os-migrations:index"
SERVER_RULE = "os_compute_api:servers:migrations:"
PREFIX = "/servers/{server_id}/migrations"

_WORD = {"type": "string"}
_TIME = single({"type": "string", "minLength": 1})
LIST = Schema(
    {
        "type": "object",
        "properties": {
            **{
                name: {"type": "array", "items": _WORD}
                for name in (
                    "hidden",
                    "host",
                    "instance_uuid",
                    "source_compute",
                    "status",
                    "migration_type",
                )
            },
            "limit": since(59, single({"type": "string", "pattern": "^[0-9]+$"})),
            "marker": since(59, single(_WORD)),
            "changes-since": since(59, _TIME),
            "changes-before": since(66, _TIME),
            "user_id": since(80, single(_WORD)),
            "project_id": since(80, single(_WORD)),
        },
        "additionalProperties": pick(until(58, True), since(59, False)),
    }
)
FORCE = Schema(closed({"force_complete": {"type": "null"}}, "force_complete"))


class Shown(msgspec.Struct, frozen=True):
    """A migration, whether its hosts may be seen, and its links."""

    m: Migration
    hosts: bool
    links: Any = OMIT


def _host(name: str) -> Any:
    return lambda x: getattr(x.m, name) if x.hosts else None


def _ended(name: str) -> Any:
    return lambda x: x.m.data.get(name) or None


_ENDS = [
    Field("source_compute", _host("source_host")),
    Field("source_node", _host("source_node")),
    Field("dest_compute", _host("dest_host")),
    Field("dest_node", _host("dest_node")),
    Field("dest_host", lambda x: x.m.data.get("dest_host") if x.hosts else None),
]
_TIMES = [
    Field("created_at", lambda x: isoformat_micro(x.m.created_at)),
    Field("updated_at", lambda x: x.m.updated_at and isoformat_micro(x.m.updated_at)),
]
MIGRATION = View(
    "migration",
    [
        Field("id", lambda x: x.m.id),
        Field("status", lambda x: x.m.status),
        Field("instance_uuid", lambda x: x.m.server_id),
        Field("old_instance_type_id", lambda x: x.m.old_flavor_id),
        Field("new_instance_type_id", lambda x: x.m.new_flavor_id),
        *_ENDS,
        *_TIMES,
        Field("migration_type", lambda x: x.m.type, since=23),
        Field("links", lambda x: x.links, since=23),
        Field("uuid", lambda x: x.m.uuid, since=59),
        Field("user_id", lambda x: x.m.user_id, since=80),
        Field("project_id", lambda x: x.m.project_id, since=80),
    ],
)
LIVE_MIGRATION = View(
    "server migration",
    [
        Field("id", lambda x: x.m.id),
        Field("status", lambda x: x.m.status),
        Field("server_uuid", lambda x: x.m.server_id),
        *_ENDS,
        Field("created_at", lambda x: isoformat_micro(x.m.created_at)),
        Field("updated_at", lambda x: isoformat_micro(x.m.updated_at or x.m.created_at)),
        *(
            Field(f"{what}_{part}_bytes", _ended(f"{what}_{part}_bytes"))
            for what in ("memory", "disk")
            for part in ("total", "processed", "remaining")
        ),
        Field("uuid", lambda x: x.m.uuid, since=59),
        Field("user_id", lambda x: x.m.user_id, since=80),
        Field("project_id", lambda x: x.m.project_id, since=80),
    ],
)


@ROUTES.get(
    "/os-migrations",
    policy=RULE,
    responses=answers(migrations=[MIGRATION]),
    query=LIST,
    summary="List migrations",
)
async def index(call: Context) -> dict[str, Any]:
    """Newest first, in pages from 2.59; managers see those of their project, without hosts."""
    wanted = _filter(call)
    hosts = call.allows(RULE + ":host", {})
    if not hosts and (wanted.host or wanted.source_host):
        raise Forbidden("Filtering migrations by host is for administrators.")
    limit = marker = None
    if call.version >= 59:
        page = pages.page(call.query, maximum=call.app.settings.api.max_limit)
        limit, marker = page.limit, page.marker
    after = await _marked(call, marker) if marker is not None else None
    if call.query.get("hidden") is not None and call.query.flag("hidden"):
        rows: list[Migration] = []
    else:
        answers = await call.app.cells.gather(store.page, wanted, limit=limit, after=after)
        rows = store.merge([part for _, part in answers.found], limit)
    shown = [Shown(row, hosts, _links(call, row)) for row in rows]
    body: dict[str, Any] = {"migrations": MIGRATION.render_all(shown, call.version)}
    if limit and len(rows) == limit:
        body["migrations_links"] = [pages.next_link(call, rows[-1].uuid, "os-migrations")]
    return body


def _filter(call: Context) -> MigrationFilter:
    query, own = call.query, call.caller.project_id
    project = query.get("project_id") if call.version >= 80 else None
    if not call.allows(RULE + ":all_projects", {}):
        if project is not None and project != own:
            raise Forbidden("Migrations of other projects are for administrators.")
        project = own or ""
    text = query.get("changes-since") if call.version >= 59 else None
    since_ = instant("changes-since", text) if text else None
    text = query.get("changes-before") if call.version >= 66 else None
    before = whole_second("changes-before", text) if text else None
    if since_ and before and since_ > before:
        raise BadRequest("The value of changes-since must be less than or equal to changes-before.")
    return MigrationFilter(
        project_id=project,
        user_id=query.get("user_id") if call.version >= 80 else None,
        status=query.get("status"),
        type=query.get("migration_type"),
        server_id=query.get("instance_uuid"),
        host=query.get("host"),
        source_host=query.get("source_compute"),
        changes_since=since_,
        changes_before=before,
    )


async def _marked(call: Context, marker: str) -> Migration:
    answers = await call.app.cells.gather(store.by_uuid, marker)
    for _, row in answers.found:
        if row is not None:
            return row
    raise BadRequest(f"Marker {marker} could not be found.")


def _links(call: Context, row: Migration) -> Any:
    """Where a live migration that is under way can be looked at."""
    if row.type != LIVE or row.status in ENDED:
        return OMIT
    path = ("servers", row.server_id, "migrations", str(row.id))
    return [
        {"rel": "self", "href": call.link(*path)},
        {"rel": "bookmark", "href": call.bookmark(*path)},
    ]


@ROUTES.get(
    PREFIX,
    since=23,
    responses=answers(migrations=[LIVE_MIGRATION]),
    query=no_query(),
    summary="List a server's live migrations",
)
async def of_server(call: Context, server_id: str) -> dict[str, Any]:
    """Those under way."""
    found = await find(call, server_id, SERVER_RULE + "index")
    rows = await found.cell.db.read(store.running, server_id) if found.cell else []
    hosts = call.allows(SERVER_RULE + "index:host", target(found.server))
    shown = [Shown(await _counted(call, found.cell, row), hosts) for row in rows]
    return {"migrations": LIVE_MIGRATION.render_all(shown, call.version)}


@ROUTES.get(
    PREFIX + "/{migration_id}",
    since=23,
    responses=answers(migration=LIVE_MIGRATION),
    query=no_query(),
    summary="Show a live migration",
)
async def show(call: Context, server_id: str, migration_id: str) -> dict[str, Any]:
    """One that is under way."""
    found = await find(call, server_id, SERVER_RULE + "show")
    row = await _of(call, found, migration_id)
    if row.type != LIVE:
        raise NotFound(f"Migration {migration_id} of server {server_id} is no live migration.")
    if row.status in ENDED:
        raise NotFound(f"Live migration {migration_id} for server {server_id} is not in progress.")
    row = await _counted(call, found.cell, row)
    return {"migration": LIVE_MIGRATION.render(Shown(row, hosts=True), call.version)}


async def _of(call: Context, found: Found, migration_id: str) -> Migration:
    server_id, number = found.server.id, migration_id
    row = None
    if found.cell is not None and number.isascii() and number.isdigit():
        row = await found.cell.db.read(store.get, server_id, int(number[:9]))
    if row is None:
        raise NotFound(f"Migration {migration_id} not found for instance {server_id}.")
    return row


@ROUTES.delete(
    PREFIX + "/{migration_id}",
    since=24,
    status=202,
    tags=("migrations",),
    summary="Abort a live migration",
)
async def abort(call: Context, server_id: str, migration_id: str) -> None:
    """One that runs, or (2.65) waits or prepares; the guest goes on where it is."""
    found = await find(call, server_id, SERVER_RULE + "delete")
    check(call, found, "abort")
    row = await _of(call, found, migration_id)
    possible = {"running"} | ({"queued", "preparing"} if call.version >= 65 else set())
    _in_state(found, row, possible, "abort live migration")
    cell = require_cell(found, "abort live migration")
    await cell.db.run(_abort, call, server_id, row.id, possible)
    await call.app.wake()


def _abort(tx: Tx, call: Context, server_id: str, number: int, possible: set[str]) -> None:
    row = store.get(tx, server_id, number)
    if (
        row is None
        or row.status not in possible
        or not call.app.sagas.cancel(tx, LIVE_MIGRATE, server_id, clock=call.clock)
    ):
        raise BadRequest(f"Migration {number} of instance {server_id} is over.")
    _told(tx, call, row, "live_migration_cancel", "compute_live_migration_abort")
    note(tx, "instance.live_migration_abort.start", server_id)


def _told(tx: Tx, call: Context, row: Migration, action: str, event: str) -> None:
    """An action that is over with its request."""
    server_id, asked, now = row.server_id, call.request_id, call.clock.now()
    record(tx, call, action, server_id)
    actions.start_event(tx, server_id, asked, event, now=now, host=row.source_host)
    actions.finish_event(tx, server_id, asked, event, now=now)
    actions.finish(tx, server_id, asked, now=now, message=None)


@ROUTES.post(
    PREFIX + "/{migration_id}/action",
    action="force_complete",
    since=22,
    status=202,
    body=FORCE,
    tags=("migrations",),
    summary="Force a live migration to its end",
)
async def force_complete(call: Context, server_id: str, migration_id: str) -> None:
    """One that runs: the guest stands still until all of it is there."""
    found = await find(call, server_id, SERVER_RULE + "force_complete")
    check(call, found, "force_complete")
    row = await _of(call, found, migration_id)
    _in_state(found, row, {"running"}, "force complete")
    cell = require_cell(found, "force_complete")
    event = "instance.live_migration_force_complete"
    await cell.db.run(note, f"{event}.start", server_id)
    await _ask(call, cell, row, LIVE_FORCE)

    def work(tx: Tx) -> None:
        forced = "live_migration_force_complete"
        _told(tx, call, row, forced, f"compute_{forced}")
        note(tx, f"{event}.end", server_id)

    await cell.db.run(work)


async def _ask(call: Context, cell: Cell, row: Migration, operation: Operation[GuestName, R]) -> R:
    """The source's answer about a move; Conflict when it does not know of one, or is away."""
    try:
        return await ask(
            call, cell, row.source_host or "", operation, row.server_id, GuestName(row.server_id)
        )
    except (Undelivered, NoReply):
        raise Conflict(f"Host {row.source_host} does not answer; try again later.") from None


async def _counted(call: Context, cell: Cell | None, row: Migration) -> Migration:
    """The record with the counters of now."""
    if cell is None or row.status != "running":
        return row
    try:
        seen = await _ask(call, cell, row, LIVE_LOOK)
    except Fault:
        return row
    return msgspec.structs.replace(row, data={**row.data, **seen.counters})


def _in_state(found: Found, row: Migration, possible: set[str], word: str) -> None:
    if row.type != LIVE or row.status not in possible:
        raise BadRequest(
            f"Migration {row.id} state of instance {found.server.id} is {row.status}. Cannot "
            f"{word} while the migration is in this state."
        )
