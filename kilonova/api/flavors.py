"""``/flavors``, their extra specs and access lists."""

from __future__ import annotations

from typing import Any

import os_resource_classes
import os_traits

from kilonova.api.schemas import BOOLEAN, DESCRIPTION, NAME, TRUE, closed, no_query
from kilonova.base.errors import BadRequest, Conflict, NotFound
from kilonova.context import Context, Services
from kilonova.domain import extra_specs
from kilonova.domain.guest import FlavorSpec
from kilonova.store import flavors as store
from kilonova.web import pages
from kilonova.web.pages import Sort, sorting
from kilonova.web.routes import Routes
from kilonova.web.schema import TEXTS, Schema, answers, between, pick, since, until
from kilonova.web.view import OMIT, Field, View

ROUTES: Routes[Services] = Routes(prefix="/flavors", tag="flavors")
SPECS_SHOWN = "os_compute_api:os-flavor-extra-specs:index"
MANAGE = "os_compute_api:os-flavor-manage:"
_MOST = 2147483647

_SIZE = {"type": ["integer", "string"], "pattern": "^[0-9]+$", "minimum": 0, "maximum": _MOST}
_SIZE1 = {**_SIZE, "minimum": 1}
_FLAVORID = {
    "anyOf": [
        {
            "type": ["string", "number"],
            "minLength": 1,
            "maxLength": 255,
            "pattern": r"^(?! )[a-zA-Z0-9. _-]+(?<! )$",
        },
        {"type": "null"},
    ]
}
CREATE = Schema(
    closed(
        {
            "flavor": closed(
                {
                    "name": NAME,
                    "id": _FLAVORID,
                    "ram": _SIZE1,
                    "vcpus": _SIZE1,
                    "disk": _SIZE,
                    "OS-FLV-EXT-DATA:ephemeral": _SIZE,
                    "swap": _SIZE,
                    "rxtx_factor": until(
                        101,
                        {
                            "type": ["number", "string"],
                            "pattern": r"^[0-9]+(\.[0-9]+)?$",
                            "exclusiveMinimum": 0,
                            "maximum": 3.40282e38,
                        },
                    ),
                    "os-flavor-access:is_public": BOOLEAN,
                    "description": since(55, {**DESCRIPTION, "maxLength": 65535}),
                },
                "name",
                "ram",
                "vcpus",
                "disk",
            )
        },
        "flavor",
    )
)
UPDATE = Schema(
    closed(
        {"flavor": closed({"description": {**DESCRIPTION, "maxLength": 65535}}, "description")},
        "flavor",
    )
)
_SORT = [
    "created_at",
    "description",
    "disabled",
    "ephemeral_gb",
    "flavorid",
    "id",
    "is_public",
    "memory_mb",
    "name",
    "root_gb",
    "rxtx_factor",
    "swap",
    "updated_at",
    "vcpu_weight",
    "vcpus",
]
LIST = Schema(
    {
        "type": "object",
        "properties": {
            "limit": {"type": "string", "pattern": "^[0-9]+$"},
            "marker": {"type": "string"},
            "is_public": {"type": "string"},
            "minRam": {"type": "string"},
            "minDisk": {"type": "string"},
            "sort_key": {"type": "string", "enum": _SORT},
            "sort_dir": {"type": "string", "enum": ["asc", "desc", "ASC", "DESC"]},
            "name": since(102, {"type": "string", "format": "regex"}),
        },
        "additionalProperties": pick(between(0, 74, True), since(75, False)),
    }
)


class Shown:
    """A flavor with the links around it."""

    __slots__ = ("f", "links", "specs")

    def __init__(self, flavor: FlavorSpec, call: Context, *, specs: bool) -> None:
        self.f = flavor
        self.links = [
            {"rel": "self", "href": call.link("flavors", flavor.flavorid)},
            {"rel": "bookmark", "href": call.bookmark("flavors", flavor.flavorid)},
        ]
        self.specs = specs


