"""A guest's conversation with the metadata service."""

from __future__ import annotations

import pytest

from kilonova.base.clock import SystemClock
from kilonova.base.errors import Conflict
from kilonova.domain.guest import GuestSpec
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


def client(rules: Rules, **headers: str) -> Client:
    metadata = Metadata(OneGuest(), rules, clock=SystemClock(), random=lambda n: b"x" * n)
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
    headers = {"X-Instance-ID": SERVER, "X-Instance-ID-Signature": sign("", SERVER)}
    answer = await client(Rules(proxied=True), **headers).get("/openstack/latest/meta_data.json")
    assert answer.status == 403


async def test_by_address() -> None:
    rules = Rules(believe_forwarded=True)
    path = "/openstack/latest/meta_data.json"
    assert (await client(rules, **{"X-Forwarded-For": "10.0.0.5"}).get(path)).status == 200
    assert (await client(rules, **{"X-Forwarded-For": "10.0.0.6"}).get(path)).status == 404
    assert (await client(rules, **{"X-Forwarded-For": "nonsense"}).get(path)).status == 400
