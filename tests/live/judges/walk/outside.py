"""What needs a service that only some clouds have: machines of an Ironic, shares of a Manila."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.live.judges.walk.ground import Ground
from tests.live.judges.walk.talk import waited
from tests.support import outside

IRONIC, MANILA = "ironic", "manila"
SHARES = 97
_SERVICES: dict[str, outside.StandIn] = {}


@contextlib.contextmanager
def services() -> Iterator[str]:
    """Have stand-ins for both; the options that tell the cloud where they are."""
    with outside.Ironic() as ironic, outside.Manila() as manila:
        _SERVICES.update({IRONIC: ironic, MANILA: manila})
        yield "".join(
            f"[{name}]\nendpoint_override = {service.url}\n" for name, service in _SERVICES.items()
        )
    _SERVICES.clear()


def bare_metal(ground: Ground) -> None:
    """Machines, to 2.35; the commands have always been refused."""
    talk, ironic = ground.talk, _SERVICES[IRONIC]
    assert isinstance(ironic, outside.Ironic)
    machine = ironic.add("fa:16:3e:00:00:01", instance_uuid=ground.network)
    ironic.add()
    root = "/os-baremetal-nodes"
    talk.read(root, f"{root}/{machine}", f"{root}/{ground.network}")
    for at in (1, 35, 36):
        refused = 404 if at > 35 else 400
        talk.ask("POST", root, {"node": {}}, at=at, want=refused)
        talk.ask("DELETE", f"{root}/{machine}", at=at, want=refused)
        for word in ("add_interface", "remove_interface"):
            body = {word: {"address": "fa:16:3e:00:00:01"}}
            talk.ask("POST", f"{root}/{machine}/action", body, at=at, want=refused)
    ironic.broken = True
    for path in (root, f"{root}/{machine}"):
        talk.ask("GET", path, at=1, want=501)
    ironic.broken = False


def shares(ground: Ground) -> None:
    """File shares of a server, since 2.97."""
    talk, manila = ground.talk, _SERVICES[MANILA]
    assert isinstance(manila, outside.Manila)
    server, share = ground.server("shares"), manila.add()
    path = f"/servers/{server}/shares"
    wanted = {"share": {"share_id": share, "tag": "walked"}}
    talk.ask("POST", path, wanted, at=SHARES, want=409)
    talk.chain(server, (1, "os-stop", None, 202, "SHUTOFF"))
    talk.ask("POST", path, {"share": {"share_id": ground.network}}, at=SHARES, want=404)
    for at in (SHARES - 1, SHARES, 104):
        talk.ask("POST", path, wanted, at=at, want=404 if at < SHARES else 201)
        if at < SHARES:
            continue
        _shows(ground, f"{path}/{share}", "inactive")
        if at == SHARES:
            talk.read(path, f"{path}/{share}", f"{path}/{ground.network}")
        talk.ask("POST", path, wanted, at=at, want=409)
        starts = ((1, "os-start", None, 202, "ACTIVE"), (1, "os-stop", None, 202, "SHUTOFF"))
        talk.chain(server, starts[0])
        _shows(ground, f"{path}/{share}", "active")
        talk.ask("DELETE", f"{path}/{share}", at=at, want=409)
        talk.chain(server, starts[1])
        talk.ask("DELETE", f"{path}/{share}", at=at, want=200)
        talk.settled(server)
        talk.ask("DELETE", f"{path}/{share}", at=at, want=404)
    assert manila.rules == {}
    ground.drop(server)


def _shows(ground: Ground, path: str, status: str) -> None:
    def look() -> bool:
        shown = ground.talk.ask("GET", path, at=SHARES)["share"]
        return bool(shown["status"] == status)

    waited(look, f"{path} to be {status}")
