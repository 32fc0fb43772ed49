"""Every list of Placement asks its database as often for many things as for few."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kilonova.base.clock import SystemClock
from kilonova.base.ids import RandomIds
from kilonova.db.database import Database
from kilonova.placement.policies import Enforcer
from kilonova.placement.service import API, application, prepare
from kilonova.web.testing import Client
from tests.support.counting import costs, same, unlisted
from tests.support.truth import truthful

FEW, MANY = 2, 25
LISTS = (
    "/resource_providers",
    "/resource_providers/{uuid}/inventories",
    "/resource_providers/{uuid}/usages",
    "/resource_classes",
    "/traits",
    "/resource_providers/{uuid}/traits",
    "/resource_providers/{uuid}/aggregates",
    "/resource_providers/{uuid}/allocations",
    "/allocation_candidates?resources=VCPU:1",
)
MORE = (
    "/resource_providers?resources=VCPU:1",
    "/resource_providers?in_tree={uuid}",
    "/usages?project_id=p",
    "/allocation_candidates?resources=VCPU:1,CUSTOM_R0:1&required=CUSTOM_T0&limit=30",
    "/allocations/{consumer}",
)
SINGLE = {"", "/usages", "/ext/openapi.json"}


def test_no_list_is_forgotten() -> None:
    known = {path.partition("?")[0] for path in LISTS}
    assert unlisted(API, known, SINGLE) - {"/", ""} == set()


@pytest.fixture
def databases(tmp_path: Path) -> Iterator[list[Database]]:
    """One for few things, one for many."""
    made = [Database(f"sqlite:///{tmp_path}/placement{number}.db") for number in range(2)]
    for db in made:
        prepare(db, SystemClock())
    yield made
    for db in made:
        db.close()


async def _fill(client: Client, count: int) -> dict[str, str]:
    async def put(path: str, body: Any = None) -> None:
        answer = await client.put(path, json=body)
        assert answer.status in (200, 201, 204), (path, answer.text)

    each = range(count)
    for number in each:
        await put(f"/resource_classes/CUSTOM_R{number}")
        await put(f"/traits/CUSTOM_T{number}")
    stock = {f"CUSTOM_R{n}": {"total": 100} for n in each} | {"VCPU": {"total": 1000}}
    first = ""
    for number in each:
        own = str(uuid.UUID(int=number + 1))
        first = first or own
        body = {"name": f"h{number}", "uuid": own}
        if number:
            body["parent_provider_uuid"] = first
        assert (await client.post("/resource_providers", json=body)).status == 200
        at = f"/resource_providers/{own}"
        await put(f"{at}/inventories", {"resource_provider_generation": 0, "inventories": stock})
        traits = [f"CUSTOM_T{n}" for n in each]
        await put(f"{at}/traits", {"resource_provider_generation": 1, "traits": traits})
        groups = [str(uuid.UUID(int=1000 + n)) for n in each]
        await put(f"{at}/aggregates", {"resource_provider_generation": 2, "aggregates": groups})
    consumer = str(uuid.UUID(int=5000))
    for number in each:
        one = {first: {"resources": {"VCPU": 1}}}
        if not number:
            one = {str(uuid.UUID(int=n + 1)): {"resources": {"VCPU": 1}} for n in each}
        claim = {
            "allocations": one, "project_id": "p", "user_id": "u",
            "consumer_generation": None, "consumer_type": "INSTANCE",
        }  # fmt: skip
        await put(f"/allocations/{uuid.UUID(int=5000 + number)}", claim)
    return {"uuid": first, "consumer": consumer}


async def test_many_cost_what_few_cost(databases: list[Database]) -> None:
    found = []
    for db, count in zip(databases, (FEW, MANY), strict=True):
        app = application(db, policy=Enforcer(), clock=SystemClock(), ids=RandomIds(), auth=None)
        client = Client(truthful(app, API), token="admin", version="1.39", service="placement")
        names = await _fill(client, count)
        found.append(await costs(client, (*LISTS, *MORE), names))
    (few, _), (many, lengths) = found
    assert same(few, many) == {}
    assert {path for path in many if lengths[path] < MANY} <= {"/usages?project_id=p"}
