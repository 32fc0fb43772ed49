"""Volumes on other hosts than their service's: two hosts with real QEMU, over NBD."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kilonova.base import programs
from kilonova.domain.guest import Disk, GuestSpec
from kilonova.virt.qemu import QemuDriver
from kilonova.virt.qemu.command import node_name
from tests.contracts.virt.conftest import Lab
from tests.support import volume
from tests.support.guests import SERVER, spec
from tests.support.servers import free_port
from tests.support.volume import Place, good

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        not (shutil.which("qemu-system-x86_64") and shutil.which("qemu-storage-daemon")),
        reason="no QEMU",
    ),
]
OTHER = "5f2a9b1c-0000-4000-8000-000000000002"
GIB = 1 << 30
DATA = b"seven" + b"\x07" * 4091


class Cloud:
    """A volume service that can be started anew, and hosts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.port = free_port()
        self.place: Place
        self.labs: list[Lab] = []

    async def start(self) -> None:
        (self.path / "cinder").mkdir(exist_ok=True)
        self.place = await volume.start(
            self.path / "cinder",
            host="controller",
            export_address="127.0.0.1",
            export_port=self.port,
        )

    async def restart(self) -> None:
        await self.place.volumes.close()
        await self.start()

    async def host(self, name: str) -> Lab:
        lab = Lab("qemu", self.path / name)
        await lab.start()
        self.labs.append(lab)
        return lab

    @property
    def daemon(self) -> int | None:
        """The process behind the exports."""
        try:
            pid = int((self.path / "cinder/volumes/exports/pid").read_text())
            os.kill(pid, 0)
        except (FileNotFoundError, ProcessLookupError):
            return None
        return pid

    async def ended(self) -> bool:
        """Whether the exports' process goes away."""
        for _ in range(100):
            if self.daemon is None:
                return True
            await asyncio.sleep(0.05)
        return False

    async def attach(self, volume_id: str, server_id: str, host: str) -> Disk:
        """Reserve, connect, complete: as compute does it."""
        body: dict[str, Any] = {"volume_uuid": volume_id, "instance_uuid": server_id}
        admin = self.place.admin
        made = good(await admin.post("/v3/attachments", json={"attachment": body}))["attachment"]
        where = f"/v3/attachments/{made['id']}"
        connector = {"host": host, "ip": "127.0.0.1"}
        answer = await admin.put(where, json={"attachment": {"connector": connector}})
        info = dict(good(answer)["attachment"]["connection_info"])
        good(await admin.post(f"{where}/action", json={"os-complete": {}}), 204)
        connection = {"driver_volume_type": info.pop("driver_volume_type"), "data": info}
        return Disk(
            id=f"v-{host}",
            role="volume",
            source="volume",
            device="vdb",
            format="raw",
            bus="virtio",
            size_mb=1024,
            serial=volume_id,
            volume_id=volume_id,
            attachment_id=made["id"],
            connection=connection,
        )

    async def detach(self, disk: Disk) -> None:
        good(await self.place.admin.delete(f"/v3/attachments/{disk.attachment_id}"))


@pytest.fixture
async def cloud(tmp_path: Path, guests_end: None) -> AsyncIterator[Cloud]:
    made = Cloud(tmp_path)
    await made.start()
    yield made
    for lab in made.labs:
        for server_id in (SERVER, OTHER):
            await lab.driver.destroy(spec(server_id), keep_disks=False)
        await lab.stop()
    await made.place.volumes.close()
    if (pid := made.daemon) is not None:
        os.kill(pid, signal.SIGKILL)


def driver(lab: Lab) -> QemuDriver:
    """The real one."""
    assert isinstance(lab.driver, QemuDriver)
    return lab.driver


async def ask(lab: Lab, server_id: str, command: str, **arguments: Any) -> Any:
    """QEMU's answer."""
    return await driver(lab)._find(server_id).ask(command, arguments)


async def reads(lab: Lab, server_id: str, disk: Disk) -> bytes:
    """The first 4 KiB as the guest's QEMU finds them: it lets another program look."""
    port, node = str(free_port()), node_name(disk, disk.device)
    where = {"type": "inet", "data": {"host": "127.0.0.1", "port": port}}
    await ask(lab, server_id, "nbd-server-start", addr=where)
    export = {"type": "nbd", "id": "look", "node-name": node, "name": "look"}
    await ask(lab, server_id, "block-export-add", **export)
    target = lab.path / "copy"
    await programs.run(
        *("qemu-img", "dd", "-f", "raw", "-O", "raw", "bs=4096", "count=1"),
        *(f"if=nbd://127.0.0.1:{port}/look", f"of={target}"),
    )
    await ask(lab, server_id, "nbd-server-stop")
    return target.read_bytes()


async def size(lab: Lab, server_id: str, disk: Disk) -> int:
    """As the guest has it (bytes)."""
    for node in await ask(lab, server_id, "query-named-block-nodes", flat=True):
        if node["node-name"] == node_name(disk, disk.device):
            return int(node["image"]["virtual-size"])
    return 0


