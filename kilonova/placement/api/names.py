"""``/resource_classes`` and ``/traits``, and the traits and aggregates of a provider."""

from __future__ import annotations

from typing import Any

from kilonova.base.errors import BadRequest
from kilonova.db.database import Tx
from kilonova.placement.api import schemas
from kilonova.placement.api.common import Page, Placement, Request, newest, path_of, serve
from kilonova.placement.rows import Named, Provider
from kilonova.placement.store import names, providers
from kilonova.web.routes import Routes

routes: Routes[Placement] = Routes(tag="resource classes and traits")


def _class_view(call: Request, name: str) -> dict[str, Any]:
    href = path_of(call, "resource_classes", name)
    return {"name": name, "links": [{"rel": "self", "href": href}]}


@serve(
    routes,
    "GET",
    "/resource_classes",
    policy="placement:resource_classes:list",
    since=2,
    summary="List resource classes",
)
async def list_classes(call: Request) -> Page:
    """All classes, standard ones first."""
    found = await call.app.db.read(names.classes)
    return Page(
        {"resource_classes": [_class_view(call, one.name) for one in found]},
        newest([one.updated_at for one in found]),
    )


@serve(
    routes,
    "POST",
    "/resource_classes",
    policy="placement:resource_classes:create",
    body=schemas.RESOURCE_CLASS,
    status=201,
    since=2,
    summary="Create a custom resource class",
)
async def create_class(call: Request) -> Page:
    """A new custom class."""
    name = call.body["name"]
    await call.app.db.run(names.create_class, name, call.clock.now())
    return Page(headers={"location": call.link("resource_classes", name)})


@serve(
    routes,
    "GET",
    "/resource_classes/{name}",
    policy="placement:resource_classes:show",
    since=2,
    summary="Show a resource class",
)
async def show_class(call: Request, name: str) -> Page:
    """One class."""
    found = await call.app.db.read(names.find_class, name)
    return Page(_class_view(call, name), found.updated_at)


@serve(
    routes,
    "PUT",
    "/resource_classes/{name}",
    policy="placement:resource_classes:update",
    body=schemas.RESOURCE_CLASS,
    since=2,
    until=6,
    summary="Rename a custom resource class",
)
async def rename_class(call: Request, name: str) -> Page:
    """Another name for a custom class."""
    new = call.body["name"]
    await call.app.db.run(names.rename_class, name, new, call.clock.now())
    return Page(_class_view(call, new))


@serve(
    routes,
    "PUT",
    "/resource_classes/{name}",
    policy="placement:resource_classes:update",
    since=7,
    status=201,
    also=(204,),
    summary="Make sure that a custom resource class exists",
)
async def ensure_class(call: Request, name: str) -> Page:
    """201 when it was made, 204 when it was there."""
    schemas.CLASS_IN_PATH.check(name, call.version)
    made = await call.app.db.run(names.ensure_class, name, call.clock.now())
    location = {"location": call.link("resource_classes", name)}
    return Page(status=201 if made else 204, headers=location)


@serve(
    routes,
    "DELETE",
    "/resource_classes/{name}",
    policy="placement:resource_classes:delete",
    status=204,
    since=2,
    summary="Delete a custom resource class",
)
async def delete_class(call: Request, name: str) -> None:
    """Remove a custom class that no inventory is of."""
    await call.app.db.run(names.delete_class, name)


def _chosen(found: list[Named], pattern: str | None) -> list[Named]:
    if pattern is None:
        return found
    kind, colon, value = pattern.partition(":")
    if colon and kind == "in":
        wanted = set(value.split(","))
        return [one for one in found if one.name in wanted]
    if colon and kind == "startswith":
        return [one for one in found if one.name.startswith(value)]
    raise BadRequest(
        "Badly formatted name parameter. Expected name query string parameter in form: "
        f'?name=[in|startswith]:[name1,name2|prefix]. Got: "{pattern}"'
    )


@serve(
    routes,
    "GET",
    "/traits",
    policy="placement:traits:list",
    query=schemas.TRAITS_QUERY,
    since=6,
    summary="List traits",
)
async def list_traits(call: Request) -> Page:
    """Traits by name and by whether a provider has them."""
    associated = call.query.get("associated")
    if associated is not None and associated.lower() not in ("true", "false"):
        raise BadRequest(
            f'The query parameter "associated" only accepts "true" or "false", got "{associated}".'
        )

    def read(tx: Tx) -> tuple[list[Named], set[str]]:
        return names.traits(tx), names.used_traits(tx) if associated else set()

    found, used = await call.app.db.read(read)
    found = _chosen(found, call.query.get("name"))
    if associated is not None:
        wanted = associated.lower() == "true"
        found = [one for one in found if (one.name in used) is wanted]
    return Page({"traits": [one.name for one in found]}, newest([one.updated_at for one in found]))


@serve(
    routes,
    "GET",
    "/traits/{name}",
    policy="placement:traits:show",
    status=204,
    since=6,
    summary="See whether a trait exists",
)
async def show_trait(call: Request, name: str) -> Page:
    """204 when it does."""
    found = await call.app.db.read(names.find_trait, name)
    return Page(modified=found.updated_at, dated=True)


