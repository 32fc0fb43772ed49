"""Guests that move while they run, and hosts that die: a whole cloud of simulated hosts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.simulated.conftest import Simulated, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

HOST = "OS-EXT-SRV-ATTR:host"
ALL = [f"fake-{number}" for number in range(1, 11)]


async def made(simulated: Simulated, name: str = "one", **more: Any) -> tuple[str, str]:
    """A new server and its host."""
    server = await simulated.create(name, **more)
    return server, str((await simulated.becomes(server, "ACTIVE"))[HOST])


async def act(
    simulated: Simulated, server: str, action: str, options: Any, *, version: str = "2.90"
) -> Any:
    """An administrator's action at a microversion."""
    url = simulated.cloud.layout.url("compute", f"/v2.1/servers/{server}/action")
    headers = {
        "X-Auth-Token": simulated.tokens["kilonova-admin"],
        "OpenStack-API-Version": f"compute {version}",
    }
    return await simulated.cloud.http.request("POST", url, headers=headers, json={action: options})


async def live(simulated: Simulated, server: str, host: str | None = None, **more: Any) -> Any:
    options = {"host": host, "block_migration": "auto"} | more
    answer = await act(simulated, server, "os-migrateLive", options)
    assert answer.status == 202, answer.text
    return answer


async def records(simulated: Simulated, server: str) -> list[dict[str, Any]]:
    shown = await simulated.admin("GET", f"/v2.1/os-migrations?instance_uuid={server}")
    found: list[dict[str, Any]] = shown["migrations"]
    return found


async def running(simulated: Simulated, server: str, status: str = "running") -> dict[str, Any]:
    """The live migration under way, once it is that far."""
    path = f"/v2.1/servers/{server}/migrations"

    async def look() -> dict[str, Any] | None:
        found = (await simulated.admin("GET", path))["migrations"]
        return found[0] if found and found[0]["status"] == status else None

    found: dict[str, Any] = await until(look, within=20, what=f"{server} {status}")
    return found


async def result(simulated: Simulated, server: str, name: str) -> str:
    """How the newest action of that name ended."""
    path = f"/v2.1/servers/{server}/os-instance-actions"
    found = (await simulated.admin("GET", path))["instanceActions"]
    return str(next(row["message"] for row in found if row["action"] == name))


async def test_a_guest_moves_and_its_owner_sees_nothing_of_it(simulated: Simulated) -> None:
    server, first = await made(simulated)
    before = simulated.world.guests(first)[server]
    await live(simulated, server)
    shown = await simulated.becomes(server, "ACTIVE")
    second = shown[HOST]
    assert second != first
    assert server not in simulated.world.guests(first)
    assert simulated.world.guests(second)[server].console == before.console
    (record,) = await records(simulated, server)
    assert (record["status"], record["source_compute"], record["dest_compute"]) == (
        "completed",
        first,
        second,
    )
    assert await result(simulated, server, "live-migration") == "None"
    await live(simulated, server, first)
    assert (await simulated.becomes(server, "ACTIVE"))[HOST] == first
    await simulated.end(server)


async def test_it_is_watched_and_given_up(simulated: Simulated) -> None:
    server, host = await made(simulated)
    simulated.world.takes("live_move", 600, server=server)
    await live(simulated, server)
    record = await running(simulated, server)
    assert record["memory_total_bytes"] > record["memory_remaining_bytes"] - 1
    assert (await simulated.show(server) or {})["status"] == "MIGRATING"
    path = f"/v2.1/servers/{server}/migrations/{record['id']}"
    assert (await simulated.admin("GET", path))["migration"]["memory_total_bytes"] > 0
    await simulated.admin("DELETE", path)
    assert (await simulated.becomes(server, "ACTIVE"))[HOST] == host
    assert [row["status"] for row in await records(simulated, server)] == ["cancelled"]
    assert (await simulated.ask("DELETE", path, admin=True)).status in (400, 409)
    simulated.world.heals()
    await simulated.end(server)


async def test_it_is_forced_to_its_end(simulated: Simulated) -> None:
    server, host = await made(simulated)
    simulated.world.takes("live_move", 600, server=server)
    await live(simulated, server)
    record = await running(simulated, server)
    path = f"/v2.1/servers/{server}/migrations/{record['id']}/action"
    await simulated.admin("POST", path, {"force_complete": None})
    assert (await simulated.becomes(server, "ACTIVE"))[HOST] != host
    simulated.world.heals()
    await simulated.end(server)


