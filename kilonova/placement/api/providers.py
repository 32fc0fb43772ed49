"""``/resource_providers``: list, create, show, rename, move, delete."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from kilonova.base.errors import BadRequest
from kilonova.db.database import Tx
from kilonova.placement import queries
from kilonova.placement.api import schemas
from kilonova.placement.api.common import Page, Placement, Request, newest, path_of, serve
from kilonova.placement.rows import Provider
from kilonova.placement.store import names, providers
from kilonova.placement.world import World, has_room
from kilonova.web.routes import Routes
from kilonova.web.schema import until

routes: Routes[Placement] = Routes(tag="resource providers")

# relation → minor version from which it is linked
_LINKS = {"inventories": 0, "usages": 0, "aggregates": 1, "traits": 6, "allocations": 11}


def view(call: Request, provider: Provider) -> dict[str, Any]:
    """A provider at the version of the request."""
    at = path_of(call, "resource_providers", provider.uuid)
    links = [{"rel": "self", "href": at}]
    links += [
        {"rel": rel, "href": f"{at}/{rel}"}
        for rel, since in _LINKS.items()
        if call.version >= since
    ]
    shown: dict[str, Any] = {
        "uuid": provider.uuid,
        "name": provider.name,
        "generation": provider.generation,
        "links": links,
    }
    if call.version >= 14:
        shown["parent_provider_uuid"] = provider.parent_uuid
        shown["root_provider_uuid"] = provider.root_uuid
    return shown


@serve(
    routes,
    "GET",
    "/resource_providers",
    policy="placement:resource_providers:list",
    query=schemas.PROVIDERS_QUERY,
    summary="List and filter providers",
)
async def index(call: Request) -> Page:
    """Providers all of whose own properties fit the filters."""
    query = call.query
    traits = queries.traits("required", query.all("required"), call.version)
    aggregates = queries.aggregates("member_of", query.all("member_of"), call.version)
    text = query.get("resources")
    resources = queries.resources(text) if text is not None else {}
    world = await call.app.index.world()
    if await check_names(call, world, resources, traits.names):
        world = await call.app.index.world()
    ids = _start(world, query.get("name"), query.get("uuid"), query.get("in_tree"))
    found = [
        stock.id
        for stock in (world.stocks[i] for i in sorted(ids))
        if traits.accept(stock.traits)
        and aggregates.accept(stock.aggregates)
        and all(has_room(stock, name, amount) for name, amount in resources.items())
    ]
    rows = await call.app.db.read(providers.by_ids, found)
    return Page(
        {"resource_providers": [view(call, row) for row in rows]},
        newest([row.updated_at for row in rows]),
    )


def _start(world: World, name: str | None, uuid: str | None, in_tree: str | None) -> set[int]:
    parts: list[set[int]] = []
    if in_tree is not None:
        parts.append(world.tree_of(in_tree))
    if uuid is not None:
        parts.append({world.ids[uuid]} if uuid in world.ids else set())
    if name is not None:
        parts.append({world.names[name]} if name in world.names else set())
    return set.intersection(*parts) if parts else set(world.stocks)


async def check_names(
    call: Request, world: World, resources: dict[str, int], traits: frozenset[str]
) -> bool:
    """BadRequest for a class or trait in the query that does not exist.

    True when the database was asked, so that ``world`` may have moved on meanwhile.
    """
    classes = [n for n in resources if n not in world.by_class and n not in names.KNOWN_CLASSES]
    others = [n for n in traits if n not in world.by_trait and n not in names.STANDARD_TRAITS]
    if not classes and not others:
        return False

    def unknown(tx: Tx) -> tuple[list[str], list[str]]:
        return names.unknown_classes(tx, classes), names.unknown_traits(tx, others)

    classes, others = await call.app.db.read(unknown)
    if classes:
        raise BadRequest(
            f"Invalid resource class in resources parameter: No such resource class {classes[0]}"
        )
    if others:
        raise BadRequest(f"No such trait(s): {', '.join(others)}.")
    return True


@serve(
    routes,
    "POST",
    "/resource_providers",
    policy="placement:resource_providers:create",
    body=schemas.NEW_PROVIDER,
    also=(until(19, 201),),
    summary="Create a provider",
)
async def create(call: Request) -> Page:
    """A new provider; from 1.20 on the answer shows it."""
    made = await call.app.db.run(
        providers.create,
        uuid=queries.canonical(call.body.get("uuid") or call.ids.uuid()),
        name=call.body["name"],
        parent_uuid=_parent(call.body),
        now=call.clock.now(),
    )
    headers = {"location": call.link("resource_providers", made.uuid)}
    if call.version >= 20:
        return Page(view(call, made), made.updated_at, status=200, headers=headers)
    return Page(status=201, headers=headers)


def _parent(body: Mapping[str, Any]) -> str | None:
    uuid = body.get("parent_provider_uuid")
    return None if uuid is None else queries.canonical(uuid)


@serve(
    routes,
    "GET",
    "/resource_providers/{uuid}",
    policy="placement:resource_providers:show",
    summary="Show a provider",
)
async def show(call: Request, uuid: str) -> Page:
    """One provider."""
    provider = await call.app.db.read(providers.find, uuid)
    return Page(view(call, provider), provider.updated_at)


@serve(
    routes,
    "PUT",
    "/resource_providers/{uuid}",
    policy="placement:resource_providers:update",
    body=schemas.PROVIDER,
    summary="Rename a provider or put it elsewhere in the tree",
)
async def update(call: Request, uuid: str) -> Page:
    """Rename; from 1.14 on give a root a parent, from 1.37 on change and remove parents."""
    provider = await call.app.db.run(
        _update,
        uuid,
        call.body,
        freely=call.version >= 37,
        now=call.clock.now(),
    )
    return Page(view(call, provider), provider.updated_at)


def _update(tx: Tx, uuid: str, body: dict[str, Any], *, freely: bool, now: dt.datetime) -> Provider:
    provider = providers.lock(tx, uuid)
    if body["name"] != provider.name:
        providers.rename(tx, provider, body["name"], now)
    if "parent_provider_uuid" in body:
        parent = _parent(body)
        if parent != provider.parent_uuid:
            if provider.parent_uuid is not None and not freely:
                verb = "un-parenting" if parent is None else "re-parenting"
                raise BadRequest(
                    f"Unable to save resource provider {uuid}: {verb} a provider is not currently "
                    "allowed."
                )
            providers.move(tx, provider, parent, now)
    return providers.find(tx, uuid)


@serve(
    routes,
    "DELETE",
    "/resource_providers/{uuid}",
    policy="placement:resource_providers:delete",
    status=204,
    summary="Delete a provider",
)
async def delete(call: Request, uuid: str) -> None:
    """Delete a provider that has neither children nor allocations."""
    await call.app.db.run(providers.delete, uuid)
