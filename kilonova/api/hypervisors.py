"""``/os-hypervisors``."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.api.schemas import TRUE
from kilonova.base.errors import BadRequest, NotFound
from kilonova.context import Context, Services
from kilonova.db.cells import Cell
from kilonova.db.database import Tx
from kilonova.domain.resources import Node, Service
from kilonova.domain.server import Server
from kilonova.store import nodes as store
from kilonova.store import servers, services
from kilonova.web import pages
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers, pick, since, single, until
from kilonova.web.view import OMIT, Field, View

ROUTES: Routes[Services] = Routes(prefix="/os-hypervisors", tag="hypervisors")
RULE = "os_compute_api:os-hypervisors:"

_LIST: dict[str, Any] = {
    "limit": since(33, single({"type": "string", "pattern": "^[0-9]+$"})),
    "marker": since(33, single({"type": "string"})),
    "hypervisor_hostname_pattern": since(53, single({"type": "string", "minLength": 1})),
    "with_servers": since(53, single({"type": "string"})),
}
LIST = Schema(
    {
        "type": "object",
        "properties": _LIST,
        "additionalProperties": pick(until(52, True), since(53, False)),
    }
)
SHOW = Schema(
    {
        "type": "object",
        "properties": {"with_servers": since(53, single({"type": "string"}))},
        "additionalProperties": pick(until(52, True), since(53, False)),
    }
)


class Shown(msgspec.Struct):
    """A node, its service and, where asked for, its servers."""

    n: Node
    service: Service | None
    up: bool
    servers: list[Server] | None = None


def _servers(x: Shown) -> Any:
    return OMIT if x.servers is None else [{"uuid": s.id, "name": s.guest_name} for s in x.servers]


def _service(uuid: bool) -> Any:
    def get(x: Shown) -> dict[str, Any]:
        service = x.service
        key: Any = None
        if service is not None:
            key = service.uuid if uuid else service.id
        return {
            "id": key,
            "host": x.n.host,
            "disabled_reason": service.disabled_reason if service else None,
        }

    return get


_BASIC = [
    Field("id", lambda x: x.n.id, until=52),
    Field("id", lambda x: x.n.uuid, since=53),
    Field("hypervisor_hostname", lambda x: x.n.node),
    Field("state", lambda x: "up" if x.up else "down"),
    Field("status", lambda x: "disabled" if x.service is None or x.service.disabled else "enabled"),
    Field("servers", _servers),
]
BASIC = View("hypervisor", _BASIC)
_UPTIME = View("hypervisor", [*_BASIC, Field("uptime")])
DETAIL = View(
    "hypervisor",
    [
        *_BASIC,
        Field("service", _service(False), until=52),
        Field("service", _service(True), since=53),
        Field("host_ip", lambda x: x.n.report.host_ip),
        Field("hypervisor_type", lambda x: x.n.report.hypervisor_type),
        Field("hypervisor_version", lambda x: x.n.report.hypervisor_version),
        Field("vcpus", lambda x: x.n.report.vcpus, until=87),
        Field("vcpus_used", lambda x: x.n.report.used_vcpus, until=87),
        Field("memory_mb", lambda x: x.n.report.memory_mb, until=87),
        Field("memory_mb_used", lambda x: x.n.report.used_memory_mb, until=87),
        Field("free_ram_mb", lambda x: x.n.report.memory_mb - x.n.report.used_memory_mb, until=87),
        Field("local_gb", lambda x: x.n.report.disk_gb, until=87),
        Field("local_gb_used", lambda x: x.n.report.used_disk_gb, until=87),
        Field("free_disk_gb", lambda x: x.n.report.disk_gb - x.n.report.used_disk_gb, until=87),
        Field("disk_available_least", lambda x: x.n.report.free_disk_gb, until=87),
        Field("current_workload", lambda x: x.n.workload, until=87),
        Field("running_vms", lambda x: x.n.running_vms, until=87),
        Field("cpu_info", lambda x: msgspec.json.encode(x.n.report.cpu_info).decode(), until=27),
        Field("cpu_info", lambda x: x.n.report.cpu_info, since=28, until=87),
        Field("uptime", lambda x: x.n.report.uptime or None, since=88),
    ],
)


def _read(
    tx: Tx, pattern: str | None, with_servers: bool
) -> list[tuple[Node, Service | None, list[Server] | None]]:
    found = store.page(tx, pattern=pattern)
    hosts = [node.host for node in found]
    known = services.computes(tx, hosts) if found else {}
    own = servers.on_hosts(tx, hosts) if with_servers and found else {}
    return [(node, known.get(node.host), own.get(node.host)) for node in found]


def _shown(call: Context, rows: list[Any]) -> list[Shown]:
    now, seconds = call.clock.now(), call.app.settings.default.service_down_time
    return [
        Shown(node, service, service is not None and service.is_up(now, seconds), own)
        for node, service, own in rows
    ]


async def _all(call: Context, pattern: str | None, *, with_servers: bool) -> list[Shown]:
    answers = await call.app.cells.gather(_read, pattern, with_servers)
    return _shown(call, answers.rows())


def _flag(call: Context, name: str) -> bool:
    text = call.query.get(name)
    if text is None or call.version < 53:
        return False
    if text in TRUE or text in ("T", "t"):
        return True
    if text.lower() in ("false", "0", "no", "off", "n", "f"):
        return False
    raise BadRequest(f"Invalid value for {name}: {text[:32]!r} is not a boolean.")


async def _answer(call: Context, view: View, *path: str) -> dict[str, Any]:
    pattern = call.query.get("hypervisor_hostname_pattern") if call.version >= 53 else None
    paged = call.version >= 33
    if pattern is not None and any(name in call.query for name in ("limit", "marker")):
        raise BadRequest(
            "Paging over hypervisors with the hostname_pattern query is not supported."
        )
    rows = await _all(call, pattern, with_servers=_flag(call, "with_servers"))
    if pattern is not None and not rows:
        raise NotFound(f"No hypervisor matching '{pattern}' could be found.")
    body: dict[str, Any] = {}
    if paged:
        page = pages.page(call.query, maximum=call.app.settings.api.max_limit)
        keys = [row.n.uuid if call.version >= 53 else str(row.n.id) for row in rows]
        if page.marker is not None:
            if page.marker not in keys:
                raise BadRequest(f"Marker [{page.marker}] not found")
            start = keys.index(page.marker) + 1
            rows, keys = rows[start:], keys[start:]
        rows = rows[: page.limit]
        if rows and len(rows) == page.limit:
            body["hypervisors_links"] = [
                pages.next_link(call, keys[len(rows) - 1], "os-hypervisors", *path)
            ]
    if call.version >= 75:
        rows = _always_servers(rows, asked=_flag(call, "with_servers"))
    return {"hypervisors": view.render_all(rows, call.version), **body}


def _always_servers(rows: list[Shown], *, asked: bool) -> list[Shown]:
    """Servers only where they were asked for."""
    return rows if asked else [Shown(r.n, r.service, r.up) for r in rows]


@ROUTES.get(
    "",
    policy=RULE + "list",
    responses=answers(hypervisors=[BASIC]),
    query=LIST,
    also=(404,),
    summary="List hypervisors",
)
async def index(call: Context) -> dict[str, Any]:
    """Names and states."""
    return await _answer(call, BASIC)


@ROUTES.get(
    "/detail",
    policy=RULE + "list-detail",
    responses=answers(hypervisors=[DETAIL]),
    query=LIST,
    also=(404,),
    summary="Hypervisors in detail",
)
async def detail(call: Context) -> dict[str, Any]:
    """With what they have and use (before 2.88)."""
    return await _answer(call, DETAIL, "detail")


SUMS = (
    "vcpus", "memory_mb", "local_gb", "vcpus_used", "memory_mb_used", "local_gb_used",
    "free_ram_mb", "free_disk_gb", "current_workload", "running_vms", "disk_available_least",
)  # fmt: skip


@ROUTES.get(
    "/statistics",
    until=87,
    policy=RULE + "statistics",
    responses=answers(hypervisor_statistics=dict.fromkeys(("count", *SUMS), int)),
    summary="Sums over hypervisors",
)
async def statistics(call: Context) -> dict[str, Any]:
    """Sums over the enabled ones."""
    rows = [
        row
        for row in await _all(call, None, with_servers=False)
        if row.service is not None and not row.service.disabled
    ]
    one = DETAIL.at(1)
    shown = [one(row) for row in rows]
    sums = {name: sum(row[name] for row in shown) for name in SUMS}
    return {"hypervisor_statistics": {"count": len(rows), **sums}}


@ROUTES.get(
    "/{hypervisor_id}",
    policy=RULE + "show",
    responses=answers(hypervisor=DETAIL),
    query=SHOW,
    summary="Show a hypervisor",
)
async def show(call: Context, hypervisor_id: str) -> dict[str, Any]:
    """One hypervisor."""
    asked = _flag(call, "with_servers")
    row = await _one(call, hypervisor_id, with_servers=asked)
    return {"hypervisor": DETAIL.render(row, call.version)}


async def _one(call: Context, key: str, *, with_servers: bool = False) -> Shown:
    where: dict[str, Any]
    if call.version >= 53:
        if len(key) != 36:
            raise BadRequest(f"Invalid uuid {key[:64]}")
        where = {"uuid": key}
    else:
        if not (key.isascii() and key.isdigit()):
            raise NotFound(f"Hypervisor with ID '{key[:64]}' could not be found.")
        where = {"number": int(key[:9])}

    def read(tx: Tx) -> tuple[Node, Service | None, list[Server] | None] | None:
        node = store.get(tx, **where)
        if node is None:
            return None
        service = services.find(tx, node.host, "nova-compute")
        return node, service, servers.on_host(tx, node.host) if with_servers else None

    answers = await call.app.cells.gather(read)
    found: list[tuple[Cell, Any]] = [pair for pair in answers.found if pair[1] is not None]
    if not found:
        raise NotFound(f"Hypervisor with ID '{key}' could not be found.")
    return _shown(call, [found[0][1]])[0]


@ROUTES.get(
    "/{hypervisor_id}/uptime",
    until=87,
    policy=RULE + "uptime",
    responses=answers(hypervisor=_UPTIME),
    summary="How long a host is up",
)
async def uptime(call: Context, hypervisor_id: str) -> dict[str, Any]:
    """What the host says of its uptime."""
    row = await _one(call, hypervisor_id)
    if not row.up:
        raise BadRequest(f"Host '{row.n.host}' is not up.")
    shown = BASIC.render(Shown(row.n, row.service, row.up), call.version)
    return {"hypervisor": {**shown, "uptime": row.n.report.uptime}}


@ROUTES.get(
    "/{pattern}/search",
    until=52,
    policy=RULE + "search",
    responses=answers(hypervisors=[BASIC]),
    summary="Find hypervisors by name",
)
async def search(call: Context, pattern: str) -> dict[str, Any]:
    """Those whose name has the pattern in it."""
    rows = await _matching(call, pattern, with_servers=False)
    return {"hypervisors": BASIC.render_all(rows, call.version)}


@ROUTES.get(
    "/{pattern}/servers",
    until=52,
    policy=RULE + "servers",
    responses=answers(hypervisors=[BASIC]),
    summary="Servers of hypervisors",
)
async def with_servers(call: Context, pattern: str) -> dict[str, Any]:
    """The same with their servers."""
    rows = await _matching(call, pattern, with_servers=True)
    for row in rows:
        row.servers = row.servers or None
    return {"hypervisors": BASIC.render_all(rows, call.version)}


async def _matching(call: Context, pattern: str, *, with_servers: bool) -> list[Shown]:
    rows = await _all(call, pattern, with_servers=with_servers)
    if not rows:
        raise NotFound(f"No hypervisor matching '{pattern}' could be found.")
    return rows
