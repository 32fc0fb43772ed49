"""``/os-aggregates``."""

from __future__ import annotations

from typing import Any

from kilonova.api import providers
from kilonova.api.schemas import HOST, NAME, NAME_WITH_SPACES, UUID, closed, no_query
from kilonova.base.clock import isoformat_micro
from kilonova.base.errors import BadRequest, Conflict, NotFound
from kilonova.context import Context, Services
from kilonova.db.database import Tx
from kilonova.domain.agent import CONDUCTOR, WantedImages
from kilonova.domain.guest import ImageRef
from kilonova.domain.resources import Aggregate
from kilonova.store import aggregates as store
from kilonova.store import servers, services
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers
from kilonova.web.view import Field, View

ROUTES: Routes[Services] = Routes(prefix="/os-aggregates", tag="host aggregates")
RULE = "os_compute_api:os-aggregates:"
ZONE = "availability_zone"

_ZONE = {
    "anyOf": [
        {**NAME, "pattern": r"^(?!\s)[^:\p{Cc}]*(?<!\s)$"},
        {"type": "null"},
    ]
}
CREATE = Schema(closed({"aggregate": closed({"name": NAME, ZONE: _ZONE}, "name")}, "aggregate"))
UPDATE = Schema(
    closed(
        {"aggregate": closed({"name": NAME_WITH_SPACES, ZONE: _ZONE}, minProperties=1)}, "aggregate"
    )
)
ADD_HOST = Schema(closed({"add_host": closed({"host": HOST}, "host")}, "add_host"))
REMOVE_HOST = Schema(closed({"remove_host": closed({"host": HOST}, "host")}, "remove_host"))
_META = {
    "type": "object",
    "patternProperties": {
        r"^[a-zA-Z0-9-_:. ]{1,255}$": {
            "anyOf": [{"type": "string", "maxLength": 255}, {"type": "null"}]
        }
    },
    "additionalProperties": False,
}
SET_METADATA = Schema(
    closed({"set_metadata": closed({"metadata": _META}, "metadata")}, "set_metadata")
)
CACHE = Schema(
    closed(
        {"cache": {"type": "array", "minItems": 1, "items": closed({"id": UUID}, "id")}}, "cache"
    )
)

AGGREGATE = View(
    "aggregate",
    [
        Field("id"),
        Field("name"),
        Field("hosts"),
        Field("metadata"),
        Field(ZONE, "zone"),
        Field("uuid", since=41),
        Field("created_at", lambda a: isoformat_micro(a.created_at)),
        Field("updated_at", lambda a: a.updated_at and isoformat_micro(a.updated_at)),
        Field("deleted", lambda a: False),
        Field("deleted_at", lambda a: None),
    ],
)
# What create answers: the aggregate before it has hosts and metadata.
MADE = View(
    "aggregate",
    [field for field in AGGREGATE.fields if field.name not in ("hosts", "metadata")],
)


def _shown(call: Context, found: Aggregate) -> dict[str, Any]:
    return {"aggregate": AGGREGATE.render(found, call.version)}


