"""Steps around the choice of a host: select, claim, release."""

from __future__ import annotations

import msgspec

from kilonova.base.errors import Conflict, NotFound
from kilonova.db.database import Tx
from kilonova.domain.disks import on_volume
from kilonova.domain.explanation import Explanation, Failure
from kilonova.domain.fit import pci
from kilonova.domain.fit.host import Wanted
from kilonova.domain.fit.shapes import DeviceRequest, NoFit
from kilonova.domain.fit.wanted import topology
from kilonova.domain.request import HostRef, RequestSpec, request_of
from kilonova.domain.server import BuildRequest, BuildSpec, Server
from kilonova.interfaces.placement import Claim
from kilonova.store import aggregates, explanations, groups, holds, mappings, servers
from kilonova.store.noting import NOTES, note
from kilonova.workflows.engine.steps import remote, transaction
from kilonova.workflows.routed import aggregates as aggregates_reached
from kilonova.workflows.world import Env, World


class NoValidHost(NotFound):
    """No host takes the server; the text is what its owner may read."""


class GroupRule(Conflict):
    """Another member of the group was faster: a host is not free for this one any more."""


@remote(seconds=180)
async def select_hosts(env: Env, server_id: str, tried: tuple[str, ...] = ()) -> list[HostRef]:
    """The host for a new server and its alternates, none of those ``tried``; NoValidHost."""
    request, spec = await wanted(env.world, server_id)
    group = None
    if spec.group_id is not None:
        group = await env.world.group(spec.group_id, (server_id,))
    routed: tuple[tuple[str, ...], ...] = ()
    if env.settings.scheduler.query_placement_for_routed_network_aggregates:
        world = env.world
        routed = await aggregates_reached(world.networks, world.placement, spec.nics)
    asked = request_of(
        request.server,
        spec,
        group=group,
        boot_from_volume=on_volume(request.private.disks),
        ignore_hosts=tried,
        devices=devices_of(env, request.server),
        routed=routed,
    )
    chosen = await env.world.select(asked)
    await tell_choice(env, asked, found=bool(chosen.servers))
    if not chosen.servers:
        # Hosts are an administrator's knowledge: the reasons are kept for who may read them.
        about = _explanation(env, request)
        kept = msgspec.structs.replace(about, cuts=chosen.cuts, why=chosen.why)
        await env.world.db.run(explanations.put, kept)
        raise NoValidHost("No valid host was found. There are not enough hosts available.")
    hosts = list(chosen.servers[0])
    if group is None:
        return hosts
    return [msgspec.structs.replace(host, group=group.id) for host in hosts]


async def tell_choice(env: Env, asked: RequestSpec, *, found: bool) -> None:
    """Tell that the scheduler was asked, and that it had an answer."""
    if env.world.db.attachment(NOTES) is None:
        return

    def work(tx: Tx) -> None:
        note(tx, "scheduler.select_destinations.start", asked)
        if found:
            note(tx, "scheduler.select_destinations.end", asked)

    await env.world.db.run(work)


@transaction(db="api")
def take_place(tx: Tx, _env: Env, server_id: str, group_id: str, host: str) -> None:
    """The member's place on the host, given before anything is claimed there; GroupRule.

    The rule is checked in the transaction that writes the place, one member of a group after
    another: two builds at once cannot both find the host free.
    """
    broken = groups.take_place(tx, group_id, server_id, host)
    if broken is not None:
        raise GroupRule(f"Host {host} does not do: {broken}.")


@transaction(db="api")
def leave_place(tx: Tx, _env: Env, server_id: str, _group_id: str, host: str) -> None:
    """Give the place in the group back."""
    groups.leave_place(tx, server_id, host)


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
async def release(env: Env, server_id: str, host: str = "") -> None:
    """Free what the server holds in Placement; holding nothing is success.

    ``host``: where making the server failed, to be kept with the reason.
    """
    await env.world.placement.release(server_id)
    request = await env.world.db.read(servers.building, server_id) if host else None
    if request is not None and env.error is not None:
        failure = Failure(host, env.error.message)
        await env.world.db.run(explanations.note, _explanation(env, request), failure)


def _explanation(env: Env, request: BuildRequest) -> Explanation:
    server = request.server
    asked = env.asked.request_id or request.request_id
    return Explanation(asked, server.id, server.project_id, server.user_id, env.clock.now())


def devices_of(env: Env, server: Server) -> tuple[DeviceRequest, ...]:
    """The PCI devices that a server's flavor asks for."""
    specs = server.flavor.extra_specs
    if pci.ASKED not in specs:
        return ()
    properties = server.image.properties if server.image else {}
    return pci.requests(specs, properties, pci.aliases(env.settings.pci.alias))


def hold(tx: Tx, env: Env, server: Server, host: HostRef) -> None:
    """What the server gets of the host's cells, CPUs, pages and devices; Conflict when it is gone.

    It is fitted anew to what is there now, in the transaction that writes it. Servers that any
    host's shape will do for have no row.
    """
    properties = server.image.properties if server.image else {}
    shape = Wanted(topology(server.flavor, properties), devices_of(env, server))
    if not shape:
        return
    found = holds.take(
        tx,
        server.id,
        shape,
        host=host.host,
        node=host.node,
        now=env.clock.now(),
        pack=env.settings.compute.packing_host_numa_cells_allocation_strategy,
        providers=pci.chosen(shape.devices, host.mappings),
    )
    if isinstance(found, NoFit):
        raise Conflict(f"The server does not fit the host any more: {found.reason}.")


async def wanted(world: World, server_id: str) -> tuple[BuildRequest, BuildSpec]:
    """What was asked for; NotFound when the request is gone."""

    def read(tx: Tx) -> tuple[BuildRequest | None, BuildSpec | None]:
        return servers.building(tx, server_id), mappings.find_spec(tx, server_id)

    request, spec = await world.db.read(read)
    if request is None or spec is None:
        raise NotFound(f"Instance {server_id} could not be found.")
    return request, spec
