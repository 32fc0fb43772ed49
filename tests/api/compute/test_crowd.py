"""Pages over three cells hold what a search through all servers would find, in its order."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import pytest

from kilonova.domain.server import Server
from kilonova.domain.states import VmState
from kilonova.web.testing import Client
from tests.support.cloud import PROJECT
from tests.support.compute import NOW
from tests.support.crowd import IMAGES, Crowd, nic

COUNT = 1200
PAGE = 170
Match = Callable[[Server], object]
Keys = Sequence[tuple[Callable[[Server], Any], bool]]

MONTH = NOW - dt.timedelta(days=30)
SINCE = MONTH.strftime("%Y-%m-%dT%H:%M:%SZ")


def _alive(server: Server) -> bool:
    return not server.deleted


def _changed(server: Server) -> bool:
    assert server.updated_at is not None
    return server.updated_at >= MONTH.replace(microsecond=0)


SEARCHES: dict[str, Match] = {
    "": _alive,
    "name=web": lambda s: _alive(s) and "web" in s.name,
    "name=web_a-": lambda s: _alive(s) and "web_a-" in s.name,
    "name=w%25b": lambda s: _alive(s) and "w%b" in s.name,
    "name=^(db|queue)-0[0-4]": lambda s: _alive(s) and re.search("^(db|queue)-0[0-4]", s.name),
    "name=nobody": lambda s: False,
    "status=ACTIVE": lambda s: s.vm_state == VmState.ACTIVE,
    "status=SHUTOFF&name=web": lambda s: s.vm_state == VmState.STOPPED and "web" in s.name,
    "status=ERROR": lambda s: s.vm_state == VmState.ERROR,
    "vm_state=paused": lambda s: s.vm_state == VmState.PAUSED,
    "power_state=1": lambda s: _alive(s) and s.power_state == 1,
    "host=h1-7": lambda s: _alive(s) and s.host == "h1-7",
    "flavor=3": lambda s: _alive(s) and s.flavor.flavorid == "3",
    f"image={IMAGES[1].id}": lambda s: _alive(s) and s.image == IMAGES[1],
    f"changes-since={SINCE}": _changed,
    f"changes-since={SINCE}&deleted=true": lambda s: s.deleted and _changed(s),
    f"changes-before={SINCE}": lambda s: s.updated_at and s.updated_at < MONTH,
    "deleted=true": lambda s: s.deleted,
    "status=DELETED": lambda s: s.deleted,
    "tags=blue": lambda s: _alive(s) and "blue" in s.tags,
    "tags=blue,red": lambda s: _alive(s) and {"blue", "red"} <= set(s.tags),
    "tags-any=blue,red": lambda s: _alive(s) and {"blue", "red"} & set(s.tags),
    "not-tags=blue,red": lambda s: _alive(s) and not {"blue", "red"} <= set(s.tags),
    "not-tags-any=blue,red": lambda s: _alive(s) and not {"blue", "red"} & set(s.tags),
    "ip=^10\\.0\\.2\\.7$": lambda s: _alive(s) and '"10.0.2.7"' in bytes(s.addresses).decode(),
    "ip=10.0.2.1": lambda s: _alive(s) and "10.0.2.1" in bytes(s.addresses).decode(),
    "ip6=fd00::2a": lambda s: _alive(s) and "fd00::2a" in bytes(s.addresses).decode(),
    "locked=true": lambda s: _alive(s) and s.locked_by,
    "locked=false": lambda s: _alive(s) and not s.locked_by,
    "availability_zone=az1": lambda s: _alive(s) and s.availability_zone == "az1",
    "key_name=mine": lambda s: _alive(s) and s.key_name == "mine",
    "config_drive=true": lambda s: _alive(s) and s.config_drive,
    "user_id=user7": lambda s: _alive(s) and s.user_id == "user7",
    f"project_id={1:032x}": lambda s: _alive(s) and s.project_id == f"{1:032x}",
    "reservation_id=r-00000007": lambda s: _alive(s) and s.reservation_id == "r-00000007",
    "description=thing": lambda s: _alive(s) and "thing" in (s.description or ""),
}
CREATED = (lambda s: s.created_at, True)
UUID = (lambda s: s.id, True)
ORDERS: dict[str, Keys] = {
    "": (CREATED, UUID),
    "sort_key=created_at&sort_dir=asc": ((CREATED[0], False), (UUID[0], False)),
    "sort_key=display_name&sort_dir=asc": (
        (lambda s: s.name, False),
        (CREATED[0], False),
        (UUID[0], False),
    ),
    "sort_key=display_name": ((lambda s: s.name, True), CREATED, UUID),
    "sort_key=vm_state&sort_dir=asc&sort_key=display_name&sort_dir=desc": (
        (lambda s: s.vm_state, False),
        (lambda s: s.name, True),
        (CREATED[0], False),
        (UUID[0], False),
    ),
    "sort_key=key_name&sort_dir=desc&sort_key=hostname&sort_dir=asc": (
        (lambda s: s.key_name or "", True),
        (lambda s: s.hostname or "", False),
        CREATED,
        UUID,
    ),
    "sort_key=locked&sort_dir=asc": (
        (lambda s: s.locked_by or "", False),
        (CREATED[0], False),
        (UUID[0], False),
    ),
    "sort_key=image_ref&sort_dir=asc": (
        (lambda s: s.image.id if s.image else "", False),
        (CREATED[0], False),
        (UUID[0], False),
    ),
    "sort_key=instance_type_id": ((lambda s: s.flavor.flavorid, True), CREATED, UUID),
    "sort_key=updated_at&sort_dir=asc&sort_key=uuid&sort_dir=asc": (
        (lambda s: s.updated_at, False),
        (UUID[0], False),
        (CREATED[0], False),
    ),
}


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    """Servers of a year in three cells."""
    made = Crowd(tmp_path_factory.mktemp("crowd"), COUNT)
    yield made
    made.close()


def oracle(everyone: Sequence[Server], match: Match, keys: Keys) -> list[str]:
    """Ids of those that match, in order."""
    found = [server for server in everyone if match(server)]
    for key, descending in reversed(keys):
        found.sort(key=key, reverse=descending)
    return [server.id for server in found]


async def pages(client: Client, path: str) -> list[list[dict[str, Any]]]:
    """Every page, by its links."""
    found = []
    following: str | None = path
    while following is not None:
        answer = await client.get(following)
        assert answer.status == 200, answer.text
        body = answer.json()
        found.append(body["servers"])
        links = body.get("servers_links")
        parts = urlsplit(links[0]["href"]) if links else None
        following = f"{parts.path}?{parts.query}" if parts else None
    return found


@pytest.mark.parametrize("query", SEARCHES)
async def test_searches(crowd: Crowd, query: str) -> None:
    client = Client(crowd.bare(), token="admin", version="2.104")
    wanted = oracle(crowd.everyone, SEARCHES[query], ORDERS[""])
    path = f"/v2.1/servers/detail?all_tenants=1&limit={PAGE}&{query}"
    found = await pages(client, path)
    assert [server["id"] for page in found for server in page] == wanted
    assert all(len(page) == PAGE for page in found[:-1])


@pytest.mark.parametrize("order", ORDERS)
async def test_orders(crowd: Crowd, order: str) -> None:
    client = Client(crowd.bare(), token="member", version="2.104")

    def own(server: Server) -> bool:
        return _alive(server) and server.project_id == PROJECT

    wanted = oracle(crowd.everyone, own, ORDERS[order])
    found = await pages(client, f"/v2.1/servers?limit={PAGE}&{order}")
    assert [server["id"] for page in found for server in page] == wanted


async def test_what_is_shown(crowd: Crowd) -> None:
    """Servers on a merged page are shown as each is alone."""
    client = crowd.client("admin", "2.104")
    page = (await pages(client, "/v2.1/servers/detail?all_tenants=1&limit=40&locked=true"))[0]
    by_id = {server.id: server for server in crowd.everyone}
    for shown in page[:12]:
        alone = (await client.get(f"/v2.1/servers/{shown['id']}")).json()["server"]
        alone.pop("server_groups")
        assert shown == alone
        assert shown["host_status"] == "UP"
        assert shown["tags"] == list(by_id[shown["id"]].tags)


async def test_usage(crowd: Crowd) -> None:
    client = crowd.client("admin", "2.104")
    path = f"/v2.1/os-simple-tenant-usage/{PROJECT}?limit=100&start=2025-01-01T00:00:00"
    seen = []
    following: str | None = path
    while following is not None:
        body = (await client.get(following)).json()
        seen += [row["instance_id"] for row in body["tenant_usage"].get("server_usages", ())]
        links = body.get("tenant_usage_links")
        parts = urlsplit(links[0]["href"]) if links else None
        following = f"{parts.path}?{parts.query}" if parts else None
    wanted = [s for s in crowd.everyone if s.project_id == PROJECT]
    assert seen == sorted(server.id for server in wanted)
    absolute = (await client.get("/v2.1/limits")).json()["limits"]["absolute"]
    living = [s for s in wanted if not s.deleted]
    assert absolute["totalInstancesUsed"] == len(living)
    assert absolute["totalCoresUsed"] == sum(s.flavor.vcpus for s in living)


def test_addresses_are_one_each() -> None:
    every = {ip.address for place in range(0, 100_000, 37) for ip in nic(place).ips}
    assert len(every) == 2 * len(range(0, 100_000, 37))


async def test_a_cell_that_is_down(tmp_path_factory: pytest.TempPathFactory) -> None:
    crowd = Crowd(tmp_path_factory.mktemp("down"), 90)
    try:
        crowd.lose(2)
        client = crowd.client("admin", "2.69")
        shown = (await client.get("/v2.1/servers/detail?all_tenants=1")).json()["servers"]
        living = [s for s in crowd.everyone if _alive(s)]
        assert {s["id"] for s in shown} == {s.id for s in living}
        lost = [s for s in shown if s["status"] == "UNKNOWN"]
        assert {s["id"] for s in lost} == {s.id for s in living if (s.host or "")[1] == "2"}
        assert set(lost[0]) == {"id", "status", "tenant_id", "created", "links"}
        before = (await crowd.client("admin", "2.68").get("/v2.1/servers?all_tenants=1")).json()
        assert len(before["servers"]) == len(shown) - len(lost)
        searched = (await client.get("/v2.1/servers?all_tenants=1&name=w")).json()["servers"]
        assert not {s["id"] for s in searched} & {s["id"] for s in lost}
    finally:
        crowd.close()
