"""A guest that really boots: metadata, config drive, SSH, reboot, and switching itself off."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from kilonova.config.hypervisor import Libvirt
from kilonova.domain.guest import (
    Disk,
    FixedIp,
    GuestMetadata,
    GuestSpec,
    ImageRef,
    Keypair,
    Nic,
    PowerState,
)
from kilonova.embedded.guestimage import build
from kilonova.metadata import drive, openstack
from kilonova.metadata.door import door
from kilonova.virt.qemu import QemuDriver
from kilonova.web.client import HttpClient
from tests.contracts.virt.conftest import SETTINGS, Lab
from tests.support.guests import SERVER, Files, flavor

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="no QEMU"),
]
DEADLINE = 120.0
SEEN = "for file in /sys/block/*/serial /sys/class/net/*/address; do cat $file; echo; done"
EXTRAS = openstack.Extras(random=os.urandom)
USER_DATA = b"#!/bin/sh\necho made-by-user-data > mark\n"
SSH = (
    *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
    *("-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20"),
    *("-o", "LogLevel=ERROR", "-F", "none"),
)


class MetadataService:
    """An HTTP metadata service over the trees; remembers the headers it got."""

    def __init__(self) -> None:
        self.guest: GuestSpec | None = None
        self.headers: list[dict[str, str]] = []
        self.server: asyncio.Server
        self.url = ""

    async def start(self) -> None:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = (line.split(": ", 1) for line in head[1:] if line)
        self.headers.append({name.lower(): value for name, value in pairs})
        path = head[0].split()[1].strip("/").split("/")
        body = None
        if len(path) == 3 and path[0] == "openstack" and self.guest is not None:
            version = openstack.real(path[1])
            body = openstack.read(self.guest, version or "", path[2], EXTRAS)
        status = "200 OK" if body is not None else "404 Not Found"
        body = body or b""
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n".encode())
        writer.write(b"Connection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()


class Machine:
    """The booted guest and the ways into it."""

    def __init__(self, lab: Lab, spec: GuestSpec, key: Path, service: MetadataService) -> None:
        self.lab = lab
        self.spec = spec
        self.key = key
        self.service = service

    async def console(self) -> str:
        return (await self.lab.driver.console_log(SERVER)).decode(errors="replace")

    async def says(self, text: str, count: int = 1) -> str:
        async with asyncio.timeout(DEADLINE):
            while (told := await self.console()).count(text) < count:
                await asyncio.sleep(0.1)
        return told

    async def ssh(self, command: str) -> str:
        port = (await self.lab.driver.status(SERVER)).detail.split()[0].rpartition(":")[2]
        process = await asyncio.create_subprocess_exec(
            *("ssh", "-i", str(self.key), "-p", port, *SSH, "root@127.0.0.1", command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, err.decode()
        return out.decode()


async def _content(guest: GuestSpec) -> dict[str, bytes]:
    return drive.content(guest, EXTRAS)


@pytest.fixture
async def machine(tmp_path: Path, guests_end: None) -> AsyncIterator[Machine]:
    image = await build(
        tmp_path / "guest.qcow2",
        cache_dir=Path.home() / ".cache" / "kilonova",
        progress=lambda _text, _part: None,
    )
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    service = MetadataService()
    await service.start()
    lab = Lab("qemu", tmp_path)
    lab.settings = msgspec.structs.replace(
        SETTINGS, libvirt=Libvirt(virt_type="qemu", wait_soft_reboot_seconds=60)
    )
    lab.images = Files(tiny=image.path)
    http = HttpClient()
    await lab.start(
        config_drive=_content,
        metadata=door(http, service.url, "shared"),
    )
    ref = ImageRef(
        id="tiny",
        size=image.size,
        os_hash_algo="sha512",
        os_hash_value=image.sha512,
        properties=image.properties,
    )
    root = Disk(id="r", role="root", source="image", device="vda", image=ref, boot_index=0)
    ip = FixedIp(address="10.0.0.5", subnet_id="s", cidr="10.0.0.0/24")
    nic = Nic(port_id="p1", mac="fa:16:3e:00:00:01", network_id="n", vif_type="user", ips=(ip,))
    spec = GuestSpec(
        server_id=SERVER,
        name="instance-00000001",
        flavor=flavor(memory_mb=128),
        image=ref,
        disks=(root,),
        nics=(nic,),
        metadata=GuestMetadata(
            server_id=SERVER,
            project_id="project",
            user_id="user",
            name="Web 1",
            hostname="web-1",
            keys=(Keypair("mine", key.with_suffix(".pub").read_text().strip()),),
            user_data=base64.b64encode(USER_DATA).decode(),
        ),
        config_drive=True,
    )
    service.guest = spec
    yield Machine(lab, spec, key, service)
    await lab.driver.destroy(spec, keep_disks=False)
    await lab.stop()
    await http.close()
    service.server.close()


async def test_a_guest_boots_and_lives(machine: Machine) -> None:
    lab, spec = machine.lab, machine.spec
    await lab.driver.spawn(spec, paused=False)
    told = await machine.says("guest: ready")
    assert "configdrive /dev/vdb iso9660" in told
    assert f"uuid={SERVER}" in told
    assert (await machine.ssh("cat mark; hostname")).split() == ["made-by-user-data", "web-1"]
    assert "OpenStack Nova" in await machine.ssh("cat /sys/class/dmi/id/product_name")
    assert SERVER in await machine.ssh("cat /sys/class/dmi/id/product_serial")

    fetched = "timeout 5 wget -q -O - http://169.254.169.254/openstack/latest/meta_data.json"
    assert SERVER in await machine.ssh(fetched)
    headers = machine.service.headers[-1]
    assert headers["x-instance-id"] == SERVER
    assert headers["x-tenant-id"] == "project"
    assert headers["x-forwarded-for"] == "10.0.0.5"
    assert len(headers["x-instance-id-signature"]) == 64

    # A new agent reaches the same guest.
    await lab.driver.stop()
    host = lab.driver._host  # type: ignore[attr-defined]
    lab.driver = type(lab.driver)(host)  # type: ignore[call-arg]
    assert [status.power for status in await lab.driver.start()] == [PowerState.RUNNING]
    assert SERVER in await machine.ssh(fetched)

    lab.events.heard.clear()
    assert (await lab.driver.reboot(spec, hard=False)).power == PowerState.RUNNING
    await machine.says("guest: ready", count=2)
    assert lab.events.heard == []

    assert "userdata already run" in await machine.console()
    await machine.ssh("sync; (sleep 1; echo o > /proc/sysrq-trigger) >/dev/null 2>&1 </dev/null &")
    before = time.monotonic()
    async with asyncio.timeout(20):
        while not lab.events.heard:
            await asyncio.sleep(0.01)
    assert lab.events.heard[0].power == PowerState.SHUTDOWN
    assert time.monotonic() - before < 4  # the guest itself waits one second
    async with asyncio.timeout(10):
        while lab.processes():
            await asyncio.sleep(0.05)
    assert (await lab.driver.status(SERVER)).power == PowerState.SHUTDOWN
    assert (await lab.driver.power_on(spec)).power == PowerState.RUNNING
    await machine.says("guest: ready", count=3)
    began = time.monotonic()
    assert (await lab.driver.power_off(spec, seconds=60)).power == PowerState.SHUTDOWN
    assert time.monotonic() - began < 55


@pytest.mark.parametrize("kind", ["pc", "q35"])
async def test_a_card_comes_and_goes_while_the_guest_runs(machine: Machine, kind: str) -> None:
    driver = machine.lab.driver
    assert isinstance(driver, QemuDriver)
    spec = msgspec.structs.replace(machine.spec, properties={"hw_machine_type": kind})
    await driver.spawn(spec, paused=False)
    await machine.says("guest: ready")
    cards = "cat /sys/class/net/*/address"
    other = Nic(port_id="p2", mac="fa:16:3e:00:00:02", network_id="n", vif_type="user")

    async def seen() -> bool:
        return other.mac in await machine.ssh(cards)

    for _ in range(2):
        await driver.attach_nic(spec, other)
    async with asyncio.timeout(30):
        while not await seen():
            await asyncio.sleep(0.2)
    assert len((await driver.diagnostics(SERVER)).nics) == 2
    await driver.detach_nic(spec, other)
    assert not await seen()
    await driver.detach_nic(spec, other)
    await driver.attach_nic(spec, other)
    async with asyncio.timeout(30):
        while not await seen():
            await asyncio.sleep(0.2)
    assert (await driver.pause(spec)).power == PowerState.PAUSED
    assert (await driver.resume(spec)).power == PowerState.RUNNING


def _volume(tmp_path: Path, name: str, device: str) -> Disk:
    file = tmp_path / name
    with file.open("wb") as out:
        out.truncate(8 << 20)
    where = {"driver_volume_type": "local", "data": {"device_path": str(file)}}
    return Disk(
        id=name, role="volume", source="volume", device=device, size_mb=8, format="raw",
        serial=name, volume_id=name, connection=where,
    )  # fmt: skip


def _card(number: int) -> Nic:
    mac = f"fa:16:3e:00:00:0{number}"
    return Nic(port_id=f"p{number}", mac=mac, network_id="n", vif_type="user")


@pytest.mark.parametrize("kind", ["pc", "q35"])
async def test_devices_come_and_go_in_any_order(
    machine: Machine, tmp_path: Path, kind: str
) -> None:
    """Each in a slot of its own, those of the start too."""
    driver = machine.lab.driver
    assert isinstance(driver, QemuDriver)
    first, second, third = (
        _volume(tmp_path, name, f"vd{name[-1]}") for name in ("vol-c", "vol-d", "vol-e")
    )
    early, late = _card(2), _card(3)
    spec = msgspec.structs.replace(
        machine.spec,
        properties={"hw_machine_type": kind},
        disks=(*machine.spec.disks, first),
    )
    await driver.spawn(spec, paused=False)
    await machine.says("guest: ready")
    names = {early.mac: "early", late.mac: "late"}

    async def sees(*wanted: str) -> None:
        found: set[str] = set()
        try:
            async with asyncio.timeout(30):
                while found != set(wanted):
                    told = await machine.ssh(SEEN)
                    words = [names.get(word, word) for word in told.split()]
                    found = {word for word in words if word.startswith(("vol", "early", "late"))}
        except TimeoutError:
            raise AssertionError(f"The guest sees {found}, not {wanted}.") from None

    async def attach(disk: Disk) -> None:
        nonlocal spec
        spec = msgspec.structs.replace(spec, disks=(*spec.disks, disk))
        await driver.attach_disk(spec, disk)

    async def detach(disk: Disk) -> None:
        nonlocal spec
        left = tuple(each for each in spec.disks if each.id != disk.id)
        spec = msgspec.structs.replace(spec, disks=left)
        await driver.detach_disk(spec, disk)

    await sees("vol-c")
    await attach(second)
    await sees("vol-c", "vol-d")
    await driver.attach_nic(spec, early)
    await sees("vol-c", "early", "vol-d")
    await attach(third)
    await sees("vol-c", "early", "vol-d", "vol-e")
    await driver.attach_nic(spec, late)
    await sees("vol-c", "early", "vol-d", "late", "vol-e")
    await detach(second)
    await sees("vol-c", "early", "late", "vol-e")
    await driver.detach_nic(spec, early)
    await sees("vol-c", "late", "vol-e")
    await attach(second)
    await driver.attach_nic(spec, early)
    await sees("vol-c", "early", "vol-d", "late", "vol-e")
    for disk in (third, first, second):
        await detach(disk)
    await driver.detach_nic(spec, late)
    await sees("early")
    await driver.detach_nic(spec, machine.spec.nics[0])
    await machine.says("unplug nic eth0")


@pytest.mark.parametrize("kind", ["pc", "q35"])
async def test_a_suspended_guest_remembers(machine: Machine, tmp_path: Path, kind: str) -> None:
    """What runs in it, what was plugged in meanwhile, and its disk are as they were."""
    lab = machine.lab
    driver = lab.driver
    assert isinstance(driver, QemuDriver)
    spec = msgspec.structs.replace(machine.spec, properties={"hw_machine_type": kind})
    await driver.spawn(spec, paused=False)
    await machine.says("guest: ready")
    other = Nic(port_id="p2", mac="fa:16:3e:00:00:02", network_id="n", vif_type="user")
    file = tmp_path / "volume"
    with file.open("wb") as out:
        out.truncate(64 << 20)
    where = {"driver_volume_type": "local", "data": {"device_path": str(file)}}
    disk = Disk(
        id="v", role="volume", source="volume", device="vdc", size_mb=64, format="raw",
        serial="vol-1", volume_id="vol-1", connection=where,
    )  # fmt: skip
    full = msgspec.structs.replace(spec, disks=(*spec.disks, disk))
    await driver.attach_disk(full, disk)
    await machine.says("serial=vol-1")
    cards = "cat /sys/class/net/*/address"
    full = msgspec.structs.replace(full, nics=(*spec.nics, other))
    await driver.attach_nic(full, other)
    async with asyncio.timeout(30):
        while other.mac not in await machine.ssh(cards):
            await asyncio.sleep(0.2)
    count = "i=0; while :; do i=$((i+1)); echo $i > /run/count; sleep 0.2; done"
    await machine.ssh(f"echo mine > /run/word; ({count}) >/dev/null 2>&1 </dev/null &")
    before = int(await machine.ssh("sleep 1; cat /run/count"))
    up = float((await machine.ssh("cat /proc/uptime")).split()[0])

    assert (await driver.suspend(full)).power == PowerState.SUSPENDED
    assert lab.processes() == {}
    await driver.stop()
    lab.driver = driver = QemuDriver(driver._host)
    assert [status.power for status in await driver.start()] == [PowerState.SUSPENDED]
    assert await driver.interrupted() == []
    began = time.monotonic()
    assert (await driver.wake(full)).power == PowerState.RUNNING
    assert int(await machine.ssh("cat /run/count")) >= before
    first = int(await machine.ssh("cat /run/count"))
    assert int(await machine.ssh("sleep 1; cat /run/count")) > first >= before
    assert (await machine.ssh("cat /run/word")).strip() == "mine"
    later = float((await machine.ssh("cat /proc/uptime")).split()[0])
    assert up < later < up + time.monotonic() - began + 30
    assert other.mac in await machine.ssh(cards)
    await machine.ssh("echo kept > /data/word; sync; dd if=/dev/vdc of=/dev/null bs=4k count=1")
    assert (await machine.console()).count("guest: ready") == 1
    assert not (driver._find(SERVER).directory / "memory").exists()
    assert lab.events.heard == []
