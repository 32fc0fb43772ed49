"""``/os-volumes_boot`` (to 2.102): another address of ``/servers``."""

from __future__ import annotations

from typing import Any

from kilonova.api.actions import imaging, pause, power, rebuild, resize, shelve
from kilonova.api.servers import create, delete, show, update
from kilonova.api.servers import list as servers_list
from kilonova.context import Services
from kilonova.web.routes import Route, Routes

ROUTES: Routes[Services] = Routes(tag="servers on volumes")
LAST = 102
OLD, NEW = "/servers", "/os-volumes_boot"
PATHS = frozenset({OLD, f"{OLD}/detail", f"{OLD}/{{server_id}}", f"{OLD}/{{server_id}}/action"})
ACTIONS = frozenset(
    {"confirmResize", "revertResize", "reboot", "resize", "rebuild", "createImage", "os-start",
     "os-stop", "trigger_crash_dump"}
)  # fmt: skip
_SAME = (
    "policy", "body", "query", "responses", "status", "also", "action", "since", "gone", "max_body",
    "consumes",
)  # fmt: skip


def _wanted(row: Route) -> bool:
    known = row.action is None or row.action in ACTIONS
    return row.path in PATHS and known and row.since <= LAST


for _group in (
    create.ROUTES,
    servers_list.ROUTES,
    show.ROUTES,
    update.ROUTES,
    delete.ROUTES,
    power.ROUTES,
    pause.ROUTES,
    shelve.ROUTES,
    resize.ROUTES,
    imaging.ROUTES,
    rebuild.ROUTES,
):
    for _row in filter(_wanted, _group):
        _more: dict[str, Any] = {name: getattr(_row, name) for name in _SAME}
        _until = LAST if _row.until is None else min(LAST, _row.until)
        ROUTES.add(
            _row.method,
            _row.path.replace(OLD, NEW, 1),
            _row.handler,
            until=_until,
            summary=_row.summary,
            tags=("servers on volumes",),
            **_more,
        )
