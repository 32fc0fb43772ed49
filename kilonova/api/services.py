"""``/os-services``: the daemons, and taking hosts out of service."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from kilonova.api import providers
from kilonova.api.schemas import BOOLEAN, HOST, closed, truth
from kilonova.api.zones import COMPUTE, zone_of, zone_of_hosts
from kilonova.base.clock import isoformat_micro
from kilonova.base.errors import BadRequest, Conflict, Fault, NotFound
from kilonova.context import Context, Services
from kilonova.db.cells import Cell
from kilonova.db.database import Tx
from kilonova.domain.resources import Service
from kilonova.store import aggregates, mappings, migrations, nodes, servers
from kilonova.store import services as store
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers, pick, since, until
from kilonova.web.view import Field, View

ROUTES: Routes[Services] = Routes(prefix="/os-services", tag="services")
RULE = "os_compute_api:os-services:"

log = logging.getLogger(__name__)

LIST = Schema(
    {
        "type": "object",
        "properties": {"host": {"type": "string"}, "binary": {"type": "string"}},
        "additionalProperties": pick(until(74, True), since(75, False)),
    }
)
_REASON = {"type": "string", "minLength": 1, "maxLength": 255}
OLD_UPDATE = Schema(
    closed(
        {
            "host": HOST,
            "binary": {"type": "string", "minLength": 1, "maxLength": 255},
            "disabled_reason": _REASON,
            "forced_down": since(11, BOOLEAN),
        },
        "host",
        "binary",
    )
)
UPDATE = Schema(
    closed(
        {
            "status": {"type": "string", "enum": ["enabled", "disabled"]},
            "disabled_reason": _REASON,
            "forced_down": BOOLEAN,
        }
    )
)


class Shown(msgspec.Struct):
    """A service with what is reckoned from it."""

    s: Service
    zone: str
    up: bool


SERVICE = View(
    "service",
    [
        Field("id", lambda x: x.s.id, until=52),
        Field("id", lambda x: x.s.uuid, since=53),
        Field("binary", lambda x: x.s.binary),
        Field("host", lambda x: x.s.host),
        Field("zone", lambda x: x.zone),
        Field("status", lambda x: "disabled" if x.s.disabled else "enabled"),
        Field("state", lambda x: "up" if x.up else "down"),
        Field("updated_at", lambda x: x.s.last_seen_up and isoformat_micro(x.s.last_seen_up)),
        Field("disabled_reason", lambda x: x.s.disabled_reason),
        Field("forced_down", lambda x: x.s.forced_down, since=11),
    ],
)


def shown(call: Context, service: Service, zones: dict[str, str]) -> Shown:
    """The service with zone and state."""
    seconds = call.app.settings.default.service_down_time
    return Shown(service, zone_of(call, service, zones), service.is_up(call.clock.now(), seconds))


@ROUTES.get(
    "",
    policy=RULE + "list",
    responses=answers(services=[SERVICE]),
    query=LIST,
    summary="List services",
)
async def index(call: Context) -> dict[str, Any]:
    """The services of all cells."""
    zones = await zone_of_hosts(call)
    answers = await call.app.cells.gather(
        store.page, host=call.query.get("host"), binary=call.query.get("binary")
    )
    rows = [shown(call, service, zones) for service in answers.rows()]
    return {"services": SERVICE.render_all(rows, call.version)}


async def _find(call: Context, service_id: str) -> tuple[Cell, Service]:
    """A service by its id: a number before 2.53, a uuid from then on."""
    if call.version >= 53:
        if len(service_id) != 36:
            raise BadRequest(f"Invalid uuid {service_id[:64]}")
        answers = await call.app.cells.gather(store.get, uuid=service_id)
    else:
        if not (service_id.isascii() and service_id.isdigit()):
            raise BadRequest(f"{service_id[:64]} must be an integer")
        answers = await call.app.cells.gather(store.get, number=int(service_id[:9]))
    found = [(cell, service) for cell, service in answers.found if service is not None]
    if not found:
        raise NotFound(f"Service {service_id} could not be found.")
    if len(found) > 1:
        raise BadRequest(
            f"Service id {service_id} is not unique: use microversion 2.53 and a uuid."
        )
    return found[0]


async def _by_host(call: Context, host: str, binary: str) -> tuple[Cell, Service]:
    answers = await call.app.cells.gather(store.find, host, binary)
    for cell, service in answers.found:
        if service is not None:
            return cell, service
    raise NotFound(f"Could not find binary {binary} on host {host}.")


@ROUTES.put(
    "/{service_id}",
    since=53,
    policy=RULE + "update",
    body=UPDATE,
    responses=answers(service=SERVICE),
    summary="Enable, disable or force down a service",
)
async def update(call: Context, service_id: str) -> dict[str, Any]:
    """A disabled compute gets no new servers."""
    body = call.body
    status, reason = body.get("status"), body.get("disabled_reason")
    if not body:
        raise BadRequest(
            "No updates were requested. Fields 'status' or 'forced_down' should be given."
        )
    if reason is not None and status != "disabled":
        raise BadRequest("Specifying 'disabled_reason' when status is not 'disabled' is invalid.")
    cell, service = await _find(call, service_id)
    if service.binary != COMPUTE:
        raise BadRequest(f"Updating a {service.binary} service is not supported.")
    values: dict[str, Any] = {}
    if status is not None:
        values.update(disabled=status == "disabled", disabled_reason=reason)
    if "forced_down" in body:
        values["forced_down"] = truth(body["forced_down"])
    changed = await _save(call, cell, service, values)
    zones = await zone_of_hosts(call)
    return {"service": SERVICE.render(shown(call, changed, zones), call.version)}


async def _save(call: Context, cell: Cell, service: Service, values: dict[str, Any]) -> Service:
    def write(tx: Tx) -> Service:
        up = service.forced_down and values.get("forced_down") is False
        if up and migrations.evacuated(tx, service.host):
            raise BadRequest(
                f"The service on host {service.host} cannot be un-forced yet: the servers that "
                "were evacuated from it are not cleaned up; start its agent and wait."
            )
        changed = store.update(tx, service.id, now=call.clock.now(), **values)
        if changed is None:
            raise NotFound(f"Service {service.uuid} could not be found.")
        return changed

    changed = await cell.db.run(write)
    if "disabled" in values and changed.binary == COMPUTE:
        await providers.switched(call, changed.host, disabled=changed.disabled)
    return changed


_OLD = {
    "host": str,
    "binary": str,
    "status?": str,
    "disabled_reason?": str | None,
    "forced_down?": since(11, bool),
}


@ROUTES.put(
    "/{word}",
    until=52,
    policy=RULE + "update",
    body=OLD_UPDATE,
    responses=answers(service=_OLD),
    summary="The same before 2.53",
)
async def old_update(call: Context, word: str) -> dict[str, Any]:
    """enable, disable, disable-log-reason, force-down (2.11)."""
    body = call.body
    values: dict[str, Any]
    if word == "enable":
        values = {"disabled": False, "disabled_reason": None}
    elif word == "disable":
        values = {"disabled": True, "disabled_reason": None}
    elif word == "disable-log-reason":
        if "disabled_reason" not in body:
            raise BadRequest("Missing disabled reason field")
        values = {"disabled": True, "disabled_reason": body["disabled_reason"]}
    elif word == "force-down" and call.version >= 11:
        if "forced_down" not in body:
            raise BadRequest("Missing forced_down field")
        values = {"forced_down": truth(body["forced_down"])}
    else:
        raise NotFound("Unknown action")
    cell, service = await _by_host(call, body["host"], body["binary"])
    changed = await _save(call, cell, service, values)
    answer: dict[str, Any] = {"host": changed.host, "binary": changed.binary}
    if word == "force-down":
        answer["forced_down"] = changed.forced_down
    else:
        answer["status"] = "disabled" if changed.disabled else "enabled"
        if word == "disable-log-reason":
            answer["disabled_reason"] = changed.disabled_reason
    return {"service": answer}


@ROUTES.delete("/{service_id}", status=204, policy=RULE + "delete", summary="Delete a service")
async def delete(call: Context, service_id: str) -> None:
    """Forget a host that is gone for good; 409 while it has servers, or moves are under way."""
    cell, service = await _find(call, service_id)

    def remove(tx: Tx) -> list[str]:
        gone: list[str] = []
        if service.binary == COMPUTE:
            if servers.on_host(tx, service.host):
                raise Conflict(
                    "Unable to delete compute service that is hosting instances. Migrate or "
                    "delete the instances first."
                )
            if migrations.concerning(tx, service.host):
                raise Conflict(
                    "Unable to delete compute service that has in-progress migrations. Complete "
                    "the migrations or delete the instances first."
                )
            gone = nodes.delete_host(tx, service.host)
        store.delete(tx, service.id)
        return gone

    gone = await cell.db.run(remove)
    if service.binary == COMPUTE:
        await call.app.db.run(_forget_host, call, service.host)
        await _forget_providers(call, gone)


async def _forget_providers(call: Context, uuids: list[str]) -> None:
    """The host is gone whatever Placement says: it is told of no node that is not there."""
    placement = call.app.placement
    if placement is None:
        return
    for uuid in uuids:
        try:
            for child in await placement.children(uuid):
                await placement.delete_provider(child)
            await placement.delete_provider(uuid)
        except Fault as fault:
            log.warning("resource provider %s was not deleted: %s", uuid, fault.message)


def _forget_host(tx: Tx, call: Context, host: str) -> None:
    for aggregate in aggregates.page(tx):
        if host in aggregate.hosts:
            aggregates.remove_host(tx, aggregate.id, host, now=call.clock.now())
    mappings.unmap_host(tx, host)
