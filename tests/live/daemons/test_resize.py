"""A real guest goes from one compute host to another with its disk, and back; both are processes
of their own with directories of their own."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import new_database
from tests.live.daemons.test_cloud import NAMES, SSH, Client, image
from tests.support.daemons import Deployment, deployment, until

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(shutil.which("qemu-storage-daemon") is None, reason="no QEMU"),
]
HOSTS = ("left", "right")


@pytest.fixture(scope="module")
def cloud(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    server = request.getfixturevalue("postgres")
    rabbit = request.getfixturevalue("rabbitmq")
    databases = {name: new_database(server) for name in NAMES}
    where = tmp_path_factory.mktemp("resize")
    with deployment(where, rabbit.url, databases, ()) as made:
        for host in HOSTS:
            made.start_compute(host, "qemu.QemuDriver")
        made.wait_healthy()
        yield made


def enter(client: Client, name: str, key: Path) -> Callable[[str], str]:
    """Commands inside a guest where it is now; empty while it does not answer."""

    def inside(command: str) -> str:
        found = re.findall(
            r"port 22 of this guest is 127\.0\.0\.1:(\d+)", client("console", "log", "show", name)
        )
        if not found:
            return ""
        words = ["ssh", "-i", str(key), "-p", found[-1], *SSH, "root@127.0.0.1", command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    assert until(200, lambda: inside("hostname")) == name
    return inside


def becomes(client: Client, name: str, status: str) -> str:
    """The host of a server once it has that status."""

    def look() -> str:
        shown = client.json("server", "show", name)
        assert shown["status"] != "ERROR", shown
        done = shown["status"] == status and shown["OS-EXT-STS:task_state"] is None
        return str(shown["OS-EXT-SRV-ATTR:host"]) if done else ""

    return until(240, look)


def sizes(inside: Callable[[str], str]) -> tuple[int, int]:
    """MiB of the root disk and of memory, as the guest sees them."""
    sectors = int(inside("cat /sys/block/vda/size"))
    memory = int(inside("awk '/MemTotal/ {print $2}' /proc/meminfo"))
    return sectors // 2048, memory // 1024


def remains(cloud: Deployment) -> list[str]:
    """What lies aside on any host."""
    return [str(p) for host in HOSTS for p in (cloud.where / host / "instances").glob("*_resize*")]


async def test_there_confirmed_and_back(cloud: Deployment, tmp_path: Path) -> None:
    tiny = await image(tmp_path)
    admin = Client(cloud, "admin")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    admin("flavor", "create", "small", "--ram", 192, "--disk", 1, "--vcpus", 1)
    admin("flavor", "create", "big", "--ram", 256, "--disk", 2, "--vcpus", 1)
    properties = [word for k, v in tiny.properties.items() for word in ("--property", f"{k}={v}")]
    admin(
        *("image", "create", "tiny", "--disk-format", "qcow2", "--container-format", "bare"),
        *("--file", tiny.path, "--property", "img_hv_type=qemu", *properties),
    )
    admin("keypair", "create", "key", "--public-key", f"{key}.pub")
    admin("network", "create", "net")
    admin("subnet", "create", "subnet", "--network", "net", "--subnet-range", "10.20.0.0/24")
    admin(
        *("server", "create", "guest", "--image", "tiny", "--flavor", "small", "--wait"),
        *("--network", "net", "--key-name", "key"),
    )
    first = becomes(admin, "guest", "ACTIVE")
    inside = enter(admin, "guest", key)
    before = sizes(inside)
    assert before[0] == 1024
    assert inside("echo first >proof && sync && cat proof") == "first"

    admin("server", "resize", "--flavor", "big", "guest")
    second = becomes(admin, "guest", "VERIFY_RESIZE")
    assert {first, second} == set(HOSTS)
    assert len(remains(cloud)) == 1
    inside = enter(admin, "guest", key)
    after = sizes(inside)
    assert (after[0], after[1] > before[1] + 40) == (2048, True)
    assert inside("cat proof") == "first"
    admin("server", "resize", "confirm", "guest")
    assert becomes(admin, "guest", "ACTIVE") == second
    assert remains(cloud) == []

    # A migration that is taken back: what the guest wrote in between is gone.
    admin("server", "migrate", "guest")
    assert becomes(admin, "guest", "VERIFY_RESIZE") == first
    inside = enter(admin, "guest", key)
    assert inside("cat proof; echo second >proof && sync && cat proof") == "first\nsecond"
    admin("server", "migrate", "revert", "guest")
    assert becomes(admin, "guest", "ACTIVE") == second
    inside = enter(admin, "guest", key)
    assert (inside("cat proof"), sizes(inside)[0]) == ("first", 2048)
    assert remains(cloud) == []

    admin("server", "delete", "--wait", "guest")
    left = [p for host in HOSTS for p in (cloud.where / host / "instances").glob("*-*-*")]
    assert left == []
