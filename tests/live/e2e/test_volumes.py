"""A guest that starts from a volume gets another one while it runs, and keeps what it wrote."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.live.e2e.guests import Login
from tests.support.running import Running, Shell, until

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def user(cloud: Running) -> Shell:
    return cloud.shell("kilonova")


def status(user: Shell, volume: str) -> str:
    """The status of a volume."""
    return str(user.json("volume", "show", volume)["status"])


def audited(cloud: Running) -> list[object]:
    """What the audit finds."""
    report = cloud.kilonova("audit", "--state-dir", cloud.state_dir, "--json", check=False)
    found: list[object] = json.loads(report.stdout)["findings"]
    return found


class Story:
    """What the conversation has made so far; each test goes on where the one before ended."""

    login: Login
    root: str
    address: str
    boots: int
    before: set[str]


@pytest.fixture(scope="module")
def story() -> Story:
    return Story()


def test_boot_from_volume(cloud: Running, user: Shell, story: Story, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    user.do("keypair", "create", "volumes", "--public-key", f"{key}.pub")
    user.do("network", "create", "volumes")
    user.do(
        *("subnet", "create", "volumes", "--network", "volumes"),
        *("--subnet-range", "10.30.0.0/24"),
    )
    user.do("router", "create", "volumes", "--external-gateway", "public")
    user.do("router", "add", "subnet", "volumes", "volumes")
    user.do("security", "group", "create", "volumes")
    user.do(
        *("security", "group", "rule", "create", "volumes", "--protocol", "tcp"),
        *("--dst-port", "22", "--remote-ip", "0.0.0.0/0"),
    )
    user.do("volume", "create", "--size", "1", "data")
    cloud.settled()
    story.before = cloud.belongings()
    server = user.json(
        *("server", "create", "stone", "--flavor", "m1.nano", "--image", "tiny", "--wait"),
        *("--boot-from-volume", "1", "--network", "volumes", "--security-group", "volumes"),
        *("--key-name", "volumes"),
    )
    assert server["status"] == "ACTIVE"
    [root] = [row for row in user.json("volume", "list") if row["Name"] != "data"]
    assert root["Status"] == "in-use"
    story.root = root["ID"]
    story.address = user.json("floating", "ip", "create", "public")["floating_ip_address"]
    user.do("server", "add", "floating", "ip", "stone", story.address)
    story.login = Login(cloud, key, story.address)
    assert story.login.wait() == "stone"
    story.boots = until(story.login.boots, 60, "the guest to be ready")


def plug(user: Shell, login: Login) -> None:
    """Plug the volume in and wait until the guest has it."""
    user.do("server", "add", "volume", "stone", "data", "--device", "/dev/vdb")
    until(lambda: status(user, "data") == "in-use", 60, "the volume to be in use")
    until(lambda: login.run("test -b /dev/vdb && echo yes", check=False), 30, "the disk inside")


def first_line(login: Login) -> str:
    """The first line on the volume, as the guest reads it."""
    return login.run("dd if=/dev/vdb bs=512 count=1 2>/dev/null | head -n 1")


def test_a_volume_is_plugged_in_and_out(user: Shell, story: Story) -> None:
    login = story.login
    plug(user, login)
    assert login.run("cat /sys/block/vdb/size") == str(2 << 20)
    login.run("echo remember me | dd of=/dev/vdb bs=512 conv=sync && sync")
    user.refused("volume", "delete", "data")
    user.do("server", "remove", "volume", "stone", "data")
    until(lambda: status(user, "data") == "available", 60, "the volume to be free")
    until(lambda: login.run("test -b /dev/vdb || echo no", check=False), 20, "the disk to go")
    plug(user, login)
    assert first_line(login) == "remember me"
    user.do("--os-volume-api-version", "3.42", "volume", "set", "--size", "2", "data")
    until(
        lambda: login.run("cat /sys/block/vdb/size", check=False) == str(4 << 20),
        60,
        "the guest to see the new size",
    )


def test_a_killed_cloud_and_a_restarted_guest_have_it_still(
    cloud: Running, user: Shell, story: Story
) -> None:
    cloud.kill()
    cloud.up()
    story.login.run("sync")
    user.do("server", "reboot", "stone", "--hard", "--wait")
    until(lambda: story.login.boots() > story.boots, 90, "the guest after its reboot")
    assert first_line(story.login) == "remember me"
    assert audited(cloud) == []


def test_delete_leaves_the_volumes(cloud: Running, user: Shell, story: Story) -> None:
    user.do("server", "delete", "stone", "--wait")
    cloud.gone(story.before, 60)
    assert {row["Status"] for row in user.json("volume", "list")} == {"available"}
    user.do("volume", "delete", "data", story.root)
    until(lambda: user.json("volume", "list") == [], 30, "the volumes to be gone")
    assert audited(cloud) == []
    user.do("floating", "ip", "delete", story.address)
    user.do("router", "remove", "subnet", "volumes", "volumes")
    user.do("router", "delete", "volumes")
    user.do("network", "delete", "volumes")
    user.do("security", "group", "delete", "volumes")
    user.do("keypair", "delete", "volumes")
