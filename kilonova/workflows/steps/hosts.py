"""Steps about hosts."""

from __future__ import annotations

from kilonova.workflows.engine.steps import remote
from kilonova.workflows.world import Env


@remote()
async def is_alive(env: Env, host: str) -> bool:
    """Whether the agent of a host was heard of lately."""
    return await env.world.alive(host)
