"""Steps around ports: make or take them, bind them to the host, read them complete."""

from __future__ import annotations

import msgspec

from kilonova.base.errors import BadRequest
from kilonova.domain.guest import Nic
from kilonova.domain.server import WantedNic
from kilonova.interfaces.network import NewPort
from kilonova.workflows.engine.steps import remote
from kilonova.workflows.engine.waits import Wanted
from kilonova.workflows.steps.placing import wanted
from kilonova.workflows.world import Env

PLUGGED = "network-vif-plugged"


class Cards(msgspec.Struct, frozen=True):
    """The cards a server shall have, and its host name (not in older journals)."""

    nics: tuple[WantedNic, ...]
    security_groups: tuple[str, ...] | None = None
    project_id: str = ""
    hostname: str | msgspec.UnsetType = msgspec.UNSET


class BoundPort(msgspec.Struct, frozen=True):
    """A port bound to the host; ``open`` tells that its traffic flows already."""

    id: str
    open: bool
    tag: str | None = None


@remote()
async def wanted_cards(env: Env, server_id: str) -> Cards:
    """What was asked for; a card on an automatic network gets that network here."""
    request, spec = await wanted(env.world, server_id)
    project = request.server.project_id
    nics = []
    for nic in spec.nics:
        if nic.auto and nic.network_id is None and nic.port_id is None:
            nic = msgspec.structs.replace(nic, network_id=await _auto(env, project))  # noqa: PLW2901
        nics.append(nic)
    return Cards(tuple(nics), spec.security_groups, project, request.server.hostname)


@remote()
async def make_port(env: Env, server_id: str, cards: Cards, nic: WantedNic) -> str:
    """Make the port of a card, or take the one that was given; its id."""
    if nic.port_id is not None:
        taken = await env.world.networks.claim_port(
            nic.port_id,
            server_id=server_id,
            availability_zone=_zone(env),
            dns_name=cards.hostname or "",
        )
        return taken.id
    made = await env.world.networks.create_port(
        NewPort(
            mark=nic.mark,
            network_id=nic.network_id or "",
            project_id=cards.project_id,
            server_id=server_id,
            fixed_ip=nic.fixed_ip,
            security_groups=cards.security_groups,
            availability_zone=_zone(env),
            first=not env.again,
            dns_name=cards.hostname or "",
        )
    )
    return made.id


@remote()
async def unmake_port(env: Env, server_id: str, _cards: Cards, nic: WantedNic) -> None:
    """Delete the port that was made, or give back the one that was taken.

    A given port that turned out to be somebody else's stays with them.
    """
    if nic.port_id is not None:
        for port in await env.world.networks.ports(ids=(nic.port_id,)):
            if port.device_id == server_id:
                await env.world.networks.unbind_port(port.id)
    else:
        await env.world.networks.delete_made_ports(server_id, mark=nic.mark)


@remote()
async def bind_port(env: Env, host: str, port_id: str) -> BoundPort:
    """Bind a port to the host; Unavailable when that failed."""
    bound = await env.world.networks.bind_port(port_id, host=host)
    return BoundPort(bound.id, bound.status == "ACTIVE")


@remote()
async def read_cards(env: Env, server_id: str, ports: list[str], cards: Cards) -> list[Nic]:
    """The bound ports as complete cards, in their order, with the tags asked for."""
    new = all(nic.port_id is None for nic in cards.nics)
    found = await env.world.networks.nics(server_id, tuple(ports), new=new)
    tags = {port: nic.tag for port, nic in zip(ports, cards.nics, strict=True)}
    return [msgspec.structs.replace(nic, tag=tags.get(nic.port_id)) for nic in found]


@remote()
async def drop_ports(env: Env, server_id: str) -> None:
    """Delete the ports we made for a server, give back those that were given."""
    networks = env.world.networks
    await networks.delete_made_ports(server_id)
    for port in await networks.ports(server_id=server_id):
        await networks.unbind_port(port.id)


def plugged(server_id: str, ports: list[BoundPort]) -> Wanted | None:
    """The signals that all ports are open; None when nothing is to be waited for."""
    names = tuple(f"{PLUGGED}:{port.id}" for port in ports if not port.open)
    return Wanted(server_id, names, bad=tuple(f"{n}:failed" for n in names)) if names else None


async def _auto(env: Env, project: str) -> str:
    token = await env.world.token()
    usable = [
        net
        for net in await env.world.networks.networks(token=token, project_id=project)
        if not net.external and net.subnets
    ]
    if len(usable) > 1:
        raise BadRequest("Multiple possible networks found, use a Network ID to be more specific.")
    if usable:
        return usable[0].id
    return await env.world.networks.auto_network(token=token, project_id=project, dry_run=False)


def _zone(env: Env) -> str:
    zone: str = env.settings.default.default_availability_zone
    return zone
