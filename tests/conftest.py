"""Fixtures every test may use: databases of three engines, buses of two kinds."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from kilonova.db.database import Database
from kilonova.messaging.bus import Bus
from kilonova.messaging.memory import MemoryBus
from tests.support import servers

_names = itertools.count()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """A PostgreSQL server for the whole run."""
    with servers.postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """A MariaDB server for the whole run."""
    with servers.mariadb(tmp_path_factory.mktemp("mariadb")) as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """A RabbitMQ node for the whole run."""
    with servers.rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


def new_database(server: servers.Server) -> str:
    """The URL of a fresh, empty database on a server."""
    name = f"t{next(_names)}"
    engine = sa.create_engine(server.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return sa.make_url(server.url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, once per engine."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/test.db"
    return new_database(request.getfixturevalue(request.param))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An empty database, once per engine."""
    db = Database(database_url)
    yield db
    db.close()


@pytest.fixture(params=["memory", "rabbit"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    """A bus, once per kind."""
    made: Bus
    if request.param == "memory":
        made = MemoryBus()
    else:
        from kilonova.messaging.rabbit import RabbitBus

        made = RabbitBus(request.getfixturevalue("rabbitmq").url)
        await made.start()
    yield made
    await made.close()
