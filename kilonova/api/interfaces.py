"""``/servers/{server_id}/os-interface``: the network cards of a server."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.api.find import Found, find, is_admin, require_cell
from kilonova.api.schemas import DEVICE_TAG, UUID, closed, no_query
from kilonova.api.servers.resolve import check_address, check_addressed
from kilonova.api.servers.schema import IP
from kilonova.api.work import begin_unseen, record, start, when_free
from kilonova.base.aio import backoff
from kilonova.base.errors import BadRequest, Conflict, Fault, Forbidden, Internal, NotFound, Timeout
from kilonova.context import Context, Services
from kilonova.db.cells import Cell
from kilonova.db.database import Tx
from kilonova.domain import states
from kilonova.domain.guest import Nic
from kilonova.domain.operations import ATTACH_NIC
from kilonova.domain.resources import Action
from kilonova.domain.sagas import (
    ATTACH_INTERFACE,
    DETACH_INTERFACE,
    AttachArgs,
    PortArgs,
)
from kilonova.domain.server import WantedNic
from kilonova.interfaces.network import Port
from kilonova.store import actions, servers
from kilonova.web.routes import Routes
from kilonova.web.schema import Schema, answers, since
from kilonova.web.view import Field, View

ROUTES: Routes[Services] = Routes(prefix="/servers/{server_id}/os-interface", tag="interfaces")
RULE = "os_compute_api:os-attach-interfaces:"
EXTERNAL = "network:attach_external_network"

ATTACH = Schema(
    closed(
        {
            "interfaceAttachment": closed(
                {
                    "net_id": UUID,
                    "port_id": UUID,
                    "fixed_ips": {
                        "type": "array",
                        "minItems": 1,
                        "maxItems": 1,
                        "items": closed({"ip_address": IP}, "ip_address"),
                    },
                    "tag": since(49, DEVICE_TAG),
                }
            )
        }
    )
)


class Shown(msgspec.Struct, frozen=True):
    """A port as a card of the server."""

    port: Port
    tag: str | None


ATTACHMENT = View(
    "interfaceAttachment",
    [
        Field("net_id", lambda x: x.port.network_id),
        Field("port_id", lambda x: x.port.id),
        Field("mac_addr", lambda x: x.port.mac),
        Field("port_state", lambda x: x.port.status),
        Field(
            "fixed_ips",
            lambda x: [{"subnet_id": net, "ip_address": ip} for ip, net in x.port.ips],
        ),
        Field("tag", lambda x: x.tag, since=70),
    ],
)


async def _cards(found: Found) -> tuple[Nic, ...]:
    if found.cell is None:
        return ()
    return await found.cell.db.read(servers.get_nics, found.server.id)


@ROUTES.get(
    "",
    query=no_query(),
    responses=answers(interfaceAttachments=[ATTACHMENT]),
    summary="List a server's ports",
)
async def index(call: Context, server_id: str) -> dict[str, Any]:
    """As the network service has them now."""
    found = await find(call, server_id, RULE + "list")
    tags = {nic.port_id: nic.tag for nic in await _cards(found)}
    ports = await call.app.networks.ports(server_id=server_id)
    rows = [Shown(port, tags.get(port.id)) for port in ports]
    return {"interfaceAttachments": ATTACHMENT.render_all(rows, call.version)}


@ROUTES.get(
    "/{port_id}",
    query=no_query(),
    responses=answers(interfaceAttachment=ATTACHMENT),
    summary="Show one of a server's ports",
)
async def show(call: Context, server_id: str, port_id: str) -> dict[str, Any]:
    """One port, which must be the server's."""
    found = await find(call, server_id, RULE + "show")
    ports = await call.app.networks.ports(ids=(port_id,))
    if not ports:
        raise NotFound(f"Port {port_id} could not be found.")
    if ports[0].device_id != server_id:
        raise NotFound(f"Instance {server_id} does not have a port with id {port_id}")
    tags = {nic.port_id: nic.tag for nic in await _cards(found)}
    return _one(call, ports[0], tags.get(port_id))


def _one(call: Context, port: Port, tag: str | None) -> dict[str, Any]:
    return {"interfaceAttachment": ATTACHMENT.render(Shown(port, tag), call.version)}


@ROUTES.post(
    "",
    body=ATTACH,
    responses=answers(interfaceAttachment=ATTACHMENT),
    also=(500, 501),
    summary="Attach an interface",
)
async def create(call: Context, server_id: str) -> dict[str, Any]:
    """Plug a card in, on a given port or a new one; answers when it is there."""
    found = await find(call, server_id, RULE + "create")
    wanted = _wanted(call, call.body.get("interfaceAttachment") or {})
    states.check("attach_interface", found.server, override_lock=is_admin(call))
    cell = require_cell(found, "attach_interface")
    wanted = await _checked(call, found, wanted)
    before = {nic.port_id for nic in await _cards(found)}
    await when_free(call, cell, lambda tx: _attach(tx, call, server_id, wanted))
    await call.app.wake()
    cards = await _attached(call, cell, server_id)
    new = [nic.port_id for nic in cards if nic.port_id not in before]
    port_id = wanted.port_id or (new[-1] if new else "")
    ports = await call.app.networks.ports(ids=(port_id,))
    if not ports:
        raise Internal(f"Failed to attach network adapter device to {server_id}")
    return _one(call, ports[0], wanted.tag)


