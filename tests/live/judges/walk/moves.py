"""Servers that leave their hosts: shelved, resized, migrated, evacuated."""

from __future__ import annotations

from typing import Any

from tests.live.judges.walk.ground import Ground
from tests.live.judges.walk.talk import Step, waited

LONG = 3600.0
"""Seconds that a live migration takes which is to be ended by hand."""
SLOW = "live_move"
"""The work of a host that takes so long."""


def shelve(ground: Ground) -> None:
    """Shelved servers come back to where they were, to a zone (2.77), to a host (2.91)."""
    server = ground.server("shelved")
    talk = ground.talk
    here: tuple[Step, ...] = (
        (1, "shelve", None, 202, "SHELVED"),
        (1, "shelve", None, 409, "SHELVED"),
        (1, "unshelve", None, 202, "ACTIVE"),
    )
    talk.chain(server, *here)
    ways: dict[int, Any] = {76: None, 77: {"availability_zone": "nova"}}
    ways |= {91: {"host": ground.hosts[0]}, 104: {"availability_zone": None}}
    for at, how in ways.items():
        talk.chain(
            server,
            (at, "shelve", None, 202, "SHELVED"),
            (at, "shelveOffload", None, 202, "SHELVED_OFFLOADED"),
            (at, "shelveOffload", None, 409, "SHELVED_OFFLOADED"),
            (at, "unshelve", how, 202, "ACTIVE"),
        )
    ground.drop(server)


def resize(ground: Ground) -> None:
    """Another flavor, or the same one on another host: kept, and given up again."""
    talk = ground.talk
    server = ground.server("resized")
    for root, last in (("/servers", 104), ("/os-volumes_boot", 102)):
        for at in (1, last):
            bigger, smaller = {"flavorRef": ground.bigger}, {"flavorRef": ground.flavor}
            talk.chain(
                server,
                (at, "resize", bigger, 202, "VERIFY_RESIZE"),
                (at, "resize", smaller, 409, "VERIFY_RESIZE"),
                (at, "revertResize", None, 202, "ACTIVE"),
                (at, "resize", bigger, 202, "VERIFY_RESIZE"),
                (at, "confirmResize", None, 204, "ACTIVE"),
                (at, "resize", smaller, 202, "VERIFY_RESIZE"),
                (at, "confirmResize", None, 204, "ACTIVE"),
                root=root,
            )
    talk.act(server, "resize", {"flavorRef": "no-such"}, at=104, want=400)
    for at in (1, 55, 56, 104):
        host = {"host": ground.other_host(server)} if at >= 56 else None
        talk.chain(
            server,
            (at, "migrate", host, 202, "VERIFY_RESIZE"),
            (at, "confirmResize", None, 204, "ACTIVE"),
            (at, "migrate", None, 202, "VERIFY_RESIZE"),
            (at, "revertResize", None, 202, "ACTIVE"),
        )
    ground.drop(server)


def live(ground: Ground) -> None:
    """Moved while running; watched, hurried and stopped on the way."""
    talk = ground.talk
    server = ground.server("lively")
    for at in (1, 24, 25, 30, 67, 68, 104):
        words: dict[str, Any] = {"host": None, "block_migration": False}
        words |= {"disk_over_commit": False} if at < 25 else {"block_migration": "auto"}
        if at in (25, 30, 68):
            words["host"] = ground.other_host(server)
        if at == 30:
            words["force"] = True
        talk.chain(server, (at, "os-migrateLive", words, 202, "ACTIVE"))
    _on_the_way(ground, server)
    ground.drop(server)


def _on_the_way(ground: Ground, server: str) -> None:
    talk = ground.talk
    root = f"/servers/{server}/migrations"
    path = _begin(ground, server, at=30)
    talk.read(root, path, f"{root}/99999")
    hurry = {"force_complete": None}
    talk.ask("POST", f"{path}/action", hurry, at=21, want=404, during=True)
    talk.ask("POST", f"{path}/action", hurry, at=22, during=True)
    talk.until(server, "ACTIVE")
    talk.ask("POST", f"{path}/action", hurry, at=104, want=409)
    talk.ask("DELETE", path, at=104, want=409)
    for at in (24, 104):
        path = _begin(ground, server, at=at)
        talk.ask("DELETE", path, at=23, want=404, during=True)
        talk.ask("DELETE", path, at=at, want=202, during=True)
        talk.until(server, "ACTIVE")
        path = _begin(ground, server, at=at)
        talk.ask("POST", f"{path}/action", hurry, at=at, want=202, during=True)
        talk.until(server, "ACTIVE")


def _begin(ground: Ground, server: str, *, at: int) -> str:
    """A live migration that does not end by itself; its path once it runs."""
    talk = ground.talk
    words: dict[str, Any] = {"host": None, "block_migration": False}
    words |= {"disk_over_commit": False} if at < 25 else {"block_migration": "auto"}
    talk.backstage.world.takes(SLOW, LONG, server=server, times=1)
    talk.act(server, "os-migrateLive", words, at=at, want=202)
    root = f"/servers/{server}/migrations"

    def running() -> Any:
        found = talk.ask("GET", root, at=23)["migrations"]
        return [row["id"] for row in found if row["status"] == "running"]

    (number,) = waited(running, f"a live migration of {server} to run")
    return f"{root}/{number}"


def evacuate(ground: Ground) -> None:
    """From hosts whose agents are dead, and come back to life later."""
    talk = ground.talk
    server = ground.server("evacuated")
    talk.act(server, "evacuate", {"onSharedStorage": False}, at=1, want=(400, 409))
    for at in (1, 13, 14, 29, 68, 95, 104):
        host = ground.host_of(server)
        words: dict[str, Any] = {"onSharedStorage": False, "adminPass": "walked"}
        if at >= 14:
            words = {"adminPass": "walked"} if at == 14 else {"host": ground.other_host(server)}
        if at == 29:
            words["force"] = True
        service = {"host": host, "binary": "nova-compute"}
        talk.backstage.stop_agent(host)
        talk.ask("PUT", "/os-services/force-down", {**service, "forced_down": True}, at=11)
        state = "SHUTOFF" if at >= 95 else "ACTIVE"
        talk.act(server, "evacuate", words, at=at, want=200)
        talk.until(server, state)
        talk.backstage.start_agent(host)
        _comes_back(ground, service)
        if at >= 95:
            talk.chain(server, (at, "os-start", None, 202, "ACTIVE"))
    ground.drop(server)


def _comes_back(ground: Ground, service: dict[str, str]) -> None:
    """A host is taken for alive again once its agent has dropped the guests that left it."""

    def look() -> bool:
        body = {**service, "forced_down": False}
        ground.talk.ask("PUT", "/os-services/force-down", body, at=11, want=(200, 400))
        return ground.talk.status == 200

    waited(look, f"{service['host']} to be back")
