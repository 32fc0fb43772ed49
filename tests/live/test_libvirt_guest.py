"""A guest that really boots under libvirt: console, devices, reboot, switching itself off."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from kilonova.domain.guest import Disk, GuestMetadata, GuestSpec, ImageRef, Nic, PowerState
from kilonova.embedded.guestimage import build
from kilonova.metadata import drive, openstack
from kilonova.virt.driver import AttachesDisks, PlugsNics, Suspends
from tests.contracts.virt.conftest import Lab
from tests.support import namespace
from tests.support.guests import SERVER, Files, flavor
from tests.support.libvirtd import Libvirtd, libvirtd, why_not

REASON = why_not() or namespace.possible()
pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]
DEADLINE = 120.0
EXTRAS = openstack.Extras(random=os.urandom)


class Machine:
    """The booted guest, and its console."""

    def __init__(self, lab: Lab, spec: GuestSpec, daemon: Libvirtd) -> None:
        self.lab = lab
        self.spec = spec
        self.daemon = daemon

    async def says(self, text: str, count: int = 1) -> str:
        told = ""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE):
                while told.count(text) < count:
                    told = (await self.lab.driver.console_log(SERVER)).decode(errors="replace")
                    await asyncio.sleep(0.1)
        assert told.count(text) >= count, told
        return told


async def _content(guest: GuestSpec) -> dict[str, bytes]:
    return drive.content(guest, EXTRAS)


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    image = await build(
        tmp_path / "guest.qcow2",
        cache_dir=Path.home() / ".cache" / "kilonova",
        progress=lambda _text, _part: None,
    )
    ref = ImageRef(
        id="tiny",
        size=image.size,
        os_hash_algo="sha512",
        os_hash_value=image.sha512,
        properties=image.properties,
    )
    root = Disk(id="r", role="root", source="image", device="vda", image=ref, boot_index=0)
    nic = Nic(port_id="p1", mac="fa:16:3e:00:00:01", network_id="n", vif_type="tap")
    about = GuestMetadata(
        server_id=SERVER, project_id="project", user_id="user", name="Web 1", hostname="web-1"
    )
    spec = GuestSpec(
        server_id=SERVER,
        name="instance-00000001",
        flavor=flavor(memory_mb=128),
        image=ref,
        disks=(root,),
        nics=(nic,),
        metadata=about,
        config_drive=True,
    )
    with namespace.namespace() as space, libvirtd(space.inside([])) as daemon:
        lab = Lab("libvirt", tmp_path)
        lab.use(daemon, space)
        wanted = msgspec.structs.replace(
            lab.settings.libvirt,
            wait_soft_reboot_seconds=60,
            device_detach_attempts=8,
            device_detach_timeout=5,
        )
        lab.settings = msgspec.structs.replace(lab.settings, libvirt=wanted)
        lab.images = Files(tiny=image.path)
        await lab.start(config_drive=_content)
        yield Machine(lab, spec, daemon)
        await lab.driver.destroy(spec, keep_disks=False)
        await lab.stop()
        links = space.run("ip", "-o", "link").stdout
        assert "tap" not in links
        assert (daemon.guests(), daemon.domains()) == ({}, [])
        assert [p.name for p in (tmp_path / "instances").iterdir()] == ["_base"]


async def test_a_guest_boots_and_lives(machine: Machine) -> None:
    lab, spec = machine.lab, machine.spec
    await lab.driver.spawn(spec, paused=False)
    told = await machine.says("guest: ready")
    assert "configdrive /dev/vdb iso9660" in told
    assert f"uuid={SERVER}" in told
    assert "hostname=web-1" in told
    assert "mac=fa:16:3e:00:00:01" in told

    # A new agent has the same guest.
    await lab.driver.stop()
    await lab.start(config_drive=_content)
    assert [guest.power for guest in await lab.driver.guests()] == [PowerState.RUNNING]

    assert (await lab.driver.reboot(spec, hard=False)).power == PowerState.RUNNING
    told = await machine.says("guest: ready", count=2)
    assert told.count("guest: stopping") == 1  # asked by its agent
    assert lab.events.heard == []

    # It switches itself off, which is told within a second.
    import libvirt

    with contextlib.closing(libvirt.open(machine.daemon.uri)) as connection:
        domain = connection.lookupByUUIDString(SERVER)
        domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
        await machine.says("guest: power button")
        async with asyncio.timeout(20):
            while domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING:
                await asyncio.sleep(0.01)
    async with asyncio.timeout(1):
        while not lab.events.heard:
            await asyncio.sleep(0.01)
    assert lab.events.heard[0].power == PowerState.SHUTDOWN
    assert (await lab.driver.status(SERVER)).power == PowerState.SHUTDOWN
    assert (await lab.driver.power_on(spec)).power == PowerState.RUNNING
    await machine.says("guest: ready", count=3)
    began = time.monotonic()
    assert (await lab.driver.power_off(spec, seconds=60)).power == PowerState.SHUTDOWN
    assert time.monotonic() - began < 55


async def test_devices_come_and_go_while_the_guest_runs(machine: Machine, tmp_path: Path) -> None:
    driver = machine.lab.driver
    assert isinstance(driver, PlugsNics)
    assert isinstance(driver, AttachesDisks)
    spec = msgspec.structs.replace(machine.spec, properties={"hw_machine_type": "q35"})
    await driver.spawn(spec, paused=False)
    await machine.says("guest: ready")
    other = Nic(port_id="p2", mac="fa:16:3e:00:00:02", network_id="n", vif_type="tap")
    for count in (1, 2):
        await driver.attach_nic(spec, other)
        await machine.says(f"mac={other.mac}", count=count)
        await driver.detach_nic(spec, other)
        await machine.says("guest: unplug nic eth1", count=count)
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
    with file.open("r+b") as out:
        out.truncate(96 << 20)
    await driver.resize_disk(full, msgspec.structs.replace(disk, size_mb=96))
    await machine.says("guest: resize")
    await driver.detach_disk(spec, disk)
    await machine.says("guest: unplug disk")
    assert file.exists()


async def test_a_suspended_guest_remembers(machine: Machine) -> None:
    lab, spec = machine.lab, machine.spec
    driver = lab.driver
    assert isinstance(driver, Suspends)
    await lab.driver.spawn(spec, paused=False)
    await machine.says("guest: ready")
    assert (await driver.suspend(spec)).power == PowerState.SUSPENDED
    assert machine.daemon.guests() == {}
    await lab.driver.stop()
    driver = await lab.start(config_drive=_content)
    assert isinstance(driver, Suspends)
    assert [guest.power for guest in await lab.driver.guests()] == [PowerState.SUSPENDED]
    assert (await driver.wake(spec)).power == PowerState.RUNNING
    # Its power button works as before: the guest has not noticed anything.
    assert (await lab.driver.power_off(spec, seconds=60)).power == PowerState.SHUTDOWN
    told = (await lab.driver.console_log(SERVER)).decode(errors="replace")
    assert (told.count("guest: ready"), told.count("guest: stopping")) == (1, 1)
    assert lab.events.heard == []
