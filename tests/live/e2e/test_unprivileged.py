"""The same cloud without root: user-mode networks, said clearly, and a way into its guests."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.e2e.guests import Login
from tests.support import namespace, running
from tests.support.running import ROOT, Running, until

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(240)]

HELPER = ROOT / "tests/support/unprivileged.py"
USER_DATA = "#!/bin/sh\necho ran >/root/proof\n"


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home directory of nobody, with what has already been fetched for the guest image."""
    made = Path(tempfile.mkdtemp(prefix="kilonova-nobody-", dir="/tmp"))
    made.chmod(0o755)
    cache = Path.home() / ".cache/kilonova"
    if cache.exists():
        shutil.copytree(cache, made / ".cache/kilonova")
    who = pwd.getpwnam("nobody")
    for folder, _, files in os.walk(made):
        for path in (folder, *(f"{folder}/{name}" for name in files)):
            os.chown(path, who.pw_uid, who.pw_gid)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def humble(home: Path) -> Iterator[Running]:
    """A cloud whose processes all run as nobody (not started yet)."""
    why = namespace.possible()
    if why is not None:
        pytest.skip(f"cannot become another user in a namespace: {why}")
    needed = dict.fromkeys([Path(sys.base_prefix), Path(sys.prefix), ROOT])
    words = ["unshare", "-m", sys.executable, HELPER, home, *needed, "--"]
    with running.running(home / "state", port_base=22500, prefix=words) as made:
        yield made


def test_start_says_what_is_missing(humble: Running) -> None:
    said = " ".join(humble.up().stdout.split())
    assert "need root" in said
    assert "user-mode network" in said
    assert "The cloud is up." in said
    assert Path(f"/proc/{humble.pid()}").owner() == "nobody"


def test_guest_is_reached_by_its_forwarded_port(humble: Running, tmp_path: Path) -> None:
    key, data = tmp_path / "key", tmp_path / "data"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, timeout=20
    )
    data.write_text(USER_DATA)
    user = humble.shell()
    user.do("keypair", "create", "key", "--public-key", f"{key}.pub")
    server = user.json(
        *("server", "create", "humble", "--flavor", "m1.nano", "--image", "tiny", "--wait"),
        *("--nic", "auto", "--key-name", "key", "--user-data", data),
    )
    assert server["status"] == "ACTIVE"
    said = humble.kilonova("status", "--state-dir", humble.state_dir).stdout
    shown = re.search(rf"server {server['id']} \(humble\): ssh -p (\d+) root@127.0.0.1", said)
    assert shown is not None, said
    log = user.do("console", "log", "show", "humble")
    assert f"host: port 22 of this guest is 127.0.0.1:{shown[1]}" in log
    login = Login(humble, key, "127.0.0.1", int(shown[1]))
    assert login.wait() == "humble"
    meta = json.loads(login.service("openstack/latest/meta_data.json"))
    assert (meta["uuid"], meta["name"]) == (server["id"], "humble")
    until(lambda: login.run("cat /root/proof", check=False) == "ran", 20, "the user data")
    guests = [line for line in humble.space.processes().values() if "qemu-system" in line]
    assert len(guests) == 1


def test_guest_outlives_the_cloud_and_is_found_again(humble: Running) -> None:
    def process() -> list[int]:
        found = humble.space.processes().items()
        return [pid for pid, line in found if line.startswith("/usr/bin/qemu-system")]

    before = process()
    assert len(before) == 1
    humble.kill()
    assert process() == before
    humble.up()
    assert process() == before
    user = humble.shell()
    assert user.json("server", "show", "humble")["status"] == "ACTIVE"
    user.do("server", "delete", "humble", "--wait")
    assert process() == []
    assert not [word for word in humble.belongings() if word.startswith("file")]
