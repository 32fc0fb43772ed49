"""Regions, services and endpoints."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from kilonova.base.errors import NotFound
from kilonova.db.database import Tx
from kilonova.embedded.identity.records import Endpoint, Region, Service
from kilonova.embedded.identity.store import rows
from kilonova.embedded.identity.tables import ENDPOINT, LIMIT, REGION, REGISTERED_LIMIT, SERVICE


def get_region(tx: Tx, region_id: str) -> Region:
    """A region; NotFound."""
    found = rows.find(tx, Region, REGION, id=region_id)
    if found is None:
        raise NotFound(f"Could not find region: {region_id}.")
    return found


def has_region(tx: Tx, region_id: str) -> bool:
    """Whether there is a region of that id."""
    return rows.find(tx, Region, REGION, id=region_id) is not None


def regions(tx: Tx, filters: Sequence[rows.Where], part: rows.Part | None = None) -> list[Region]:
    """Regions by filters."""
    return [rows.load(Region, row) for row in tx.execute(rows.select(REGION, filters, part))]


def create_region(tx: Tx, region: Region) -> None:
    """Write a new region; Conflict."""
    rows.insert(tx, REGION, region, what="region")


def update_region(tx: Tx, region: Region) -> None:
    """Write a changed region."""
    rows.replace(tx, REGION, region, what="region")


def delete_region(tx: Tx, region_id: str) -> None:
    """Remove a region; NotFound."""
    if not rows.remove(tx, REGION, id=region_id):
        raise NotFound(f"Could not find region: {region_id}.")


def region_in_use(tx: Tx, region_id: str) -> bool:
    """Whether endpoints or regions lie in it."""
    inner = sa.select(REGION.c.id).where(REGION.c.parent_region_id == region_id)
    used = sa.select(ENDPOINT.c.id).where(ENDPOINT.c.region_id == region_id)
    return tx.execute(inner).first() is not None or tx.execute(used).first() is not None


def get_service(tx: Tx, service_id: str) -> Service:
    """A service; NotFound."""
    found = rows.find(tx, Service, SERVICE, id=service_id)
    if found is None:
        raise NotFound(f"Could not find service: {service_id}.")
    return found


def services(
    tx: Tx, filters: Sequence[rows.Where] = (), part: rows.Part | None = None
) -> list[Service]:
    """Services by filters."""
    return [rows.load(Service, row) for row in tx.execute(rows.select(SERVICE, filters, part))]


def create_service(tx: Tx, service: Service) -> None:
    """Write a new service; Conflict."""
    rows.insert(tx, SERVICE, service, what="service")


def update_service(tx: Tx, service: Service) -> None:
    """Write a changed service."""
    rows.replace(tx, SERVICE, service, what="service")


def delete_service(tx: Tx, service_id: str) -> None:
    """Remove a service, its endpoints and limits; NotFound."""
    if not rows.remove(tx, SERVICE, id=service_id):
        raise NotFound(f"Could not find service: {service_id}.")
    rows.remove(tx, ENDPOINT, service_id=service_id)
    mine = sa.select(REGISTERED_LIMIT.c.id).where(REGISTERED_LIMIT.c.service_id == service_id)
    tx.execute(LIMIT.delete().where(LIMIT.c.registered_id.in_(mine)))
    rows.remove(tx, REGISTERED_LIMIT, service_id=service_id)


def get_endpoint(tx: Tx, endpoint_id: str) -> Endpoint:
    """An endpoint; NotFound."""
    found = rows.find(tx, Endpoint, ENDPOINT, id=endpoint_id)
    if found is None:
        raise NotFound(f"Could not find endpoint: {endpoint_id}.")
    return found


def endpoints(
    tx: Tx, filters: Sequence[rows.Where] = (), part: rows.Part | None = None
) -> list[Endpoint]:
    """Endpoints by filters."""
    return [rows.load(Endpoint, row) for row in tx.execute(rows.select(ENDPOINT, filters, part))]


def create_endpoint(tx: Tx, endpoint: Endpoint) -> None:
    """Write a new endpoint; Conflict."""
    rows.insert(tx, ENDPOINT, endpoint, what="endpoint")


def update_endpoint(tx: Tx, endpoint: Endpoint) -> None:
    """Write a changed endpoint."""
    rows.replace(tx, ENDPOINT, endpoint, what="endpoint")


def delete_endpoint(tx: Tx, endpoint_id: str) -> None:
    """Remove an endpoint; NotFound."""
    if not rows.remove(tx, ENDPOINT, id=endpoint_id):
        raise NotFound(f"Could not find endpoint: {endpoint_id}.")
