"""A real guest is suspended, shelved and brought back; it knows what it did, and what it wrote."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.live.e2e.guests import Login
from tests.support.running import Running, Shell, until

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(400)]

COUNT = "i=0; while :; do i=$((i+1)); echo $i >/run/count; sleep 0.2; done"


@pytest.fixture(scope="module")
def user(cloud: Running) -> Shell:
    return cloud.shell("kilonova")


class Story:
    """What the conversation has made so far; each test goes on where the one before ended."""

    login: Login
    address: str
    before: set[str]


@pytest.fixture(scope="module")
def story() -> Story:
    return Story()


def shown(cloud: Running) -> dict[str, object]:
    """The server, as administrators see it."""
    found: dict[str, object] = cloud.shell("kilonova-admin").json(
        "server", "list", "--all-projects", "--long", "--name", "bear"
    )[0]
    return found


def becomes(cloud: Running, status: str) -> dict[str, object]:
    """The server once it has that status and no task."""

    def look() -> dict[str, object] | None:
        server = shown(cloud)
        done = server["Status"] == status and server["Task State"] in (None, "None")
        return server if done else None

    found: dict[str, object] = until(look, 120, f"the server to be {status}")
    return found


def test_a_guest_is_there(cloud: Running, user: Shell, story: Story, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    user.do("keypair", "create", "resting", "--public-key", f"{key}.pub")
    user.do("network", "create", "resting")
    user.do(
        *("subnet", "create", "resting", "--network", "resting"),
        *("--subnet-range", "10.40.0.0/24"),
    )
    user.do("router", "create", "resting", "--external-gateway", "public")
    user.do("router", "add", "subnet", "resting", "resting")
    user.do("security", "group", "create", "resting")
    user.do(
        *("security", "group", "rule", "create", "resting", "--protocol", "tcp"),
        *("--dst-port", "22", "--remote-ip", "0.0.0.0/0"),
    )
    cloud.settled()
    story.before = cloud.belongings()
    user.do(
        *("server", "create", "bear", "--flavor", "m1.nano", "--image", "tiny", "--wait"),
        *("--network", "resting", "--security-group", "resting", "--key-name", "resting"),
    )
    story.address = user.json("floating", "ip", "create", "public")["floating_ip_address"]
    user.do("server", "add", "floating", "ip", "bear", story.address)
    story.login = Login(cloud, key, story.address)
    assert story.login.wait() == "bear"
    until(story.login.boots, 60, "the guest to be ready")


def test_suspended_it_goes_on_where_it_was(cloud: Running, user: Shell, story: Story) -> None:
    login = story.login
    login.run(f"({COUNT}) >/dev/null 2>&1 </dev/null &")
    before = int(until(lambda: login.run("cat /run/count", check=False), 20, "the count"))
    up = float(login.run("cut -d' ' -f1 /proc/uptime"))
    user.do("server", "suspend", "bear")
    becomes(cloud, "SUSPENDED")
    assert login.run("true; echo here", check=False) == ""
    cloud.kill()
    cloud.up()
    assert becomes(cloud, "SUSPENDED")["Power State"] in (7, "Suspended")
    user.do("server", "resume", "bear")
    becomes(cloud, "ACTIVE")
    login.wait()
    first = int(login.run("cat /run/count"))
    assert int(login.run("sleep 1; cat /run/count")) > first >= before
    assert float(login.run("cut -d' ' -f1 /proc/uptime")) > up
    assert login.boots() == 1
    assert cloud.findings() == []


def test_shelved_it_comes_back_with_its_disk(cloud: Running, user: Shell, story: Story) -> None:
    login = story.login
    login.run("echo winter >/data/word; sync")
    user.do("server", "shelve", "bear")
    gone = becomes(cloud, "SHELVED_OFFLOADED")
    assert gone["Host"] in (None, "None", "")
    assert "bear-shelved" in {row["Name"] for row in user.json("image", "list")}
    cloud.gone(story.before, 30, ("process", "file"))
    assert cloud.findings() == []
    user.do("server", "unshelve", "bear")
    becomes(cloud, "ACTIVE")
    assert login.wait() == "bear"
    assert until(login.boots, 60, "the guest to be ready") == 2
    assert login.run("cat /data/word") == "winter"
    assert "bear-shelved" not in {row["Name"] for row in user.json("image", "list")}
    assert cloud.findings() == []
    # Its image is gone, but what its disk lies over is not: it starts again.
    user.do("server", "reboot", "bear", "--hard", "--wait")
    assert until(lambda: login.boots() if login.boots() > 2 else 0, 90, "its reboot") == 3
    assert login.run("cat /data/word") == "winter"


def test_nothing_is_left(cloud: Running, user: Shell, story: Story) -> None:
    user.do("server", "shelve", "bear")
    becomes(cloud, "SHELVED_OFFLOADED")
    user.do("server", "delete", "bear", "--wait")
    user.do("floating", "ip", "delete", story.address)
    cloud.gone(story.before, 60)
    assert "bear-shelved" not in {row["Name"] for row in user.json("image", "list")}
    assert cloud.findings() == []
    user.do("router", "remove", "subnet", "resting", "resting")
    user.do("router", "delete", "resting")
    user.do("network", "delete", "resting")
    user.do("security", "group", "delete", "resting")
    user.do("keypair", "delete", "resting")
