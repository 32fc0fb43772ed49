"""Steps around a server's move: its migration record, the choice of a host, claims on both ends.

While a server moves, the migration's uuid holds in Placement (and of the host's shape) what the
server has on the source; the server itself holds what it gets on the destination. Taking a move
back returns the one to the server and frees the other; its end frees the first.
"""

from __future__ import annotations

import msgspec

from kilonova.base.errors import Conflict, NotFound, Unavailable
from kilonova.db.database import Tx
from kilonova.domain.disks import on_volume
from kilonova.domain.explanation import Explanation
from kilonova.domain.guest import Disk, FlavorSpec, Nic, PowerState
from kilonova.domain.moves import Before, Kind, Moving, Status, Wish, kept
from kilonova.domain.request import HostRef, request_of
from kilonova.domain.resources import Migration
from kilonova.domain.server import BuildSpec, Private, Server, WantedNic
from kilonova.interfaces.placement import Claim
from kilonova.store import aggregates, explanations, groups, holds, mappings, migrations, servers
from kilonova.workflows.engine.steps import remote, transaction
from kilonova.workflows.routed import aggregates as aggregates_reached
from kilonova.workflows.steps.networking import BoundPort
from kilonova.workflows.steps.placing import (
    GroupRule,
    NoValidHost,
    devices_of,
    hold,
    tell_choice,
)
from kilonova.workflows.steps.volumes import connector
from kilonova.workflows.world import Env

CONSUMER = "MIGRATION"
STOPPED = "Cancelled"
NOWHERE = "No valid host was found. There are not enough hosts available."


# -- the record ------------------------------------------------------------------------------------


@transaction(db="own")
def open_migration(
    tx: Tx, env: Env, server_id: str, kind: str, status: str, flavor: FlavorSpec | None
) -> Moving:
    """Write the record of a move that begins; what must be known of it. ``flavor`` None: the same.

    Conflict when the server is on no host.
    """
    server = servers.get(tx, server_id, lock=True)
    private = servers.private(tx, server_id)
    if server is None or private is None or server.host is None:
        raise Conflict(f"Instance {server_id} is on no host.")
    before = before_move(server, private)
    wanted = flavor or server.flavor
    now = env.clock.now()
    row = migrations.add(
        tx,
        Migration(
            id=0,
            uuid=env.ids.uuid(),
            server_id=server_id,
            type=kind,
            status=status,
            project_id=env.asked.project_id or server.project_id,
            user_id=env.asked.user_id or server.user_id,
            source_host=server.host,
            source_node=server.node,
            dest_host=None,
            dest_node=None,
            old_flavor_id=server.flavor.id,
            new_flavor_id=wanted.id,
            created_at=now,
            updated_at=now,
            data=kept(before),
        ),
    )
    return Moving(
        uuid=row.uuid,
        number=row.id,
        kind=kind,
        source=server.host,
        node=server.node or server.host,
        flavor=wanted,
        before=before,
        nics=private.nics,
        volumes=tuple(disk for disk in private.disks if disk.source == "volume"),
    )


def before_move(server: Server, private: Private) -> Before:
    """What the server is before it moves."""
    return Before(
        vm_state=server.vm_state,
        power=PowerState(server.power_state),
        flavor=server.flavor,
        zone=server.availability_zone,
        disks=tuple(disk for disk in private.disks if disk.source != "volume"),
        order=tuple(disk.id for disk in private.disks),
    )


@transaction(db="own")
def fail_migration(
    tx: Tx, env: Env, _server_id: str, kind: str, _status: str, _flavor: FlavorSpec | None
) -> None:
    """The move came to nothing: its record says so."""
    stopped = env.error is not None and env.error.type == STOPPED and kind == Kind.LIVE
    word = Status.CANCELLED if stopped else Status.ERROR
    migrations.update(tx, env.ids.uuid(), now=env.clock.now(), status=str(word))


@transaction(db="own")
def set_migration(tx: Tx, env: Env, uuid: str, status: str) -> None:
    """The move has come that far."""
    migrations.update(tx, uuid, now=env.clock.now(), status=status)


@transaction(db="own")
def aim_migration(tx: Tx, env: Env, uuid: str, host: HostRef) -> None:
    """The record says where the server goes."""
    migrations.update(tx, uuid, now=env.clock.now(), dest_host=host.host, dest_node=host.node)


@transaction(db="own")
def unaim_migration(tx: Tx, env: Env, uuid: str, _host: HostRef) -> None:
    """It does not go there."""
    migrations.update(tx, uuid, now=env.clock.now(), dest_host=None, dest_node=None)


# -- choosing --------------------------------------------------------------------------------------


