"""A volume goes from a guest of one compute host to a guest of another, and keeps its data."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import new_database
from tests.live.daemons.test_cloud import NAMES, SSH, Client, image
from tests.support.daemons import Deployment, deployment, until
from tests.support.servers import free_port

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("qemu-storage-daemon") is None, reason="no QEMU"),
]
HOSTS = ("left", "right")


class WithVolumes(Deployment):
    """The block storage service is on the controller, and exports volumes."""

    def serve_volumes(self) -> None:
        """Start it, or start it anew."""
        if "kilonova-volume" in self.processes:
            process = self.processes["kilonova-volume"]
            process.stop()
            process.restart()
        else:
            file = self.neighbours_file()
            text = file.read_text().replace(
                "[DEFAULT]\n", "[DEFAULT]\nhost = controller\nmy_ip = 127.0.0.1\n"
            )
            export = f"[embedded]\nvolume_export = nbd\nvolume_export_port = {free_port()}\n"
            file = self.where / "volume.conf"
            file.write_text(text.replace("[embedded]\n", export))
            argv = ("--config-file", str(file), "--port", str(self.ports["volume"]))
            process = self.start("kilonova-volume", *argv, url=self.url("volume"))
        process.wait_healthy()

    def end_exports(self) -> None:
        """End the process that outlives the service."""
        try:
            pid = int((self.where / "neighbours/volumes/exports/pid").read_text())
            os.kill(pid, signal.SIGTERM)
        except (FileNotFoundError, ProcessLookupError):
            return


@pytest.fixture(scope="module")
def cloud(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WithVolumes]:
    server = request.getfixturevalue("postgres")
    rabbit = request.getfixturevalue("rabbitmq")
    databases = {name: new_database(server) for name in NAMES}
    where = tmp_path_factory.mktemp("volumes")
    with deployment(where, rabbit.url, databases, (), kind=WithVolumes) as made:
        assert isinstance(made, WithVolumes)
        made.serve_volumes()
        for host in HOSTS:
            made.start_compute(host, "qemu.QemuDriver")
        made.wait_healthy()
        try:
            yield made
        finally:
            made.end_exports()


def login(client: Client, name: str, key: Path) -> Callable[[str], str]:
    """Commands inside a guest; empty while it does not answer."""
    log = client("console", "log", "show", name)
    found = re.search(r"port 22 of this guest is 127\.0\.0\.1:(\d+)", log)
    assert found is not None, log
    words = ["ssh", "-i", str(key), "-p", found[1], *SSH, "root@127.0.0.1"]

    def inside(command: str) -> str:
        done = subprocess.run(
            [*words, command], capture_output=True, text=True, timeout=30, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    assert until(150, lambda: inside("hostname")) == name
    return inside


async def test_a_volume_wanders(cloud: WithVolumes, tmp_path: Path) -> None:
    tiny = await image(tmp_path)
    admin = Client(cloud, "admin")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    admin("flavor", "create", "m1.nano", "--ram", 192, "--disk", 1, "--vcpus", 1)
    properties = [word for k, v in tiny.properties.items() for word in ("--property", f"{k}={v}")]
    admin(
        *("image", "create", "tiny", "--disk-format", "qcow2", "--container-format", "bare"),
        *("--file", tiny.path, "--property", "img_hv_type=qemu", *properties),
    )
    admin("keypair", "create", "key", "--public-key", f"{key}.pub")
    admin("network", "create", "net")
    admin("subnet", "create", "subnet", "--network", "net", "--subnet-range", "10.20.0.0/24")
    admin("volume", "create", "--size", 1, "data")
    for host in HOSTS:
        admin(
            *("server", "create", f"on-{host}", "--image", "tiny", "--flavor", "m1.nano"),
            *("--network", "net", "--key-name", "key", "--wait"),
            *("--availability-zone", f"nova:{host}"),
        )
    wrote = ""
    for host in HOSTS:
        inside = login(admin, f"on-{host}", key)
        admin("server", "add", "volume", f"on-{host}", "data")
        until(120, partial(inside, "test -b /dev/vdb && echo there"))
        seen = inside("dd if=/dev/vdb bs=512 count=1 2>/dev/null | head -n 1")
        assert seen.replace("\0", "") == wrote
        # The service may come and go meanwhile.
        cloud.serve_volumes()
        wrote = f"hello from {host}"
        inside(f"echo {wrote} | dd of=/dev/vdb bs=512 conv=sync && sync")
        assert inside("dd if=/dev/vdb bs=512 count=1 2>/dev/null | head -n 1") == wrote
        admin("server", "remove", "volume", f"on-{host}", "data")
        until(120, lambda: admin.json("volume", "show", "data")["status"] == "available")
    for host in HOSTS:
        admin("server", "delete", "--wait", f"on-{host}")
    assert not list((cloud.where / "neighbours/volumes/exports").glob("*.part"))
