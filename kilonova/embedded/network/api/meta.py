"""The smaller interfaces: versions, extensions, zones, providers, and what there is none of."""

from __future__ import annotations

from typing import Any

from kilonova.base.errors import NotFound
from kilonova.embedded.network.app import NetworkApp, NetworkCall
from kilonova.embedded.network.extensions import EXTENSIONS, Extension
from kilonova.embedded.network.kinds import KINDS
from kilonova.web.routes import Routes
from kilonova.web.schema import answers

VERSIONS: Routes[NetworkApp] = Routes(rooted=False)
ROUTES: Routes[NetworkApp] = Routes(prefix="/v2.0")

# Collections clients ask for that are always empty here.
EMPTY = {
    "address-groups": "address_groups",
    "address-scopes": "address_scopes",
    "flavors": "flavors",
    "log/logs": "logs",
    "metering/metering-labels": "metering_labels",
    "ndp_proxies": "ndp_proxies",
    "network_segment_ranges": "network_segment_ranges",
    "network-ip-availabilities": "network_ip_availabilities",
    "qos/policies": "policies",
    "rbac-policies": "rbac_policies",
    "segments": "segments",
    "trunks": "trunks",
}


@VERSIONS.get("/", public=True)
async def versions(call: NetworkCall) -> dict[str, Any]:
    """The version document."""
    self_link = {"rel": "self", "href": call.link("v2.0") + "/"}
    return {"versions": [{"id": "v2.0", "status": "CURRENT", "links": [self_link]}]}


_EXTENSION = {
    "alias": str,
    "name": str,
    "description": str,
    "updated": str,
    "links": [object],
}


@ROUTES.get(
    "",
    public=True,
    responses=answers(
        resources=[{"name": str, "collection": str, "links": [{"rel": str, "href": str}]}]
    ),
)
async def resources(call: NetworkCall) -> dict[str, Any]:
    """The collections of v2.0."""
    return {
        "resources": [
            {
                "name": kind.name,
                "collection": kind.plural,
                "links": [{"rel": "self", "href": call.link("v2.0", kind.url)}],
            }
            for kind in KINDS
        ]
    }


@ROUTES.get("/extensions", policy="get_extension", responses=answers(extensions=[_EXTENSION]))
async def extensions(_call: NetworkCall) -> dict[str, Any]:
    """What this service can beside the core."""
    return {"extensions": [_extension(e) for e in EXTENSIONS]}


@ROUTES.get("/extensions/{alias}", policy="get_extension", responses=answers(extension=_EXTENSION))
async def extension(_call: NetworkCall, alias: str) -> dict[str, Any]:
    """One extension."""
    for found in EXTENSIONS:
        if found.alias == alias:
            return {"extension": _extension(found)}
    raise NotFound(f"Extension with alias {alias} does not exist", code="HTTPNotFound")


@ROUTES.get(
    "/availability_zones",
    policy="get_availability_zone",
    responses=answers(availability_zones=[{"name": str, "resource": str, "state": str}]),
)
async def zones(call: NetworkCall) -> dict[str, Any]:
    """One zone for networks and routers."""
    wanted = call.query.all("resource")
    return {
        "availability_zones": [
            {"name": "nova", "resource": kind, "state": "available"}
            for kind in ("network", "router")
            if not wanted or kind in wanted
        ]
    }


@ROUTES.get(
    "/service-providers",
    policy="get_service_provider",
    responses=answers(service_providers=[{"service_type": str, "name": str, "default": bool}]),
)
async def providers(_call: NetworkCall) -> dict[str, Any]:
    """The one implementation of each service."""
    provider = {"service_type": "L3_ROUTER_NAT", "name": "single_node", "default": True}
    return {"service_providers": [provider]}


def _add_empty(path: str, plural: str) -> None:
    rule = f"get_{plural.rstrip('s')}"

    @ROUTES.get(f"/{path}", policy=rule, responses=answers(**{plural: [{"type": "object"}]}))
    async def index(_call: NetworkCall) -> dict[str, Any]:
        return {plural: []}

    @ROUTES.get(f"/{path}/{{row_id}}", policy=rule)
    async def show(_call: NetworkCall, row_id: str) -> None:
        raise NotFound(f"{plural} {row_id} could not be found.", code="HTTPNotFound")


for _path, _plural in EMPTY.items():
    _add_empty(_path, _plural)


def _extension(e: Extension) -> dict[str, Any]:
    return {
        "alias": e.alias,
        "name": e.name,
        "description": e.description,
        "updated": "2026-01-01T00:00:00-00:00",
        "links": [],
    }