def having(guest: GuestSpec, *more: Disk) -> GuestSpec:
    """The guest with these volumes."""
    return msgspec.structs.replace(guest, disks=(guest.disks[0], *more))


async def test_a_volume_wanders(cloud: Cloud) -> None:
    made = await cloud.place.make(cloud.place.admin)
    file = cloud.place.volumes.files.volume(made["id"])
    with file.open("r+b") as data:
        data.write(DATA)
    first, second = await cloud.host("h1"), await cloud.host("h2")
    await first.driver.spawn(spec(), paused=False)
    disk = await cloud.attach(made["id"], SERVER, "h1")
    assert disk.connection is not None
    assert disk.connection["driver_volume_type"] == "nbd"
    assert (await driver(first).attach_disk(having(spec(), disk), disk)).pid is not None
    assert await reads(first, SERVER, disk) == DATA
    secrets = first.path / "instances" / SERVER / "secrets"
    assert [p.stat().st_mode & 0o777 for p in secrets.rglob("*.psk")] == [0o600]
    # There is no system in the guest that would let go of the volume.
    await first.driver.power_off(spec(), seconds=0)
    await driver(first).detach_disk(spec(), disk)
    assert not secrets.exists()
    await cloud.detach(disk)
    assert await cloud.ended()
    disk = await cloud.attach(made["id"], OTHER, "h2")
    # Here it is there from the start.
    await second.driver.spawn(having(spec(OTHER), disk), paused=False)
    assert await reads(second, OTHER, disk) == DATA


async def test_services_come_and_go(cloud: Cloud) -> None:
    made = await cloud.place.make(cloud.place.admin)
    file = cloud.place.volumes.files.volume(made["id"])
    with file.open("r+b") as data:
        data.write(DATA)
    lab = await cloud.host("h1")
    disk = await cloud.attach(made["id"], SERVER, "h1")
    guest = having(spec(), disk)
    await lab.driver.spawn(guest, paused=False)
    before = cloud.daemon
    assert before is not None
    await cloud.restart()
    assert cloud.daemon == before
    assert await reads(lab, SERVER, disk) == DATA
    os.kill(before, signal.SIGKILL)
    assert await cloud.ended()
    # The guest waits for the volume until the service has mended it.
    assert await reads(lab, SERVER, disk) == DATA
    assert cloud.daemon not in (None, before)
    await lab.restart()
    path = f"/v3/volumes/{made['id']}/action"
    good(await cloud.place.admin.post(path, json={"os-extend": {"new_size": 2}}), 202)
    await cloud.place.done()
    grown = msgspec.structs.replace(disk, size_mb=2048)
    await driver(lab).resize_disk(having(spec(), grown), grown)
    assert await size(lab, SERVER, disk) == 2 * GIB
    assert await reads(lab, SERVER, disk) == DATA
    await lab.driver.destroy(guest, keep_disks=False)
    await cloud.detach(disk)
    assert await cloud.ended()


async def test_data_moves_between_hosts_volumes(cloud: Cloud) -> None:
    """A volume that is swapped, of a guest that runs and of one that is off."""
    lab = await cloud.host("h1")
    volumes = [await cloud.place.make(cloud.place.admin) for _ in range(3)]
    files = [cloud.place.volumes.files.volume(each["id"]) for each in volumes]
    with files[0].open("r+b") as data:
        data.write(DATA)
    disks = [await cloud.attach(each["id"], SERVER, "h1") for each in volumes]
    await lab.driver.spawn(having(spec(), disks[0]), paused=False)
    await driver(lab).swap_disk(having(spec(), disks[1]), disks[0], disks[1])
    assert await reads(lab, SERVER, disks[1]) == DATA
    await lab.driver.power_off(spec(), seconds=0)
    await driver(lab).swap_disk(having(spec(), disks[2]), disks[1], disks[2])
    for file in files:
        with file.open("rb") as data:
            assert data.read(4096) == DATA


async def test_only_services_are_told_the_key(cloud: Cloud) -> None:
    made = await cloud.place.make(cloud.place.alice)
    disk = await cloud.attach(made["id"], SERVER, "h1")
    where = f"/v3/attachments/{disk.attachment_id}"
    seen = good(await cloud.place.alice.get(where))["attachment"]["connection_info"]
    assert seen["driver_volume_type"] == "nbd"
    assert "tls_psk" not in seen
    wrong = await asyncio.create_subprocess_exec(
        *("qemu-img", "info", f"nbd://127.0.0.1:{cloud.port}/{disk.attachment_id}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await wrong.communicate()
    assert wrong.returncode != 0, said
    await cloud.detach(disk)
    local = await cloud.attach(made["id"], SERVER, "controller")
    assert local.connection is not None
    assert local.connection["driver_volume_type"] == "local"
    assert await cloud.ended()
