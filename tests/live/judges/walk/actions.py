"""What is done to servers, and from which state to which."""

from __future__ import annotations

from tests.live.judges.walk.ground import Ground
from tests.live.judges.walk.talk import Step

STEPS: tuple[Step, ...] = (
    (1, "os-stop", None, 202, "SHUTOFF"),
    (1, "os-stop", None, 409, "SHUTOFF"),
    (1, "pause", None, 409, "SHUTOFF"),
    (1, "reboot", {"type": "SOFT"}, 409, "SHUTOFF"),
    (104, "os-start", None, 202, "ACTIVE"),
    (104, "os-start", None, 409, "ACTIVE"),
    (104, "pause", None, 202, "PAUSED"),
    (104, "pause", None, 409, "PAUSED"),
    (1, "unpause", None, 202, "ACTIVE"),
    (1, "unpause", None, 409, "ACTIVE"),
    (1, "reboot", {"type": "SOFT"}, 202, "ACTIVE"),
    (104, "reboot", {"type": "HARD"}, 202, "ACTIVE"),
    (104, "reboot", {"type": "KICK"}, 400, "ACTIVE"),
    (1, "lock", None, 202, "ACTIVE"),
    (1, "unlock", None, 202, "ACTIVE"),
    (72, "lock", None, 202, "ACTIVE"),
    (73, "unlock", None, 202, "ACTIVE"),
    (73, "lock", {"locked_reason": "walked over"}, 202, "ACTIVE"),
    (104, "lock", None, 202, "ACTIVE"),
    (104, "unlock", None, 202, "ACTIVE"),
    (16, "trigger_crash_dump", None, 404, "ACTIVE"),
    (17, "trigger_crash_dump", None, 202, "ACTIVE"),
    (1, "injectNetworkInfo", None, 202, "ACTIVE"),
    (104, "injectNetworkInfo", None, 202, "ACTIVE"),
    (1, "resetNetwork", None, 410, "ACTIVE"),
    (1, "os-getRDPConsole", {"type": "rdp-html5"}, 400, "ACTIVE"),
    (1, "addSecurityGroup", {"name": "walk"}, 202, "ACTIVE"),
    (104, "removeSecurityGroup", {"name": "walk"}, 202, "ACTIVE"),
    (104, "removeSecurityGroup", {"name": "no-such-group"}, 404, "ACTIVE"),
    (1, "os-resetState", {"state": "error"}, 202, "ERROR"),
    (104, "os-resetState", {"state": "active"}, 202, "ACTIVE"),
    (1, "no-such-action", None, 400, "ACTIVE"),
    (1, "os-getConsoleOutput", {}, 200, "ACTIVE"),
    (104, "os-getConsoleOutput", {"length": 3}, 200, "ACTIVE"),
    (104, "os-getConsoleOutput", {"length": "x"}, 400, "ACTIVE"),
)

WRONG: tuple[Step, ...] = (
    (1, "resume", None, 409, "ACTIVE"),
    (1, "unrescue", None, 409, "ACTIVE"),
    (77, "unshelve", None, 409, "ACTIVE"),
    (1, "shelveOffload", None, 409, "ACTIVE"),
    (1, "confirmResize", None, 409, "ACTIVE"),
    (1, "revertResize", None, 409, "ACTIVE"),
)
"""What the state forbids."""

CHAINS: tuple[tuple[Step, ...], ...] = (
    (
        (1, "suspend", None, 202, "SUSPENDED"),
        (1, "suspend", None, 409, "SUSPENDED"),
        (1, "resume", None, 202, "ACTIVE"),
        (104, "suspend", None, 202, "SUSPENDED"),
        (104, "resume", None, 202, "ACTIVE"),
    ),
    (
        (1, "rescue", {}, 200, "RESCUE"),
        (1, "rescue", {}, 409, "RESCUE"),
        (1, "unrescue", None, 202, "ACTIVE"),
        (104, "rescue", {"adminPass": "walked"}, 200, "RESCUE"),
        (104, "unrescue", None, 202, "ACTIVE"),
    ),
    (
        (1, "changePassword", {"adminPass": "walked"}, 202, "ACTIVE"),
        (104, "changePassword", {"adminPass": "walked"}, 202, "ACTIVE"),
        (104, "changePassword", {}, 400, "ACTIVE"),
    ),
)
"""States beside on and off."""


def power(ground: Ground) -> None:
    """One server through its states."""
    talk = ground.talk
    group = {"security_group": {"name": "walk"}}
    talk.quietly("network", "POST", "/v2.0/security-groups", group)
    server = ground.server("acted")
    talk.chain(server, *STEPS, *WRONG)
    ground.drop(server)
    talk.ask("DELETE", f"/servers/{ground.image}", at=104, want=404)


def states(ground: Ground) -> None:
    """A server suspended, rescued, and given a new password."""
    server = ground.server("states")
    for chain in CHAINS:
        ground.talk.chain(server, *chain)
    other = {"rescue_image_ref": ground.image}
    rescue = ((104, "rescue", other, 200, "RESCUE"), (104, "unrescue", None, 202, "ACTIVE"))
    ground.talk.chain(server, *rescue)
    ground.drop(server)


def consoles(ground: Ground) -> None:
    """Consoles of every kind."""
    talk = ground.talk
    server = ground.server("consoles")
    token = ""
    for name, kind in (
        ("os-getVNCConsole", "novnc"),
        ("os-getSPICEConsole", "spice-html5"),
        ("os-getSerialConsole", "serial"),
    ):
        talk.act(server, name, {"type": kind}, at=1)
        talk.act(server, name, {"type": kind}, at=5)
        talk.act(server, name, {"type": kind}, at=6, want=404)
    path = f"/servers/{server}/remote-consoles"
    for at, protocol, kind in (
        (5, "vnc", "novnc"),
        (6, "vnc", "novnc"),
        (7, "serial", "serial"),
        (8, "spice", "spice-html5"),
        (98, "vnc", "novnc"),
        (99, "spice", "spice-direct"),
        (104, "serial", "serial"),
    ):
        body = {"remote_console": {"protocol": protocol, "type": kind}}
        made = talk.ask("POST", path, body, at=at, want=404 if at < 6 else 200)
        if at >= 6:
            token = made["remote_console"]["url"][-36:]
            if at >= 98:
                talk.read(f"/os-console-auth-tokens/{token}", want=(200, 400))
    mismatch = {"remote_console": {"protocol": "vnc", "type": "serial"}}
    talk.ask("POST", path, mismatch, at=104, want=400)
    ground.drop(server)


def endings(ground: Ground) -> None:
    """Servers that can be had back, and servers that cannot."""
    talk = ground.talk
    for at in (1, 104):
        server = ground.server(f"ending-{at}")
        path = f"/servers/{server}"
        talk.act(server, "restore", at=at, want=409)
        talk.ask("DELETE", path, at=at, want=204)
        talk.until(server, "SOFT_DELETED")
        talk.act(server, "os-start", at=at, want=409)
        talk.act(server, "restore", at=at, want=202)
        talk.until(server, "ACTIVE")
        talk.act(server, "forceDelete", at=at, want=202)
        talk.gone("compute", path)
        talk.act(server, "forceDelete", at=at, want=404)
