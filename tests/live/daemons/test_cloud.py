"""Every daemon as a process of its own, over RabbitMQ, with PostgreSQL and with MariaDB."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import new_database
from tests.support.daemons import Deployment, User, deployment

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


def until(seconds: float, look: Any) -> Any:
    """What ``look`` gives as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {look()}")


def test_a_server_is_made_and_deleted(cloud: Deployment) -> None:
    admin = User(cloud)

    def up() -> list[Any]:
        _, _, found = admin.ask("GET", "compute", "/v2.1/os-services?binary=nova-compute")
        return [s for s in found["services"] if s["state"] == "up"]

    until(20, lambda: len(up()) == len(HOSTS))
    _, _, image = admin.ask(
        "POST",
        "image",
        "/v2/images",
        {"name": "i", "disk_format": "raw", "container_format": "bare", "visibility": "public"},
    )
    status, _, _ = admin.ask("PUT", "image", f"/v2/images/{image['id']}/file", b"\0" * 1024)
    assert status == 204
    flavor = {"name": "f", "vcpus": 1, "ram": 64, "disk": 1}
    _, _, made = admin.ask("POST", "compute", "/v2.1/flavors", {"flavor": flavor})
    demo = User(cloud, "demo", "demo")
    body = {
        "server": {
            "name": "one",
            "imageRef": image["id"],
            "flavorRef": made["flavor"]["id"],
            "networks": "none",
        }
    }
    status, _, accepted = demo.ask("POST", "compute", "/v2.1/servers", body)
    assert status == 202, accepted
    path = f"/v2.1/servers/{accepted['server']['id']}"

    def state() -> str:
        _, _, found = demo.ask("GET", "compute", path)
        assert found["server"]["status"] != "ERROR", found["server"]["fault"]
        return str(found["server"]["status"])

    until(30, lambda: state() == "ACTIVE")
    _, _, seen = admin.ask("GET", "compute", path)
    assert seen["server"]["OS-EXT-SRV-ATTR:host"] in HOSTS
    assert demo.ask("DELETE", "compute", path)[0] == 204
    until(30, lambda: demo.ask("GET", "compute", path)[0] == 404)


def test_every_daemon_ends_soon_after_sigterm(cloud: Deployment) -> None:
    for name, process in reversed(cloud.processes.items()):
        assert process.stop() < 5, name
