"""Making servers of a simulated cloud anew and moving them, for what is told of that."""

from __future__ import annotations

from typing import Any

from kilonova.virt.fake.world import Capacity
from tests.simulated.conftest import Simulated, until
from tests.support import notices
from tests.support.outside import Manila

SLOW = "live_move"
LONG = 3600.0
"""Seconds of a live migration that is ended by hand."""

SHARING = ("COMPUTE_STORAGE_VIRTIO_FS", "COMPUTE_MEM_BACKING_FILE")

Step = tuple[str, Any, str]
"""Action, what it is given, the server's status then."""


async def chain(simulated: Simulated, server_id: str, *steps: Step) -> None:
    """Actions one after the other, as administrator."""
    path = f"/v2.1/servers/{server_id}/action"
    for name, value, becomes in steps:
        answer = await simulated.ask("POST", path, json={name: value}, admin=True)
        assert answer.status < 300, (name, answer.text)
        await simulated.becomes(server_id, becomes)
        await notices.ended(simulated, server_id)


async def new(simulated: Simulated, name: str) -> str:
    """A server that is ACTIVE."""
    server_id = await simulated.create(name)
    await simulated.becomes(server_id, "ACTIVE")
    return server_id


async def remade(simulated: Simulated) -> None:
    """A server that becomes an image, another server, and goes to sleep."""
    server_id = await new(simulated, "remade")
    steps: list[Step]
    for steps in (
        [("createImage", {"name": "kept"}, "ACTIVE")],
        [("createBackup", {"name": "b", "backup_type": "daily", "rotation": 1}, "ACTIVE")],
        [("rebuild", {"imageRef": simulated.image}, "ACTIVE")],
        [("rescue", {}, "RESCUE"), ("unrescue", None, "ACTIVE")],
        [("suspend", None, "SUSPENDED"), ("resume", None, "ACTIVE")],
        [("changePassword", {"adminPass": "told"}, "ACTIVE")],
    ):
        await chain(simulated, server_id, *steps)
    await notices.gone(simulated, server_id)


async def moved(simulated: Simulated) -> None:
    """A server that leaves its host in every way."""
    server_id = await new(simulated, "moved")
    flavor = await simulated.flavor("moved", {})
    steps: list[Step]
    for steps in (
        [("shelve", None, "SHELVED_OFFLOADED"), ("unshelve", None, "ACTIVE")],
        [("resize", {"flavorRef": flavor}, "VERIFY_RESIZE"), ("revertResize", None, "ACTIVE")],
        [("migrate", None, "VERIFY_RESIZE"), ("confirmResize", None, "ACTIVE")],
    ):
        await chain(simulated, server_id, *steps)
    await live(simulated, server_id)
    await evacuated(simulated, server_id)
    await notices.gone(simulated, server_id)


async def live(simulated: Simulated, server_id: str) -> None:
    """Moved while it runs: to the end, stopped on the way, hurried, and in vain."""
    words = ("os-migrateLive", {"host": None, "block_migration": "auto"}, "ACTIVE")
    await chain(simulated, server_id, words)
    root = f"/v2.1/servers/{server_id}/migrations"
    for method, below, body in (
        ("DELETE", "", None),
        ("POST", "/action", {"force_complete": None}),
    ):
        simulated.world.takes(SLOW, LONG, server=server_id, times=1)
        path = f"/v2.1/servers/{server_id}/action"
        begun = await simulated.ask("POST", path, json=dict([words[:2]]), admin=True)
        assert begun.status == 202, begun.text

        async def running() -> list[int]:
            found = (await simulated.ask("GET", root, admin=True)).json()["migrations"]
            return [row["id"] for row in found if row["status"] == "running"]

        (number,) = await until(running, within=60, what="a live migration")
        answer = await simulated.ask(method, f"{root}/{number}{below}", json=body, admin=True)
        assert answer.status == 202, answer.text
        await simulated.becomes(server_id, "ACTIVE")
        await notices.ended(simulated, server_id)
    simulated.world.fails(SLOW, times=1, error="The line is cut.")
    await chain(simulated, server_id, words)