INDEX = View(
    "flavor",
    [
        Field("id", lambda x: x.f.flavorid),
        Field("name", lambda x: x.f.name),
        Field("links", lambda x: x.links),
        Field("description", lambda x: x.f.description, since=55),
    ],
)
DETAIL = View(
    "flavor",
    [
        Field("id", lambda x: x.f.flavorid),
        Field("name", lambda x: x.f.name),
        Field("ram", lambda x: x.f.memory_mb),
        Field("disk", lambda x: x.f.root_gb),
        Field("swap", lambda x: x.f.swap_mb or "", until=74),
        Field("swap", lambda x: x.f.swap_mb, since=75),
        Field("vcpus", lambda x: x.f.vcpus),
        Field("os-flavor-access:is_public", lambda x: x.f.is_public),
        Field("rxtx_factor", lambda x: x.f.rxtx_factor, until=101),
        Field("OS-FLV-DISABLED:disabled", lambda x: x.f.disabled, until=101),
        Field("OS-FLV-EXT-DATA:ephemeral", lambda x: x.f.ephemeral_gb),
        Field("links", lambda x: x.links),
        Field("description", lambda x: x.f.description, since=55),
        Field("extra_specs", lambda x: x.f.extra_specs if x.specs else OMIT, since=61),
    ],
)


def _one(call: Context, flavor: FlavorSpec) -> dict[str, Any]:
    specs = call.version >= 61 and call.allows(SPECS_SHOWN)
    return {"flavor": DETAIL.render(Shown(flavor, call, specs=specs), call.version)}


@ROUTES.get("", query=LIST, responses=answers(flavors=[INDEX]), summary="List flavors")
async def index(call: Context) -> dict[str, Any]:
    """Ids and names."""
    return await _list(call, INDEX, "flavors")


@ROUTES.get(
    "/detail", query=LIST, responses=answers(flavors=[DETAIL]), summary="List flavors in detail"
)
async def detail(call: Context) -> dict[str, Any]:
    """Whole flavors."""
    return await _list(call, DETAIL, "flavors", "detail")


async def _list(call: Context, view: View, *path: str) -> dict[str, Any]:
    page = pages.page(call.query, maximum=call.app.settings.api.max_limit)
    sizes = {}
    for name in ("minRam", "minDisk"):
        text = call.query.get(name, "0") or "0"
        if not (text.isascii() and text.isdigit()):
            raise BadRequest(f"Invalid {name} filter [{text[:32]}]")
        sizes[name] = min(int(text[:18]), _MOST)
    admin = call.allows("context_is_admin", {})
    keys = sorting(
        call.query,
        default=(Sort("flavorid", descending=False), Sort("id", descending=False)),
    )
    found = await call.app.db.read(
        store.page,
        project_id=call.caller.project_id,
        is_public=_public(call.query.get("is_public")) if admin else True,
        admin=admin,
        min_ram=sizes["minRam"],
        min_disk=sizes["minDisk"],
        name=call.query.get("name") if call.version >= 102 else None,
        order=[(key.key, key.descending) for key in keys if key.key in store.SORT_KEYS],
        limit=page.limit,
        marker=page.marker,
    )
    if found is None:
        raise BadRequest(f"marker [{page.marker}] not found")
    specs = call.version >= 61 and call.allows(SPECS_SHOWN)
    body: dict[str, Any] = {
        "flavors": view.render_all([Shown(f, call, specs=specs) for f in found], call.version)
    }
    if found and len(found) == page.limit:
        body["flavors_links"] = [pages.next_link(call, found[-1].flavorid, *path)]
    return body


def _public(text: str | None) -> bool | None:
    if text is None:
        return True
    if text.lower() == "none":
        return None
    if text in TRUE or text.lower() in ("t", "true", "yes", "on", "y"):
        return True
    if text.lower() in ("f", "false", "no", "off", "n", "0"):
        return False
    raise BadRequest(f"Invalid is_public filter [{text[:32]}]")


async def get_flavor(call: Context, flavor_id: str) -> FlavorSpec:
    """A flavor the caller may see; NotFound."""
    found = await call.app.db.read(
        store.get,
        flavor_id,
        project_id=call.caller.project_id,
        everybody=call.allows("context_is_admin", {}),
    )
    if found is None:
        raise store.missing(flavor_id)
    return found


@ROUTES.get(
    "/{flavor_id}", query=no_query(), responses=answers(flavor=DETAIL), summary="Show a flavor"
)
async def show(call: Context, flavor_id: str) -> dict[str, Any]:
    """One flavor."""
    return _one(call, await get_flavor(call, flavor_id))


