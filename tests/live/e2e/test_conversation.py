"""The ordinary clients make a server, log in, look around inside, and leave nothing behind."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.e2e.guests import Login
from tests.support.running import Running, Shell, until

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(240)]

USER_DATA = """#!/bin/sh
echo "user data ran on $(hostname)" >/root/proof
"""


@pytest.fixture(scope="module")
def user(cloud: Running, recorded: Path) -> Shell:
    return cloud.shell("kilonova", recorded)


@pytest.fixture(scope="module")
def admin(cloud: Running, recorded: Path) -> Shell:
    return cloud.shell("kilonova-admin", recorded)


THINGS = (
    ("server", "delete", "first", "renamed", "--wait"),
    ("router", "remove", "subnet", "router", "subnet"),
    ("router", "delete", "router"),
    ("network", "delete", "net"),
    ("security", "group", "delete", "ssh"),
    ("image", "delete", "own"),
    ("keypair", "delete", "key"),
    ("keypair", "delete", "made-key"),
)


class Made:
    """What the conversation has made so far; each test goes on where the one before ended."""

    key: Path
    server: str
    address: str
    login: Login
    before: set[str]


@pytest.fixture(scope="module")
def made(user: Shell) -> Iterator[Made]:
    yield Made()
    # Whatever a test stopped at: those of the next module begin with an empty project.
    for words in THINGS:
        user.run(*words)


def test_things_a_server_needs(
    cloud: Running, user: Shell, made: Made, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("user")
    made.key = home / "key"
    user.do("keypair", "create", "made-key", "--private-key", home / "made")
    assert "PRIVATE KEY" in (home / "made").read_text()
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", made.key], check=True, timeout=20
    )
    user.do("keypair", "create", "key", "--public-key", f"{made.key}.pub")
    assert {row["Name"] for row in user.json("keypair", "list")} == {"made-key", "key"}
    source = home / "tiny.qcow2"
    user.do("image", "save", "tiny", "--file", source)
    image = user.json(
        *("image", "create", "own", "--disk-format", "qcow2", "--container-format", "bare"),
        *("--file", source, "--property", "os_distro=tiny"),
    )
    shown = user.json("image", "show", "own")
    assert shown["status"] == "active"
    assert shown["size"] == source.stat().st_size
    assert image["id"] == shown["id"]
    user.do("network", "create", "net")
    user.do(
        *("subnet", "create", "subnet", "--network", "net", "--subnet-range", "10.20.0.0/24"),
        *("--dns-nameserver", "192.0.2.53"),
    )
    user.do("router", "create", "router", "--external-gateway", "public")
    user.do("router", "add", "subnet", "router", "subnet")
    user.do("security", "group", "create", "ssh")
    user.do(
        *("security", "group", "rule", "create", "ssh", "--protocol", "tcp", "--dst-port", "22"),
        *("--remote-ip", "0.0.0.0/0"),
    )
    cloud.settled()
    made.before = cloud.belongings()


def test_server_becomes_active(cloud: Running, user: Shell, made: Made, tmp_path: Path) -> None:
    data = tmp_path / "user-data"
    data.write_text(USER_DATA)
    server = user.json(
        *("server", "create", "first", "--flavor", "m1.nano", "--image", "own", "--wait"),
        *("--network", "net", "--security-group", "ssh", "--key-name", "key"),
        *("--user-data", data, "--use-config-drive"),
        *("--property", "colour=blue", "--property", "size=small"),
    )
    made.server = server["id"]
    assert server["status"] == "ACTIVE"
    assert server["properties"] == {"colour": "blue", "size": "small"}
    assert server["addresses"]["net"][0].startswith("10.20.0.")
    listed = user.json("server", "list")
    assert [(row["Name"], row["Status"], row["Image"]) for row in listed] == [
        ("first", "ACTIVE", "own")
    ]
    floating = user.json("floating", "ip", "create", "public")["floating_ip_address"]
    user.do("server", "add", "floating", "ip", "first", floating)
    made.address = floating
    made.login = Login(cloud, made.key, floating)


def test_login_and_user_data(user: Shell, made: Made) -> None:
    assert made.login.wait() == "first"
    said = until(lambda: made.login.run("cat /root/proof", check=False), 20, "the user data")
    assert said == "user data ran on first"
    assert "guest: userdata exit=0" in user.do("console", "log", "show", "first")
    assert "guest: sshd up" in user.do("console", "log", "show", "first", "--lines", "50")


@pytest.mark.parametrize("source", ["service", "drive"])
def test_metadata_inside_the_guest(made: Made, source: str) -> None:
    read = made.login.service if source == "service" else made.login.drive
    meta = json.loads(read("openstack/latest/meta_data.json"))
    assert meta["uuid"] == made.server
    assert meta["name"] == "first"
    assert meta["hostname"].split(".")[0] == "first"
    assert meta["meta"] == {"colour": "blue", "size": "small"}
    public = made.key.with_suffix(".pub").read_text()
    assert meta["public_keys"]["key"].split()[1] == public.split()[1]
    assert read("openstack/latest/user_data") == USER_DATA.strip()
    network = json.loads(read("openstack/latest/network_data.json"))
    assert [link["ethernet_mac_address"] for link in network["links"]] == [made.login.mac()]
    assert read("ec2/latest/meta-data.json" if source == "drive" else "latest/meta-data/hostname")


def test_rename_and_property_reach_the_metadata(user: Shell, made: Made) -> None:
    user.do("server", "set", "first", "--name", "renamed", "--property", "colour=red")

    def said() -> bool:
        meta = json.loads(made.login.service("openstack/latest/meta_data.json"))
        return (meta["name"], meta["meta"]["colour"]) == ("renamed", "red")

    until(said, 20, "the new name and property", pause=1)
    assert user.json("server", "show", "renamed")["properties"]["colour"] == "red"


def test_reboots(cloud: Running, user: Shell, made: Made) -> None:
    before = made.login.boots()
    user.do("server", "reboot", "renamed", "--soft", "--wait")
    until(lambda: made.login.boots() == before + 1, 60, "the guest after its soft reboot")
    user.do("server", "reboot", "renamed", "--hard", "--wait")
    until(lambda: made.login.boots() == before + 2, 60, "the guest after its hard reboot")


def test_stop_and_start(cloud: Running, user: Shell, made: Made) -> None:
    boots = made.login.boots()
    user.do("server", "stop", "renamed")
    until(lambda: user.json("server", "show", "renamed")["status"] == "SHUTOFF", 60, "SHUTOFF")
    assert not [word for word in cloud.belongings() if word.startswith("process")]
    user.do("server", "start", "renamed")
    until(lambda: made.login.boots() == boots + 1, 60, "the guest after its start")
    assert user.json("server", "show", "renamed")["status"] == "ACTIVE"
    events = {row["Action"] for row in user.json("server", "event", "list", "renamed")}
    assert events >= {"create", "reboot", "stop", "start"}


def test_delete_leaves_nothing(cloud: Running, user: Shell, admin: Shell, made: Made) -> None:
    assert cloud.belongings() > made.before
    user.do("server", "delete", "renamed", "--wait")
    assert "No Server found" in user.refused("server", "show", "renamed")
    cloud.gone(made.before, 60)
    assert admin.json("port", "list", "--device-id", made.server) == []
    assert cloud.findings() == []
    user.do("floating", "ip", "delete", made.address)
    user.do("router", "remove", "subnet", "router", "subnet")
    user.do("router", "delete", "router")
    user.do("network", "delete", "net")
    user.do("security", "group", "delete", "ssh")
    user.do("image", "delete", "own")
    user.do("keypair", "delete", "key", "made-key")
    assert admin.json("hypervisor", "stats", "show")["running_vms"] == 0
