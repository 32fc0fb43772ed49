"""Every daemon as a process of its own, over RabbitMQ, with PostgreSQL and with MariaDB."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import new_database
from tests.support.daemons import Deployment, Tenant, User, deployment, run, until

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

NAMES = ("api", "cell0", "cell1", "placement")
HOSTS = ("host-a", "host-b")


@pytest.fixture(params=["postgres", "mariadb"], scope="module")
def cloud(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """A running cloud, once per database engine."""
    server = request.getfixturevalue(request.param)
    rabbit = request.getfixturevalue("rabbitmq")
    databases = {name: new_database(server) for name in NAMES}
    where = tmp_path_factory.mktemp(request.param)
    with deployment(where, rabbit.url, databases, HOSTS) as made:
        yield made


def test_a_server_is_made_and_deleted(cloud: Deployment) -> None:
    tenant = Tenant(cloud)
    until(20, lambda: tenant.hosts_up() == len(HOSTS))
    status, server_id = tenant.create("one")
    assert status == 202, server_id
    until(30, lambda: tenant.active(server_id))
    _, _, seen = tenant.admin.ask("GET", "compute", f"/v2.1/servers/{server_id}")
    assert seen["server"]["OS-EXT-SRV-ATTR:host"] in HOSTS
    assert tenant.delete(server_id) == 204
    until(30, lambda: tenant.show(server_id) is None)


def test_the_list_of_services_and_the_tools(cloud: Deployment) -> None:
    _, _, found = User(cloud).ask("GET", "compute", "/v2.1/os-services")
    up = sorted((s["binary"], s["host"]) for s in found["services"] if s["state"] == "up")
    assert up == [
        ("nova-compute", "host-a"),
        ("nova-compute", "host-b"),
        ("nova-conductor", "controller"),
        ("nova-scheduler", "controller"),
    ]
    file = str(cloud.controller_file(0))
    done = run("nova-status", "--config-file", file, "upgrade", "check")
    assert done.returncode == 0, done.stdout + done.stderr
    done = run("nova-manage", "--config-file", file, "cell_v2", "list_hosts")
    assert [host for host in HOSTS if host in done.stdout] == list(HOSTS)


def test_every_daemon_ends_soon_after_sigterm(cloud: Deployment) -> None:
    for name, process in reversed(cloud.processes.items()):
        assert process.stop() < 5, name
