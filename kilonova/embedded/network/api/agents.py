"""The data planes of hosts as Neutron's agents."""

from __future__ import annotations

import datetime as dt
from typing import Any

from kilonova.base.errors import Conflict, NotFound
from kilonova.embedded.network.app import NetworkApp, NetworkCall, Work
from kilonova.embedded.network.store import hosts
from kilonova.embedded.network.store.rows import Row
from kilonova.web.routes import Routes
from kilonova.web.schema import answers

ROUTES: Routes[NetworkApp] = Routes(prefix="/v2.0/agents", tag="agents")
STALE = 75.0
FILTERS = ("host", "agent_type", "binary", "id", "alive", "admin_state_up", "availability_zone")


@ROUTES.get("", policy="get_agent", responses=answers(agents=[{"type": "object"}]))
async def agents(call: NetworkCall) -> dict[str, Any]:
    """The data plane of each host."""
    now = call.clock.now()
    found = [_agent(h, now) for h in await call.app.db.read(hosts.everyone)]
    for name in FILTERS:
        wanted = [value.lower() for value in call.query.all(name)]
        if wanted:
            found = [agent for agent in found if str(agent[name]).lower() in wanted]
    return {"agents": found}


@ROUTES.get("/{agent_id}", policy="get_agent", responses=answers(agent={"type": "object"}))
async def agent(call: NetworkCall, agent_id: str) -> dict[str, Any]:
    """The data plane of one host."""
    for host in await call.app.db.read(hosts.everyone):
        if host["id"] == agent_id:
            return {"agent": _agent(host, call.clock.now())}
    raise _missing(agent_id)


@ROUTES.delete("/{agent_id}", policy="delete_agent", status=204)
async def delete(call: NetworkCall, agent_id: str) -> None:
    """Forget a host that is gone; one that lives would come back by itself."""
    for host in await call.app.db.read(hosts.everyone):
        if host["id"] == agent_id and _agent(host, call.clock.now())["alive"]:
            raise Conflict(f"Agent {agent_id} is alive; stop it first.", code="AgentInUse")

    def work(job: Work) -> None:
        if not hosts.forget(job.tx, agent_id):
            raise _missing(agent_id)

    await call.app.write(call.caller, work)


def _missing(agent_id: str) -> NotFound:
    return NotFound(f"Agent {agent_id} could not be found.", code="AgentNotFound")


def _agent(host: Row, now: dt.datetime) -> dict[str, Any]:
    seen_at = dt.datetime.fromisoformat(host["seen_at"])
    return {
        "id": host["id"],
        "agent_type": "Linux bridge agent",
        "binary": "kilonova-network-plane",
        "topic": "N/A",
        "host": host["name"],
        "availability_zone": "nova",
        "admin_state_up": True,
        "alive": (now - seen_at).total_seconds() < STALE,
        "created_at": _plain(host["started_at"]),
        "started_at": _plain(host["started_at"]),
        "heartbeat_timestamp": _plain(host["seen_at"]),
        "description": None,
        "configurations": {"mode": host["mode"], "tunneling_ip": host["vtep_ip"]},
        "resources_synced": None,
        "resource_versions": {},
    }


def _plain(time: str) -> str:
    """``2026-01-31 12:00:00``: the form of agents' times."""
    return time.replace("T", " ").removesuffix("Z")
