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


async def test_a_server_changes_while_it_runs(simulated: Simulated) -> None:
    """A card comes and goes, groups change, the guest pauses; nothing is left behind."""
    server_id = await simulated.create()
    await simulated.becomes(server_id, "ACTIVE")
    root = f"/v2.1/servers/{server_id}"
    (first,) = (await simulated.ask("GET", f"{root}/os-interface")).json()["interfaceAttachments"]
    wanted = {"interfaceAttachment": {"net_id": first["net_id"], "tag": "second"}}
    made = await simulated.ask("POST", f"{root}/os-interface", json=wanted)
    assert made.status == 200, made.text
    card = made.json()["interfaceAttachment"]
    assert card["net_id"] == first["net_id"]
    assert card["tag"] == "second"
    shown = await simulated.show(server_id)
    assert shown is not None
    known = {row["addr"] for rows in shown["addresses"].values() for row in rows}
    assert card["fixed_ips"][0]["ip_address"] in known
    told = (await simulated.ask("GET", f"{root}/diagnostics", admin=True)).json()
    assert told["num_nics"] == 2
    await simulated.clean()

    group = {"security_group": {"name": "web"}}
    answer = await simulated.ask("POST", "/v2.0/security-groups", service="network", json=group)
    assert answer.status == 201
    act = f"{root}/action"
    for action, names in (
        ("addSecurityGroup", {"default", "web"}),
        ("removeSecurityGroup", {"default"}),
    ):
        answer = await simulated.ask("POST", act, json={action: {"name": "web"}})
        assert answer.status == 202, answer.text
        listed = (await simulated.ask("GET", f"{root}/os-security-groups")).json()
        assert {row["name"] for row in listed["security_groups"]} == names

    answer = await simulated.ask("DELETE", f"{root}/os-interface/{card['port_id']}")
    assert answer.status == 202
    port = f"/v2.0/ports/{card['port_id']}"

    async def gone() -> bool:
        return (await simulated.ask("GET", port, service="network")).status == 404

    await until(gone, within=20, what="the port is gone")
    for action, status in (("pause", "PAUSED"), ("unpause", "ACTIVE")):
        assert (await simulated.ask("POST", act, json={action: None})).status == 202
        await simulated.becomes(server_id, status)
    assert (await simulated.ask("POST", act, json={"trigger_crash_dump": None})).status == 202
    await simulated.clean()
    await simulated.delete(server_id)
    await simulated.becomes(server_id, "GONE")
    await simulated.clean()


async def test_an_address_that_is_taken_is_told(simulated: Simulated) -> None:
    server_id = await simulated.create()
    await simulated.becomes(server_id, "ACTIVE")
    path = f"/v2.1/servers/{server_id}/os-interface"
    (first,) = (await simulated.ask("GET", path)).json()["interfaceAttachments"]
    address = first["fixed_ips"][0]["ip_address"]
    wanted = {"net_id": first["net_id"], "fixed_ips": [{"ip_address": address}]}
    answer = await simulated.ask("POST", path, json={"interfaceAttachment": wanted})
    assert answer.status in (400, 409), answer.text
    assert len((await simulated.ask("GET", path)).json()["interfaceAttachments"]) == 1
    await simulated.delete(server_id)
    await simulated.becomes(server_id, "GONE")
    await simulated.clean()
