"""What every service of a cloud has alike, and what its list of services says."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from kilonova.services import layout as layouts
from kilonova.services import status
from tests.simulated import conftest
from tests.simulated.conftest import Simulated, until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

OWN = f"""{conftest.OWN}
[cors]
allowed_origin = https://dashboard.example
[oslo_policy]
policy_file = rules.yaml
"""
RULES = '"os_compute_api:os-hypervisors:list": "!"\n'
POSTS: Mapping[str, tuple[str, dict[str, Any], str]] = {
    "compute": ("/v2.1/os-keypairs", {"keypair": {"name": "once"}}, "/v2.1/os-keypairs"),
    "identity": ("/v3/projects", {"project": {"name": "once"}}, "/v3/projects?name=once"),
    "image": (
        "/v2/images",
        {"name": "once", "disk_format": "raw", "container_format": "bare"},
        "/v2/images?name=once",
    ),
    "network": ("/v2.0/networks", {"network": {"name": "once"}}, "/v2.0/networks?name=once"),
    "placement": (
        "/resource_providers",
        {"name": "once", "uuid": str(uuid.UUID(int=1))},
        "/resource_providers?name=once",
    ),
}
ROOTS = {"compute": "/v2.1", "identity": "/v3", "image": "/v2", "network": "", "placement": ""}


@pytest.fixture(scope="module")
def own() -> dict[str, str]:
    """An origin and a rule of its own."""
    return {"kilonova.conf": OWN, "rules.yaml": RULES}


@pytest.mark.parametrize("service", sorted(ROOTS))
async def test_each_service_describes_itself(simulated: Simulated, service: str) -> None:
    url = simulated.cloud.layout.url(service, f"{ROOTS[service]}/ext/openapi.json")
    answer = await simulated.cloud.http.request("GET", url)
    assert answer.status == 200, answer.text
    made = answer.json()
    OpenAPIV31SpecValidator(made).validate()
    prefix = re.compile(r"^/v[\d.]+")
    assert prefix.sub("", POSTS[service][0]) in {prefix.sub("", path) for path in made["paths"]}


@pytest.mark.parametrize("service", sorted(POSTS))
async def test_a_repeated_post_has_its_effect_once(simulated: Simulated, service: str) -> None:
    path, body, listing = POSTS[service]
    headers = {
        "X-Auth-Token": simulated.tokens["kilonova-admin"],
        "Idempotency-Key": f"{service}-1",
        "OpenStack-API-Version": "compute 2.90, placement 1.39",
    }
    http, url = simulated.cloud.http, simulated.cloud.layout.url(service, path)
    both = await asyncio.gather(
        *(http.request("POST", url, json=body, headers=headers) for _ in range(2))
    )
    assert [answer.ok for answer in both] == [True, True], [answer.text for answer in both]
    assert both[0].body == both[1].body
    assert sorted(answer.headers.get("idempotency-replayed", "") for answer in both) == ["", "true"]
    listed = await simulated.ask("GET", listing, service=service, admin=True)
    assert listed.text.count('"once"') == 1
    changed = json.loads(json.dumps(body).replace("once", "another"))
    other = await http.request("POST", url, json=changed, headers=headers)
    assert other.status == 409


async def test_scheduler_and_conductor_are_in_the_list_of_services(simulated: Simulated) -> None:
    found = (await simulated.ask("GET", "/v2.1/os-services", admin=True)).json()["services"]
    assert {s["binary"] for s in found} == {"nova-compute", "nova-conductor", "nova-scheduler"}
    assert {s["state"] for s in found} == {"up"}
    assert {s["zone"] for s in found if s["binary"] != "nova-compute"} == {"internal"}


async def test_quotas_of_projects_that_are_not_there(simulated: Simulated) -> None:
    path = "/v2.1/os-quota-sets/nowhere"
    answer = await simulated.ask("GET", path, admin=True)
    assert answer.status == 400
    assert "nowhere" in answer.text
    projects = await simulated.ask("GET", "/v3/projects?name=demo", service="identity", admin=True)
    path = f"/v2.1/os-quota-sets/{projects.json()['projects'][0]['id']}"
    assert (await simulated.ask("GET", path, admin=True)).status == 200


async def test_a_deleted_compute_service_takes_its_provider_along(simulated: Simulated) -> None:
    listing = "/resource_providers?name=fake-10"
    found = await simulated.ask("GET", listing, service="placement", admin=True)
    assert len(found.json()["resource_providers"]) == 1
    services = await simulated.ask("GET", "/v2.1/os-services?host=fake-10", admin=True)
    (service,) = services.json()["services"]
    await simulated.stop_agent("fake-10")
    deleted = await simulated.ask("DELETE", f"/v2.1/os-services/{service['id']}", admin=True)
    assert deleted.status == 204, deleted.text
    found = await simulated.ask("GET", listing, service="placement", admin=True)
    assert found.json()["resource_providers"] == []
    await simulated.start_agent("fake-10")

    async def back() -> bool:
        found = await simulated.ask("GET", listing, service="placement", admin=True)
        return len(found.json()["resource_providers"]) == 1

    await until(back, within=20, what="the provider")


@pytest.mark.parametrize("service", sorted(ROOTS))
async def test_scripts_of_an_allowed_origin(simulated: Simulated, service: str) -> None:
    for origin, allowed in (("https://dashboard.example", True), ("https://other.example", False)):
        answer = await simulated.cloud.http.request(
            "GET", simulated.cloud.layout.url(service, "/"), headers={"Origin": origin}
        )
        assert (answer.headers.get("access-control-allow-origin") == origin) == allowed


async def test_an_operators_rules(simulated: Simulated) -> None:
    assert (await simulated.ask("GET", "/v2.1/os-hypervisors", admin=True)).status == 403


async def test_figures_and_status(simulated: Simulated) -> None:
    server_id = await simulated.create()
    await simulated.becomes(server_id, "ACTIVE")
    layout = simulated.cloud.layout
    layouts.write_run(layout, {"kilonova": 1}, driver="fake", version="1", started=1.0)

    async def counted() -> bool:
        with layouts.held(layout.state_dir):
            seen = await asyncio.to_thread(status.look, layout.state_dir)
        assert seen is not None and seen.well
        assert {service.name for service in seen.services} == set(layout.ports)
        assert all(service.version and service.uptime for service in seen.services)
        assert seen.stuck_sagas == 0
        return (
            seen.servers == {"active": 1}
            and seen.guests == {"running": 1}
            and seen.agents == {"up": 10, "down": 0}
        )

    await until(counted, within=30, what="figures", pause=0.5)
    figures = (await simulated.ask("GET", "/metrics")).text
    for step in ("claim", "make_port", "bind_port", "spawn", "finish_build"):
        labels = f'status="done",step="{step}"'
        assert f"kilonova_saga_step_seconds_count{{{labels}}} 1.0" in figures, step
    await simulated.delete(server_id)
    await simulated.becomes(server_id, "GONE")