@remote(seconds=180)
async def choose_hosts(env: Env, server_id: str, wish: Wish) -> list[HostRef]:
    """A destination in the server's cell and its alternates; NoValidHost, with the reasons kept.

    The scheduler is asked what it was asked when the server was made, but for the hosts named
    then. A host in ``wish`` is checked by the filters unless it is forced.
    """
    stored = await find_server(env, server_id)
    server = msgspec.structs.replace(stored.server, flavor=wish.flavor)
    world = env.world
    spec = await world.db.read(mappings.find_spec, server_id) or BuildSpec()
    spec = msgspec.structs.replace(
        spec,
        host=wish.host if wish.force else None,
        wanted_host=None if wish.force else wish.host,
        node=None,
        wanted_node=None,
        ignore_hosts=(),
    )
    group = await world.group(spec.group_id, (server_id,)) if spec.group_id is not None else None
    routed: tuple[tuple[str, ...], ...] = ()
    if env.settings.scheduler.query_placement_for_routed_network_aggregates:
        cards = [WantedNic(nic.port_id, port_id=nic.port_id) for nic in stored.private.nics]
        routed = await aggregates_reached(world.networks, world.placement, cards)
    asked = request_of(
        server,
        spec,
        group=group,
        boot_from_volume=on_volume(stored.private.disks),
        ignore_hosts=wish.ignore,
        devices=devices_of(env, server),
        routed=routed,
    )
    asked = msgspec.structs.replace(asked, cell_id=stored.cell_id, source_cell_id=stored.cell_id)
    chosen = await world.select(asked)
    await tell_choice(env, asked, found=bool(chosen.servers))
    if not chosen.servers:
        about = Explanation(
            env.asked.request_id,
            server.id,
            server.project_id,
            server.user_id,
            env.clock.now(),
            cuts=chosen.cuts,
            why=chosen.why,
        )
        await world.db.run(explanations.put, about)
        raise NoValidHost(NOWHERE)
    hosts = list(chosen.servers[0])
    if group is None:
        return hosts
    return [msgspec.structs.replace(host, group=group.id) for host in hosts]


# -- claims ----------------------------------------------------------------------------------------


@remote()
async def keep_source(env: Env, server_id: str, uuid: str) -> None:
    """The migration holds in Placement what the server held till now, the server nothing."""
    placement = env.world.placement
    if (await placement.allocations_of(uuid)).allocations:
        return
    held = await placement.allocations_of(server_id)
    if not held.allocations:
        return
    who = held.project_id, held.user_id
    moved = await placement.claim_all(
        [
            Claim(uuid, held.allocations, *who, consumer_type=CONSUMER),
            Claim(server_id, {}, *who, generation=held.generation),
        ]
    )
    if not moved:
        raise Unavailable("Placement does not let the migration hold what its server has.")


@remote()
async def return_source(env: Env, server_id: str, uuid: str) -> None:
    """The server holds again what the migration held for it, and nothing else."""
    placement = env.world.placement
    held = await placement.allocations_of(uuid)
    if not held.allocations:
        return
    present = await placement.allocations_of(server_id)
    who = held.project_id, held.user_id
    moved = await placement.claim_all(
        [
            Claim(uuid, {}, *who, consumer_type=CONSUMER, generation=held.generation),
            Claim(server_id, held.allocations, *who, generation=present.generation),
        ]
    )
    if not moved:
        raise Unavailable("Placement does not let the server hold again what it had.")


@remote()
async def end_source(env: Env, uuid: str) -> None:
    """What the migration held is free; nothing is success."""
    await env.world.placement.release(uuid)


@remote()
async def claim_there(env: Env, server_id: str, host: HostRef) -> None:
    """The server holds its part of the destination; Conflict when there is no room any more.

    What it had before must be held by its migration (`keep_source`).
    """
    placement = env.world.placement
    held = await placement.allocations_of(server_id)
    if held.allocations == host.allocations:
        return
    server = (await find_server(env, server_id)).server
    done = await placement.claim(
        Claim(
            consumer=server_id,
            allocations=host.allocations,
            project_id=server.project_id,
            user_id=server.user_id,
            generation=held.generation,
            mappings=host.mappings,
        )
    )
    if not done:
        raise Conflict("The host has no room for the server any more.")


@remote()
async def unclaim_there(env: Env, server_id: str, _host: HostRef) -> None:
    """The server holds nothing of the destination."""
    await env.world.placement.release(server_id)


@transaction(db="own")
def keep_shape(tx: Tx, env: Env, server_id: str, uuid: str, source: str) -> None:
    """The migration holds what the server has of its host's cells, CPUs, pages and devices."""
    holds.hand_over(tx, server_id, uuid, source, now=env.clock.now())


@transaction(db="own")
def return_shape(tx: Tx, env: Env, server_id: str, uuid: str, source: str) -> None:
    """The server holds it again."""
    holds.hand_over(tx, uuid, server_id, source, now=env.clock.now())


@transaction(db="cell")
def end_shape(tx: Tx, env: Env, uuid: str) -> None:
    """What the migration held of the source is free."""
    holds.leave(tx, uuid, now=env.clock.now())


