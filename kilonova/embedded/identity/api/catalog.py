"""Regions, services and endpoints."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.base.errors import BadRequest, Conflict
from kilonova.db.database import Tx
from kilonova.embedded.identity import listing, schemas, views
from kilonova.embedded.identity.app import Identity
from kilonova.embedded.identity.records import Endpoint, Region, Service
from kilonova.embedded.identity.store import catalog, rows
from kilonova.embedded.identity.tables import ENDPOINT, REGION, SERVICE
from kilonova.web.call import Call
from kilonova.web.routes import Routes

routes: Routes[Identity] = Routes(tag="catalog")

_REGION = ("id", "description", "parent_region_id")
_SERVICE = ("type", "name", "enabled", "description")
_ENDPOINT = ("service_id", "region_id", "region", "interface", "url", "enabled")
_ENDPOINT_FILTERS = ("service_id", "region_id", "interface", "enabled")


@routes.get("/regions", head=True, policy="identity:list_regions")
async def list_regions(call: Call[Identity]) -> dict[str, Any]:
    """Regions, by ``parent_region_id``."""
    part = listing.part(call)
    where = listing.filters(call, REGION, ("parent_region_id",))
    found = await call.app.db.read(catalog.regions, where, part)
    return listing.answer(call, "regions", found, views.region, part.limit)


@routes.post("/regions", status=201, body=schemas.REGION, policy="identity:create_region")
async def create_region(call: Call[Identity]) -> dict[str, Any]:
    """A new region."""
    return await _create_region(call, call.body["region"].get("id") or call.ids.hex())


@routes.put(
    "/regions/{region_id}", status=201, body=schemas.REGION, policy="identity:create_region"
)
async def put_region(call: Call[Identity], region_id: str) -> dict[str, Any]:
    """A new region with a chosen id."""
    if (call.body["region"].get("id") or region_id) != region_id:
        raise BadRequest("The region's id must be the one in the URL.")
    return await _create_region(call, region_id)


async def _create_region(call: Call[Identity], region_id: str) -> dict[str, Any]:
    given, extra = rows.pick(call.body["region"], _REGION)
    extra.pop("links", None)
    parent = given.get("parent_region_id")
    region = Region(region_id, parent, given.get("description") or "", extra)

    def work(tx: Tx) -> None:
        if parent is not None:
            catalog.get_region(tx, parent)
        catalog.create_region(tx, region)

    await call.app.change(work)
    return {"region": views.region(region, call.link)}


@routes.get("/regions/{region_id}", head=True, policy="identity:get_region")
async def show_region(call: Call[Identity], region_id: str) -> dict[str, Any]:
    """One region."""
    region = await call.app.db.read(catalog.get_region, region_id)
    return {"region": views.region(region, call.link)}


@routes.patch("/regions/{region_id}", body=schemas.REGION_CHANGE, policy="identity:update_region")
async def update_region(call: Call[Identity], region_id: str) -> dict[str, Any]:
    """Change a region."""
    given, extra = rows.pick(call.body["region"], _REGION)
    extra.pop("links", None)

    def work(tx: Tx) -> Region:
        region = catalog.get_region(tx, region_id)
        parent = given.get("parent_region_id", region.parent_region_id)
        above = parent
        while above is not None:
            if above == region_id:
                raise BadRequest("A region cannot lie inside itself.")
            above = catalog.get_region(tx, above).parent_region_id
        region = msgspec.structs.replace(
            region,
            description=given.get("description", region.description) or "",
            parent_region_id=parent,
            extra={**region.extra, **extra},
        )
        catalog.update_region(tx, region)
        return region

    return {"region": views.region(await call.app.change(work), call.link)}


@routes.delete("/regions/{region_id}", status=204, policy="identity:delete_region")
async def delete_region(call: Call[Identity], region_id: str) -> None:
    """Remove a region in which nothing lies."""

    def work(tx: Tx) -> None:
        catalog.get_region(tx, region_id)
        if catalog.region_in_use(tx, region_id):
            raise Conflict("Regions or endpoints lie in this region: remove them first.")
        catalog.delete_region(tx, region_id)

    await call.app.change(work)


@routes.get("/services", head=True, policy="identity:list_services")
async def list_services(call: Call[Identity]) -> dict[str, Any]:
    """Services, by ``type`` and ``name``."""
    part = listing.part(call)
    where = listing.filters(call, SERVICE, ("type", "name"))
    found = await call.app.db.read(catalog.services, where, part)
    return listing.answer(call, "services", found, views.service, part.limit)


@routes.post("/services", status=201, body=schemas.SERVICE, policy="identity:create_service")
async def create_service(call: Call[Identity]) -> dict[str, Any]:
    """A new service."""
    given, extra = rows.pick(call.body["service"], _SERVICE)
    _own_words_only(extra)
    service = Service(
        id=call.ids.hex(),
        type=given["type"],
        name=given.get("name", ""),
        enabled=given.get("enabled", True),
        description=given.get("description") or "",
        extra=extra,
    )
    await call.app.change(catalog.create_service, service)
    return {"service": views.service(service, call.link)}


@routes.get("/services/{service_id}", head=True, policy="identity:get_service")
async def show_service(call: Call[Identity], service_id: str) -> dict[str, Any]:
    """One service."""
    service = await call.app.db.read(catalog.get_service, service_id)
    return {"service": views.service(service, call.link)}


@routes.patch(
    "/services/{service_id}", body=schemas.SERVICE_CHANGE, policy="identity:update_service"
)
async def update_service(call: Call[Identity], service_id: str) -> dict[str, Any]:
    """Change a service."""
    given, extra = rows.pick(call.body["service"], _SERVICE)
    _own_words_only(extra, service_id)
    if "description" in given:
        given["description"] = given["description"] or ""

    def work(tx: Tx) -> Service:
        service = catalog.get_service(tx, service_id)
        service = msgspec.structs.replace(service, **given, extra={**service.extra, **extra})
        catalog.update_service(tx, service)
        return service

    return {"service": views.service(await call.app.change(work), call.link)}


@routes.delete("/services/{service_id}", status=204, policy="identity:delete_service")
async def delete_service(call: Call[Identity], service_id: str) -> None:
    """Remove a service and its endpoints."""
    await call.app.change(catalog.delete_service, service_id)


@routes.get("/endpoints", head=True, policy="identity:list_endpoints")
async def list_endpoints(call: Call[Identity]) -> dict[str, Any]:
    """Endpoints, by ``service_id``, ``region_id`` and ``interface``."""
    part = listing.part(call)
    where = listing.filters(call, ENDPOINT, _ENDPOINT_FILTERS)
    found = await call.app.db.read(catalog.endpoints, where, part)
    return listing.answer(call, "endpoints", found, views.endpoint, part.limit)


@routes.post("/endpoints", status=201, body=schemas.ENDPOINT, policy="identity:create_endpoint")
async def create_endpoint(call: Call[Identity]) -> dict[str, Any]:
    """A new endpoint; a region that is not there yet is made."""
    given, extra = rows.pick(call.body["endpoint"], _ENDPOINT)
    _own_words_only(extra)
    endpoint = Endpoint(
        id=call.ids.hex(),
        service_id=given["service_id"],
        region_id=given.get("region_id") or given.get("region") or None,
        interface=given["interface"],
        url=given["url"].strip(),
        enabled=given.get("enabled", True),
        extra=extra,
    )
    _check_url(endpoint.url)

    def work(tx: Tx) -> None:
        _ready(tx, endpoint)
        catalog.create_endpoint(tx, endpoint)

    await call.app.change(work)
    return {"endpoint": views.endpoint(endpoint, call.link)}


@routes.get("/endpoints/{endpoint_id}", head=True, policy="identity:get_endpoint")
async def show_endpoint(call: Call[Identity], endpoint_id: str) -> dict[str, Any]:
    """One endpoint."""
    endpoint = await call.app.db.read(catalog.get_endpoint, endpoint_id)
    return {"endpoint": views.endpoint(endpoint, call.link)}


@routes.patch(
    "/endpoints/{endpoint_id}", body=schemas.ENDPOINT_CHANGE, policy="identity:update_endpoint"
)
async def update_endpoint(call: Call[Identity], endpoint_id: str) -> dict[str, Any]:
    """Change an endpoint."""
    given, extra = rows.pick(call.body["endpoint"], _ENDPOINT)
    _own_words_only(extra, endpoint_id)
    if "region" in given:
        region = given.pop("region")
        given.setdefault("region_id", region)
    if "url" in given:
        _check_url(given["url"])

    def work(tx: Tx) -> Endpoint:
        endpoint = catalog.get_endpoint(tx, endpoint_id)
        endpoint = msgspec.structs.replace(endpoint, **given, extra={**endpoint.extra, **extra})
        _ready(tx, endpoint)
        catalog.update_endpoint(tx, endpoint)
        return endpoint

    return {"endpoint": views.endpoint(await call.app.change(work), call.link)}


@routes.delete("/endpoints/{endpoint_id}", status=204, policy="identity:delete_endpoint")
async def delete_endpoint(call: Call[Identity], endpoint_id: str) -> None:
    """Remove an endpoint."""
    await call.app.change(catalog.delete_endpoint, endpoint_id)


def _ready(tx: Tx, endpoint: Endpoint) -> None:
    services = catalog.services(tx, [rows.Where("id", endpoint.service_id)])
    if not services:
        raise BadRequest(f"There is no service {endpoint.service_id}.")
    region_id = endpoint.region_id
    if region_id is not None and not catalog.has_region(tx, region_id):
        catalog.create_region(tx, Region(region_id, None, "", {}))


def _check_url(url: str) -> None:
    known = {"project_id": "", "tenant_id": "", "user_id": ""}
    if views.fill(url, known) is None:
        raise BadRequest(
            "The URL may refer to project_id, tenant_id and user_id only, as $(project_id)s."
        )


def _own_words_only(extra: dict[str, Any], own_id: str | None = None) -> None:
    extra.pop("links", None)
    if extra.pop("id", own_id) != own_id:
        raise BadRequest("The id is chosen by the service.")
