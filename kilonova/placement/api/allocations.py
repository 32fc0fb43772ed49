"""``/allocations``, ``/resource_providers/{uuid}/allocations``, ``/usages`` and ``/reshaper``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kilonova.base.errors import BadRequest
from kilonova.db.database import Tx
from kilonova.placement import queries
from kilonova.placement.api import inventories as inventory_api
from kilonova.placement.api import schemas
from kilonova.placement.api.common import Page, Placement, Request, newest, serve
from kilonova.placement.rows import UNKNOWN_TYPE, Allocation, Provider
from kilonova.placement.store import allocations, providers, reshape
from kilonova.placement.store.allocations import Claim, Total
from kilonova.web.routes import Routes

routes: Routes[Placement] = Routes(tag="allocations")


def _resources(body: Any) -> dict[str, dict[str, int]]:
    """Provider → class → amount of either form of ``allocations``."""
    if isinstance(body, Mapping):
        return {queries.canonical(uuid): dict(part["resources"]) for uuid, part in body.items()}
    found: dict[str, dict[str, int]] = {}
    for part in body:
        uuid = queries.canonical(part["resource_provider"]["uuid"])
        found.setdefault(uuid, {}).update(part["resources"])
    return found


def _claim(call: Request, consumer: str, body: Mapping[str, Any]) -> Claim:
    limits = call.app.limits
    return Claim(
        consumer=queries.canonical(consumer),
        resources=_resources(body["allocations"]),
        project_id=body.get("project_id", limits.incomplete_consumer_project_id),
        user_id=body.get("user_id", limits.incomplete_consumer_user_id),
        generation=body["consumer_generation"] if call.version >= 28 else allocations.ANY,
        type=body.get("consumer_type"),
    )


@serve(
    routes,
    "POST",
    "/allocations",
    policy="placement:allocations:manage",
    body=schemas.MANY_ALLOCATIONS,
    status=204,
    since=13,
    summary="Set the allocations of several consumers at once",
)
async def set_many(call: Request) -> None:
    """All of them or none."""
    claims = [_claim(call, consumer, body) for consumer, body in call.body.items()]
    await call.app.db.run(allocations.replace, claims, call.clock.now())


@serve(
    routes,
    "PUT",
    "/allocations/{consumer_uuid}",
    policy="placement:allocations:update",
    body=schemas.ALLOCATIONS,
    status=204,
    summary="Set the allocations of a consumer",
)
async def set_one(call: Request, consumer_uuid: str) -> None:
    """What the consumer holds from now on."""
    if not queries.is_uuid(consumer_uuid):
        raise BadRequest(f"Malformed consumer_uuid: {consumer_uuid}")
    claim = _claim(call, consumer_uuid, call.body)
    await call.app.db.run(allocations.replace, [claim], call.clock.now())


@serve(
    routes,
    "GET",
    "/allocations/{consumer_uuid}",
    policy="placement:allocations:list",
    summary="Show the allocations of a consumer",
)
async def of_consumer(call: Request, consumer_uuid: str) -> Page:
    """What a consumer holds; nothing for one that is not known."""
    held = await call.app.db.read(allocations.of_consumer, queries.canonical(consumer_uuid))
    shown: dict[str, Any] = {"allocations": {}}
    for one in held:
        part = shown["allocations"].setdefault(
            one.provider_uuid, {"resources": {}, "generation": one.provider_generation}
        )
        part["resources"][one.resource_class] = one.used
    if held:
        consumer = held[0].consumer
        if call.version >= 12:
            shown["project_id"] = consumer.project_id
            shown["user_id"] = consumer.user_id
        if call.version >= 28:
            shown["consumer_generation"] = consumer.generation
        if call.version >= 38:
            shown["consumer_type"] = consumer.type or UNKNOWN_TYPE
    return Page(shown, newest([one.updated_at for one in held]))


@serve(
    routes,
    "DELETE",
    "/allocations/{consumer_uuid}",
    policy="placement:allocations:delete",
    status=204,
    summary="Free everything a consumer holds",
)
async def delete(call: Request, consumer_uuid: str) -> None:
    """Nothing held any more."""
    await call.app.db.run(allocations.release, queries.canonical(consumer_uuid))


def _of_provider(tx: Tx, uuid: str) -> tuple[Provider, list[Allocation]]:
    provider = providers.find(tx, uuid)
    return provider, allocations.of_provider(tx, provider.id)


@serve(
    routes,
    "GET",
    "/resource_providers/{uuid}/allocations",
    policy="placement:resource_providers:allocations:list",
    summary="List what is held of a provider",
)
async def of_provider(call: Request, uuid: str) -> Page:
    """Consumer → what it holds of this provider."""
    provider, held = await call.app.db.read(_of_provider, uuid)
    shown: dict[str, Any] = {}
    for one in held:
        part = shown.setdefault(one.consumer.uuid, {"resources": {}})
        part["resources"][one.resource_class] = one.used
        if call.version >= 28:
            part["consumer_generation"] = one.consumer.generation
    return Page(
        {"allocations": shown, "resource_provider_generation": provider.generation},
        newest([one.updated_at for one in held]),
    )


@serve(
    routes,
    "GET",
    "/usages",
    policy="",
    query=schemas.USAGES_QUERY,
    since=9,
    summary="Show what a project uses",
)
async def usages(call: Request) -> Page:
    """The use of a project, or of one of its users; from 1.38 on by consumer type."""
    project = call.query.get("project_id", "") or ""
    call.enforce("placement:usages", {"project_id": project})
    totals = await call.app.db.read(allocations.totals, project, call.query.get("user_id"))
    if call.version < 38:
        return Page({"usages": _together(totals)})
    wanted = call.query.get("consumer_type")
    if wanted == "all":
        count = sum(total.consumers for total in totals)
        shown = {"all": {**_together(totals), "consumer_count": count}} if totals else {}
        return Page({"usages": shown})
    by_type = {total.type or UNKNOWN_TYPE: total for total in totals}
    return Page(
        {
            "usages": {
                name: {**total.used, "consumer_count": total.consumers}
                for name, total in by_type.items()
                if wanted in (None, name)
            }
        }
    )


def _together(totals: list[Total]) -> dict[str, int]:
    used: dict[str, int] = {}
    for total in totals:
        for name, amount in total.used.items():
            used[name] = used.get(name, 0) + amount
    return used


@serve(
    routes,
    "POST",
    "/reshaper",
    policy="placement:reshaper:reshape",
    body=schemas.RESHAPE,
    status=204,
    since=30,
    summary="Move inventories and allocations between providers at once",
)
async def reshaper(call: Request) -> None:
    """All new inventories and allocations, or nothing."""
    shapes = {
        uuid: reshape.Shape(
            part["resource_provider_generation"],
            inventory_api.parse_many(part["inventories"], uuid=uuid, version=call.version),
        )
        for uuid, part in call.body["inventories"].items()
    }
    claims = [_claim(call, consumer, body) for consumer, body in call.body["allocations"].items()]
    await call.app.db.run(reshape.reshape, shapes, claims, call.clock.now())
