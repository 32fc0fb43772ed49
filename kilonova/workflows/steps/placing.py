"""Steps around the choice of a host: select, claim, release."""

from __future__ import annotations

import msgspec

from kilonova.base.errors import Conflict, NotFound
from kilonova.db.database import Tx
from kilonova.domain.request import HostRef, request_of
from kilonova.domain.server import BuildRequest, BuildSpec
from kilonova.interfaces.placement import Claim
from kilonova.store import aggregates, mappings, servers
from kilonova.workflows.engine.steps import remote
from kilonova.workflows.world import Env, World


class NoValidHost(NotFound):
    """No host takes the server; the text is what its owner may read."""


@remote(seconds=180)
async def select_hosts(env: Env, server_id: str) -> list[HostRef]:
    """The host for a new server and its alternates; NoValidHost."""
    request, spec = await wanted(env.world, server_id)
    group = None
    if spec.group_id is not None:
        group = await env.world.group(spec.group_id, (server_id,))
    on_volume = any(
        disk.role == "root" and disk.source == "volume" for disk in request.private.disks
    )
    chosen = await env.world.select(
        request_of(request.server, spec, group=group, boot_from_volume=on_volume)
    )
    if not chosen.servers:
        # Hosts are an administrator's knowledge: the reasons stay in the scheduler's log.
        raise NoValidHost("No valid host was found. There are not enough hosts available.")
    return list(chosen.servers[0])


class Entering(msgspec.Struct, frozen=True):
    """What is written into the cell of the chosen host."""

    request: BuildRequest
    zone: str


@remote()
async def claim(env: Env, server_id: str, host: HostRef) -> Entering:
    """Take the resources in Placement; Conflict when there is no room any more."""
    request, _ = await wanted(env.world, server_id)
    done = await env.world.placement.claim(
        Claim(
            consumer=server_id,
            allocations=host.allocations,
            project_id=request.server.project_id,
            user_id=request.server.user_id,
            mappings=host.mappings,
        )
    )
    if not done:
        raise Conflict("The host has no room for the server any more.")
    zones = await env.world.db.read(aggregates.zones)
    return Entering(request, zones.get(host.host) or env.settings.default.default_availability_zone)


@remote()
async def release(env: Env, server_id: str) -> None:
    """Free what the server holds in Placement; holding nothing is success."""
    await env.world.placement.release(server_id)


async def wanted(world: World, server_id: str) -> tuple[BuildRequest, BuildSpec]:
    """What was asked for; NotFound when the request is gone."""

    def read(tx: Tx) -> tuple[BuildRequest | None, BuildSpec | None]:
        return servers.building(tx, server_id), mappings.find_spec(tx, server_id)

    request, spec = await world.db.read(read)
    if request is None or spec is None:
        raise NotFound(f"Instance {server_id} could not be found.")
    return request, spec
