"""``GET /servers`` and ``GET /servers/detail``: one page over all cells."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import msgspec

from kilonova.api.find import find, is_admin
from kilonova.api.servers import filters, schema, view
from kilonova.base.errors import BadRequest, NotFound
from kilonova.context import Context, Services
from kilonova.db.cells import Cell
from kilonova.db.database import Tx
from kilonova.domain.resources import Service
from kilonova.domain.server import Server
from kilonova.store import lists, mappings, services
from kilonova.store.lists import Order, ServerFilter
from kilonova.store.servers import Extras, decode
from kilonova.web import pages
from kilonova.web.routes import Routes
from kilonova.web.schema import answers

ROUTES: Routes[Services] = Routes(tag="servers")
INDEX = "os_compute_api:servers:index"
DETAIL = "os_compute_api:servers:detail"
NOTHING = Extras()


@ROUTES.get(
    "/servers",
    query=schema.LIST,
    responses=answers(servers=[{"type": "object"}]),
    policy=INDEX,
    summary="List servers",
)
async def index(call: Context) -> dict[str, Any]:
    """Ids, names and links."""
    return await _answer(call, INDEX, detail=False)


@ROUTES.get(
    "/servers/detail",
    query=schema.LIST,
    responses=answers(servers=[view.DETAIL]),
    policy=DETAIL,
    summary="List servers in detail",
)
async def detail(call: Context) -> dict[str, Any]:
    """Servers as `show` shows them, without their groups."""
    return await _answer(call, DETAIL, detail=True)


class Page(msgspec.Struct):
    """One page: rows of cells, and servers that are being placed.

    With the computes of the hosts, and the cells that did not answer.
    """

    items: Sequence[Any]
    hosts: dict[str, Service]
    down: list[Cell]


async def _answer(call: Context, rule: str, *, detail: bool) -> dict[str, Any]:
    rules = view.granted(call) if detail else frozenset()
    limits = pages.page(call.query, maximum=call.app.settings.api.max_limit)
    wanted = _filter(call, rule)
    path = ("servers", "detail") if detail else ("servers",)
    if wanted is None:
        return {"servers": []}
    marker = await _marker(call, limits.marker)
    order = filters.order(call.query, admin=is_admin(call))
    extras = view.extras(call.version, rules) if detail else NOTHING
    hosts = detail and view.wants_hosts(call.version, rules)
    page = await fetch(call, wanted, order, limits.limit, marker, extras, with_hosts=hosts)
    frame = view.Frame(call, rules)
    table = view.DETAIL if detail else view.INDEX
    frame.with_hosts(page.hosts, call.clock.now(), call.app.settings.default.service_down_time)
    shown: list[Any] = [*view.render_rows(table, page.items, frame, extras, call.app.shown)]
    body: dict[str, Any] = {"servers": shown}
    if shown and len(shown) == limits.limit:
        last = page.items[-1]
        if not isinstance(last, Server):
            last = decode(last[0])
        body["servers_links"] = [pages.next_link(call, last.id, *path)]
    elif page.down and call.version >= 69 and _plain(call):
        shown.extend(await _partial(call, page.down, wanted, detail=detail))
    return body


def _filter(call: Context, rule: str) -> ServerFilter | None:
    admin = is_admin(call)
    project_id = call.caller.project_id
    if filters.all_tenants(call.query):
        call.enforce(f"{rule}:get_all_tenants")
        project_id = None
    return filters.filters(
        call.query,
        call.version,
        project_id=project_id,
        everything=call.allows("os_compute_api:servers:allow_all_filters"),
        admin=admin,
    )


async def _marker(call: Context, marker: str | None) -> Server | None:
    if marker is None:
        return None
    try:
        return (await find(call, marker, deleted=True)).server
    except NotFound:
        raise BadRequest(f"marker [{marker}] not found") from None


def _in_cell(
    tx: Tx,
    wanted: ServerFilter,
    order: Sequence[Order],
    limit: int,
    marker: Server | None,
    extras: Extras,
    with_hosts: bool,
) -> tuple[Sequence[Any], dict[str, Service]]:
    found = lists.rows(tx, wanted, order, limit=limit, marker=marker, extras=extras)
    if not with_hosts:
        return found, {}
    hosts = {row.host for row in found if row.host}
    return found, services.computes(tx, hosts) if hosts else {}


async def fetch(
    call: Context,
    wanted: ServerFilter,
    order: Sequence[Order],
    limit: int,
    marker: Server | None,
    extras: Extras,
    *,
    with_hosts: bool,
) -> Page:
    """Servers of every cell and those being placed, merged into one page."""
    if limit == 0:
        return Page((), {}, [])
    # The build requests first: a server that moves meanwhile is found twice, never not at all.
    requests = await call.app.db.read(lists.building, wanted)
    answers = await call.app.cells.gather(
        _in_cell, wanted, order, limit, marker, extras, with_hosts
    )
    hosts: dict[str, Service] = {}
    filled: list[Sequence[Any]] = []
    for _, (found, computes) in answers.found:
        if found:
            filled.append(found)
        hosts.update(computes)
    if not requests and len(filled) <= 1:
        return Page(filled[0] if filled else (), hosts, answers.down)
    unplaced = [
        msgspec.structs.replace(r.server, user_data=r.private.user_data)
        if extras.user_data
        else r.server
        for r in requests
    ]
    items = lists.merge_rows(filled, unplaced, order, limit, marker)
    return Page(items, hosts, answers.down)


def _plain(call: Context) -> bool:
    return all(name in ("all_tenants",) for name in call.query)


async def _partial(
    call: Context, down: Sequence[Cell], wanted: ServerFilter, *, detail: bool
) -> list[dict[str, Any]]:
    rows: list[tuple[str, str, dt.datetime]] = await call.app.db.read(
        mappings.in_cells, [cell.id for cell in down], wanted.project_id
    )
    shown = [view.partial(call, *row) for row in rows]
    if detail:
        return shown
    return [{key: row[key] for key in ("id", "status", "links")} for row in shown]
