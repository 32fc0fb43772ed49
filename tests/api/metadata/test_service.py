"""A guest's conversation with the metadata service."""

from __future__ import annotations

import datetime as dt

import pytest

from kilonova.base.clock import SystemClock, VirtualClock
from kilonova.base.errors import BadRequest, Conflict
from kilonova.domain.guest import GuestSpec
from kilonova.metadata import ec2
from kilonova.metadata.service import Metadata, Rules, build, sign
from kilonova.web.testing import Client
from tests.support.described import PROJECT, SERVER, guest


class OneGuest:
    """A store with a single guest."""

    def __init__(self) -> None:
        self.kept = ""

    async def describe(self, server_id: str) -> GuestSpec | None:
        return guest() if server_id == SERVER else None

    async def by_address(self, address: str) -> str | None:
        return SERVER if address == "10.0.0.5" else None

    async def password(self, server_id: str) -> str:
        return self.kept

    async def set_password(self, server_id: str, password: str) -> None:
        if self.kept:
            raise Conflict("There is a password already.")
        self.kept = password


class OneProvider:
    """A load balancer with one guest behind it."""

    def __init__(self) -> None:
        self.asked = 0

    async def instance(self, provider_id: str, address: str) -> tuple[str, str]:
        self.asked += 1
        if (provider_id, address) != ("lb1", "10.0.0.5"):
            raise BadRequest("Could not find any subnets for provider")
        return SERVER, PROJECT


def client(rules: Rules, _providers: OneProvider | None = None, /, **headers: str) -> Client:
    metadata = Metadata(
        OneGuest(), rules, clock=SystemClock(), random=lambda n: b"x" * n, providers=_providers
    )
    return Client(build(metadata), headers=headers)


@pytest.fixture
def proxied() -> Client:
    return client(
        Rules(proxied=True, secret="s"),
        **{
            "X-Instance-ID": SERVER,
            "X-Instance-ID-Signature": sign("s", SERVER),
            "X-Tenant-ID": PROJECT,
        },
    )


async def test_versions_and_files(proxied: Client) -> None:
    assert (await proxied.get("/openstack")).text.split()[-1] == "latest"
    assert "meta_data.json" in (await proxied.get("/openstack/latest/")).text.split()
    assert (await proxied.get("/openstack/latest/meta_data.json")).json()["uuid"] == SERVER
    assert (await proxied.get("/openstack/latest/user_data")).body == b"#!/bin/sh\ntrue\n"
    assert (await proxied.get("/openstack/content/0000")).body == b"hello"
    assert (await proxied.get("/latest/meta-data/instance-id")).text == "i-0000002a"
    assert (await proxied.get("/2009-04-04/user-data")).body == b"#!/bin/sh\ntrue\n"
    for path in ("/openstack/1999-01-01", "/openstack/latest/nothing", "/1999/meta-data/"):
        assert (await proxied.get(path)).status == 404


async def test_the_password_is_taken_once(proxied: Client) -> None:
    assert (await proxied.get("/openstack/latest/password")).text == ""
    assert (await proxied.post("/openstack/latest/password", data=b"x" * 1021)).status == 400
    assert (await proxied.post("/openstack/latest/password", data=b"c2VjcmV0")).status == 200
    assert (await proxied.get("/openstack/latest/password")).text == "c2VjcmV0"
    assert (await proxied.post("/openstack/latest/password", data=b"eA==")).status == 409


async def test_whose_word_is_taken(proxied: Client) -> None:
    path = "/openstack/latest/meta_data.json"
    assert (await proxied.get(path, headers={"X-Instance-ID-Signature": "0" * 64})).status == 403
    assert (await proxied.get(path, headers={"X-Tenant-ID": "f" * 32})).status == 404
    other = "00000000-0000-4000-8000-000000000000"
    headers = {"X-Instance-ID": other, "X-Instance-ID-Signature": sign("s", other)}
    assert (await proxied.get(path, headers=headers)).status == 404
    assert (await client(Rules(proxied=True, secret="s")).get(path)).status == 400


async def test_without_a_secret_nothing_is_believed() -> None:
    headers = {
        "X-Instance-ID": SERVER,
        "X-Instance-ID-Signature": sign("", SERVER),
        "X-Tenant-ID": PROJECT,
    }
    answer = await client(Rules(proxied=True), **headers).get("/openstack/latest/meta_data.json")
    assert answer.status == 403


