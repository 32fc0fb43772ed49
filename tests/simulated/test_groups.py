"""Server groups in a whole cloud: builds that race never break a rule."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.simulated.conftest import Simulated

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


async def group(simulated: Simulated, policy: str, rules: dict[str, int] | None = None) -> str:
    body: dict[str, Any] = {"name": policy, "policy": policy}
    if rules:
        body["rules"] = rules
    answer = await simulated.ask("POST", "/v2.1/os-server-groups", json={"server_group": body})
    assert answer.status == 200, answer.text
    return str(answer.json()["server_group"]["id"])


async def race(simulated: Simulated, group_id: str, count: int) -> list[dict[str, Any]]:
    """So many servers of a group made at once."""
    hints = {"group": group_id}
    made = await asyncio.gather(
        *(simulated.hinted(f"g{number}", hints, networks="none") for number in range(count))
    )
    return list(
        await asyncio.gather(
            *(simulated.becomes(server_id, "ACTIVE", "ERROR", within=120) for server_id in made)
        )
    )


async def end(simulated: Simulated, shown: list[dict[str, Any]]) -> None:
    await simulated.clean()
    await simulated.delete(*(server["id"] for server in shown))
    await asyncio.gather(*(simulated.becomes(server["id"], "GONE") for server in shown))
    await simulated.clean()


def hosts(shown: list[dict[str, Any]]) -> Counter[str]:
    return Counter(s["OS-EXT-SRV-ATTR:host"] for s in shown if s["status"] == "ACTIVE")


async def test_thirty_racing_builds_never_share_a_host(simulated: Simulated) -> None:
    shown = await race(simulated, await group(simulated, "anti-affinity"), 30)
    counts = hosts(shown)
    assert len(counts) == 10
    assert set(counts.values()) == {1}
    failed = [server for server in shown if server["status"] == "ERROR"]
    assert len(failed) == 20
    assert {server["fault"]["message"] for server in failed} == {
        "No valid host was found. There are not enough hosts available."
    }
    await end(simulated, shown)


async def test_a_host_may_have_two(simulated: Simulated) -> None:
    group_id = await group(simulated, "anti-affinity", {"max_server_per_host": 2})
    shown = await race(simulated, group_id, 25)
    assert sorted(hosts(shown).values()) == [2] * 10
    await end(simulated, shown)


async def test_affinity_never_splits(simulated: Simulated) -> None:
    shown = await race(simulated, await group(simulated, "affinity"), 20)
    assert list(hosts(shown).values()) == [20]
    await end(simulated, shown)


async def test_soft_groups(simulated: Simulated) -> None:
    shown = await race(simulated, await group(simulated, "soft-anti-affinity"), 12)
    counts = hosts(shown)
    assert sum(counts.values()) == 12
    assert len(counts) >= 8
    await end(simulated, shown)


async def test_a_failing_host_gives_its_place_back(simulated: Simulated) -> None:
    for host in ("fake-1", "fake-2"):
        simulated.world.fails("spawn", on=host, times=None)
    shown = await race(simulated, await group(simulated, "anti-affinity"), 6)
    counts = hosts(shown)
    assert set(counts.values()) == {1}
    assert not {"fake-1", "fake-2"} & counts.keys()
    simulated.world.heals()
    await end(simulated, shown)
