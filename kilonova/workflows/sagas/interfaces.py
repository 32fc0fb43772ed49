"""Network cards that come to a server or leave it while it is there."""

from __future__ import annotations

from kilonova.domain.operations import ATTACH_NIC, DETACH_NIC, NicArgs
from kilonova.domain.server import WantedNic
from kilonova.workflows.engine.saga import Saga
from kilonova.workflows.engine.steps import Undo, saga
from kilonova.workflows.sagas.power import where
from kilonova.workflows.steps.cards import add_card, cards_for, drop_port, find_card, remove_card
from kilonova.workflows.steps.networking import bind_port, make_port, read_cards, unmake_port
from kilonova.workflows.steps.records import begin_event, close


@saga(
    "server.attach_interface",
    action="attach_interface",
    notify="instance.interface_attach",
    failed=close,
)
async def attach(s: Saga, server_id: str, wanted: WantedNic) -> None:
    """Make or take the port, bind it to the host, plug the card in."""
    host, guest = await where(s, server_id)
    await s.do(begin_event, server_id, host)
    cards = await s.do(cards_for, server_id, wanted)
    port = await s.do(make_port, server_id, cards, wanted, undo=unmake_port)
    await s.do(bind_port, host, port)
    (nic,) = await s.do(read_cards, server_id, [port], cards)
    plug = NicArgs(guest, nic)
    # On a host that is gone the guest's next start leaves the card out.
    await s.on(host, ATTACH_NIC, plug, undo=Undo(DETACH_NIC, plug, even_if_down=True))
    await s.pivot()
    await s.do(add_card, server_id, nic)


@saga(
    "server.detach_interface",
    action="detach_interface",
    notify="instance.interface_detach",
    failed=close,
)
async def detach(s: Saga, server_id: str, port_id: str) -> None:
    """Take the card out; a port we made is deleted, one that was given is given back."""
    host, guest = await where(s, server_id)
    await s.do(begin_event, server_id, host)
    nic = await s.do(find_card, server_id, port_id)
    await s.on(host, DETACH_NIC, NicArgs(guest, nic))
    await s.pivot()
    await s.do(drop_port, server_id, port_id)
    await s.do(remove_card, server_id, port_id)
