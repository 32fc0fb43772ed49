"""The smaller interfaces: versions, extensions, quotas, tags, agents, zones, auto topology."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from kilonova.base.errors import BadRequest, Conflict, Forbidden, NotFound
from kilonova.db.database import Tx
from kilonova.embedded.network import topology
from kilonova.embedded.network.api.common import Resource, own, seen, write
from kilonova.embedded.network.app import NetworkApp, NetworkCall, Work, is_admin
from kilonova.embedded.network.attrs import KINDS
from kilonova.embedded.network.extensions import EXTENSIONS, Extension
from kilonova.embedded.network.store import quotas, rows
from kilonova.embedded.network.tables import HOSTS
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema

VERSIONS: Routes[NetworkApp] = Routes(rooted=False)
ROUTES: Routes[NetworkApp] = Routes(prefix="/v2.0")
STALE = 75.0

TAG = {"type": "string", "minLength": 1, "maxLength": 255}
TAGS = Schema(
    {
        "type": "object",
        "properties": {
            "tags": {"type": "array", "items": TAG, "maxItems": 50, "uniqueItems": True}
        },
        "required": ["tags"],
        "additionalProperties": False,
    }
)
QUOTA = Schema(
    {
        "type": "object",
        "properties": {
            "quota": {
                "type": "object",
                "additionalProperties": {
                    "anyOf": [
                        {"type": "integer", "minimum": -1},
                        {"type": "string", "pattern": "^(-1|[0-9]{1,9})$"},
                    ]
                },
            }
        },
        "required": ["quota"],
        "additionalProperties": False,
    }
)


@VERSIONS.get("/", public=True)
async def versions(call: NetworkCall) -> dict[str, Any]:
    """The version document."""
    return {"versions": [_version(call)]}


@ROUTES.get("", public=True)
async def resources(call: NetworkCall) -> dict[str, Any]:
    """The collections of v2.0."""
    names = [(kind.plural, kind.url) for kind in KINDS]
    return {
        "resources": [
            {
                "name": plural.rstrip("s"),
                "collection": plural,
                "links": [{"rel": "self", "href": call.link("v2.0", url)}],
            }
            for plural, url in names
        ]
    }


@ROUTES.get("/extensions")
async def extensions(_call: NetworkCall) -> dict[str, Any]:
    """What this service can beside the core."""
    return {"extensions": [_extension(e) for e in EXTENSIONS]}


@ROUTES.get("/extensions/{alias}")
async def extension(_call: NetworkCall, alias: str) -> dict[str, Any]:
    """One extension."""
    for found in EXTENSIONS:
        if found.alias == alias:
            return {"extension": _extension(found)}
    raise NotFound(f"Extension with alias {alias} does not exist", code="HTTPNotFound")


@ROUTES.get("/quotas")
async def all_quotas(call: NetworkCall) -> dict[str, Any]:
    """Projects with limits of their own."""
    _admin_only(call, "get_quota")

    def read(tx: Tx) -> list[dict[str, Any]]:
        return [
            quotas.limits(tx, p, call.app.settings.quotas) | {"tenant_id": p, "project_id": p}
            for p in quotas.projects(tx)
        ]

    return {"quotas": await call.app.db.read(read)}


@ROUTES.get("/quotas/tenant")
@ROUTES.get("/quotas/project")
async def whose(call: NetworkCall) -> dict[str, Any]:
    """The caller's project."""
    return {"tenant": {"tenant_id": call.caller.project_id, "project_id": call.caller.project_id}}


@ROUTES.get("/quotas/{project_id}")
async def show_quota(call: NetworkCall, project_id: str) -> dict[str, Any]:
    """The limits of a project."""
    _own_or_admin(call, project_id)
    return {"quota": await call.app.db.read(quotas.limits, project_id, call.app.settings.quotas)}


@ROUTES.get("/quotas/{project_id}/default")
async def default_quota(call: NetworkCall, project_id: str) -> dict[str, Any]:
    """The limits a project has without any of its own."""
    _own_or_admin(call, project_id)
    return {"quota": dict(call.app.settings.quotas)}


