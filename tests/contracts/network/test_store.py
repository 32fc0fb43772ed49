"""The network service on every database engine: its schema, and writers that race."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kilonova.base.clock import SystemClock
from kilonova.base.ids import RandomIds
from kilonova.db import migrate
from kilonova.db.database import Database, counted
from kilonova.embedded.network import service
from kilonova.embedded.network.app import NetworkApp, NetworkSettings
from kilonova.embedded.network.open import ensure_private, ensure_public, open_network
from kilonova.embedded.network.store import planning
from kilonova.embedded.network.tables import METADATA
from kilonova.web.auth import StaticAuthenticator
from kilonova.web.call import Caller
from kilonova.web.testing import Client

ONE = "1" * 32


@pytest.fixture
async def app(database: Database) -> AsyncIterator[NetworkApp]:
    made = await open_network(
        database,
        NetworkSettings(mode="none"),
        clock=SystemClock(),
        ids=RandomIds(),
        random=os.urandom,
    )
    yield made
    await made.close()


@pytest.fixture
def one(app: NetworkApp) -> Client:
    caller = Caller(user_id="u", project_id=ONE, roles=("member", "reader"))
    return Client(service.build(app, auth=StaticAuthenticator({"one": caller})), token="one")


def test_migrations_make_the_tables(database: Database) -> None:
    service.prepare(database)
    assert migrate.differences(database, METADATA) == []


async def test_equal_bootstraps_at_once_make_one_of_each(app: NetworkApp, one: Client) -> None:
    publics = await asyncio.gather(*(ensure_public(app, project_id="a", avoid=()) for _ in "123"))
    assert len(set(publics)) == 1
    privates = await asyncio.gather(*(ensure_private(app, project_id=ONE) for _ in "123"))
    assert len(set(privates)) == 1
    groups = (await one.get("/v2.0/security-groups")).json()["security_groups"]
    assert len(groups) == 1
    assert len(groups[0]["security_group_rules"]) == 6


async def test_ports_made_at_once_have_addresses_of_their_own(app: NetworkApp, one: Client) -> None:
    net = (await one.post("/v2.0/networks", json={"network": {"name": "n"}})).json()["network"]
    wanted: dict[str, Any] = {"network_id": net["id"], "ip_version": 4, "cidr": "10.0.0.0/27"}
    await one.post("/v2.0/subnets", json={"subnet": wanted})
    body = {"port": {"network_id": net["id"]}}
    made = await asyncio.gather(*(one.post("/v2.0/ports", json=body) for _ in range(32)))
    good = [a.json()["port"]["fixed_ips"][0]["ip_address"] for a in made if a.status == 201]
    assert len(good) == len(set(good)) == 29
    refused = {a.json()["NeutronError"]["type"] for a in made if a.status != 201}
    assert refused == {"IpAddressGenerationFailure"}


async def test_a_quota_holds_and_segments_differ_under_concurrency(
    app: NetworkApp, one: Client
) -> None:
    body = {"network": {"name": "n"}}
    made = await asyncio.gather(*(one.post("/v2.0/networks", json=body) for _ in range(105)))
    assert sorted(a.status for a in made) == [201] * 100 + [409] * 5
    cloud = await app.db.read(planning.read)
    vnis = [row["segmentation_id"] for row in cloud.networks.values()]
    assert sorted(vnis) == list(range(1, 101))


async def test_lists_filter_and_page_alike(app: NetworkApp, one: Client) -> None:
    for index in range(5):
        body = {"network": {"name": f"n{index}", "description": "x" * (index % 2)}}
        net = (await one.post("/v2.0/networks", json=body)).json()["network"]
        tags = {"tags": ["Red", "blau ü"][: index % 3]}
        assert (await one.put(f"/v2.0/networks/{net['id']}/tags", json=tags)).status == 200

    async def names(**params: str) -> list[str]:
        found = (await one.get("/v2.0/networks", params={"sort_key": "name", **params})).json()
        return [n["name"] for n in found["networks"]]

    assert await names(tags="Red") == ["n1", "n2", "n4"]
    assert await names(tags="red") == []
    assert await names(tags="Red,blau ü") == ["n2"]
    assert await names(**{"not-tags-any": "Red"}) == ["n0", "n3"]
    first = (await one.get("/v2.0/networks", params={"sort_key": "name", "limit": "2"})).json()
    assert [n["name"] for n in first["networks"]] == ["n0", "n1"]
    assert [link["rel"] for link in first["networks_links"]] == ["next"]
    href = first["networks_links"][0]["href"]
    second = (await one.get(href[href.index("/v2.0") :])).json()
    assert [n["name"] for n in second["networks"]] == ["n2", "n3"]
    back = next(k["href"] for k in second["networks_links"] if k["rel"] == "previous")
    again = (await one.get(back[back.index("/v2.0") :])).json()
    assert [n["name"] for n in again["networks"]] == ["n0", "n1"]


async def test_a_plan_takes_the_same_statements_however_much_there_is(
    app: NetworkApp, one: Client
) -> None:
    with counted() as few:
        await app.db.read(planning.read)
    await ensure_public(app, project_id="a", avoid=())
    await ensure_private(app, project_id=ONE)
    await ensure_private(app, project_id=ONE, name="second")
    with counted() as many:
        cloud = await app.db.read(planning.read)
    assert len(cloud.routers) == 2
    assert len(many) == len(few) <= 10