def _number(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise BadRequest(f"Invalid aggregate id: {text[:64]} must be an integer.")
    return int(text[:10])


@ROUTES.get(
    "",
    policy=RULE + "index",
    responses=answers(aggregates=[AGGREGATE]),
    query=no_query(),
    summary="List aggregates",
)
async def index(call: Context) -> dict[str, Any]:
    """All of them."""
    found = await call.app.db.read(store.page)
    return {"aggregates": AGGREGATE.render_all(found, call.version)}


@ROUTES.post(
    "",
    policy=RULE + "create",
    responses=answers(aggregate=MADE),
    body=CREATE,
    summary="Create an aggregate",
)
async def create(call: Context) -> dict[str, Any]:
    """A new, empty aggregate."""
    body = call.body["aggregate"]
    zone = body.get(ZONE)
    made = await call.app.db.run(
        store.create,
        uuid=call.ids.uuid(),
        name=body["name"].strip(),
        metadata={ZONE: zone} if zone else {},
        now=call.clock.now(),
    )
    return {"aggregate": MADE.render(made, call.version)}


@ROUTES.get(
    "/{aggregate_id}",
    policy=RULE + "show",
    responses=answers(aggregate=AGGREGATE),
    query=no_query(),
    summary="Show an aggregate",
)
async def show(call: Context, aggregate_id: str) -> dict[str, Any]:
    """One of them."""
    return _shown(call, await call.app.db.read(store.get, _number(aggregate_id)))


@ROUTES.put(
    "/{aggregate_id}",
    policy=RULE + "update",
    responses=answers(aggregate=AGGREGATE),
    body=UPDATE,
    summary="Change an aggregate",
)
async def update(call: Context, aggregate_id: str) -> dict[str, Any]:
    """Name or zone; a zone cannot be changed under the servers of its hosts."""
    number, body = _number(aggregate_id), call.body["aggregate"]
    before = await call.app.db.read(store.get, number)
    zone = body.get(ZONE)
    if ZONE in body and zone != before.zone:
        await _no_servers(call, before.hosts, "update")

    def write(tx: Tx) -> Aggregate:
        values: dict[str, Any] = {}
        if "name" in body:
            values["name"] = body["name"].strip()
        if ZONE in body:
            current = store.get(tx, number)
            values["metadata"] = _with(current.metadata, {ZONE: zone})
            _one_zone(tx, current, zone)
        return store.update(tx, number, now=call.clock.now(), event="update_prop", **values)

    return _shown(call, await call.app.db.run(write))


@ROUTES.delete("/{aggregate_id}", policy=RULE + "delete", summary="Delete an aggregate")
async def delete(call: Context, aggregate_id: str) -> None:
    """Only without hosts."""
    try:
        await call.app.db.run(store.delete, _number(aggregate_id))
    except Conflict as error:
        raise BadRequest(error.message) from None


PATH = "/{aggregate_id}/action"


@ROUTES.post(
    PATH,
    action="add_host",
    policy=RULE + "add_host",
    responses=answers(aggregate=AGGREGATE),
    body=ADD_HOST,
    summary="Add a host",
)
async def add_host(call: Context, aggregate_id: str) -> dict[str, Any]:
    """A host that has a nova-compute; its servers must not change their zone by it."""
    number, host = _number(aggregate_id), call.body["add_host"]["host"]
    await _known_host(call, host)
    wanted = await call.app.db.read(store.get, number)
    if wanted.zone:
        default = call.app.settings.default.default_availability_zone
        zones = await call.app.db.read(store.zones)
        if zones.get(host, default) != wanted.zone:
            await _no_servers(call, (host,), "add host")
    found = await call.app.db.run(store.add_host, number, host, now=call.clock.now())
    await providers.entered(call, host, found.uuid)
    return _shown(call, found)


@ROUTES.post(
    PATH,
    action="remove_host",
    policy=RULE + "remove_host",
    body=REMOVE_HOST,
    responses=answers(aggregate=AGGREGATE),
    summary="Remove one",
)
async def remove_host(call: Context, aggregate_id: str) -> dict[str, Any]:
    """Take a host out."""
    number, host = _number(aggregate_id), call.body["remove_host"]["host"]
    before = await call.app.db.read(store.get, number)
    if host not in before.hosts:
        raise NotFound(f"Cannot remove host {host} in aggregate {number}: not found")
    default = call.app.settings.default.default_availability_zone
    if before.zone and before.zone != default:
        await _no_servers(call, (host,), "remove host")
    found = await call.app.db.run(store.remove_host, number, host, now=call.clock.now())
    await providers.left(call, host, found.uuid)
    return _shown(call, found)


@ROUTES.post(
    PATH,
    action="set_metadata",
    policy=RULE + "set_metadata",
    body=SET_METADATA,
    responses=answers(aggregate=AGGREGATE),
    summary="Set metadata",
)
async def set_metadata(call: Context, aggregate_id: str) -> dict[str, Any]:
    """Add keys, or remove those whose value is null."""
    number, given = _number(aggregate_id), call.body["set_metadata"]["metadata"]
    before = await call.app.db.read(store.get, number)
    if ZONE in given and given[ZONE] != before.zone:
        await _no_servers(call, before.hosts, "set metadata of")

    def write(tx: Tx) -> Aggregate:
        current = store.get(tx, number)
        if ZONE in given:
            _one_zone(tx, current, given[ZONE])
        changed = _with(current.metadata, given)
        return store.update(
            tx, number, now=call.clock.now(), event="update_metadata", metadata=changed
        )

    return _shown(call, await call.app.db.run(write))


def _with(old: dict[str, str], given: dict[str, str | None]) -> dict[str, str]:
    changed = {**old, **given}
    return {key: value for key, value in changed.items() if value is not None}


def _one_zone(tx: Tx, aggregate: Aggregate, zone: str | None) -> None:
    if zone:
        for host in aggregate.hosts:
            store.require_zone(tx, host, zone, but=aggregate.id)


async def _known_host(call: Context, host: str) -> None:
    found = await call.app.cells.gather(services.find, host, "nova-compute")
    if not any(service for _, service in found.found):
        raise NotFound(f"Compute host {host} could not be found.")


async def _no_servers(call: Context, hosts: tuple[str, ...], what: str) -> None:
    """Conflict when a host has servers: they would change their zone."""
    for host in hosts:
        found = await call.app.cells.gather(servers.on_host, host)
        if any(rows for _, rows in found.found):
            raise Conflict(f"Cannot {what} the aggregate: the host {host} has instances.")


@ROUTES.post(
    "/{aggregate_id}/images",
    since=81,
    status=202,
    policy="compute:aggregates:images",
    body=CACHE,
    summary="Have images on the hosts of an aggregate",
)
async def cache_images(call: Context, aggregate_id: str) -> None:
    """Each host fetches the images by itself, a few at a time; what came of it is told by
    notifications and in its log."""
    ids = [item["id"] for item in call.body["cache"]]
    if len(set(ids)) != len(ids):
        raise BadRequest("Duplicate images in request")
    found = await call.app.db.read(store.get, _number(aggregate_id))
    images = [await _image(call, image_id) for image_id in ids]
    answers = await call.app.cells.gather(services.computes, list(found.hosts))
    for cell, rows in answers.found:
        if rows:
            asked = WantedImages(found.id, tuple(sorted(rows)), tuple(images))
            await call.app.bus_of(cell.id).cast(CONDUCTOR, "cache_images", asked)


async def _image(call: Context, image_id: str) -> ImageRef:
    try:
        image = await call.app.images.show(image_id, token=call.caller.token)
    except NotFound:
        raise BadRequest(f"Image {image_id} could not be found.") from None
    return ImageRef(**{name: getattr(image, name) for name in ImageRef.__struct_fields__})