@ROUTES.get("/quotas/{project_id}/details.json")
@ROUTES.get("/quotas/{project_id}/details")
async def quota_details(call: NetworkCall, project_id: str) -> dict[str, Any]:
    """Limits and use."""
    _own_or_admin(call, project_id)

    def read(tx: Tx) -> dict[str, Any]:
        limits = quotas.limits(tx, project_id, call.app.settings.quotas)
        return {
            name: {
                "limit": limit,
                "used": quotas.usage(tx, project_id, quotas.COUNTED[name])
                if name in quotas.COUNTED
                else 0,
                "reserved": 0,
            }
            for name, limit in limits.items()
        }

    return {"quota": await call.app.db.read(read)}


@ROUTES.put("/quotas/{project_id}", body=QUOTA)
async def set_quota(call: NetworkCall, project_id: str) -> dict[str, Any]:
    """Change limits of a project."""
    _admin_only(call, "update_quota")
    given = {k: int(v) for k, v in call.body["quota"].items() if k not in ("check_limit", "force")}
    unknown = set(given) - set(call.app.settings.quotas)
    if unknown:
        raise BadRequest(
            f"Unrecognized attribute(s) '{', '.join(sorted(unknown))}'", code="HTTPBadRequest"
        )

    def work(job: Work) -> dict[str, int]:
        quotas.set_limits(job.tx, project_id, given)
        return quotas.limits(job.tx, project_id, job.app.settings.quotas)

    return {"quota": await write(call, work)}


@ROUTES.delete("/quotas/{project_id}", status=204)
async def reset_quota(call: NetworkCall, project_id: str) -> None:
    """Back to the defaults."""
    _admin_only(call, "delete_quota")
    await write(call, lambda job: quotas.reset(job.tx, project_id))


@ROUTES.get("/agents")
async def agents(call: NetworkCall) -> dict[str, Any]:
    """The data plane of each host."""
    _admin_only(call, "get_agent")
    now = call.clock.now().timestamp()

    def read(tx: Tx) -> list[dict[str, Any]]:
        return [dict(row._mapping) for row in tx.execute(sa.select(HOSTS).order_by(HOSTS.c.name))]

    hosts = await call.app.db.read(read)
    wanted = call.query.get("host")
    return {"agents": [_agent(h, now) for h in hosts if wanted in (None, h["name"])]}


@ROUTES.get("/availability_zones")
async def zones(_call: NetworkCall) -> dict[str, Any]:
    """One zone for networks and routers."""
    return {
        "availability_zones": [
            {"name": "nova", "resource": kind, "state": "available"}
            for kind in ("network", "router")
        ]
    }


@ROUTES.get("/subnetpools")
async def subnetpools(_call: NetworkCall) -> dict[str, Any]:
    """There are none."""
    return {"subnetpools": []}


@ROUTES.get("/service-providers")
async def providers(_call: NetworkCall) -> dict[str, Any]:
    """The one implementation of each service."""
    return {
        "service_providers": [
            {"service_type": "L3_ROUTER_NAT", "name": "single_node", "default": True}
        ]
    }


@ROUTES.get("/auto-allocated-topology/{project_id}")
async def auto_topology(call: NetworkCall, project_id: str) -> dict[str, Any]:
    """The project's own network with a way out, made if it is not there (``dry-run`` asks only)."""
    project = call.caller.project_id or "" if project_id == "null" else project_id
    _own_or_admin(call, project)
    if "dry-run" in call.query.all("fields"):
        await call.app.db.read(topology.check)
        return {"auto_allocated_topology": {"id": "dry-run=pass", "tenant_id": project}}
    network_id = await write(call, lambda job: topology.ensure(job, project))
    return {
        "auto_allocated_topology": {
            "id": network_id,
            "tenant_id": project,
            "project_id": project,
        }
    }


@ROUTES.delete("/auto-allocated-topology/{project_id}", status=204)
async def drop_topology(call: NetworkCall, project_id: str) -> None:
    """Take the automatic network and router away."""
    project = call.caller.project_id or "" if project_id == "null" else project_id
    _own_or_admin(call, project)
    await write(call, lambda job: topology.remove(job, project))


