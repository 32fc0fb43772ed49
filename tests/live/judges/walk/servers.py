"""Servers: made, listed, shown, changed, and everything that hangs on them."""

from __future__ import annotations

from typing import Any

from tests.live.judges.walk.ground import Ground

CREATE = (1, 18, 19, 32, 33, 37, 42, 52, 57, 63, 67, 74, 90, 94, 104)
UPDATE = (1, 9, 19, 26, 47, 63, 71, 73, 75, 90, 96, 98, 100, 103, 104)


def create(ground: Ground) -> None:
    """One server at each version that takes other words."""
    talk = ground.talk
    made = []
    for at in CREATE:
        words: dict[str, Any] = {
            "name": f"walk-{at}",
            "flavorRef": ground.flavor,
            "imageRef": ground.image,
            "metadata": {"walked": str(at)},
            "networks": [{"uuid": ground.network}],
            "security_groups": [{"name": "default"}],
        }
        if at < 57:
            words["personality"] = [{"path": "/etc/motd", "contents": "d2Fsaw=="}]
        if at >= 19:
            words["description"] = "walked over"
        if at >= 52:
            words["tags"] = ["walked"]
        if at >= 90:
            words["hostname"] = f"walk-{at}"
        body = {"server": words, "os:scheduler_hints": {"different_host": []}}
        answer = talk.ask("POST", "/servers", body, at=at, want=202)
        made.append(answer["server"]["id"])
        wrong = {"server": {**words, "flavorRef": "no-such"}}
        talk.ask("POST", "/servers", wrong, at=at, want=400)
        talk.ask("POST", "/servers", {"server": {**words, "name": ""}}, at=at, want=400)
    for way, at in (("auto", 37), ("none", 104)):
        words = {"name": way, "flavorRef": ground.flavor, "imageRef": ground.image, "networks": way}
        answer = talk.ask("POST", "/servers", {"server": words}, at=at, want=None)
        if "server" in answer:
            made.append(answer["server"]["id"])
    for server in made:
        talk.until(server, "ACTIVE")
    talk.read("/servers", "/servers/detail", "/servers?all_tenants=1&limit=2&sort_key=display_name")
    talk.read("/servers/detail?limit=1&deleted=True", "/servers?name=walk-1&status=ACTIVE")
    odd = "/servers/detail?tags=walked&changes-since=2026-01-01T00:00:00Z&not-there=1"
    talk.read(odd, want=(200, 400))
    talk.read("/servers?marker=no-such", want=(400,))
    talk.read(f"/servers/{ground.network}", want=(404,))
    for server in made:
        ground.drop(server)


def show(ground: Ground) -> None:
    """One server at every version, and its changes."""
    talk = ground.talk
    server = ground.server("shown")
    path = f"/servers/{server}"
    talk.read(path, f"{path}/ips", f"{path}/ips/walk", f"{path}/ips/no-such", f"{path}/topology")
    talk.read(f"{path}/diagnostics", f"{path}/os-security-groups", f"{path}/os-server-password")
    talk.read(f"{path}/migrations", f"{path}/migrations/1", f"{path}/shares")
    talk.read(f"{path}/os-instance-actions?limit=1")
    for at in UPDATE:
        talk.ask("PUT", path, {"server": {"name": f"named-{at}"}}, at=at)
        if at >= 90:
            talk.ask("PUT", path, {"server": {"hostname": f"named-{at}"}}, at=at)
    talk.ask("PUT", path, {"server": {"unknown": 1}}, at=104, want=400)
    for at in (1, 104):
        talk.ask("DELETE", f"{path}/os-server-password", at=at, want=204)
    for at in (22, 23, 24, 104):
        talk.ask("GET", f"{path}/migrations/1", at=at, want=404)
        talk.ask("DELETE", f"{path}/migrations/1", at=at, want=404 if at < 24 else 409)
        body = {"force_complete": None}
        talk.ask("POST", f"{path}/migrations/1/action", body, at=at, want=409)
    _actions_log(ground, server)
    _metadata(ground, server)
    _tags(ground, server)
    _interfaces(ground, server)
    _shares(ground, server)
    _events(ground, server)
    ground.drop(server)


def _actions_log(ground: Ground, server: str) -> None:
    talk = ground.talk
    path = f"/servers/{server}/os-instance-actions"
    talk.read(path, f"{path}/req-{ground.image}")
    first = talk.ask("GET", path)["instanceActions"][0]["request_id"]
    talk.read(f"{path}/{first}")
    talk.ask("GET", f"{path}?changes-since=never", at=58, want=400)