def _wanted(call: Context, body: dict[str, Any]) -> WantedNic:
    network, port = body.get("net_id"), body.get("port_id")
    address = body["fixed_ips"][0]["ip_address"] if "fixed_ips" in body else None
    if network and port:
        raise BadRequest("Must not input both network_id and port_id")
    if address is not None and not network:
        raise BadRequest("Must input network_id when request IP address")
    return WantedNic(call.ids.uuid(), network, port, address, body.get("tag"))


async def _checked(call: Context, found: Found, wanted: WantedNic) -> WantedNic:
    """The card with its network named; what it names must be there, free, and permitted."""
    net, project = call.app.networks, found.server.project_id
    if wanted.port_id is not None:
        ports = await net.ports(ids=(wanted.port_id,))
        if not ports:
            raise NotFound(f"Port {wanted.port_id} could not be found.")
        if ports[0].project_id != project and not is_admin(call):
            raise BadRequest(f"Port {wanted.port_id} not usable for instance {found.server.id}.")
        if ports[0].device_id:
            raise Conflict(f"Port {wanted.port_id} is still in use.")
        check_addressed(ports[0])
        return wanted
    ids = (wanted.network_id,) if wanted.network_id else ()
    known = await net.networks(token=call.caller.token, project_id=project, ids=ids)
    if not ids:
        known = [network for network in known if not network.external]
    if not known:
        if ids:
            raise NotFound(f"Network {wanted.network_id} could not be found.")
        raise BadRequest("No network is there to attach the server to.")
    if len(known) > 1:
        raise Conflict("Multiple possible networks found, use a Network ID to be more specific.")
    network = known[0]
    if network.external and not network.shared and not call.allows(EXTERNAL):
        raise Forbidden(
            f"It is not allowed to create an interface on external network {network.id}"
        )
    if not network.subnets:
        raise BadRequest(f"Network {network.id} requires a subnet in order to boot instances on.")
    if wanted.fixed_ip:
        await check_address(call, network.id, wanted.fixed_ip)
    return msgspec.structs.replace(wanted, network_id=network.id)


def _attach(tx: Tx, call: Context, server_id: str, wanted: WantedNic) -> None:
    _begin(tx, call, server_id)
    record(tx, call, ATTACH_INTERFACE.action, server_id)
    start(tx, call, ATTACH_INTERFACE, AttachArgs(server_id, wanted), server_id)


def _begin(tx: Tx, call: Context, server_id: str, word: str = "attach_interface") -> None:
    server = begin_unseen(tx, call, server_id, "attach_interface", word=word)
    if server.host is None:
        raise Conflict(f"Instance {server_id} is not ready")


async def _attached(call: Context, cell: Cell, server_id: str) -> tuple[Nic, ...]:
    """Wait for the end of the work; the cards then. The Fault it ended with, or Timeout."""
    pauses = backoff(0.02, most=0.5)
    end = call.clock.monotonic() + ATTACH_NIC.seconds
    while call.clock.monotonic() < end:
        action, cards = await cell.db.read(_look, server_id, call.request_id)
        if action is not None and action.finish is not None:
            if action.message is not None:
                raise _failed(server_id, action)
            return cards
        await call.clock.sleep(next(pauses))
    raise Timeout(f"The interface is not attached to {server_id} yet; look at its actions.")


def _look(tx: Tx, server_id: str, request_id: str) -> tuple[Action | None, tuple[Nic, ...]]:
    return actions.show(tx, server_id, request_id), servers.get_nics(tx, server_id)


def _failed(server_id: str, action: Action) -> Fault:
    """What the saga failed with, as the clients know it."""
    event = action.events[0] if action.events else None
    kind = (event.traceback or "").partition(" ")[0] if event is not None else ""
    text = (event.details or "") if event is not None else ""
    for known in (BadRequest, Conflict, Forbidden, NotFound):
        if kind == known.__name__:
            return known(text)
    return Internal(f"Failed to attach network adapter device to {server_id}")


@ROUTES.delete("/{port_id}", status=202, summary="Detach an interface")
async def delete(call: Context, server_id: str, port_id: str) -> None:
    """Take the card out."""
    found = await find(call, server_id, RULE + "delete")
    states.check(
        "attach_interface", found.server, override_lock=is_admin(call), word="detach_interface"
    )
    cell = require_cell(found, "detach_interface")
    await when_free(call, cell, lambda tx: _detach(tx, call, server_id, port_id))
    await call.app.wake()


def _detach(tx: Tx, call: Context, server_id: str, port_id: str) -> None:
    if port_id not in {nic.port_id for nic in servers.get_nics(tx, server_id)}:
        raise NotFound(f"Port {port_id} is not attached")
    _begin(tx, call, server_id, "detach_interface")
    record(tx, call, DETACH_INTERFACE.action, server_id)
    start(tx, call, DETACH_INTERFACE, PortArgs(server_id, port_id), server_id)
