"""Fixtures every test may use: databases of three engines, buses of two kinds."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from kilonova.db.database import Database
from kilonova.messaging.bus import Bus
from kilonova.messaging.memory import MemoryBus
from tests.support import leftovers, servers

_names = itertools.count()


@contextlib.contextmanager
def _place(name: str) -> Iterator[Path]:
    """A directory for a server that runs as a user of its own.

    Not below pytest's: each further run on the machine closes that to other users again.
    """
    with tempfile.TemporaryDirectory(
        prefix=f"kilonova-{name}-", ignore_cleanup_errors=True
    ) as where:
        yield Path(where)


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Server]:
    """A PostgreSQL server for the whole run."""
    with _place("postgres") as where, servers.postgres(where) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[servers.Server]:
    """A MariaDB server for the whole run."""
    with _place("mariadb") as where, servers.mariadb(where) as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[servers.Server]:
    """A RabbitMQ node for the whole run."""
    with _place("rabbitmq") as where, servers.rabbitmq(where) as server:
        yield server


def new_database(server: servers.Server) -> str:
    """The URL of a fresh, empty database on a server."""
    name = f"t{next(_names)}"
    engine = sa.create_engine(server.url, isolation_level="AUTOCOMMIT")
    # As docs/admin/daemons.md has it: MariaDB's own default cannot hold every text.
    encoding = "" if engine.dialect.name == "postgresql" else " CHARACTER SET utf8mb4"
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}{encoding}"))
    engine.dispose()
    return sa.make_url(server.url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def guests_end(tmp_path: Path) -> Iterator[None]:
    """No QEMU that has its things in ``tmp_path`` lives longer than the test."""
    with leftovers.ended(tmp_path):
        yield


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