@serve(
    routes,
    "PUT",
    "/traits/{name}",
    policy="placement:traits:update",
    since=6,
    status=201,
    also=(204,),
    summary="Make sure that a custom trait exists",
)
async def ensure_trait(call: Request, name: str) -> Page:
    """201 when it was made, 204 when it was there."""
    form = schemas.TRAIT_IN_PATH.at(call.version)
    if form is None or not form.is_valid(name):
        raise BadRequest(
            "The trait is invalid. A valid trait must be no longer than 255 characters, start "
            'with the prefix "CUSTOM_" and use following characters: "A"-"Z", "0"-"9" and "_"'
        )
    trait, made = await call.app.db.run(names.ensure_trait, name, call.clock.now())
    return Page(
        modified=trait.updated_at,
        status=201 if made else 204,
        headers={"location": call.link("traits", name)},
        dated=True,
    )


@serve(
    routes,
    "DELETE",
    "/traits/{name}",
    policy="placement:traits:delete",
    status=204,
    since=6,
    summary="Delete a custom trait",
)
async def delete_trait(call: Request, name: str) -> None:
    """Remove a custom trait that no provider has."""
    await call.app.db.run(names.delete_trait, name)


def _traits_of(tx: Tx, uuid: str) -> tuple[Provider, list[Named]]:
    provider = providers.find(tx, uuid)
    return provider, names.provider_traits(tx, provider.id)


def _traits_view(found: list[Named], generation: int) -> Page:
    return Page(
        {"traits": [one.name for one in found], "resource_provider_generation": generation},
        newest([one.updated_at for one in found]),
    )


@serve(
    routes,
    "GET",
    "/resource_providers/{uuid}/traits",
    policy="placement:resource_providers:traits:list",
    since=6,
    summary="List the traits of a provider",
)
async def provider_traits(call: Request, uuid: str) -> Page:
    """The traits of a provider."""
    provider, found = await call.app.db.read(_traits_of, uuid)
    return _traits_view(found, provider.generation)


@serve(
    routes,
    "PUT",
    "/resource_providers/{uuid}/traits",
    policy="placement:resource_providers:traits:update",
    body=schemas.PROVIDER_TRAITS,
    since=6,
    summary="Replace the traits of a provider",
)
async def set_provider_traits(call: Request, uuid: str) -> Page:
    """These traits and no others, written on the generation given."""

    def write(tx: Tx) -> tuple[Provider, list[Named]]:
        names.set_provider_traits(
            tx,
            uuid,
            call.body["traits"],
            generation=call.body["resource_provider_generation"],
            now=call.clock.now(),
        )
        return _traits_of(tx, uuid)

    provider, found = await call.app.db.run(write)
    return _traits_view(found, provider.generation)


@serve(
    routes,
    "DELETE",
    "/resource_providers/{uuid}/traits",
    policy="placement:resource_providers:traits:delete",
    status=204,
    since=6,
    summary="Remove all traits from a provider",
)
async def delete_provider_traits(call: Request, uuid: str) -> None:
    """No traits left."""
    await call.app.db.run(
        names.set_provider_traits, uuid, [], generation=None, now=call.clock.now()
    )


def _aggregates_of(tx: Tx, uuid: str) -> tuple[Provider, list[str]]:
    provider = providers.find(tx, uuid)
    return provider, names.provider_aggregates(tx, provider.id)


def _aggregates_view(call: Request, found: list[str], generation: int) -> Page:
    shown: dict[str, Any] = {"aggregates": found}
    if call.version >= 19:
        shown["resource_provider_generation"] = generation
    return Page(shown)


@serve(
    routes,
    "GET",
    "/resource_providers/{uuid}/aggregates",
    policy="placement:resource_providers:aggregates:list",
    since=1,
    summary="List the aggregates of a provider",
)
async def provider_aggregates(call: Request, uuid: str) -> Page:
    """The aggregates a provider is in."""
    provider, found = await call.app.db.read(_aggregates_of, uuid)
    return _aggregates_view(call, found, provider.generation)


async def _must_exist(call: Request, uuid: str) -> None:
    await call.app.db.read(providers.find, uuid)


@serve(
    routes,
    "PUT",
    "/resource_providers/{uuid}/aggregates",
    policy="placement:resource_providers:aggregates:update",
    body=schemas.AGGREGATES,
    before=_must_exist,
    since=1,
    summary="Replace the aggregates of a provider",
)
async def set_provider_aggregates(call: Request, uuid: str) -> Page:
    """These aggregates and no others; from 1.19 on written on the generation given."""
    keyed = call.version >= 19
    wanted = call.body["aggregates"] if keyed else call.body
    generation = await call.app.db.run(
        names.set_provider_aggregates,
        uuid,
        wanted,
        generation=call.body["resource_provider_generation"] if keyed else None,
        now=call.clock.now(),
    )
    return _aggregates_view(call, wanted, generation)
