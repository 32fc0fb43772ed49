"""Steps around one network card of a server that is there."""

from __future__ import annotations

from kilonova.base.errors import NotFound
from kilonova.db.database import Tx
from kilonova.domain.guest import Nic
from kilonova.domain.server import WantedNic
from kilonova.store import mappings, servers
from kilonova.workflows.engine.steps import remote, transaction
from kilonova.workflows.steps.networking import Cards
from kilonova.workflows.steps.records import end_action
from kilonova.workflows.world import Env


@remote()
async def cards_for(env: Env, server_id: str, wanted: WantedNic) -> Cards:
    """What the port of a further card needs to be made."""
    mapping = await env.world.db.read(mappings.find, server_id)
    if mapping is None:
        raise NotFound(f"Instance {server_id} could not be found.")
    server = None
    if mapping.cell_id is not None:
        server = await env.world.cells.get(mapping.cell_id).db.read(servers.get, server_id)
    return Cards((wanted,), None, mapping.project_id, server.hostname if server else "")


@transaction(db="own")
def add_card(tx: Tx, env: Env, server_id: str, nic: Nic) -> None:
    """The server has the card; the action is over."""
    now = env.clock.now()
    others = [n for n in servers.get_nics(tx, server_id) if n.port_id != nic.port_id]
    servers.set_nics(tx, server_id, [*others, nic], now=now)
    end_action(tx, env, server_id, now)


@transaction(db="own")
def find_card(tx: Tx, _env: Env, server_id: str, port_id: str) -> Nic:
    """The card of a port; NotFound."""
    for nic in servers.get_nics(tx, server_id):
        if nic.port_id == port_id:
            return nic
    raise NotFound(f"Port {port_id} is not attached")


@remote()
async def drop_port(env: Env, server_id: str, port_id: str) -> None:
    """Delete the port if we made it for this server, else give it back."""
    for port in await env.world.networks.ports(ids=(port_id,)):
        if port.device_id != server_id:
            continue
        if port.mark:
            await env.world.networks.delete_port(port.id)
        else:
            await env.world.networks.unbind_port(port.id)


@transaction(db="own")
def remove_card(tx: Tx, env: Env, server_id: str, port_id: str) -> None:
    """The server has the card no more; the action is over."""
    now = env.clock.now()
    left = [n for n in servers.get_nics(tx, server_id) if n.port_id != port_id]
    servers.set_nics(tx, server_id, left, now=now)
    end_action(tx, env, server_id, now)
