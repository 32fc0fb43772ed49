"""Servers of a simulated cloud are suspended, shelved, taken off their hosts, and come back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulated.conftest import Simulated, until
from tests.support import notices

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


async def act(simulated: Simulated, server_id: str, action: str, becomes: str) -> dict[str, Any]:
    """An action without words, to its end; the server then."""
    path = f"/v2.1/servers/{server_id}/action"
    answer = await simulated.ask("POST", path, json={action: None})
    assert answer.status == 202, answer.text
    return await simulated.becomes(server_id, becomes)


async def images(simulated: Simulated) -> set[str]:
    """The names of all images."""
    found = await simulated.ask("GET", "/v2/images", service="image")
    return {image["name"] for image in found.json()["images"]}


async def test_suspend_and_resume(simulated: Simulated) -> None:
    server_id = await simulated.create("sleeper")
    before = await simulated.becomes(server_id, "ACTIVE")
    asleep = await act(simulated, server_id, "suspend", "SUSPENDED")
    assert asleep["OS-EXT-STS:power_state"] == 7
    assert asleep["OS-EXT-SRV-ATTR:host"] == before["OS-EXT-SRV-ATTR:host"]
    await simulated.clean()
    # The reconcilers leave it as it is.
    await simulated.conductor.guests.reconcile()
    host = before["OS-EXT-SRV-ATTR:host"]
    await simulated.stop_agent(host)
    await simulated.start_agent(host)
    await simulated.conductor.guests.reconcile()
    await simulated.becomes(server_id, "SUSPENDED")
    awake = await act(simulated, server_id, "resume", "ACTIVE")
    assert awake["OS-EXT-STS:power_state"] == 1
    await simulated.clean()
    await act(simulated, server_id, "suspend", "SUSPENDED")
    answer = await simulated.ask(
        "POST", f"/v2.1/servers/{server_id}/action", json={"reboot": {"type": "HARD"}}
    )
    assert answer.status == 202
    await simulated.becomes(server_id, "ACTIVE")
    await act(simulated, server_id, "suspend", "SUSPENDED")
    await simulated.end(server_id)


async def test_what_cannot_be_suspended_goes_on(simulated: Simulated) -> None:
    server_id = await simulated.create("restless")
    await simulated.becomes(server_id, "ACTIVE")
    simulated.world.fails("suspend", server=server_id)
    awake = await act(simulated, server_id, "suspend", "ACTIVE")
    assert awake["OS-EXT-STS:power_state"] == 1
    await act(simulated, server_id, "suspend", "SUSPENDED")
    simulated.world.fails("wake", server=server_id)
    await act(simulated, server_id, "resume", "SUSPENDED")
    await act(simulated, server_id, "resume", "ACTIVE")
    await simulated.end(server_id)


async def test_shelve_and_unshelve(simulated: Simulated) -> None:
    server_id = await simulated.create("shelf")
    before = await simulated.becomes(server_id, "ACTIVE")
    gone = await act(simulated, server_id, "shelve", "SHELVED_OFFLOADED")
    assert gone["OS-EXT-SRV-ATTR:host"] is None
    assert (gone["hostId"], gone["OS-EXT-STS:power_state"]) == ("", 4)
    assert gone["OS-EXT-AZ:availability_zone"] == before["OS-EXT-AZ:availability_zone"]
    assert gone["addresses"] == before["addresses"]
    assert "shelf-shelved" in await images(simulated)
    assert not any(server_id in simulated.world.guests(f"fake-{n}") for n in range(1, 11))
    await simulated.clean()

    volume = await notices.volume(simulated, "late")
    path = f"/v2.1/servers/{server_id}/os-volume_attachments"
    body = {"volumeAttachment": {"volumeId": volume}}
    assert (await simulated.ask("POST", path, json=body)).status == 200
    await notices.ended(simulated, server_id)
    back = await act(simulated, server_id, "unshelve", "ACTIVE")
    assert back["OS-EXT-SRV-ATTR:host"]
    assert (back["OS-EXT-STS:power_state"], back["addresses"]) == (1, before["addresses"])
    guest = simulated.world.guests(back["OS-EXT-SRV-ATTR:host"])[server_id]
    assert list(guest.volumes) == [volume]
    assert "shelf-shelved" not in await images(simulated)
    await simulated.clean()

    # It may rest again, with its volume, and end so.
    await act(simulated, server_id, "os-stop", "SHUTOFF")
    await act(simulated, server_id, "shelve", "SHELVED_OFFLOADED")
    await simulated.clean()
    await simulated.end(server_id)
    assert "shelf-shelved" not in await images(simulated)


async def test_nowhere_to_come_back_to(simulated: Simulated) -> None:
    server_id = await simulated.create("nowhere", networks="none")
    await simulated.becomes(server_id, "ACTIVE")
    await act(simulated, server_id, "shelve", "SHELVED_OFFLOADED")
    simulated.world.fails("spawn", server=server_id, times=None, error="The disk is full.")
    still = await act(simulated, server_id, "unshelve", "SHELVED_OFFLOADED")
    assert still["OS-EXT-SRV-ATTR:host"] is None
    path = f"/v2.1/servers/{server_id}/os-instance-actions"
    (last, *_) = (await simulated.ask("GET", path, admin=True)).json()["instanceActions"]
    assert (last["action"], last["message"]) == ("unshelve", "Error")
    shown = await simulated.ask("GET", f"{path}/{last['request_id']}", admin=True)
    assert [e["result"] for e in shown.json()["instanceAction"]["events"]] == ["Error"]
    await simulated.clean()
    simulated.world.heals()
    await act(simulated, server_id, "unshelve", "ACTIVE")
    await simulated.end(server_id)


async def test_the_image_is_gone(simulated: Simulated) -> None:
    server_id = await simulated.create("lost", networks="none")
    await simulated.becomes(server_id, "ACTIVE")
    await act(simulated, server_id, "shelve", "SHELVED_OFFLOADED")
    found = await simulated.ask("GET", "/v2/images?name=lost-shelved", service="image")
    (image,) = found.json()["images"]
    assert image["instance_uuid"] == server_id
    gone = await simulated.ask("DELETE", f"/v2/images/{image['id']}", service="image")
    assert gone.status == 204
    lost = await act(simulated, server_id, "unshelve", "ERROR")
    assert "is gone" in lost["fault"]["message"]
    await simulated.end(server_id)


async def test_from_a_volume(simulated: Simulated) -> None:
    root = {
        "source_type": "image",
        "uuid": simulated.image,
        "destination_type": "volume",
        "volume_size": 1,
        "boot_index": 0,
        "delete_on_termination": True,
    }
    body = {"name": "stone", "flavorRef": "42", "networks": "none"}
    made = await simulated.ask(
        "POST", "/v2.1/servers", json={"server": {**body, "block_device_mapping_v2": [root]}}
    )
    assert made.status == 202, made.text
    server_id = made.json()["server"]["id"]
    await simulated.becomes(server_id, "ACTIVE")
    gone = await act(simulated, server_id, "shelve", "SHELVED_OFFLOADED")
    assert gone["OS-EXT-SRV-ATTR:host"] is None
    assert "stone-shelved" not in await images(simulated)
    await simulated.clean()
    await act(simulated, server_id, "unshelve", "ACTIVE")
    await simulated.clean()
    await act(simulated, server_id, "shelve", "SHELVED_OFFLOADED")
    await simulated.end(server_id)


async def test_in_the_middle_of_it(simulated: Simulated) -> None:
    """Deleted while its image is sent, and while it comes back."""
    server_id = await simulated.create("hasty", networks="none")
    await simulated.becomes(server_id, "ACTIVE")
    simulated.world.takes("send_snapshot", 30, server=server_id)
    path = f"/v2.1/servers/{server_id}/action"
    assert (await simulated.ask("POST", path, json={"shelve": None})).status == 202

    async def sending() -> bool:
        shown = await simulated.show(server_id)
        return shown is not None and shown["OS-EXT-STS:task_state"] == "shelving_image_uploading"

    await until(sending, within=30, what="uploading")
    await simulated.delete(server_id)
    await simulated.becomes(server_id, "GONE")
    await simulated.clean()
    assert "hasty-shelved" not in await images(simulated)
