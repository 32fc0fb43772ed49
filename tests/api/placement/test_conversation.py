"""Conversations with the Placement API in process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kilonova.base.clock import SystemClock
from kilonova.base.ids import RandomIds
from kilonova.db.database import Database
from kilonova.placement.policies import RULES, Enforcer
from kilonova.placement.service import API, application, prepare
from kilonova.web.testing import Client
from tests.support.truth import truthful

A = "6d2f1f6a-8f0c-4a55-9f0e-1a1f3f0d0001"
AGG = "6d2f1f6a-8f0c-4a55-9f0e-1a1f3f0d0002"
ME = "6d2f1f6a-8f0c-4a55-9f0e-1a1f3f0d0003"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Client]:
    db = Database(f"sqlite:///{tmp_path}/placement.db")
    prepare(db, SystemClock())
    app = application(db, policy=Enforcer(), clock=SystemClock(), ids=RandomIds(), auth=None)
    app = truthful(app, API)
    yield Client(app, token="admin", version="1.39", service="placement")
    db.close()


async def test_a_host_from_its_creation_to_a_claim(api: Client) -> None:
    made = await api.post("/resource_providers", json={"name": "h1", "uuid": A})
    assert made.status == 200
    assert made.json()["generation"] == 0
    assert made.headers["location"].endswith(f"/resource_providers/{A}")
    stock = {"VCPU": {"total": 4, "allocation_ratio": 2.0}, "MEMORY_MB": {"total": 1024}}
    put = await api.put(
        f"/resource_providers/{A}/inventories",
        json={"resource_provider_generation": 0, "inventories": stock},
    )
    assert put.status == 200
    assert put.json()["inventories"]["VCPU"]["max_unit"] == 2147483647
    await api.put(
        f"/resource_providers/{A}/traits",
        json={"resource_provider_generation": 1, "traits": ["COMPUTE_NODE"]},
    )
    await api.put(
        f"/resource_providers/{A}/aggregates",
        json={"resource_provider_generation": 2, "aggregates": [AGG]},
    )
    query = f"resources=VCPU:3,MEMORY_MB:256&required=COMPUTE_NODE&member_of={AGG}&limit=5"
    found = (await api.get(f"/allocation_candidates?{query}")).json()
    (request,) = found["allocation_requests"]
    assert request["mappings"] == {"": [A]}
    assert found["provider_summaries"][A]["resources"]["VCPU"] == {"capacity": 8, "used": 0}
    claim = {
        "allocations": request["allocations"],
        "project_id": "p",
        "user_id": "u",
        "consumer_generation": None,
        "consumer_type": "INSTANCE",
    }
    assert (await api.put(f"/allocations/{ME}", json=claim)).status == 204
    again = await api.put(f"/allocations/{ME}", json=claim)
    assert again.status == 409
    assert again.json()["errors"][0]["code"] == "placement.concurrent_update"
    used = (await api.get("/usages?project_id=p")).json()["usages"]
    assert used == {"INSTANCE": {"VCPU": 3, "MEMORY_MB": 256, "consumer_count": 1}}
    busy = await api.delete(f"/resource_providers/{A}")
    assert busy.status == 409
    assert (await api.delete(f"/allocations/{ME}")).status == 204
    assert (await api.delete(f"/resource_providers/{A}")).status == 204


async def test_errors_keep_their_shape_at_every_version(api: Client) -> None:
    missing = await api.get(f"/resource_providers/{A}", version="1.22")
    (error,) = missing.json()["errors"]
    assert error.keys() == {"status", "title", "detail", "request_id"}
    newer = (await api.get("/nowhere", version="1.23")).json()["errors"][0]
    assert newer["code"] == "placement.undefined_code"
    assert (await api.get("/", version="1.40")).status == 406
    assert (await api.get("/", version="x.y")).status == 400
    page = await api.get("/nowhere", headers={"accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    wrong = await api.request("DELETE", "/resource_classes")
    assert wrong.status == 405
    assert wrong.headers["allow"] == "GET, POST"


async def test_bodies_are_checked(api: Client) -> None:
    for body, word in (
        ({"name": "x" * 201}, "maxLength"),
        ({"name": "x", "uuid": "u"}, "'uuid'"),
        ({"name": "x", "color": "red"}, "'color' was unexpected"),
        ({}, "'name' is a required property"),
    ):
        answer = await api.post("/resource_providers", json=body)
        assert answer.status == 400
        assert word in answer.json()["errors"][0]["detail"]
    broken = await api.post(
        "/resource_providers", data=b"{", headers={"content-type": "application/json"}
    )
    assert "Malformed JSON" in broken.json()["errors"][0]["detail"]
    text = await api.post("/resource_providers", data=b"x", headers={"content-type": "text/plain"})
    assert text.status == 415


async def test_who_may_do_what(api: Client) -> None:
    assert (await api.get("/", token="")).status == 200
    assert (await api.get("/resource_providers", token="")).status == 401
    assert (await api.get("/resource_providers", token="bob")).status == 403
    reader = {"x-roles": "reader"}
    own = await api.get("/usages?project_id=p", token="bob:p", headers=reader)
    assert own.status == 200
    other = await api.get("/usages?project_id=q", token="bob:p", headers=reader)
    assert other.status == 403
    service = await api.get("/resource_providers", token="nova", headers={"x-roles": "service"})
    assert service.status == 200
    system = await api.get("/resource_providers", headers={"openstack-system-scope": "all"})
    assert system.status == 403


async def test_every_route_has_a_rule_that_exists() -> None:
    assert len(RULES) == 34
    enforcer = Enforcer()
    from kilonova.web.call import Caller

    admin = Caller(user_id="a", project_id="p", roles=("admin",))
    denied = [rule for rule in RULES if not enforcer.allows(rule, admin, {})]
    assert denied == ["placement:reshaper:reshape"]


async def test_health_and_dates(api: Client) -> None:
    assert (await api.get("/healthcheck", token="")).status == 200
    dated = await api.get("/resource_classes", version="1.15")
    assert dated.headers["cache-control"] == "no-cache"
    assert dated.headers["last-modified"].endswith("GMT")
    assert "last-modified" not in (await api.get("/resource_classes", version="1.14")).headers
