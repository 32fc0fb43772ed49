"""Guests as databases know them: one cell's, or every cell's by the mappings."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from kilonova.base.errors import BadRequest, Conflict, NotFound
from kilonova.clients.keystone import Endpoint
from kilonova.clients.providers import MetadataProviders
from kilonova.metadata.lookup import LocalGuests, StoredGuests
from kilonova.metadata.service import Guests
from kilonova.web.client import HttpClient
from tests.support.cloud import Cloud, body

NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize("local", [True, False])
async def test_guests(local: bool) -> None:
    cloud = Cloud()
    made = await cloud.client("member").post("/v2.1/servers", json=body(metadata={"a": "b"}))
    server_id = made.json()["server"]["id"]
    cloud.run(server_id)
    guests: Guests = StoredGuests(cloud.db, cloud.services.cells, cloud.clock)
    if local:
        guests = LocalGuests(cloud.cell1.db, cloud.clock)
    found = await guests.describe(server_id)
    assert found is not None
    assert found.metadata.meta == {"a": "b"}
    assert found.metadata.boot_roles == "member,reader"
    assert await guests.describe(NOBODY) is None
    address = found.nics[0].ips[0].address
    assert await guests.by_address(address) == server_id
    assert await guests.by_address("192.0.2.99") is None
    assert await guests.password(server_id) == ""
    await guests.set_password(server_id, "c2VjcmV0")
    assert await guests.password(server_id) == "c2VjcmV0"
    with pytest.raises(Conflict):
        await guests.set_password(server_id, "eA==")
    with pytest.raises(NotFound):
        await guests.set_password(NOBODY, "eA==")
    assert (await guests.describe(server_id) or found).metadata.boot_roles == "member,reader"
    cloud.close()


class Source:
    async def token(self) -> str:
        return "t"

    async def endpoint(self, service_type: str, *, interface: str, region: str | None) -> str:
        return "http://network.test"

    def forget(self) -> None:
        return None


async def test_who_is_behind_a_provider() -> None:
    async def subnets(request: Request) -> JSONResponse:
        known = request.query_params["advanced_service_providers"] == "lb1"
        networks = [{"network_id": f"n{n}"} for n in range(60)] if known else []
        return JSONResponse({"subnets": networks})

    async def ports(request: Request) -> JSONResponse:
        asked = request.query_params
        there = "n55" in asked.getlist("network_id") and asked["fixed_ips"] == "ip_address=10.0.0.5"
        port = {"device_id": "s1", "tenant_id": "p1"}
        return JSONResponse({"ports": [port] if there else []})

    app = Starlette(routes=[Route("/v2.0/subnets", subnets), Route("/v2.0/ports", ports)])
    http = HttpClient(loopback={"http://network.test": app})
    providers = MetadataProviders(Endpoint(http, Source(), "network"))
    assert await providers.instance("lb1", "10.0.0.5") == ("s1", "p1")
    with pytest.raises(BadRequest, match="Found 0"):
        await providers.instance("lb1", "10.0.0.6")
    with pytest.raises(BadRequest, match="any subnets"):
        await providers.instance("lb2", "10.0.0.5")
