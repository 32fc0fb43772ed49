"""``/resource_providers/{uuid}/inventories`` and ``…/usages``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kilonova.base.errors import BadRequest, MethodNotAllowed, NotFound
from kilonova.db.database import Tx
from kilonova.placement.api import schemas
from kilonova.placement.api.common import Page, Placement, Request, serve
from kilonova.placement.rows import Inventory, Provider
from kilonova.placement.store import inventories, providers
from kilonova.web.routes import Routes

routes: Routes[Placement] = Routes(tag="inventories")
_AT = "/resource_providers/{uuid}/inventories"
_FIELDS = frozenset(field.name for field in msgspec.structs.fields(Inventory))


def parse(body: Mapping[str, Any], *, where: str, version: int) -> Inventory:
    """An inventory of a checked body; BadRequest when ``reserved`` leaves nothing.

    From 1.26 on ``reserved`` may be all there is.
    """
    found = Inventory(**{name: value for name, value in body.items() if name in _FIELDS})
    if version < 26 and found.reserved >= found.total:
        raise BadRequest(
            f"{where}: Reserved value {found.reserved} is greater than or equal to total "
            f"{found.total}."
        )
    if found.reserved > found.total:
        raise BadRequest(
            f"{where}: Reserved value {found.reserved} is greater than total {found.total}."
        )
    return found


def parse_many(
    body: Mapping[str, Mapping[str, Any]], *, uuid: str, version: int
) -> dict[str, Inventory]:
    """Class → inventory of a checked body."""
    where = f"Unable to update inventory for resource provider {uuid}"
    return {
        name: parse(one, where=f"{where}: {name}", version=version) for name, one in body.items()
    }


def view(found: Mapping[str, Inventory], generation: int) -> dict[str, Any]:
    """Inventories with the generation they are of."""
    return {
        "resource_provider_generation": generation,
        "inventories": {name: msgspec.structs.asdict(one) for name, one in found.items()},
    }


def _one(inventory: Inventory, generation: int) -> dict[str, Any]:
    return {**msgspec.structs.asdict(inventory), "resource_provider_generation": generation}


def _read(tx: Tx, uuid: str) -> tuple[Provider, dict[str, Inventory]]:
    provider = providers.find(tx, uuid)
    return provider, inventories.listing(tx, provider.id)


@serve(
    routes,
    "GET",
    _AT,
    policy="placement:resource_providers:inventories:list",
    summary="List the inventories of a provider",
)
async def index(call: Request, uuid: str) -> Page:
    """All inventories."""
    provider, found = await call.app.db.read(_read, uuid)
    return Page(view(found, provider.generation), provider.updated_at)


@serve(
    routes,
    "POST",
    _AT,
    policy="placement:resource_providers:inventories:create",
    body=schemas.NEW_INVENTORY,
    status=201,
    summary="Add an inventory",
)
async def create(call: Request, uuid: str) -> Page:
    """One more inventory."""
    name = call.body["resource_class"]
    where = f"Unable to create inventory for resource provider {uuid}"
    inventory = parse(call.body, where=where, version=call.version)
    generation = await call.app.db.run(inventories.add, uuid, name, inventory, call.clock.now())
    location = call.link("resource_providers", uuid, "inventories", name)
    return Page(_one(inventory, generation), headers={"location": location})


@serve(
    routes,
    "PUT",
    _AT,
    policy="placement:resource_providers:inventories:update",
    body=schemas.INVENTORIES,
    summary="Replace all inventories",
)
async def replace(call: Request, uuid: str) -> Page:
    """All inventories at once, written on the generation given."""
    await call.app.db.read(providers.find, uuid)
    wanted = parse_many(call.body["inventories"], uuid=uuid, version=call.version)
    generation = await call.app.db.run(
        inventories.replace,
        uuid,
        wanted,
        generation=call.body["resource_provider_generation"],
        now=call.clock.now(),
    )
    return Page(view(wanted, generation))


@serve(
    routes,
    "DELETE",
    _AT,
    policy="placement:resource_providers:inventories:delete",
    until=4,
    status=405,
    summary="Not before 1.5",
)
async def delete_none(call: Request, uuid: str) -> None:
    """The path was there before the method."""
    raise MethodNotAllowed(headers={"Allow": "GET, POST, PUT"})


@serve(
    routes,
    "DELETE",
    _AT,
    policy="placement:resource_providers:inventories:delete",
    status=204,
    since=5,
    summary="Delete all inventories",
)
async def delete_all(call: Request, uuid: str) -> None:
    """None left; Conflict while one is in use."""
    await call.app.db.run(inventories.delete_all, uuid, call.clock.now())


@serve(
    routes,
    "GET",
    _AT + "/{resource_class}",
    policy="placement:resource_providers:inventories:show",
    summary="Show an inventory",
)
async def show(call: Request, uuid: str, resource_class: str) -> Page:
    """One inventory."""
    provider, found = await call.app.db.read(_read, uuid)
    if resource_class not in found:
        raise NotFound(f"No inventory of class {resource_class} for {uuid}")
    return Page(_one(found[resource_class], provider.generation), provider.updated_at)


@serve(
    routes,
    "PUT",
    _AT + "/{resource_class}",
    policy="placement:resource_providers:inventories:update",
    body=schemas.INVENTORY,
    summary="Replace an inventory",
)
async def update(call: Request, uuid: str, resource_class: str) -> Page:
    """One inventory, written on the generation given."""
    await call.app.db.read(providers.find, uuid)
    where = f"Unable to update inventory for resource provider {uuid}"
    inventory = parse(call.body, where=where, version=call.version)
    generation = await call.app.db.run(
        inventories.update,
        uuid,
        resource_class,
        inventory,
        generation=call.body["resource_provider_generation"],
        now=call.clock.now(),
    )
    return Page(_one(inventory, generation))


@serve(
    routes,
    "DELETE",
    _AT + "/{resource_class}",
    policy="placement:resource_providers:inventories:delete",
    status=204,
    summary="Delete an inventory",
)
async def delete(call: Request, uuid: str, resource_class: str) -> None:
    """Remove one; Conflict while it is in use."""
    await call.app.db.run(inventories.delete, uuid, resource_class, call.clock.now())


def _usage(tx: Tx, uuid: str) -> tuple[Provider, dict[str, int]]:
    provider = providers.find(tx, uuid)
    return provider, inventories.usage(tx, provider.id)


@serve(
    routes,
    "GET",
    "/resource_providers/{uuid}/usages",
    policy="placement:resource_providers:usages",
    summary="Show what is in use of a provider",
)
async def usages(call: Request, uuid: str) -> Page:
    """Amount in use of every class the provider has."""
    provider, used = await call.app.db.read(_usage, uuid)
    return Page({"resource_provider_generation": provider.generation, "usages": used})
