"""``POST /servers``."""

from __future__ import annotations

from typing import Any

from kilonova.api.schemas import LINK
from kilonova.api.servers import schema
from kilonova.api.servers.accept import accept, plan
from kilonova.api.servers.parse import parse
from kilonova.api.servers.rehearse import rehearse
from kilonova.api.servers.resolve import resolve
from kilonova.api.servers.volumes import reserve, unreserve
from kilonova.base.errors import BadRequest, Conflict, Fault
from kilonova.context import Context, Services
from kilonova.store import lists, servers
from kilonova.store.lists import ServerFilter
from kilonova.web.call import Reply
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, shape

ROUTES: Routes[Services] = Routes(tag="servers")
CREATE = "os_compute_api:servers:create"


_SERVER = {
    "id": str,
    "links": [LINK],
    "OS-DCF:diskConfig": str,
    "security_groups": [{"name": str}],
    "adminPass?": str,
}
CREATED = Schema(
    shape(
        {"server?": _SERVER, "reservation_id?": str, "dry_run?": {"type": "object"}},
    )
)


@ROUTES.post(
    "/servers",
    body=schema.CREATE,
    policy=CREATE,
    status=202,
    also=(200,),
    responses=CREATED,
    summary="Create servers; with `Prefer: dry-run` only say (200) whether they fit",
)
async def create(call: Context) -> Reply:
    """Check everything, write it in one transaction, and let the conductor do the work."""
    if not call.caller.project_id:
        raise BadRequest("A server needs a project: the token has none.")
    request = parse(call.body, call.version)
    if request.networks not in (None, "none"):
        call.enforce("os_compute_api:servers:create:attach_network")
    if request.trusted_certs:
        call.enforce("os_compute_api:servers:create:trusted_certs")
        raise BadRequest("This cloud cannot verify image certificates: it has no key manager.")
    await _unique_name(call, request.name)
    found = await resolve(call, request)
    request = found.request
    chosen = plan(call, request, found)
    if call.prefers("dry-run"):
        return await rehearse(call, request, found, chosen)
    await reserve(call, found.volumes.wanted, list(chosen.ids))
    try:
        ids = await accept(call, request, found, chosen)
    except Fault:
        await unreserve(call, found.volumes.wanted, list(chosen.ids))
        raise
    if request.by_reservation:
        return Reply({"reservation_id": chosen.reservation_id})
    href = call.link("servers", ids[0])
    body: dict[str, Any] = {
        "id": ids[0],
        "links": [
            {"rel": "self", "href": href},
            {"rel": "bookmark", "href": call.bookmark("servers", ids[0])},
        ],
        "OS-DCF:diskConfig": "AUTO" if request.auto_disk_config else "MANUAL",
        "security_groups": [{"name": n} for n in request.security_groups or ("default",)],
    }
    if call.app.settings.api.enable_instance_password:
        body["adminPass"] = chosen.admin_pass
    return Reply({"server": body}, headers={"Location": href})


async def _unique_name(call: Context, name: str) -> None:
    scope = call.app.settings.default.osapi_compute_unique_server_name_scope
    if not scope:
        return
    project = call.caller.project_id if scope == "project" else None
    waiting = await call.app.db.read(lists.building, ServerFilter(project_id=project))
    if any(request.server.name.lower() == name.lower() for request in waiting):
        raise Conflict(f"Instance {name} already exists.")
    answers = await call.app.cells.gather(servers.name_taken, name, project)
    if any(taken for _, taken in answers.found):
        raise Conflict(f"Instance {name} already exists.")
