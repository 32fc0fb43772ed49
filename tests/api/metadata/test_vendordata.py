"""Vendor data from a file and from services that are asked about each guest."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from kilonova.base.clock import SystemClock
from kilonova.base.errors import Unavailable
from kilonova.config.api import Api
from kilonova.config.keystone import VendordataDynamicAuth
from kilonova.config.settings import Settings
from kilonova.metadata.service import Metadata, build, sign
from kilonova.metadata.service import Rules as ServiceRules
from kilonova.metadata.vendordata import DYNAMIC, STATIC, Rules, VendorData
from kilonova.services import vendor
from kilonova.web.client import HttpClient
from kilonova.web.testing import Client
from tests.api.metadata.test_service import OneGuest
from tests.support import identity as keystone
from tests.support.described import PROJECT, SERVER, guest

GOOD, BAD, SLOW = "http://good.test", "http://bad.test", "http://slow.test"
TEXT, EMPTY = "http://text.test", "http://empty.test"


class Service:
    """What answers for all those names; it remembers what it was asked."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []

    def app(self, origin: str) -> ASGIApp:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope, receive)
            self.bodies.append(json.loads(await request.body()))
            self.headers.append(dict(request.headers))
            answers: dict[str, Response] = {
                GOOD: JSONResponse({"motd": "hello"}),
                BAD: JSONResponse({"error": 1}, status_code=500),
                TEXT: Response(b"no json"),
                EMPTY: Response(b""),
            }
            if origin == SLOW:
                await asyncio.sleep(30)
            await answers[origin](scope, receive, send)

        return application


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def http(service: Service) -> HttpClient:
    return HttpClient(loopback={o: service.app(o) for o in (GOOD, BAD, SLOW, TEXT, EMPTY)})


def rules(*targets: tuple[str, str], fatal: bool = False) -> Rules:
    return Rules((STATIC, DYNAMIC), {"a": 1}, targets, seconds=0.2, fatal=fatal)


async def test_services_are_asked_about_the_guest(service: Service, http: HttpClient) -> None:
    data = VendorData(rules(("one", GOOD), ("static", GOOD), ("none", EMPTY)), http=http)
    assert data.first == {"a": 1}
    assert await data.second(guest()) == {"static": {"a": 1}, "one": {"motd": "hello"}, "none": {}}
    about = guest().metadata
    assert service.bodies[0] == {
        "project-id": PROJECT,
        "instance-id": SERVER,
        "image-id": "f0d0c3f4-7c0e-4f52-9b5a-1d1f8a6d2b11",
        "user-data": about.user_data,
        "hostname": "web-1",
        "metadata": {"role": "front"},
        "boot-roles": "",
    }
    assert service.headers[0]["user-agent"] == "openstack-nova-vendordata"
    assert "x-auth-token" not in service.headers[0]


@pytest.mark.parametrize("url", [BAD, SLOW, TEXT, "http://127.0.0.1:9"])
async def test_services_that_fail(url: str, http: HttpClient) -> None:
    data = VendorData(rules(("broken", url), ("one", GOOD)), http=http)
    found = await data.second(guest())
    assert (found["broken"], found["one"]) == ({}, {"motd": "hello"})
    fatal = VendorData(rules(("broken", url), fatal=True), http=http)
    with pytest.raises(Unavailable, match="broken"):
        await fatal.second(guest())
    await http.close()


async def test_over_http(service: Service, http: HttpClient) -> None:
    def asking(data: VendorData) -> Client:
        metadata = Metadata(
            OneGuest(),
            ServiceRules(proxied=True, secret="s"),
            clock=SystemClock(),
            random=lambda n: b"x" * n,
            vendor=data,
        )
        headers = {
            "X-Instance-ID": SERVER,
            "X-Instance-ID-Signature": sign("s", SERVER),
            "X-Tenant-ID": PROJECT,
        }
        return Client(build(metadata), headers=headers)

    one, two = "/openstack/latest/vendor_data.json", "/openstack/latest/vendor_data2.json"
    both = asking(VendorData(rules(("one", GOOD)), http=http))
    assert (await both.get(one)).json() == {"a": 1}
    assert (await both.get(two)).json() == {"static": {"a": 1}, "one": {"motd": "hello"}}
    assert (await both.get("/openstack/2016-06-30/vendor_data2.json")).status == 404
    assert (await both.get("/openstack/2013-04-04/vendor_data.json")).status == 404
    dynamic = asking(VendorData(Rules((DYNAMIC,)), http=http))
    assert (await dynamic.get(one)).status == 404
    assert (await dynamic.get(two)).json() == {}
    fatal = asking(VendorData(rules(("x", BAD), fatal=True), http=http))
    assert (await fatal.get(two)).status >= 500


async def test_our_token_goes_along(tmp_path: Path, service: Service) -> None:
    place = await keystone.start(tmp_path)
    file = tmp_path / "vendor.json"
    file.write_text('{"b": 2}')
    http = HttpClient(loopback={GOOD: service.app(GOOD), "http://testserver": place.app})
    settings = Settings(
        api=Api(
            vendordata_jsonfile_path=str(file),
            vendordata_providers=(STATIC, DYNAMIC),
            vendordata_dynamic_targets=(f"one@{GOOD}/a@b", "nameless", f"one@{BAD}"),
        ),
        vendordata_dynamic_auth=VendordataDynamicAuth(
            auth_url="http://testserver/v3",
            username="nova",
            password=keystone.PASSWORD,
            project_name="service",
        ),
    )
    async with contextlib.AsyncExitStack() as stack:
        data = vendor.make(settings, http, place.identity.clock, stack)
        assert await data.second(guest()) == {"static": {"b": 2}, "one": {"motd": "hello"}}
    token = service.headers[0]["x-auth-token"]
    admin = await place.client("admin", "admin")
    shown = await admin.get("/v3/auth/tokens", headers={"X-Subject-Token": token})
    assert shown.json()["token"]["user"]["name"] == "nova"
