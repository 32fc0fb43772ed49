"""``/os-simple-tenant-usage``: hours, and memory, CPUs and disk times hours, of projects."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec

from kilonova.api.schemas import NOT_NEGATIVE
from kilonova.base.clock import isoformat_micro
from kilonova.base.errors import BadRequest
from kilonova.context import Context, Services
from kilonova.domain.server import Server
from kilonova.store import usage as store
from kilonova.web import pages
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers, pick, shape, since, until
from kilonova.web.view import Field, View

ROUTES: Routes[Services] = Routes(prefix="/os-simple-tenant-usage", tag="usage")
RULE = "os_compute_api:os-simple-tenant-usage:"
DEFAULT_SPAN = dt.timedelta(weeks=4)
FORMATS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%d %H:%M:%S.%f")

_WORD = {"type": "string"}
_PAGES = {"limit": since(40, NOT_NEGATIVE), "marker": since(40, _WORD)}
_OTHERS = pick(until(74, True), since(75, False))
LIST = Schema(
    {
        "type": "object",
        "properties": {"start": _WORD, "end": _WORD, "detailed": _WORD, **_PAGES},
        "additionalProperties": _OTHERS,
    }
)
SHOW = Schema(
    {
        "type": "object",
        "properties": {"start": _WORD, "end": _WORD, **_PAGES},
        "additionalProperties": _OTHERS,
    }
)


class Span(msgspec.Struct, frozen=True):
    """The time that is looked at."""

    begin: dt.datetime
    end: dt.datetime


class Used(msgspec.Struct, frozen=True):
    """What one server used in the span."""

    s: Server
    hours: float
    uptime: int

    @property
    def gib(self) -> int:
        """Its disks, GiB."""
        return self.s.flavor.root_gb + self.s.flavor.ephemeral_gb


SERVER = View(
    "server usage",
    [
        Field("instance_id", lambda u: u.s.id),
        Field("name", lambda u: u.s.name),
        Field("hours", lambda u: u.hours),
        Field("flavor", lambda u: u.s.flavor.name),
        Field("tenant_id", lambda u: u.s.project_id),
        Field("memory_mb", lambda u: u.s.flavor.memory_mb),
        Field("local_gb", lambda u: u.gib),
        Field("vcpus", lambda u: u.s.flavor.vcpus),
        Field("started_at", lambda u: _time(u.s.launched_at)),
        Field("ended_at", lambda u: u.s.terminated_at and _time(u.s.terminated_at)),
        Field("state", lambda u: "terminated" if u.s.terminated_at else str(u.s.vm_state)),
        Field("uptime", lambda u: u.uptime),
    ],
)


_TOTALS = shape(
    {
        "tenant_id": str,
        "total_hours": float,
        "total_local_gb_usage": float,
        "total_memory_mb_usage": float,
        "total_vcpus_usage": float,
        "start": str,
        "stop": str,
        "server_usages?": [SERVER],
    }
)


def _time(when: dt.datetime) -> str:
    return isoformat_micro(when)


@ROUTES.get(
    "", query=LIST, responses=answers(tenant_usages=[_TOTALS]), summary="Usage of all projects"
)
async def index(call: Context) -> dict[str, Any]:
    """Totals of each project, with its servers when ``detailed=1``; in pages from 2.40."""
    span = _span(call)
    call.enforce(RULE + "list", {"project_id": call.caller.project_id})
    page = await _page(call, span, None)
    by_project: dict[str, list[Used]] = {}
    for used in page:
        by_project.setdefault(used.s.project_id, []).append(used)
    detailed = call.query.get("detailed") == "1"
    body: dict[str, Any] = {
        "tenant_usages": [
            _totals(project, rows, span, detailed=detailed) for project, rows in by_project.items()
        ]
    }
    return _linked(call, body, page, "tenant_usages_links")


@ROUTES.get(
    "/{project_id}",
    query=SHOW,
    responses=answers(tenant_usage={"anyOf": [_TOTALS, {"maxProperties": 0}]}),
    summary="Usage of a project",
)
async def show(call: Context, project_id: str) -> dict[str, Any]:
    """Totals and servers of one project; empty when it had none."""
    span = _span(call)
    call.enforce(RULE + "show", {"project_id": project_id})
    page = await _page(call, span, project_id)
    shown = _totals(project_id, page, span, detailed=True) if page else {}
    body = {"tenant_usage": shown}
    return _linked(call, body, page, "tenant_usage_links")


def _span(call: Context) -> Span:
    now = call.clock.now()
    end = _instant(call.query.get("end"), now)
    begin = _instant(call.query.get("start"), now - DEFAULT_SPAN)
    if begin >= end:
        raise BadRequest("Invalid start time. The start time cannot occur after the end time.")
    return Span(begin, end)


def _instant(text: str | None, default: dt.datetime) -> dt.datetime:
    if not text:
        return default
    for form in FORMATS:
        try:
            return dt.datetime.strptime(text, form).replace(tzinfo=dt.UTC)
        except ValueError:
            continue
    raise BadRequest(f"Datetime is in invalid format: {text[:64]}")


def _limit(call: Context) -> int | None:
    if call.version < 40:
        return None
    return pages.page(call.query, maximum=call.app.settings.api.max_limit).limit


async def _page(call: Context, span: Span, project_id: str | None) -> list[Used]:
    limit = _limit(call)
    marker = call.query.get("marker") if call.version >= 40 else None
    if marker is not None:
        known = await call.app.cells.gather(store.exists, marker)
        if not any(there for _, there in known.found):
            raise BadRequest(f"marker [{marker}] not found")
    answers = await call.app.cells.gather(
        store.active, span.begin, span.end, project_id=project_id, limit=limit, marker=marker
    )
    now = call.clock.now()
    return [_used(server, span, now) for server in store.merge(answers.rows(), limit)]


def _used(server: Server, span: Span, now: dt.datetime) -> Used:
    assert server.launched_at is not None
    gone = server.terminated_at
    begin = max(server.launched_at, span.begin)
    end = min(gone or span.end, span.end)
    hours = max(0.0, (end - begin).total_seconds() / 3600)
    uptime = int(((gone or now) - server.launched_at).total_seconds())
    return Used(server, hours, max(0, uptime))


def _totals(project: str, rows: list[Used], span: Span, *, detailed: bool) -> dict[str, Any]:
    totals: dict[str, Any] = {
        "tenant_id": project,
        "total_hours": sum(used.hours for used in rows),
        "total_local_gb_usage": sum(used.gib * used.hours for used in rows),
        "total_memory_mb_usage": sum(used.s.flavor.memory_mb * used.hours for used in rows),
        "total_vcpus_usage": sum(used.s.flavor.vcpus * used.hours for used in rows),
        "start": _time(span.begin),
        "stop": _time(span.end),
    }
    if detailed:
        totals["server_usages"] = SERVER.render_all(rows)
    return totals


def _linked(call: Context, body: dict[str, Any], page: list[Used], key: str) -> dict[str, Any]:
    limit = _limit(call)
    if limit and len(page) == limit:
        body[key] = [pages.next_link(call, page[-1].s.id)]
    return body
