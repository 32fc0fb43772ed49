"""Worlds for saga tests, once per database engine."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.conftest import new_database
from tests.sagas import remaking
from tests.sagas.examples import SPARE, World
from tests.support.servers import Server

assert remaking.__doc__  # importing it registers its scenarios
_ENGINES = {"postgres": "KILONOVA_TEST_POSTGRES_URL", "mariadb": "KILONOVA_TEST_MARIADB_URL"}


class _Given(Server):
    """A server somebody else started."""

    def __init__(self, url: str) -> None:
        self.url = url


@pytest.fixture(scope="session", autouse=True)
def _close_spare() -> Iterator[None]:
    yield
    for databases in SPARE:
        for db in databases.values():
            db.close()


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """The URLs of an API and a cell database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/api.db", f"sqlite:///{tmp_path}/cell.db"
    given = os.environ.get(_ENGINES[request.param])
    server = _Given(given) if given else request.getfixturevalue(request.param)
    return new_database(server), new_database(server)


@pytest.fixture
async def everywhere(urls: tuple[str, str]) -> AsyncIterator[World]:
    """A world on each database engine."""
    made = World(urls)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A world on SQLite in memory."""
    made = World()
    await made.open()
    yield made
    await made.close()