def tag_routes(resource: Resource) -> Routes[NetworkApp]:
    """The tags of a resource: list, replace, clear, one by one."""
    made: Routes[NetworkApp] = Routes(prefix=f"/v2.0/{resource.kind.url}/{{row_id}}/tags")

    async def change(
        call: NetworkCall, row_id: str, how: Callable[[list[str]], list[str]]
    ) -> list[str]:
        def work(job: Work) -> list[str]:
            row = own(job.tx, resource, call, row_id)
            tags = how(list(row["tags"]))
            if len(tags) > 50:
                raise Conflict("A resource has at most 50 tags.", code="TagLimitReached")
            rows.update(job.tx, resource.kind, row, {"tags": tags}, job.now)
            return tags

        return await write(call, work)

    @made.get("")
    async def index(call: NetworkCall, row_id: str) -> dict[str, Any]:
        row = await call.app.db.read(lambda tx: seen(tx, resource, call, row_id))
        return {"tags": row["tags"]}

    @made.put("", body=TAGS)
    async def replace(call: NetworkCall, row_id: str) -> dict[str, Any]:
        return {"tags": await change(call, row_id, lambda _: list(call.body["tags"]))}

    @made.post("", body=TAGS, status=201)
    async def extend(call: NetworkCall, row_id: str) -> dict[str, Any]:
        more = call.body["tags"]
        return {"tags": await change(call, row_id, lambda t: list(dict.fromkeys([*t, *more])))}

    @made.delete("", status=204)
    async def clear(call: NetworkCall, row_id: str) -> None:
        await change(call, row_id, lambda _: [])

    @made.get("/{tag}", status=204)
    async def has(call: NetworkCall, row_id: str, tag: str) -> None:
        row = await call.app.db.read(lambda tx: seen(tx, resource, call, row_id))
        if tag not in row["tags"]:
            raise NotFound(f"Tag {tag} could not be found.", code="TagNotFound")

    @made.put("/{tag}", status=201)
    async def put(call: NetworkCall, row_id: str, tag: str) -> None:
        if len(tag) > 255:
            raise BadRequest("A tag has at most 255 characters.", code="HTTPBadRequest")
        await change(call, row_id, lambda t: t if tag in t else [*t, tag])

    @made.delete("/{tag}", status=204)
    async def drop(call: NetworkCall, row_id: str, tag: str) -> None:
        def without(tags: list[str]) -> list[str]:
            if tag not in tags:
                raise NotFound(f"Tag {tag} could not be found.", code="TagNotFound")
            return [t for t in tags if t != tag]

        await change(call, row_id, without)

    return made


def _version(call: NetworkCall) -> dict[str, Any]:
    return {
        "id": "v2.0",
        "status": "CURRENT",
        "links": [{"rel": "self", "href": call.link("v2.0") + "/"}],
    }


def _extension(e: Extension) -> dict[str, Any]:
    return {
        "alias": e.alias,
        "name": e.name,
        "description": e.description,
        "updated": "2026-01-01T00:00:00-00:00",
        "links": [],
    }


def _agent(host: dict[str, Any], now: float) -> dict[str, Any]:
    import datetime as dt  # noqa: PLC0415

    seen_at = dt.datetime.fromisoformat(host["seen_at"]).timestamp()
    return {
        "id": host["id"],
        "agent_type": "Linux bridge agent",
        "binary": "kilonova-network-plane",
        "topic": "N/A",
        "host": host["name"],
        "availability_zone": "nova",
        "admin_state_up": True,
        "alive": now - seen_at < STALE,
        "created_at": host["started_at"],
        "started_at": host["started_at"],
        "heartbeat_timestamp": host["seen_at"],
        "description": None,
        "configurations": {"mode": host["mode"], "tunneling_ip": host["vtep_ip"]},
        "resources_synced": None,
        "resource_versions": {},
    }


def _admin_only(call: NetworkCall, rule: str) -> None:
    if not is_admin(call.caller):
        raise Forbidden(f"rule:{rule} is disallowed by policy", code="PolicyNotAuthorized")


def _own_or_admin(call: NetworkCall, project_id: str) -> None:
    if project_id != call.caller.project_id:
        _admin_only(call, "get_quota")
