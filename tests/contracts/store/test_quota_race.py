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
from kilonova.domain.quotas import UNIFIED
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
def clouds(
    request: pytest.FixtureRequest, database_url: str, tmp_path: Path
) -> Iterator[tuple[Client, Client, Database]]:
    cloud = Cloud(request.param, folder=tmp_path, api_url=database_url)
    second = Database(database_url, name="api")
    cloud.services = msgspec.structs.replace(
        cloud.services, identity=Keystone(), usages=Placement()
    )
    other = msgspec.structs.replace(cloud.services, db=second)
    yield (
        Client(cloud.build(), token="member"),
        Client(cloud.build(other), token="member"),
        cloud.db,
    )
    second.close()
    cloud.close()


@pytest.mark.parametrize(
    ("clouds", "requests"),
    [
        (settings(), 200),
        (settings(count_usage_from_placement=True), 70),
        (settings(driver=UNIFIED), 70),
    ],
    ids=["rows", "placement", "unified"],
    indirect=["clouds"],
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
