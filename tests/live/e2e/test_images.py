"""Images of guests that run: another guest starts from one and has what the first one wrote."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.live.e2e.guests import Login
from tests.support.running import Running, Shell, until

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def user(cloud: Running) -> Shell:
    return cloud.shell("kilonova")


class Story:
    """What the conversation has made so far; each test goes on where the one before ended."""

    login: Login
    key: Path
    server: str
    base: str
    boots: int


@pytest.fixture(scope="module")
def story() -> Story:
    return Story()


def image(user: Shell, name: str) -> dict[str, Any]:
    """An image with its properties."""
    found: dict[str, Any] = user.json("image", "show", name)
    return found


def names(user: Shell) -> list[str]:
    """The names of all images."""
    return sorted(row["Name"] for row in user.json("image", "list"))


def reached(cloud: Running, user: Shell, story: Story, server: str) -> Login:
    """A guest with an address from outside, once it answers."""
    address = user.json("floating", "ip", "create", "public")["floating_ip_address"]
    user.do("server", "add", "floating", "ip", server, address)
    login = Login(cloud, story.key, address)
    assert login.wait() == server
    return login


def made(user: Shell, name: str, *words: str) -> dict[str, Any]:
    """A new server on the network of the story."""
    found: dict[str, Any] = user.json(
        *("server", "create", name, "--flavor", "m1.nano", "--network", "pictures", "--wait"),
        *("--security-group", "pictures", "--key-name", "pictures", *words),
    )
    assert found["status"] == "ACTIVE"
    return found


def rests(user: Shell, server: str) -> None:
    """Wait until nothing is done to a server any more."""

    def look() -> bool:
        return user.json("server", "show", server)["OS-EXT-STS:task_state"] is None

    until(look, 60, f"{server} to rest")


def copies(cloud: Running) -> list[str]:
    """Copies of disks on the host."""
    return [file.name for file in (cloud.state_dir / "instances").rglob("snapshot-*")]


def test_a_guest_that_writes(
    cloud: Running, user: Shell, story: Story, tmp_path_factory: pytest.TempPathFactory
) -> None:
    story.key = tmp_path_factory.mktemp("key") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", story.key], check=True)
    user.do("keypair", "create", "pictures", "--public-key", f"{story.key}.pub")
    user.do("network", "create", "pictures")
    user.do(
        *("subnet", "create", "pictures", "--network", "pictures"),
        *("--subnet-range", "10.31.0.0/24"),
    )
    user.do("router", "create", "pictures", "--external-gateway", "public")
    user.do("router", "add", "subnet", "pictures", "pictures")
    user.do("security", "group", "create", "pictures")
    user.do(
        *("security", "group", "rule", "create", "pictures", "--protocol", "tcp"),
        *("--dst-port", "22", "--remote-ip", "0.0.0.0/0"),
    )
    server = made(user, "model", "--image", "tiny")
    story.server = server["id"]
    story.base = image(user, "tiny")["id"]
    story.login = reached(cloud, user, story, "model")
    story.boots = until(story.login.boots, 60, "the guest to be ready")
    story.login.run("echo painted > /data/picture; sync")


def test_an_image_while_it_runs(cloud: Running, user: Shell, story: Story) -> None:
    user.do("server", "image", "create", "model", "--name", "painting", "--wait")
    told = image(user, "painting")
    assert told["status"] == "active"
    assert told["disk_format"] == "qcow2"
    about = told["properties"]
    assert about["image_type"] == "snapshot"
    assert about["instance_uuid"] == story.server
    assert about["base_image_ref"] == story.base
    assert story.login.boots() == story.boots
    assert user.json("server", "show", "model")["status"] == "ACTIVE"
    events = user.json("server", "event", "list", "model")
    assert events[0]["Action"] == "createImage"
    assert copies(cloud) == []


def test_another_guest_starts_from_it(cloud: Running, user: Shell, story: Story) -> None:
    """It has an agent inside, which must quiesce it for an image of its own."""
    user.do("image", "set", "painting", "--property", "os_require_quiesce=yes")
    made(user, "heir", "--image", "painting")
    login = reached(cloud, user, story, "heir")
    until(lambda: login.boots() > story.boots, 60, "the second guest to be ready")
    assert login.run("cat /data/picture") == "painted"
    until(lambda: login.run("ls /run/qemu-ga.pid", check=False), 60, "the agent inside")
    user.do("server", "image", "create", "heir", "--name", "frozen", "--wait")
    user.do("server", "delete", "heir", "--wait")


def test_an_image_while_it_is_off(cloud: Running, user: Shell, story: Story) -> None:
    user.do("server", "stop", "model")
    until(lambda: user.json("server", "show", "model")["status"] == "SHUTOFF", 90, "SHUTOFF")
    user.do("server", "image", "create", "model", "--name", "still", "--wait")
    assert image(user, "still")["status"] == "active"
    assert user.json("server", "show", "model")["status"] == "SHUTOFF"


def test_only_the_newest_backups_are_kept(cloud: Running, user: Shell, story: Story) -> None:
    for name in ("first", "second", "third"):
        user.do(
            *("server", "backup", "create", "model", "--name", name),
            *("--type", "daily", "--rotate", "2", "--wait"),
        )
        rests(user, "model")
    assert [name for name in names(user) if name in ("first", "second", "third")] == [
        "second",
        "third",
    ]
    about = image(user, "third")["properties"]
    assert (about["image_type"], about["backup_type"]) == ("backup", "daily")


def test_a_cloud_that_is_killed_ends_what_it_began(
    cloud: Running, user: Shell, story: Story
) -> None:
    user.do("server", "start", "model")
    until(lambda: user.json("server", "show", "model")["status"] == "ACTIVE", 90, "ACTIVE")
    user.do("server", "image", "create", "model", "--name", "torn")
    cloud.kill()
    cloud.up()
    until(lambda: image(user, "torn")["status"] == "active", 120, "the image")
    rests(user, "model")
    assert copies(cloud) == []


def test_deleting_the_server_leaves_no_image(cloud: Running, user: Shell, story: Story) -> None:
    user.do("server", "image", "create", "model", "--name", "late")
    user.do("server", "delete", "model", "--wait")
    until(lambda: "late" not in names(user), 60, "the image to be gone")
    assert copies(cloud) == []


def test_an_image_of_volumes(cloud: Running, user: Shell, story: Story) -> None:
    made(user, "stone", "--image", "tiny", "--boot-from-volume", "1")
    login = reached(cloud, user, story, "stone")
    until(login.boots, 60, "the guest to be ready")
    login.run("echo carved > /data/picture; sync")
    user.do("server", "image", "create", "stone", "--name", "statue", "--wait")
    told = image(user, "statue")
    assert (told["status"], told["size"]) == ("active", 0)
    (device,) = json.loads(told["properties"]["block_device_mapping"])
    assert device["source_type"] == "snapshot"
    made(user, "cast", "--image", "statue")
    copy = reached(cloud, user, story, "cast")
    until(copy.boots, 60, "the guest to be ready")
    assert copy.run("cat /data/picture") == "carved"
    for server in ("stone", "cast"):
        user.do("server", "delete", server, "--wait")
    cloud.settled()


def test_nothing_is_left(cloud: Running, user: Shell) -> None:
    """What is made of servers outlives them; what is left is deleted like anything else."""
    for name in ("painting", "frozen", "still", "second", "third", "torn", "statue"):
        user.do("image", "delete", name)
    assert names(user) == ["tiny"]
    for row in user.json("volume", "snapshot", "list"):
        user.do("volume", "snapshot", "delete", row["ID"])
    until(lambda: user.json("volume", "snapshot", "list") == [], 60, "the snapshots to go")
    for row in user.json("volume", "list"):
        user.do("volume", "delete", row["ID"])
    until(lambda: user.json("volume", "list") == [], 60, "the volumes to go")
    for row in user.json("floating", "ip", "list"):
        user.do("floating", "ip", "delete", row["ID"])
    user.do("router", "remove", "subnet", "pictures", "pictures")
    user.do("router", "delete", "pictures")
    user.do("network", "delete", "pictures")
    user.do("security", "group", "delete", "pictures")
    user.do("keypair", "delete", "pictures")
    cloud.settled()
    assert cloud.findings() == []
