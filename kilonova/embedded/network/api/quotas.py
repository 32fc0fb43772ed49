"""Limits of projects and how much of them is used."""

from __future__ import annotations

from typing import Any

from kilonova.base.errors import BadRequest, Forbidden
from kilonova.db.database import Tx
from kilonova.embedded.network.app import NetworkApp, NetworkCall, Work, is_admin
from kilonova.embedded.network.store import quotas
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers

ROUTES: Routes[NetworkApp] = Routes(prefix="/v2.0", tag="quotas")

QUOTA = Schema(
    {
        "type": "object",
        "properties": {
            "quota": {
                "type": "object",
                "maxProperties": 50,
                "additionalProperties": {
                    "anyOf": [
                        {"type": "integer", "minimum": -1, "maximum": 2147483647},
                        {"type": "string", "pattern": "^(-1|[0-9]{1,9})$"},
                        {"type": "boolean"},
                    ]
                },
            }
        },
        "required": ["quota"],
        "additionalProperties": False,
    }
)


LIMITS = answers(quota={str: int})
DETAILS = answers(quota={str: {"limit": int, "used": int, "reserved": int}})
WHOSE = answers(tenant={"tenant_id": str, "project_id": str})


@ROUTES.get("/quotas", policy="get_all_quotas", responses=answers(quotas=[{str: int | str}]))
async def all_quotas(call: NetworkCall) -> dict[str, Any]:
    """Projects with limits of their own."""

    def read(tx: Tx) -> list[dict[str, Any]]:
        return [
            quotas.limits(tx, p, call.app.settings.quotas) | {"tenant_id": p, "project_id": p}
            for p in quotas.projects(tx)
        ]

    return {"quotas": await call.app.db.read(read)}


@ROUTES.get("/quotas/tenant", policy="get_quota", responses=WHOSE)
@ROUTES.get("/quotas/project", policy="get_quota", responses=WHOSE)
async def whose(call: NetworkCall) -> dict[str, Any]:
    """The caller's project."""
    return {"tenant": {"tenant_id": call.caller.project_id, "project_id": call.caller.project_id}}


@ROUTES.get("/quotas/{project_id}", policy="get_quota", responses=LIMITS)
async def show_quota(call: NetworkCall, project_id: str) -> dict[str, Any]:
    """The limits of a project."""
    own_project(call, project_id)
    return {"quota": await call.app.db.read(quotas.limits, project_id, call.app.settings.quotas)}


@ROUTES.get("/quotas/{project_id}/default", policy="get_quota", responses=LIMITS)
async def default_quota(call: NetworkCall, project_id: str) -> dict[str, Any]:
    """The limits a project has without any of its own."""
    own_project(call, project_id)
    return {"quota": dict(call.app.settings.quotas)}


@ROUTES.get("/quotas/{project_id}/details.json", policy="get_quota", responses=DETAILS)
@ROUTES.get("/quotas/{project_id}/details", policy="get_quota", responses=DETAILS)
async def quota_details(call: NetworkCall, project_id: str) -> dict[str, Any]:
    """Limits and use."""
    own_project(call, project_id)

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


@ROUTES.put("/quotas/{project_id}", policy="update_quota", body=QUOTA, responses=LIMITS)
async def set_quota(call: NetworkCall, project_id: str) -> dict[str, Any]:
    """Change limits of a project."""
    given = {k: int(v) for k, v in call.body["quota"].items() if k not in ("check_limit", "force")}
    unknown = set(given) - set(call.app.settings.quotas)
    if unknown:
        raise BadRequest(
            f"Unrecognized attribute(s) '{', '.join(sorted(unknown))}'", code="HTTPBadRequest"
        )

    def work(job: Work) -> dict[str, int]:
        quotas.set_limits(job.tx, project_id, given)
        return quotas.limits(job.tx, project_id, job.app.settings.quotas)

    return {"quota": await call.app.write(call.caller, work, ids=call.ids)}


@ROUTES.delete("/quotas/{project_id}", policy="delete_quota", status=204)
async def reset_quota(call: NetworkCall, project_id: str) -> None:
    """Back to the defaults."""
    await call.app.write(call.caller, lambda job: quotas.reset(job.tx, project_id))


def own_project(call: NetworkCall, project_id: str) -> None:
    """Forbidden unless the project is the caller's or the caller an administrator."""
    if project_id != call.caller.project_id and not is_admin(call.caller):
        raise Forbidden("rule:get_quota is disallowed by policy", code="PolicyNotAuthorized")
