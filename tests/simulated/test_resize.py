"""Resizes and cold migrations in a whole cloud: there, confirmed, back, refused, deleted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.simulated.conftest import Simulated, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

BIGGER = "2"
HOST = "OS-EXT-SRV-ATTR:host"


async def act(simulated: Simulated, server_id: str, action: str, given: Any = None) -> None:
    """POST an action as an administrator."""
    path = f"/v2.1/servers/{server_id}/action"
    answer = await simulated.ask("POST", path, admin=True, json={action: given})
    assert answer.status in (202, 204), answer.text


async def made(simulated: Simulated, name: str = "one", networks: str = "auto") -> dict[str, Any]:
    server_id = await simulated.create(name, networks)
    return await simulated.becomes(server_id, "ACTIVE")


async def gone(simulated: Simulated, *server_ids: str) -> None:
    await simulated.delete(*server_ids)
    for server_id in server_ids:
        await simulated.becomes(server_id, "GONE")
    await simulated.clean()


async def events(simulated: Simulated, server_id: str, action: str) -> dict[str, str]:
    """Event → result of the newest action of that name."""
    path = f"/v2.1/servers/{server_id}/os-instance-actions"
    page = (await simulated.admin("GET", path))["instanceActions"]
    newest = next(row for row in page if row["action"] == action)
    shown = await simulated.admin("GET", f"{path}/{newest['request_id']}")
    return {e["event"]: e["result"] for e in shown["instanceAction"]["events"]}


async def migrations(simulated: Simulated, server_id: str) -> list[tuple[str, str]]:
    path = f"/v2.1/os-migrations?instance_uuid={server_id}"
    found = (await simulated.admin("GET", path))["migrations"]
    return [(row["migration_type"], row["status"]) for row in reversed(found)]


async def test_a_resize_is_confirmed(simulated: Simulated) -> None:
    before = await made(simulated)
    server_id = before["id"]
    await act(simulated, server_id, "resize", {"flavorRef": BIGGER})
    shown = await simulated.becomes(server_id, "VERIFY_RESIZE")
    assert shown["flavor"]["ram"] > before["flavor"]["ram"]
    assert shown[HOST] != before[HOST]
    assert (shown["OS-EXT-STS:vm_state"], shown["OS-EXT-STS:task_state"]) == ("resized", None)
    assert shown["addresses"] == before["addresses"]
    assert server_id in simulated.world.aside(before[HOST])
    await simulated.clean()
    assert await events(simulated, server_id, "resize") == {
        "conductor_migrate_server": "Success",
        "compute_prep_resize": "Success",
        "compute_resize_instance": "Success",
        "compute_finish_resize": "Success",
    }
    assert await migrations(simulated, server_id) == [("resize", "finished")]
    await act(simulated, server_id, "confirmResize")
    after = await simulated.becomes(server_id, "ACTIVE")
    assert (after[HOST], after["flavor"]) == (shown[HOST], shown["flavor"])
    assert await events(simulated, server_id, "confirmResize") == {
        "compute_confirm_resize": "Success"
    }
    assert not simulated.world.aside(before[HOST])
    assert await migrations(simulated, server_id) == [("resize", "confirmed")]
    await simulated.clean()
    await gone(simulated, server_id)


async def test_a_migration_is_taken_back(simulated: Simulated) -> None:
    before = await made(simulated)
    server_id = before["id"]
    await act(simulated, server_id, "os-stop")
    await simulated.becomes(server_id, "SHUTOFF")
    aim = "fake-3" if before[HOST] != "fake-3" else "fake-4"
    await act(simulated, server_id, "migrate", {"host": aim})
    shown = await simulated.becomes(server_id, "VERIFY_RESIZE")
    assert (shown[HOST], shown["OS-EXT-STS:power_state"]) == (aim, 4)
    await simulated.clean()
    await act(simulated, server_id, "revertResize")
    after = await simulated.becomes(server_id, "SHUTOFF")
    assert (after[HOST], after["flavor"]) == (before[HOST], before["flavor"])
    assert await migrations(simulated, server_id) == [("migration", "reverted")]
    assert server_id not in simulated.world.guests(aim)
    await simulated.clean()
    await gone(simulated, server_id)


async def test_no_host_for_it(simulated: Simulated) -> None:
    before = await made(simulated)
    server_id = before["id"]
    giant = {"name": "giant", "ram": 1 << 30, "vcpus": 1, "disk": 1}
    flavor = (await simulated.admin("POST", "/v2.1/flavors", {"flavor": giant}))["flavor"]
    await act(simulated, server_id, "resize", {"flavorRef": flavor["id"]})

    async def failed() -> bool:
        rows = await migrations(simulated, server_id)
        return rows == [("resize", "error")]

    await until(failed, within=20, what="the resize has failed")
    after = await simulated.becomes(server_id, "ACTIVE")
    assert (after[HOST], after["flavor"]) == (before[HOST], before["flavor"])
    assert (await events(simulated, server_id, "resize"))["conductor_migrate_server"] == "Error"
    await simulated.clean()
    await gone(simulated, server_id)


@pytest.mark.parametrize("operation", ["arrive", "depart", "resume"])
async def test_what_fails_on_the_way_leaves_it_where_it_was(
    simulated: Simulated, operation: str
) -> None:
    before = await made(simulated)
    server_id = before["id"]
    simulated.world.fails(operation, server=server_id, times=None, error="The disk is full.")
    await act(simulated, server_id, "migrate")

    async def failed() -> bool:
        return (await migrations(simulated, server_id)) == [("migration", "error")]

    await until(failed, within=20, what="the migration has failed")
    simulated.world.heals()
    after = await simulated.becomes(server_id, "ACTIVE")
    assert after[HOST] == before[HOST]
    assert simulated.world.guests(before[HOST])[server_id].power == 1
    await simulated.clean()
    await gone(simulated, server_id)


async def test_deleted_while_it_waits_to_be_confirmed(simulated: Simulated) -> None:
    servers = [await made(simulated, f"d{n}") for n in range(3)]
    for server in servers:
        await act(simulated, server["id"], "migrate")
    for server in servers:
        await simulated.becomes(server["id"], "VERIFY_RESIZE")
    await gone(simulated, *(server["id"] for server in servers))
    assert not any(simulated.world.aside(f"fake-{n}") for n in range(1, 11))


async def test_deleted_on_its_way(simulated: Simulated) -> None:
    before = await made(simulated)
    server_id = before["id"]
    simulated.world.takes("arrive", 60, times=1)
    await act(simulated, server_id, "migrate")

    async def arriving() -> bool:
        shown = await simulated.show(server_id)
        return shown is not None and shown["OS-EXT-STS:task_state"] == "resize_finish"

    await until(arriving, within=20, what="it arrives")
    await gone(simulated, server_id)
    simulated.world.heals()


@pytest.mark.timeout(400)
async def test_a_hundred_resizes(simulated: Simulated) -> None:
    """Half of them are confirmed, half are taken back."""
    ids = await asyncio.gather(*(simulated.create(f"m{n}") for n in range(100)))
    before = [await simulated.becomes(i, "ACTIVE", within=120) for i in ids]
    await asyncio.gather(*(act(simulated, i, "resize", {"flavorRef": BIGGER}) for i in ids))
    for server_id in ids:
        await simulated.becomes(server_id, "VERIFY_RESIZE", within=120)
    await simulated.clean()
    words = ["confirmResize", "revertResize"] * 50
    await asyncio.gather(*(act(simulated, i, w) for i, w in zip(ids, words, strict=True)))
    for server, word in zip(before, words, strict=True):
        after = await simulated.becomes(server["id"], "ACTIVE", within=120)
        assert (after[HOST] == server[HOST]) == (word == "revertResize")
        assert (after["flavor"] == server["flavor"]) == (word == "revertResize")
    await simulated.clean()
    await simulated.delete(*ids)
    for server_id in ids:
        await simulated.becomes(server_id, "GONE", within=120)
    await simulated.clean()
