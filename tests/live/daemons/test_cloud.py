"""Every daemon as a process of its own, over RabbitMQ, with PostgreSQL and with MariaDB."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kilonova.embedded import guestimage
from tests.conftest import new_database
from tests.support.daemons import Deployment, Tenant, User, deployment, run, until

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(360)]

NAMES = ("api", "cell0", "cell1", "placement")
FAKE, REAL = ("host-a", "host-b"), "real"
USER_DATA = "#!/bin/sh\necho user data ran >/root/proof\n"
SSH = (
    *("-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"),
    *("-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes"),
    *("-o", "ConnectTimeout=5", "-o", "LogLevel=ERROR"),
)


@pytest.fixture(params=["postgres", "mariadb"], scope="module")
def cloud(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """Two simulated hosts and one for real guests on user-mode networks, once per engine."""
    server = request.getfixturevalue(request.param)
    rabbit = request.getfixturevalue("rabbitmq")
    databases = {name: new_database(server) for name in NAMES}
    where = tmp_path_factory.mktemp(request.param)
    with deployment(where, rabbit.url, databases, FAKE) as made:
        made.start_compute(REAL, "qemu.QemuDriver").wait_healthy()
        yield made


class Client:
    """The ``openstack`` command as one user."""

    def __init__(self, cloud: Deployment, name: str) -> None:
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(cloud.where),
            "OS_CLIENT_CONFIG_FILE": str(cloud.clouds_yaml()),
            "OS_CLOUD": name,
        }

    def __call__(self, *words: object) -> str:
        """Run it; AssertionError with what it said when it fails."""
        program = Path(sys.executable).with_name("openstack")
        done = subprocess.run(
            [program, *map(str, words)],
            env=self._env,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        assert done.returncode == 0, f"openstack {words}: {done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *words: object) -> Any:
        """What it prints with ``-f json``."""
        return json.loads(self(*words, "-f", "json"))


async def image(where: Path) -> guestimage.GuestImage:
    """The small guest image."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kilonova"
    target = where / "tiny.qcow2"
    return await guestimage.build(target, cache_dir=cache, progress=lambda *_: None)


def test_a_server_is_made_and_deleted(cloud: Deployment) -> None:
    tenant = Tenant(cloud)
    until(20, lambda: tenant.hosts_up() == len(FAKE) + 1)
    status, server_id = tenant.create("one")
    assert status == 202, server_id
    until(30, lambda: tenant.active(server_id))
    _, _, seen = tenant.admin.ask("GET", "compute", f"/v2.1/servers/{server_id}")
    assert seen["server"]["OS-EXT-SRV-ATTR:host"] in FAKE
    assert tenant.delete(server_id) == 204
    until(30, lambda: tenant.show(server_id) is None)


def test_the_list_of_services_and_the_tools(cloud: Deployment) -> None:
    _, _, found = User(cloud).ask("GET", "compute", "/v2.1/os-services")
    up = sorted((s["binary"], s["host"]) for s in found["services"] if s["state"] == "up")
    assert up == [
        ("nova-compute", "host-a"),
        ("nova-compute", "host-b"),
        ("nova-compute", "real"),
        ("nova-conductor", "controller"),
        ("nova-scheduler", "controller"),
    ]
    file = str(cloud.controller_file(0))
    done = run("nova-status", "--config-file", file, "upgrade", "check")
    assert done.returncode == 0, done.stdout + done.stderr
    done = run("nova-manage", "--config-file", file, "cell_v2", "list_hosts")
    assert all(f" {host} " in done.stdout for host in (*FAKE, REAL))


async def test_a_guest_is_reached(cloud: Deployment, tmp_path: Path) -> None:
    tiny = await image(tmp_path)
    admin, demo = Client(cloud, "admin"), Client(cloud, "demo")
    key, data = tmp_path / "key", tmp_path / "data"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    data.write_text(USER_DATA)
    admin("flavor", "create", "m1.nano", "--ram", 192, "--disk", 1, "--vcpus", 1)
    properties = [word for k, v in tiny.properties.items() for word in ("--property", f"{k}={v}")]
    demo(
        *("image", "create", "tiny", "--disk-format", "qcow2", "--container-format", "bare"),
        *("--file", tiny.path, "--property", "img_hv_type=qemu", *properties),
    )
    demo("keypair", "create", "key", "--public-key", f"{key}.pub")
    demo("network", "create", "net")
    demo("subnet", "create", "subnet", "--network", "net", "--subnet-range", "10.20.0.0/24")
    server = demo.json(
        *("server", "create", "first", "--image", "tiny", "--flavor", "m1.nano", "--wait"),
        *("--network", "net", "--key-name", "key", "--user-data", data),
    )
    assert server["status"] == "ACTIVE"
    log = demo("console", "log", "show", "first")
    found = re.search(r"port 22 of this guest is 127\.0\.0\.1:(\d+)", log)
    assert found is not None, log

    def inside(command: str) -> str:
        words = ["ssh", "-i", str(key), "-p", found[1], *SSH, "root@127.0.0.1", command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    assert until(120, lambda: inside("hostname")) == "first"
    assert until(30, lambda: inside("cat /root/proof")) == "user data ran"
    url = "http://169.254.169.254/openstack/latest/meta_data.json"
    assert json.loads(inside(f"wget -q -O - {url}"))["uuid"] == server["id"]
    cloud.processes[REAL].stop()
    cloud.processes[REAL].restart()
    cloud.processes[REAL].wait_healthy()
    assert inside("hostname") == "first"
    demo("server", "delete", "--wait", "first")
    assert not list((cloud.where / REAL / "instances").glob(f"{server['id']}*"))


def test_every_daemon_ends_soon_after_sigterm(cloud: Deployment) -> None:
    for name, process in reversed(cloud.processes.items()):
        assert process.stop() < 5, name
