"""The ordinary clients make a real guest on a cloud of daemons, and log in."""

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
from tests.support.daemons import Deployment, deployment, until

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(360)]

NAMES = ("api", "cell0", "cell1", "placement")
USER_DATA = "#!/bin/sh\necho user data ran >/root/proof\n"
SSH = (
    *("-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"),
    *("-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes"),
    *("-o", "ConnectTimeout=5", "-o", "LogLevel=ERROR"),
)


@pytest.fixture(params=["postgres", "mariadb"])
def cloud(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """A cloud with one host for real guests on user-mode networks, once per engine."""
    server = request.getfixturevalue(request.param)
    rabbit = request.getfixturevalue("rabbitmq")
    databases = {name: new_database(server) for name in NAMES}
    where = tmp_path_factory.mktemp(request.param)
    with deployment(where, rabbit.url, databases, ()) as made:
        made.start_compute("real", "qemu.QemuDriver").wait_healthy()
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
        *("--file", tiny.path, *properties),
    )
    demo("keypair", "create", "key", "--public-key", f"{key}.pub")
    demo("network", "create", "net")
    demo("subnet", "create", "subnet", "--network", "net", "--subnet-range", "10.20.0.0/24")
    until(30, lambda: "| up " in admin("compute", "service", "list", "--service", "nova-compute"))
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
    cloud.processes["real"].stop()
    cloud.processes["real"].restart()
    cloud.processes["real"].wait_healthy()
    assert inside("hostname") == "first"
    demo("server", "delete", "--wait", "first")
    assert not list((cloud.where / "real" / "instances").glob(f"{server['id']}*"))