async def test_by_address() -> None:
    rules = Rules(believe_forwarded=True)
    path = "/openstack/latest/meta_data.json"
    assert (await client(rules, **{"X-Forwarded-For": "10.0.0.5"}).get(path)).status == 200
    assert (await client(rules, **{"X-Forwarded-For": "10.0.0.6"}).get(path)).status == 404
    assert (await client(rules, **{"X-Forwarded-For": "nonsense"}).get(path)).status == 400


@pytest.mark.parametrize("missing", ["X-Instance-ID", "X-Instance-ID-Signature", "X-Tenant-ID"])
async def test_a_proxy_says_who_asks(missing: str) -> None:
    headers = {
        "X-Instance-ID": SERVER,
        "X-Instance-ID-Signature": sign("s", SERVER),
        "X-Tenant-ID": PROJECT,
    }
    del headers[missing]
    answer = await client(Rules(proxied=True, secret="s"), **headers).get("/openstack")
    assert (answer.status, answer.text) == (400, f"{missing} header is missing from request.\n")


async def test_the_root_needs_no_name() -> None:
    answer = await client(Rules(proxied=True, secret="s")).get("/")
    assert answer.text.split() == [*ec2.VERSIONS, "latest"]


async def test_the_ec2_tree_has_two_addresses(proxied: Client) -> None:
    for prefix in ("", "/ec2"):
        listed = await proxied.get(f"{prefix}/latest/meta-data/")
        assert listed.text.split("\n") == [
            *("ami-id", "ami-launch-index", "ami-manifest-path", "block-device-mapping/"),
            *("hostname", "instance-action", "instance-id", "instance-type", "local-hostname"),
            *("local-ipv4", "placement/", "public-hostname", "public-ipv4", "public-keys/"),
            *("reservation-id", "security-groups"),
        ]
        assert (await proxied.get(f"{prefix}/latest/")).text == "meta-data/\nuser-data"
        assert (await proxied.get(f"{prefix}/latest/meta-data/public-keys/")).text == "0=mine"
        assert (
            await proxied.get(f"{prefix}/latest/meta-data/placement/availability-zone")
        ).text == "nova"
        assert (await proxied.get(f"{prefix}/1.0/meta-data/placement/")).status == 404
        assert (await proxied.get(f"{prefix}/latest/meta-data/nothing")).status == 404


async def test_versions_of_the_future_are_hidden_and_answer(proxied: Client) -> None:
    early = Metadata(
        OneGuest(),
        Rules(believe_forwarded=True),
        clock=VirtualClock(dt.datetime(2019, 1, 1, tzinfo=dt.UTC)),
        random=lambda n: b"x" * n,
    )
    asking = Client(build(early), headers={"X-Forwarded-For": "10.0.0.5"})
    assert (await asking.get("/openstack")).text.split()[-2:] == ["2018-08-27", "latest"]
    assert (await asking.get("/openstack/2025-04-04/meta_data.json")).status == 200
    assert "2025-04-04" in (await proxied.get("/openstack")).text


async def test_behind_a_load_balancer() -> None:
    providers = OneProvider()
    rules = Rules(proxied=True, secret="s")
    good = {
        "X-Metadata-Provider": "lb1",
        "X-Metadata-Provider-Signature": sign("s", "lb1"),
        "X-Forwarded-For": "10.0.0.5, 192.0.2.1",
    }
    path = "/openstack/latest/meta_data.json"
    asking = client(rules, providers, **good)
    assert (await asking.get(path)).json()["uuid"] == SERVER
    assert (await asking.get(path)).status == 200
    assert providers.asked == 1
    assert (
        await client(rules, providers, **{**good, "X-Forwarded-For": "10.0.0.6"}).get(path)
    ).status == 400
    bad = {**good, "X-Metadata-Provider-Signature": sign("t", "lb1")}
    assert (await client(rules, providers, **bad).get(path)).status == 403
    del good["X-Forwarded-For"]
    assert (await client(rules, providers, **good).get(path)).status == 400


async def test_each_time_anew_without_a_cache() -> None:
    providers = OneProvider()
    headers = {
        "X-Metadata-Provider": "lb1",
        "X-Forwarded-For": "10.0.0.5",
    }
    asking = client(Rules(proxied=True, remember=0), providers, **headers)
    for _ in range(2):
        assert (await asking.get("/openstack")).status == 200
    assert providers.asked == 2
