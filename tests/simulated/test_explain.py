"""What became of servers that found no host, told by a whole cloud."""

from __future__ import annotations

import pytest

from kilonova.cmd.cloud import fetch
from kilonova.cmd.explain import WHAT, path
from tests.simulated.conftest import Simulated

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


async def demanding(simulated: Simulated, trait: str) -> str:
    """A flavor no host of this cloud does for."""
    flavor = {"id": "demanding", "name": "demanding", "vcpus": 1, "ram": 64, "disk": 1}
    made = await simulated.ask("POST", "/v2.1/flavors", admin=True, json={"flavor": flavor})
    assert made.status == 200, made.text
    path = "/v2.1/flavors/demanding/os-extra_specs"
    specs = {"extra_specs": {f"trait:{trait}": "required"}}
    assert (await simulated.ask("POST", path, admin=True, json=specs)).status == 200
    return "demanding"


async def test_a_server_without_a_host_is_explained(simulated: Simulated) -> None:
    trait = "COMPUTE_ACCELERATORS"
    flavor = await demanding(simulated, trait)
    server_id = await simulated.create(flavorRef=flavor)
    shown = await simulated.becomes(server_id, "ERROR")
    said = shown["fault"]["message"]
    assert said == "No valid host was found. There are not enough hosts available."
    answer = await simulated.ask("GET", f"/v2.1/ext/explain/{server_id}")
    assert answer.status == 200, answer.text
    told = answer.json()["explanations"][0]
    assert told["blame"] == [f"trait:{trait}"]
    assert (told["placement"]["providers"], told["placement"]["left"]) == (10, 0)
    assert told["changes"][0]["args"]["flavor"] == f"trait:{trait}"
    assert "fake-" not in answer.text
    config = [simulated.cloud.layout.state_dir / "nova.conf"]
    again = await fetch(config, path(told["request_id"]), WHAT, 60)
    assert [one["server_id"] for one in again["explanations"]] == [server_id]
    await simulated.delete(server_id)
    await simulated.becomes(server_id, "GONE")
    await simulated.clean()


async def test_hosts_that_failed_are_told_to_administrators(simulated: Simulated) -> None:
    simulated.world.fails("spawn", times=None, error="The disk is full.")
    server_id = await simulated.create()
    await simulated.becomes(server_id, "ERROR")
    simulated.world.heals()
    path = f"/v2.1/ext/explain/{server_id}"
    full = (await simulated.ask("GET", path, admin=True)).json()["explanations"][0]
    assert full["failed_hosts"] == 3
    assert {one["host"][:5] for one in full["failures"]} == {"fake-"}
    assert all("The disk is full." in one["text"] for one in full["failures"])
    mine = await simulated.ask("GET", path)
    assert mine.json()["explanations"][0]["failed_hosts"] == 3
    assert "fake-" not in mine.text
    await simulated.delete(server_id)
    await simulated.becomes(server_id, "GONE")
    await simulated.clean()


async def test_a_dry_run_says_what_then_happens(simulated: Simulated) -> None:
    body = {
        "server": {
            "name": "one",
            "imageRef": simulated.image,
            "flavorRef": "42",
            "networks": "none",
            "availability_zone": "nova:fake-4",
        }
    }
    url = simulated.cloud.layout.url("compute", "/v2.1/servers")
    token = simulated.tokens["kilonova-admin"]
    headers = {"X-Auth-Token": token, "OpenStack-API-Version": "compute 2.90"}
    dry = await simulated.cloud.http.request(
        "POST", url, json=body, headers={**headers, "Prefer": "dry-run"}
    )
    assert dry.json()["dry_run"]["servers"][0]["host"] == "fake-4"
    made = await simulated.cloud.http.request("POST", url, json=body, headers=headers)
    server_id = made.json()["server"]["id"]
    shown = await simulated.becomes(server_id, "ACTIVE")
    assert shown["OS-EXT-SRV-ATTR:host"] == "fake-4"
    gone = await simulated.ask("DELETE", f"/v2.1/servers/{server_id}", admin=True)
    assert gone.status == 204
    await simulated.becomes(server_id, "GONE")
    await simulated.clean()
