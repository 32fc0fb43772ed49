"""Broker, database and daemons die while servers are built; everything ends well."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import new_database
from tests.support import servers
from tests.support.daemons import Deployment, Tenant, deployment, until

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(300)]

HOSTS = ("host-a", "host-b")
NAMES = ("api", "cell0", "cell1", "placement")


class Parts:
    """A cloud with a broker and a database server that may be hurt."""

    def __init__(self, cloud: Deployment, broker: servers.Server, database: servers.Server) -> None:
        self.cloud = cloud
        self.broker = broker
        self.database = database
        self.tenant = Tenant(cloud)


@pytest.fixture(scope="module")
def parts() -> Iterator[Parts]:
    """A running cloud."""
    with contextlib.ExitStack() as stack:
        where = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="kilonova-trouble-", ignore_cleanup_errors=True)
            )
        )
        broker = stack.enter_context(servers.rabbitmq(where / "rabbitmq"))
        database = stack.enter_context(servers.postgres(where / "postgres"))
        urls = {name: new_database(database) for name in NAMES}
        cloud = stack.enter_context(deployment(where / "cloud", broker.url, urls, HOSTS))
        made = Parts(cloud, broker, database)
        until(20, lambda: made.tenant.hosts_up() == len(HOSTS))
        yield made


def test_the_broker_dies(parts: Parts) -> None:
    parts.broker.kill()
    api = parts.cloud.processes["nova-api"]
    until(20, lambda: "bus" in api.health())
    status, server_id = parts.tenant.create("without a broker")
    assert status == 202, server_id
    parts.broker.restart()
    until(60, lambda: parts.tenant.active(server_id))
    parts.cloud.wait_healthy()


def test_the_database_dies(parts: Parts) -> None:
    parts.database.kill()
    api = parts.cloud.processes["nova-api"]
    until(20, lambda: "api_database" in api.health())
    status, said = parts.tenant.create("without a database")
    assert status == 503, said
    parts.database.restart()
    parts.cloud.wait_healthy()
    _, server_id = until(30, lambda: _accepted(parts.tenant))
    until(60, lambda: parts.tenant.active(server_id))


def _accepted(tenant: Tenant) -> tuple[int, str] | None:
    status, server_id = tenant.create("again")
    return (status, server_id) if status == 202 else None


@pytest.mark.parametrize("victim", ["nova-conductor", "nova-scheduler", "host-a", "nova-api"])
def test_a_daemon_dies_under_way(parts: Parts, victim: str) -> None:
    tenant = parts.tenant
    made = [tenant.create(f"{victim}-{n}")[1] for n in range(6)]
    parts.cloud.processes[victim].kill()
    parts.cloud.processes[victim].restart()
    parts.cloud.processes[victim].wait_healthy()
    for server_id in made:
        until(60, lambda server_id=server_id: tenant.active(server_id))  # type: ignore[misc]
    for server_id in made:
        assert tenant.delete(server_id) == 204
    for server_id in made:
        until(60, lambda server_id=server_id: tenant.show(server_id) is None)  # type: ignore[misc]