@transaction(db="own")
def drop_shape(tx: Tx, env: Env, server_id: str) -> None:
    """The server itself holds nothing of any host's shape."""
    holds.leave(tx, server_id, now=env.clock.now())


@transaction(db="own")
def take_shape(tx: Tx, env: Env, server_id: str, flavor: FlavorSpec, host: HostRef) -> None:
    """The server holds what its flavor wants of the destination's shape; Conflict."""
    server = servers.get(tx, server_id)
    if server is None:
        raise NotFound(f"Instance {server_id} could not be found.")
    hold(tx, env, msgspec.structs.replace(server, flavor=flavor), host)


@transaction(db="own")
def leave_shape(tx: Tx, env: Env, server_id: str, _flavor: FlavorSpec, host: HostRef) -> None:
    """The server holds nothing of the destination's shape."""
    holds.leave(tx, server_id, now=env.clock.now(), host=host.host)


@transaction(db="api")
def join_there(tx: Tx, _env: Env, server_id: str, group_id: str, host: str, source: str) -> None:
    """The server's place in its group on the destination; GroupRule. It keeps that on the source.

    One that stays where it is has its place already.
    """
    broken = None if host == source else groups.take_place(tx, group_id, server_id, host)
    if broken is not None:
        raise GroupRule(f"Host {host} does not do: {broken}.")


@transaction(db="api")
def unjoin_there(tx: Tx, _env: Env, server_id: str, _group: str, host: str, source: str) -> None:
    """Its place on the destination is given back."""
    if host != source:
        groups.leave_place(tx, server_id, host)


@transaction(db="api")
def leave_group_on(tx: Tx, _env: Env, server_id: str, host: str) -> None:
    """Its group does not count it on that host any more."""
    groups.leave_place(tx, server_id, host)


# -- ports and volumes -----------------------------------------------------------------------------


class Rebound(msgspec.Struct, frozen=True):
    """A server's cards as they are on a host, and whether their ports are open there."""

    nics: tuple[Nic, ...] = ()
    ports: tuple[BoundPort, ...] = ()


@remote()
async def rebind(env: Env, server_id: str, host: str, nics: tuple[Nic, ...]) -> Rebound:
    """Bind the ports of these cards to a host; the cards as they are there.

    A port that somebody deleted meanwhile is left out.
    """
    networks = env.world.networks
    bound = []
    for nic in nics:
        try:
            port = await networks.bind_port(nic.port_id, host=host)
        except NotFound:
            continue
        bound.append(BoundPort(port.id, port.status == "ACTIVE", nic.tag))
    if not bound:
        return Rebound()
    tags = {nic.port_id: nic.tag for nic in nics}
    found = await networks.nics(server_id, tuple(port.id for port in bound))
    cards = tuple(msgspec.structs.replace(nic, tag=tags.get(nic.port_id)) for nic in found)
    return Rebound(cards, tuple(bound))


@remote()
async def take_volume(env: Env, server_id: str, host: str, disk: Disk) -> Disk:
    """The disk with an attachment of its own for another host; the former one stays."""
    volumes = env.world.volumes
    if disk.volume_id is None:
        raise NotFound(f"The disk {disk.device} has no volume.")
    others = await _others(env, server_id, disk)
    another = (
        others[0] if others else await volumes.reserve(disk.volume_id, server_id, another=True)
    )
    connection = await volumes.connect(another, await connector(env, host, disk))
    return msgspec.structs.replace(disk, attachment_id=another, connection=connection)


@remote()
async def leave_volume(env: Env, server_id: str, _host: str, disk: Disk) -> None:
    """End the attachments of a disk's volume that are not the disk's own."""
    for another in await _others(env, server_id, disk):
        await env.world.volumes.release(another)


async def _others(env: Env, server_id: str, disk: Disk) -> list[str]:
    return [
        use.id
        for use in await env.world.volumes.attachments(server_id)
        if use.volume_id == disk.volume_id and use.id != disk.attachment_id
    ]


# -- reading ---------------------------------------------------------------------------------------


class Stored(msgspec.Struct, frozen=True):
    """A server as it is stored."""

    cell_id: str
    server: Server
    private: Private


async def find_server(env: Env, server_id: str) -> Stored:
    """The server's rows, and the cell they are in; NotFound."""

    def read(tx: Tx) -> tuple[Server | None, Private | None]:
        return servers.get(tx, server_id), servers.private(tx, server_id)

    mapping = await env.world.db.read(mappings.find, server_id)
    if mapping is not None and mapping.cell_id is not None:
        server, private = await env.world.cells.get(mapping.cell_id).db.read(read)
        if server is not None and private is not None:
            return Stored(mapping.cell_id, server, private)
    raise NotFound(f"Instance {server_id} could not be found.")


async def zone_of(env: Env, host: str) -> str:
    """The availability zone of a host."""
    zones = await env.world.db.read(aggregates.zones)
    default: str = env.settings.default.default_availability_zone
    return zones.get(host) or default