def _metadata(ground: Ground, server: str) -> None:
    talk = ground.talk
    path = f"/servers/{server}/metadata"
    for at in (1, 104):
        talk.ask("POST", path, {"metadata": {"a": "1", "b": "2"}}, at=at)
        talk.ask("PUT", f"{path}/a", {"meta": {"a": "3"}}, at=at)
        talk.ask("PUT", f"{path}/a", {"meta": {"b": "3"}}, at=at, want=400)
        talk.read(path, f"{path}/a") if at == 1 else None
        talk.ask("DELETE", f"{path}/a", at=at, want=204)
        talk.ask("DELETE", f"{path}/a", at=at, want=404)
        talk.ask("PUT", path, {"metadata": {"c": "4"}}, at=at)
        talk.ask("PUT", path, {"metadata": {"c": 4}}, at=at, want=400)


def _tags(ground: Ground, server: str) -> None:
    talk = ground.talk
    path = f"/servers/{server}/tags"
    for at in (25, 26, 104):
        there = at > 25
        many = {"tags": ["one", "two"]}
        talk.ask("PUT", path, many, at=at, want=200 if there else 404)
        talk.ask("PUT", f"{path}/three", at=at, want=201 if there else 404)
        talk.ask("PUT", f"{path}/three", at=at, want=204 if there else 404)
        talk.ask("PUT", f"{path}/a,b", at=at, want=400 if there else 404)
        talk.read(path, f"{path}/one") if there else None
        for want in (204, 404):
            talk.ask("DELETE", f"{path}/one", at=at, want=want if there else 404)
        talk.ask("DELETE", path, at=at, want=204 if there else 404)


def _interfaces(ground: Ground, server: str) -> None:
    talk = ground.talk
    path = f"/servers/{server}/os-interface"
    for at in (1, 48, 49, 69, 70, 104):
        words: dict[str, Any] = {"net_id": ground.network}
        if at >= 49:
            words["tag"] = "walked"
        made = talk.ask("POST", path, {"interfaceAttachment": words}, at=at)["interfaceAttachment"]
        talk.until(server, "ACTIVE")
        port = f"{path}/{made['port_id']}"
        talk.read(path, port) if at == 1 else None
        talk.ask("DELETE", port, at=at, want=202)
        talk.gone("compute", port)
        talk.until(server, "ACTIVE")
        talk.ask("DELETE", port, at=at, want=404)
    both = {"net_id": ground.network, "port_id": ground.image}
    talk.ask("POST", path, {"interfaceAttachment": both}, want=400)


def _shares(ground: Ground, server: str) -> None:
    talk = ground.talk
    path = f"/servers/{server}/shares"
    for at in (96, 97, 104):
        share = {"share": {"share_id": ground.image}}
        talk.ask("POST", path, share, at=at, want=404 if at < 97 else (404, 409))
        talk.ask("GET", f"{path}/{ground.image}", at=at, want=404)
        talk.ask("DELETE", f"{path}/{ground.image}", at=at, want=404 if at < 97 else (404, 409))


def _events(ground: Ground, server: str) -> None:
    talk = ground.talk
    names = {1: "network-changed", 50: "network-vif-unplugged", 51: "network-vif-plugged"}
    names |= {75: "network-changed", 76: "power-update", 81: "power-update"}
    names |= {82: "accelerator-request-bound", 92: "network-changed", 93: "volume-reimaged"}
    names |= {104: "network-changed"}
    for at, name in names.items():
        event = {"server_uuid": server, "name": name, "status": "completed", "tag": ground.image}
        if name == "power-update":
            event["tag"] = "POWER_ON"
        body = {"events": [event]}
        talk.ask("POST", "/os-server-external-events", body, at=at)
        stranger = {**event, "server_uuid": ground.image}
        talk.ask(
            "POST", "/os-server-external-events", {"events": [event, stranger]}, at=at, want=207
        )
        talk.ask("POST", "/os-server-external-events", {"events": [stranger]}, at=at, want=207)
        talk.until(server, "ACTIVE")
    early = {"server_uuid": server, "name": "volume-extended", "tag": ground.image}
    talk.ask("POST", "/os-server-external-events", {"events": [early]}, at=50, want=400)
