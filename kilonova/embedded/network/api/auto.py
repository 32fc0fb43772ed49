"""Automatic topologies."""

from __future__ import annotations

from typing import Any

from kilonova.embedded.network import topology
from kilonova.embedded.network.api.quotas import own_project
from kilonova.embedded.network.app import NetworkApp, NetworkCall
from kilonova.web.routes import Routes
from kilonova.web.schema import answers

ROUTES: Routes[NetworkApp] = Routes(prefix="/v2.0/auto-allocated-topology")


@ROUTES.get(
    "/{project_id}",
    policy="get_auto_allocated_topology",
    also=(409,),
    responses=answers(auto_allocated_topology={"type": "object"}),
)
async def show(call: NetworkCall, project_id: str) -> dict[str, Any]:
    """The project's own network with a way out, made if it is not there (``dry-run`` asks only)."""
    project = _project(call, project_id)
    if "dry-run" in call.query.all("fields"):
        await call.app.db.read(topology.check)
        found = "dry-run=pass"
    else:
        found = await call.app.write(call.caller, lambda job: topology.ensure(job, project))
    return {"auto_allocated_topology": {"id": found, "tenant_id": project, "project_id": project}}


@ROUTES.delete("/{project_id}", policy="delete_auto_allocated_topology", status=204)
async def delete(call: NetworkCall, project_id: str) -> None:
    """Take the automatic network and router away."""
    project = _project(call, project_id)
    await call.app.write(call.caller, lambda job: topology.remove(job, project))


def _project(call: NetworkCall, project_id: str) -> str:
    project = (call.caller.project_id or "") if project_id in ("null", "None") else project_id
    own_project(call, project)
    return project