async def test_one_leaves_a_host_after_another(simulated: Simulated) -> None:
    first, host = await made(simulated)
    others = [one for one in ALL if one != host]
    second, _ = await made(simulated, "two")
    await live(simulated, second, host) if (await simulated.show(second) or {})[HOST] != host else 0
    await simulated.becomes(second, "ACTIVE")
    simulated.world.takes("live_move", 600, server=first)
    await live(simulated, first, others[0])
    await running(simulated, first)
    await live(simulated, second, others[1])
    waiting = await running(simulated, second, "queued")
    await asyncio.sleep(0.5)
    path = f"/v2.1/servers/{second}/migrations/{waiting['id']}"
    await simulated.admin("DELETE", path)
    assert (await simulated.becomes(second, "ACTIVE"))[HOST] == host
    assert (await records(simulated, second))[0]["status"] == "cancelled"
    # A deletion does not wait for the move either.
    await simulated.delete(first)
    await simulated.becomes(first, "GONE")
    simulated.world.heals()
    await simulated.end(second)


async def test_what_fails_leaves_the_guest_where_it_was(simulated: Simulated) -> None:
    server, host = await made(simulated)
    simulated.world.fails("live_move", server=server)
    await live(simulated, server)
    assert (await simulated.becomes(server, "ACTIVE"))[HOST] == host
    assert (await records(simulated, server))[0]["status"] == "error"
    assert await result(simulated, server, "live-migration") == "Error"
    simulated.world.shares_disks(True)
    options = {"host": None, "block_migration": True, "disk_over_commit": False}
    answer = await act(simulated, server, "os-migrateLive", options, version="2.20")
    assert answer.status == 400, answer.text
    await simulated.becomes(server, "ACTIVE")
    simulated.world.shares_disks(False)
    answer = await act(
        simulated, server, "os-migrateLive", options | {"block_migration": False}, version="2.20"
    )
    assert answer.status == 400, answer.text
    await simulated.becomes(server, "ACTIVE")
    answer = await act(simulated, server, "os-migrateLive", options, version="2.20")
    assert answer.status == 202, answer.text
    assert (await simulated.becomes(server, "ACTIVE"))[HOST] != host
    simulated.world.shares_disks(None)
    await simulated.end(server)


async def down(simulated: Simulated, host: str) -> None:
    path = f"/v2.1/os-services?host={host}&binary=nova-compute"

    async def look() -> bool:
        (service,) = (await simulated.admin("GET", path))["services"]
        return bool(service["state"] == "down")

    await until(look, within=30, what=f"{host} down")


async def test_servers_of_a_dead_host_live_on_elsewhere(simulated: Simulated) -> None:
    server, host = await made(simulated)
    off, elsewhere = await made(simulated, "off")
    if elsewhere != host:
        await live(simulated, off, host)
        await simulated.becomes(off, "ACTIVE")
    answer = await act(simulated, server, "evacuate", {})
    assert answer.status == 400, answer.text
    await simulated.stop_agent(host)
    await down(simulated, host)
    assert (await act(simulated, server, "evacuate", {})).status == 200
    assert (await act(simulated, off, "evacuate", {}, version="2.95")).status == 200
    shown = await simulated.becomes(server, "ACTIVE", within=90)
    assert shown[HOST] != host
    assert (await simulated.becomes(off, "SHUTOFF", within=90))[HOST] != host
    (record,) = (r for r in await records(simulated, server) if r["migration_type"] == "evacuation")
    assert record["status"] == "done"
    # The guests the dead host had are ended when it returns, and what was kept there is free.
    assert {server, off} <= set(simulated.world.guests(host))
    await simulated.start_agent(host)

    async def settled() -> bool:
        found = await records(simulated, server) + await records(simulated, off)
        moved = [r["status"] for r in found if r["migration_type"] == "evacuation"]
        return moved == ["completed", "completed"]

    await until(settled, within=30, what="the host cleans up")
    assert not {server, off} & set(simulated.world.guests(host))
    await simulated.end(server, off)


async def test_a_host_that_is_only_said_to_be_down_is_fenced(simulated: Simulated) -> None:
    server, host = await made(simulated)
    path = f"/v2.1/os-services?host={host}&binary=nova-compute"
    (service,) = (await simulated.admin("GET", path))["services"]
    own = f"/v2.1/os-services/{service['id']}"
    await simulated.admin("PUT", own, {"forced_down": True})
    before = simulated.world.guests(host)[server]
    answer = await act(simulated, server, "evacuate", {"adminPass": "x", "onSharedStorage": False})
    assert answer.status == 400, answer.text
    options = {"adminPass": "secret-1", "onSharedStorage": False}
    answer = await act(simulated, server, "evacuate", options, version="2.13")
    assert (answer.status, answer.json()) == (200, {"adminPass": "secret-1"})
    shown = await simulated.becomes(server, "ACTIVE", within=60)
    assert shown[HOST] != host
    assert before.power.name == "SHUTDOWN"

    async def freed() -> bool:
        answer = await simulated.ask("PUT", own, admin=True, json={"forced_down": False})
        assert answer.status in (200, 400), answer.text
        return answer.status == 200

    await until(freed, within=30, what="the host is clean")
    assert server not in simulated.world.guests(host)
    await simulated.end(server)
