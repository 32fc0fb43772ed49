"""``kilonova first`` on simulated hosts: made once, found again, made anew after an error."""

from __future__ import annotations

import stat

import pytest

from kilonova.services import first
from kilonova.services.lifecycle import CannotStart
from tests.simulated.conftest import Simulated

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


class Told:
    """What a person would have seen."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def step(self, text: str, share: float | None = None) -> None:
        self.steps.append(text)

    def note(self, text: str) -> None:
        raise AssertionError(text)


async def make(simulated: Simulated) -> tuple[first.Door, list[str]]:
    told = Told()
    door = await first.make(simulated.cloud.layout, told, simulated=True)
    return door, told.steps


async def test_it_is_made_once_and_found_again(simulated: Simulated) -> None:
    door, steps = await make(simulated)
    assert steps[:2] == ["key pair and security group", "POST /servers: first"]
    assert steps[-1] == "ACTIVE"
    shown = await simulated.show(door.server_id)
    assert shown is not None
    assert (shown["name"], shown["status"], shown["key_name"]) == ("first", "ACTIVE", "demo")
    key = simulated.cloud.layout.state_dir / first.KEY_FILE
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    rules = await simulated.ask("GET", "/v2.0/security-group-rules", service="network")
    inward = [r for r in rules.json()["security_group_rules"] if r["direction"] == "ingress"]
    assert {(r["protocol"], r["port_range_min"]) for r in inward} >= {("icmp", None), ("tcp", 22)}
    again, steps = await make(simulated)
    assert again == door
    assert "the server first is there" in steps


async def test_a_stopped_one_is_started(simulated: Simulated) -> None:
    door, _ = await make(simulated)
    path = f"/v2.1/servers/{door.server_id}/action"
    await simulated.ask("POST", path, json={"os-stop": None})
    await simulated.becomes(door.server_id, "SHUTOFF")
    again, steps = await make(simulated)
    assert again == door
    assert "starting the server first" in steps


async def test_one_in_error_is_made_anew_and_says_why_it_fails(simulated: Simulated) -> None:
    door, _ = await make(simulated)
    await simulated.delete(door.server_id)
    await simulated.becomes(door.server_id, "GONE")
    simulated.world.fails("spawn", times=None, error="The disk is full.")
    with pytest.raises(CannotStart, match="The disk is full"):
        await make(simulated)
    simulated.world.heals()
    door, steps = await make(simulated)
    assert "deleting the server first, which is in ERROR" in steps
    await simulated.delete(door.server_id)
    await simulated.becomes(door.server_id, "GONE")


async def test_a_key_pair_of_another_key_is_replaced(simulated: Simulated) -> None:
    key = simulated.cloud.layout.state_dir / first.KEY_FILE
    key.unlink(missing_ok=True)
    door, _ = await make(simulated)
    shown = await simulated.ask("GET", f"/v2.1/os-keypairs/{first.KEYPAIR}")
    assert shown.json()["keypair"]["public_key"].startswith("ssh-ed25519 ")
    await simulated.delete(door.server_id)
    await simulated.becomes(door.server_id, "GONE")


async def test_the_way_in(tmp_path_factory: pytest.TempPathFactory) -> None:
    key = tmp_path_factory.mktemp("key") / "key"
    plain = first.Door("s", "10.0.0.9", key=key)
    assert plain.command() == ["ssh", "-i", str(key), "root@10.0.0.9"]
    forwarded = first.Door("s", "127.0.0.1", 2222, key)
    assert forwarded.command()[3:] == ["-p", "2222", "root@127.0.0.1"]
