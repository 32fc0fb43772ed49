"""Two API processes and two hundred requests at once never pass a limit, on every engine."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from kilonova.config.quota import Quota
from kilonova.config.settings import Settings
from kilonova.db.database import Database
from kilonova.domain.guest import PowerState
from kilonova.domain.quotas import UNIFIED
from kilonova.domain.states import VmState
from kilonova.interfaces.identity import UnifiedLimits
from kilonova.store import quotas
from kilonova.web.testing import Client
from tests.support.cloud import CALLERS, PROJECT, Cloud, body

LIMIT = 50


class Keystone:
    """An identity service that limits servers."""

    async def exists(self, project_id: str) -> bool | None:
        return project_id == PROJECT

    async def limits(self, project_id: str | None, *, fresh: bool = False) -> UnifiedLimits:
        return UnifiedLimits({"servers": 3, "class:VCPU": LIMIT}, {"servers": -1})


class Placement:
    """Nothing is claimed yet."""

    async def usages(
        self, project_id: str, user_id: str | None = None
    ) -> dict[str, dict[str, int]]:
        return {}


def settings(**values: object) -> Settings:
    return Settings(quota=Quota(instances=-1, cores=LIMIT, ram=-1, **values))  # type: ignore[arg-type]


@pytest.fixture
def there(rules: Settings, database_url: str, tmp_path: Path) -> Iterator[Cloud]:
    cloud = Cloud(rules, folder=tmp_path, api_url=database_url)
    cloud.services = msgspec.structs.replace(
        cloud.services, identity=Keystone(), usages=Placement()
    )
    yield cloud
    cloud.close()


@pytest.fixture
def clouds(database_url: str, there: Cloud) -> Iterator[tuple[Client, Client, Database]]:
    second = Database(database_url, name="api")
    other = msgspec.structs.replace(there.services, db=second)
    yield (
        Client(there.build(), token="member"),
        Client(there.build(other), token="member"),
        there.db,
    )
    second.close()


@pytest.mark.parametrize(
    ("rules", "requests"),
    [
        (settings(), 200),
        (settings(count_usage_from_placement=True), 70),
        (settings(driver=UNIFIED), 70),
    ],
    ids=["rows", "placement", "unified"],
)
async def test_exactly_as_many_servers_as_the_limit_allows(
    clouds: tuple[Client, Client, Database], requests: int
) -> None:
    first, second, db = clouds

    async def create(client: Client) -> int:
        return (await client.post("/v2.1/servers", json=body())).status

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(create((first, second)[n % 2])) for n in range(requests)]
    counts = collections.Counter(task.result() for task in tasks)
    assert counts == {202: LIMIT, 403: requests - LIMIT}
    used = db.run_sync(quotas.usage, PROJECT)
    assert (used.instances, used.cores) == (LIMIT, LIMIT)


@pytest.mark.parametrize("rules", [settings()], ids=["rows"])
async def test_what_is_restored_counts_with_what_is_made(
    clouds: tuple[Client, Client, Database], there: Cloud
) -> None:
    first, second, db = clouds
    aside = []
    for _ in range(12):
        made = (await first.post("/v2.1/servers", json=body())).json()["server"]["id"]
        there.run(made)
        there.finish(made, VmState.SOFT_DELETED, PowerState.SHUTDOWN)
        aside.append(made)
    assert db.run_sync(quotas.usage, PROJECT) == quotas.Usage()

    async def restore(client: Client, server_id: str) -> int:
        path = f"/v2.1/servers/{server_id}/action"
        return (await client.post(path, json={"restore": None})).status

    async def create(client: Client) -> int:
        return (await client.post("/v2.1/servers", json=body())).status

    for _ in range(LIMIT - 10):
        assert await create(first) == 202
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(work)
            for n, sid in enumerate(aside)
            for work in (
                restore((first, second)[n % 2], sid),
                create((second, first)[n % 2]),
                restore((second, first)[n % 2], sid),
            )
        ]
    counts = collections.Counter(task.result() for task in tasks)
    assert (counts[202], sum(counts.values())) == (10, 36)
    assert set(counts) <= {202, 403, 409}
    assert db.run_sync(quotas.usage, PROJECT).cores == LIMIT


async def test_key_pairs_too(database_url: str, tmp_path: Path) -> None:
    made = Cloud(Settings(quota=Quota(key_pairs=5)), folder=tmp_path, api_url=database_url)
    client = made.client()
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl a@b"

    async def create(number: int) -> int:
        pair = {"keypair": {"name": f"k{number}", "public_key": key}}
        return (await client.post("/v2.1/os-keypairs", json=pair)).status

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(create(n)) for n in range(30)]
    counts = collections.Counter(task.result() for task in tasks)
    assert counts == {200: 5, 403: 25}
    assert made.db.run_sync(quotas.key_pairs_used, CALLERS["member"].user_id) == 5
    made.close()
