"""Many servers, failing and vanishing hosts, restarts: the cloud ends in order each time."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.simulated.conftest import Simulated, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


async def test_fifty_servers_at_once(simulated: Simulated) -> None:
    made = await asyncio.gather(*(simulated.create(f"s{n}") for n in range(50)))
    shown = await asyncio.gather(*(simulated.becomes(server_id, "ACTIVE") for server_id in made))
    hosts = Counter(server["OS-EXT-SRV-ATTR:host"] for server in shown)
    assert len(hosts) >= 5
    await simulated.clean()
    await simulated.delete(*made)
    await asyncio.gather(*(simulated.becomes(server_id, "GONE") for server_id in made))
    await simulated.clean()


async def test_failing_hosts_are_passed_by(simulated: Simulated) -> None:
    for host in ("fake-1", "fake-2"):
        simulated.world.fails("spawn", on=host, times=None)
    made = await asyncio.gather(*(simulated.create(f"f{n}") for n in range(10)))
    for server_id in made:
        shown = await simulated.becomes(server_id, "ACTIVE")
        assert shown["OS-EXT-SRV-ATTR:host"] not in ("fake-1", "fake-2")
    simulated.world.heals()
    await simulated.delete(*made)
    await asyncio.gather(*(simulated.becomes(server_id, "GONE") for server_id in made))
    await simulated.clean()


async def test_a_server_no_host_can_make_says_why(simulated: Simulated) -> None:
    simulated.world.fails("spawn", times=None, error="The disk is full.")
    server_id = await simulated.create()
    shown = await simulated.becomes(server_id, "ERROR")
    assert "The disk is full." in shown["fault"]["message"]
    simulated.world.heals()
    await simulated.clean()
    await simulated.delete(server_id)
    await simulated.becomes(server_id, "GONE")
    await simulated.clean()


async def test_deleting_what_takes_long_to_make(simulated: Simulated) -> None:
    simulated.world.takes("spawn", 60, times=1)
    server_id = await simulated.create()

    async def spawning() -> bool:
        shown = await simulated.show(server_id)
        return shown is not None and shown["OS-EXT-STS:task_state"] == "spawning"

    await until(spawning, within=20, what="spawning")
    await simulated.delete(server_id)
    await simulated.delete(server_id)
    await simulated.becomes(server_id, "GONE", within=20)
    simulated.world.heals()
    await simulated.clean()


async def test_disabled_hosts_get_nothing(simulated: Simulated) -> None:
    answer = await simulated.ask("GET", "/v2.1/os-services?binary=nova-compute", admin=True)
    off = [s for s in answer.json()["services"] if s["host"] != "fake-7"]
    for service in off:
        path = f"/v2.1/os-services/{service['id']}"
        done = await simulated.ask("PUT", path, admin=True, json={"status": "disabled"})
        assert done.status == 200, done.text
    made = await asyncio.gather(*(simulated.create(f"d{n}", "none") for n in range(5)))
    for server_id in made:
        shown = await simulated.becomes(server_id, "ACTIVE")
        assert shown["OS-EXT-SRV-ATTR:host"] == "fake-7"
    for service in off:
        path = f"/v2.1/os-services/{service['id']}"
        await simulated.ask("PUT", path, admin=True, json={"status": "enabled"})
    await simulated.delete(*made)
    await asyncio.gather(*(simulated.becomes(server_id, "GONE") for server_id in made))
    await simulated.clean()


async def test_power_states_are_followed(simulated: Simulated) -> None:
    server_id = await simulated.create(networks="none")
    await simulated.becomes(server_id, "ACTIVE")
    await simulated.world.shuts_down(server_id)
    await simulated.becomes(server_id, "SHUTOFF", within=5)
    await simulated.clean()
    answer = await simulated.ask(
        "POST", f"/v2.1/servers/{server_id}/action", json={"os-start": None}
    )
    assert answer.status == 202
    await simulated.becomes(server_id, "ACTIVE")
    await simulated.clean()
    await simulated.delete(server_id)
    await simulated.becomes(server_id, "GONE")
    await simulated.clean()


async def test_a_guest_deleted_while_its_host_was_away_is_ended_when_it_returns(
    simulated: Simulated,
) -> None:
    server_id = await simulated.create()
    host = (await simulated.becomes(server_id, "ACTIVE"))["OS-EXT-SRV-ATTR:host"]
    await simulated.stop_agent(host)
    await simulated.delete(server_id)
    await simulated.becomes(server_id, "GONE", within=15)
    assert server_id in simulated.world.guests(host)
    await simulated.start_agent(host)

    async def reaped() -> bool:
        return server_id not in simulated.world.guests(host)

    await until(reaped, within=20, what="the guest is ended")
    await simulated.clean()


async def test_an_agent_restarts_while_it_makes_a_guest(simulated: Simulated) -> None:
    simulated.world.takes("spawn", 3, times=1)
    server_id = await simulated.create(networks="none")

    async def spawning() -> str:
        shown = await simulated.show(server_id)
        if shown is None or shown["OS-EXT-STS:task_state"] != "spawning":
            return ""
        return str(shown["OS-EXT-SRV-ATTR:host"])

    host = await until(spawning, within=20, what="spawning")
    await simulated.stop_agent(host)
    await simulated.start_agent(host)
    await simulated.becomes(server_id, "ACTIVE")
    await simulated.clean()
    await simulated.delete(server_id)
    await simulated.becomes(server_id, "GONE")
    await simulated.clean()


async def test_a_conductor_restarts_in_the_middle_of_its_work(simulated: Simulated) -> None:
    simulated.world.takes("spawn", 1, times=20)
    made = await asyncio.gather(*(simulated.create(f"c{n}") for n in range(20)))
    await asyncio.sleep(0.5)
    await simulated.conductor.stop()
    await simulated.conductor.start()
    for server_id in made:
        await simulated.becomes(server_id, "ACTIVE")
    simulated.world.heals()
    await simulated.clean()
    await simulated.delete(*made)
    await asyncio.gather(*(simulated.becomes(server_id, "GONE") for server_id in made))
    await simulated.clean()