@ROUTES.post(
    "",
    body=CREATE,
    responses=answers(flavor=DETAIL),
    policy=MANAGE + "create",
    summary="Create a flavor",
)
async def create(call: Context) -> dict[str, Any]:
    """A new flavor; ``id`` is chosen when it is null, missing or ``auto``."""
    body = call.body["flavor"]
    wanted = body.get("id")
    flavorid = call.ids.uuid() if wanted is None or wanted == "auto" else str(wanted)
    public = body.get("os-flavor-access:is_public", True)
    flavor = FlavorSpec(
        id=0,
        flavorid=flavorid.strip(),
        name=body["name"].strip(),
        vcpus=int(body["vcpus"]),
        memory_mb=int(body["ram"]),
        root_gb=int(body["disk"]),
        ephemeral_gb=int(body.get("OS-FLV-EXT-DATA:ephemeral", 0)),
        swap_mb=int(body.get("swap", 0)),
        rxtx_factor=float(body.get("rxtx_factor", 1.0)),
        is_public=public if isinstance(public, bool) else public in TRUE,
        description=body.get("description"),
    )
    made = await call.app.db.run(store.create, flavor, now=call.clock.now())
    return _one(call, made)


@ROUTES.put(
    "/{flavor_id}",
    since=55,
    body=UPDATE,
    policy=MANAGE + "update",
    responses=answers(flavor=DETAIL),
    summary="Describe a flavor",
)
async def update(call: Context, flavor_id: str) -> dict[str, Any]:
    """Change the description."""
    text = call.body["flavor"]["description"]
    await call.app.db.run(store.describe, flavor_id, text, now=call.clock.now())
    return _one(call, await get_flavor(call, flavor_id))


@ROUTES.delete("/{flavor_id}", status=202, policy=MANAGE + "delete", summary="Delete a flavor")
async def delete(call: Context, flavor_id: str) -> None:
    """Servers keep their copy."""
    await call.app.db.run(store.delete, flavor_id)


# --- access -------------------------------------------------------------------------------

_TENANT = closed({"tenant": {"type": "string", "minLength": 1, "maxLength": 255}}, "tenant")
ADD = Schema(closed({"addTenantAccess": _TENANT}, "addTenantAccess"))
REMOVE = Schema(closed({"removeTenantAccess": _TENANT}, "removeTenantAccess"))
ACCESS = "os_compute_api:os-flavor-access"


ACCESSES = answers(flavor_access=[{"flavor_id": str, "tenant_id": str}])


@ROUTES.get(
    "/{flavor_id}/os-flavor-access",
    policy=ACCESS,
    responses=ACCESSES,
    query=no_query(),
    summary="List access",
)
async def access(call: Context, flavor_id: str) -> dict[str, Any]:
    """Who may use a private flavor."""
    flavor = await get_flavor(call, flavor_id)
    if flavor.is_public:
        raise NotFound("Access list not available for public flavors.")
    return await _access(call, flavor)


async def _access(call: Context, flavor: FlavorSpec) -> dict[str, Any]:
    projects = await call.app.db.read(store.projects, flavor.id)
    return {"flavor_access": [{"flavor_id": flavor.flavorid, "tenant_id": p} for p in projects]}


@ROUTES.post(
    "/{flavor_id}/action",
    action="addTenantAccess",
    body=ADD,
    policy=f"{ACCESS}:add_tenant_access",
    responses=ACCESSES,
    summary="Give access",
)
async def add_access(call: Context, flavor_id: str) -> dict[str, Any]:
    """Let a project use the flavor."""
    project = call.body["addTenantAccess"]["tenant"]
    flavor = await get_flavor(call, flavor_id)
    if flavor.is_public and call.version >= 7:
        raise Conflict("Can not add access to a public flavor.")
    await _check_project(call, project)
    await call.app.db.run(store.add_project, flavor.id, project)
    return await _access(call, flavor)