async def evacuated(simulated: Simulated, server_id: str) -> None:
    """Made anew elsewhere because its host is dead; the host comes back."""
    shown = await simulated.show(server_id)
    assert shown is not None
    host = shown["OS-EXT-SRV-ATTR:host"]
    found = await simulated.admin("GET", f"/v2.1/os-services?host={host}&binary=nova-compute")
    service = f"/v2.1/os-services/{found['services'][0]['id']}"
    await simulated.stop_agent(host)
    await simulated.admin("PUT", service, {"forced_down": True})
    await chain(simulated, server_id, ("evacuate", {}, "ACTIVE"))
    await simulated.start_agent(host)

    async def back() -> bool:
        # Not before the agent has dropped the guests that left it.
        body = {"forced_down": False}
        answer = await simulated.ask("PUT", service, admin=True, json=body)
        assert answer.status in (200, 400), answer.text
        return answer.status == 200

    await until(back, within=60, what=f"{host} back", pause=0.5)


async def hindered(simulated: Simulated) -> None:
    """What cannot be made anew, what finds no other host, what does not leave its own."""
    world = simulated.world
    broken, staying = await new(simulated, "broken"), await new(simulated, "staying")
    world.fails("rebuild", times=1, error="The disk is full.")
    await attempt(simulated, broken, "rebuild", {"imageRef": simulated.image})
    big = {"name": "too-big", "ram": 1 << 30, "vcpus": 1, "disk": 1}
    flavor = (await simulated.admin("POST", "/v2.1/flavors", {"flavor": big}))["flavor"]["id"]
    await attempt(simulated, staying, "resize", {"flavorRef": flavor})
    small = await simulated.flavor("unlucky", {})
    world.fails("depart", times=1, error="The disk is full.")
    await attempt(simulated, staying, "resize", {"flavorRef": small})
    world.heals()
    await attempt(simulated, staying, "rebuild", {"imageRef": await foreign(simulated)})
    await notices.gone(simulated, broken, staying)


async def foreign(simulated: Simulated) -> str:
    """An image for another hypervisor than there is."""
    body = {"name": "foreign", "disk_format": "raw", "container_format": "bare"}
    made = await simulated.ask(
        "POST", "/v2/images", service="image", json={**body, "img_hv_type": "hyperv"}
    )
    image_id = str(made.json()["id"])
    path, headers = f"/v2/images/{image_id}/file", {"Content-Type": "application/octet-stream"}
    url, token = simulated.cloud.layout.url("image", path), simulated.tokens["kilonova"]
    sent = await simulated.cloud.http.request(
        "PUT", url, headers={**headers, "X-Auth-Token": token}, data=b"a disk"
    )
    assert sent.status == 204, sent.text
    return image_id


async def sharing(simulated: Simulated, shares: Manila) -> None:
    """A file share comes to a server, is started with, and goes; another may not come."""
    for host in list(simulated.cloud.agents):
        await simulated.offer(host, Capacity(traits=SHARING))
    server_id = await new(simulated, "sharing")
    path = f"/v2.1/servers/{server_id}/shares"

    async def is_there(share_id: str, *statuses: str) -> None:
        async def look() -> bool:
            answer = await simulated.ask("GET", f"{path}/{share_id}", version="2.104")
            found = answer.json()["share"]["status"] if answer.status == 200 else "gone"
            return found in statuses

        await until(look, within=60, what=f"share {share_id} {statuses}")

    await chain(simulated, server_id, ("os-stop", None, "SHUTOFF"))
    for refused in (False, True):
        shares.refuses = refused
        share_id = shares.add()
        body = {"share": {"share_id": share_id}}
        answer = await simulated.ask("POST", path, json=body, version="2.104")
        assert answer.status == 201, answer.text
        await is_there(share_id, "error" if refused else "inactive")
        if not refused:
            await chain(simulated, server_id, ("os-start", None, "ACTIVE"))
            await chain(simulated, server_id, ("os-stop", None, "SHUTOFF"))
            shares.keeps = True
            await simulated.ask("DELETE", f"{path}/{share_id}", version="2.104")
            await is_there(share_id, "error")
            shares.keeps = False
        gone = await simulated.ask("DELETE", f"{path}/{share_id}", version="2.104")
        assert gone.status == 200, gone.text
        await is_there(share_id, "gone")
    await notices.gone(simulated, server_id)


async def attempt(simulated: Simulated, server_id: str, name: str, value: Any) -> None:
    """An action that does not succeed."""
    path = f"/v2.1/servers/{server_id}/action"
    answer = await simulated.ask("POST", path, json={name: value}, admin=True)
    assert answer.status == 202, answer.text
    await simulated.becomes(server_id, "ACTIVE", "ERROR")
    await notices.ended(simulated, server_id)
