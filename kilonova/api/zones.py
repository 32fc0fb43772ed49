"""``/os-availability-zone``."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from kilonova.api.schemas import no_query
from kilonova.base.clock import isoformat_micro
from kilonova.context import Context, Services
from kilonova.domain.resources import Service
from kilonova.store import aggregates, services
from kilonova.web.routes import Routes
from kilonova.web.schema import answers, shape

ROUTES: Routes[Services] = Routes(prefix="/os-availability-zone", tag="availability zones")
RULE = "os_compute_api:os-availability-zone:"
COMPUTE = "nova-compute"


_ZONE = {"zoneName": str, "zoneState": {"available": bool}}
_SERVICES = {str: {"available": bool, "active": bool, "updated_at": str | None}}
_HOSTS = {"type": ["object", "null"], "additionalProperties": shape(_SERVICES)}


async def zone_of_hosts(call: Context) -> dict[str, str]:
    """Host → zone, of hosts that an aggregate puts into one."""
    return await call.app.db.read(aggregates.zones)


def zone_of(call: Context, service: Service, zones: dict[str, str]) -> str:
    """The zone a service counts to."""
    settings = call.app.settings.default
    if service.binary != COMPUTE:
        return settings.internal_service_availability_zone
    return zones.get(service.host, settings.default_availability_zone)


@ROUTES.get(
    "",
    policy=RULE + "list",
    query=no_query(),
    responses=answers(availabilityZoneInfo=[{**_ZONE, "hosts": type(None)}]),
    summary="List availability zones",
)
async def index(call: Context) -> dict[str, Any]:
    """Names and states."""
    zones = await _zones(call)
    internal = call.app.settings.default.internal_service_availability_zone
    rows = [
        {
            "zoneName": name,
            "zoneState": {"available": any(not s.disabled for s in members)},
            "hosts": None,
        }
        for name, members in zones.items()
        if name != internal
    ]
    return {"availabilityZoneInfo": _ordered(rows)}


@ROUTES.get(
    "/detail",
    policy=RULE + "detail",
    query=no_query(),
    responses=answers(availabilityZoneInfo=[{**_ZONE, "hosts": _HOSTS}]),
    summary="Zones with their hosts",
)
async def detail(call: Context) -> dict[str, Any]:
    """The same with hosts and services, for administrators."""
    now, seconds = call.clock.now(), call.app.settings.default.service_down_time
    rows = []
    for name, members in (await _zones(call)).items():
        available = any(not s.disabled for s in members)
        hosts: dict[str, dict[str, Any]] = defaultdict(dict)
        for service in members:
            if service.disabled and service.binary == COMPUTE and not available:
                continue
            seen = service.last_seen_up
            hosts[service.host][service.binary] = {
                "available": service.is_up(now, seconds),
                "active": not service.disabled,
                "updated_at": isoformat_micro(seen) if seen else None,
            }
        rows.append(
            {
                "zoneName": name,
                "zoneState": {"available": available},
                "hosts": dict(hosts) if available else None,
            }
        )
    return {"availabilityZoneInfo": _ordered(rows)}


def _ordered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (not row["zoneState"]["available"], row["zoneName"]))


async def _zones(call: Context) -> dict[str, list[Service]]:
    found = (await call.app.cells.gather(services.page)).rows()
    of_hosts = await zone_of_hosts(call)
    zones: dict[str, list[Service]] = defaultdict(list)
    for service in found:
        zones[zone_of(call, service, of_hosts)].append(service)
    return zones
