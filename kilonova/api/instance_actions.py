"""``/servers/{server_id}/os-instance-actions``."""

from __future__ import annotations

from typing import Any

from kilonova.api.find import Found, find, target
from kilonova.api.schemas import no_query
from kilonova.api.servers.filters import instant, whole_second
from kilonova.base.clock import isoformat_micro
from kilonova.base.errors import BadRequest, NotFound
from kilonova.context import Context, Services
from kilonova.domain.resources import Action, ActionEvent
from kilonova.domain.server import BuildRequest, host_id
from kilonova.store import actions as store
from kilonova.web import pages
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers, pick, since, single, until
from kilonova.web.view import OMIT, Field, View

ROUTES: Routes[Services] = Routes(
    prefix="/servers/{server_id}/os-instance-actions", tag="instance actions"
)
RULE = "os_compute_api:os-instance-actions:"

LIST = Schema(
    {
        "type": "object",
        "properties": {
            "limit": since(58, single({"type": "string", "pattern": "^[0-9]+$"})),
            "marker": since(58, single({"type": "string"})),
            "changes-since": since(58, single({"type": "string", "minLength": 1})),
            "changes-before": since(66, single({"type": "string", "minLength": 1})),
        },
        "additionalProperties": pick(until(57, True), since(58, False)),
    }
)

ACTION = View(
    "instanceAction",
    [
        Field("action"),
        Field("instance_uuid", "server_id"),
        Field("request_id"),
        Field("user_id"),
        Field("project_id"),
        Field("start_time", lambda a: isoformat_micro(a.start)),
        Field("message"),
        Field("updated_at", lambda a: isoformat_micro(a.updated_at or a.start), since=58),
    ],
)


class Event:
    """An event, with what the caller may see of it."""

    __slots__ = ("details", "e", "events", "host", "project")

    def __init__(self, event: ActionEvent, action: Action, granted: frozenset[str]) -> None:
        self.e = event
        self.project = action.project_id or ""
        self.events = RULE + "events" in granted
        self.details = RULE + "events:details" in granted


EVENT = View(
    "event",
    [
        Field("event", lambda x: x.e.name),
        Field("start_time", lambda x: x.e.start and isoformat_micro(x.e.start)),
        Field("finish_time", lambda x: x.e.finish and isoformat_micro(x.e.finish)),
        Field("result", lambda x: x.e.result),
        Field("traceback", lambda x: x.e.traceback if x.events else OMIT),
        Field("hostId", lambda x: host_id(x.project, x.e.host), since=62),
        Field("host", lambda x: x.e.host if x.events else OMIT, since=62),
        Field("details", lambda x: x.e.details if x.details else OMIT, since=84),
    ],
)


def _building(request: BuildRequest) -> Action:
    """The create action of a server that has no row in a cell yet."""
    server = request.server
    return Action(
        0,
        "create",
        server.id,
        request.request_id,
        server.user_id,
        server.project_id,
        server.created_at,
        None,
        server.created_at,
        None,
    )


async def _found(call: Context, server_id: str, rule: str) -> Found:
    return await find(call, server_id, RULE + rule, deleted=call.version >= 21)


@ROUTES.get(
    "", query=LIST, responses=answers(instanceActions=[ACTION]), summary="List a server's actions"
)
async def index(call: Context, server_id: str) -> dict[str, Any]:
    """Newest first; from 2.21 also those of a deleted server."""
    found = await _found(call, server_id, "list")
    limit = marker = before = after = None
    if call.version >= 58:
        page = pages.page(call.query, maximum=call.app.settings.api.max_limit)
        limit, marker = page.limit, page.marker
        text = call.query.get("changes-since")
        after = instant("changes-since", text) if text else None
        text = call.query.get("changes-before") if call.version >= 66 else None
        before = whole_second("changes-before", text) if text else None
        if after and before and after > before:
            raise BadRequest("changes-since must be less than or equal to changes-before.")
    rows: list[Action] | None
    if found.cell is None:
        assert found.request is not None
        rows = [] if marker else [_building(found.request)]
    else:
        rows = await found.cell.db.read(
            store.page, server_id, limit=limit, marker=marker, since=after, before=before
        )
    if rows is None:
        raise BadRequest(f"marker [{marker}] not found")
    body: dict[str, Any] = {"instanceActions": ACTION.render_all(rows, call.version)}
    if limit and len(rows) == limit:
        path = ("servers", server_id, "os-instance-actions")
        body["links"] = [pages.next_link(call, rows[-1].request_id, *path)]
    return body


@ROUTES.get(
    "/{request_id}",
    query=no_query(),
    responses=answers(instanceAction={"type": "object"}),
    summary="Show an action",
)
async def show(call: Context, server_id: str, request_id: str) -> dict[str, Any]:
    """One action with its events."""
    found = await _found(call, server_id, "show")
    action: Action | None
    if found.cell is None:
        assert found.request is not None
        action = _building(found.request)
        action = action if action.request_id == request_id else None
    else:
        action = await found.cell.db.read(store.show, server_id, request_id)
    if action is None:
        raise NotFound(f"Action {request_id} not found")
    shown = ACTION.render(action, call.version)
    owner = target(found.server)
    granted = frozenset(
        rule for rule in (RULE + "events", RULE + "events:details") if call.allows(rule, owner)
    )
    if call.version >= 51 or RULE + "events" in granted:
        events = [Event(event, action, granted) for event in action.events]
        shown["events"] = EVENT.render_all(events, call.version)
    return {"instanceAction": shown}