@ROUTES.post(
    "/{flavor_id}/action",
    action="removeTenantAccess",
    body=REMOVE,
    policy=f"{ACCESS}:remove_tenant_access",
    responses=ACCESSES,
    summary="Take access away",
)
async def remove_access(call: Context, flavor_id: str) -> dict[str, Any]:
    """The opposite."""
    project = call.body["removeTenantAccess"]["tenant"]
    flavor = await get_flavor(call, flavor_id)
    await call.app.db.run(store.remove_project, flavor.id, project)
    return await _access(call, flavor)


async def _check_project(call: Context, project_id: str) -> None:
    """BadRequest when the identity service says that there is no such project."""
    identity = call.app.identity
    if identity is not None and await identity.exists(project_id) is False:
        raise BadRequest(f"Project ID {project_id} is not a valid project.")


check_project = _check_project

# --- extra specs --------------------------------------------------------------------------

_SPECS = {
    "type": "object",
    "patternProperties": {
        r"^[a-zA-Z0-9-_:. ]{1,255}$": {"type": ["string", "number"], "maxLength": 255}
    },
    "additionalProperties": False,
}
SPECS = Schema(closed({"extra_specs": _SPECS}, "extra_specs"))
SPEC = Schema({**_SPECS, "minProperties": 1, "maxProperties": 1})
STANDARD_TRAITS = frozenset(os_traits.get_traits())
SPEC_RULE = "os_compute_api:os-flavor-extra-specs:"
SPEC_PATH = "/{flavor_id}/os-extra_specs"


@ROUTES.get(
    SPEC_PATH,
    policy=SPEC_RULE + "index",
    responses=answers(extra_specs=TEXTS),
    query=no_query(),
    summary="List extra specs",
)
async def specs(call: Context, flavor_id: str) -> dict[str, Any]:
    """All extra specs."""
    return {"extra_specs": (await get_flavor(call, flavor_id)).extra_specs}


@ROUTES.post(
    SPEC_PATH,
    policy=SPEC_RULE + "create",
    responses=answers(extra_specs=TEXTS),
    body=SPECS,
    summary="Add extra specs",
)
async def create_specs(call: Context, flavor_id: str) -> dict[str, Any]:
    """Add or overwrite extra specs."""
    given = {key: str(value) for key, value in call.body["extra_specs"].items()}
    _check_specs(call, given)
    await get_flavor(call, flavor_id)
    await call.app.db.run(store.change_extra_specs, flavor_id, now=call.clock.now(), put=given)
    return {"extra_specs": given}


@ROUTES.get(
    SPEC_PATH + "/{key}",
    policy=SPEC_RULE + "show",
    query=no_query(),
    responses=Schema(TEXTS),
    summary="Show an extra spec",
)
async def spec(call: Context, flavor_id: str, key: str) -> dict[str, Any]:
    """One extra spec."""
    found = (await get_flavor(call, flavor_id)).extra_specs
    if key not in found:
        raise NotFound(f"Flavor {flavor_id} has no extra specs with key {key}.")
    return {key: found[key]}


@ROUTES.put(
    SPEC_PATH + "/{key}",
    policy=SPEC_RULE + "update",
    responses=Schema(TEXTS),
    body=SPEC,
    summary="Set one",
)
async def update_spec(call: Context, flavor_id: str, key: str) -> dict[str, Any]:
    """Add or overwrite one extra spec."""
    if key not in call.body:
        raise BadRequest("Request body and URI mismatch")
    value = str(call.body[key])
    _check_specs(call, {key: value})
    await get_flavor(call, flavor_id)
    await call.app.db.run(
        store.change_extra_specs, flavor_id, now=call.clock.now(), put={key: value}
    )
    return {key: value}


@ROUTES.delete(SPEC_PATH + "/{key}", policy=SPEC_RULE + "delete", summary="Remove one")
async def delete_spec(call: Context, flavor_id: str, key: str) -> None:
    """One extra spec less."""
    await get_flavor(call, flavor_id)
    await call.app.db.run(store.change_extra_specs, flavor_id, now=call.clock.now(), remove=[key])


def _check_specs(call: Context, specs: dict[str, str]) -> None:
    """From 2.86 known keys take what they can mean only."""
    if call.version < 86:
        return
    for key, value in specs.items():
        extra_specs.validate(
            key, value, traits=STANDARD_TRAITS, classes=os_resource_classes.STANDARDS
        )
