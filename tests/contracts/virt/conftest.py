"""Every driver the contract is demanded of."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kilonova.base.clock import SystemClock
from kilonova.config.hypervisor import Libvirt, Qemu
from kilonova.config.settings import Settings
from kilonova.virt.driver import Host, VirtDriver
from kilonova.virt.fake import FakeDriver, FakeWorld
from kilonova.virt.qemu import QemuDriver, process
from tests.support.guests import Events, Files, Plugs

SETTINGS = Settings(
    libvirt=Libvirt(
        virt_type="qemu",
        wait_soft_reboot_seconds=1,
        device_detach_attempts=1,
        device_detach_timeout=1,
    ),
    qemu=Qemu(start_seconds=30),
)


class Lab:
    """One host; ``restart`` gives a new driver over what the old one left."""

    def __init__(self, kind: str, path: Path) -> None:
        self.kind = kind
        self.path = path
        self.clock = SystemClock()
        self.events = Events()
        self.plugs = Plugs()
        self.images = Files()
        self.settings = SETTINGS
        self.world: FakeWorld | None = None
        self.driver: VirtDriver

    async def start(self, **more: Any) -> VirtDriver:
        host = Host(
            name="h1",
            state_dir=self.path / "instances",
            images=self.images,
            vifs=self.plugs,
            clock=self.clock,
            on_event=self.events,
            settings=self.settings,
            **more,
        )
        if self.kind == "fake":
            self.world = FakeWorld(clock=self.clock, file=self.path / "fake.db")
            self.driver = FakeDriver(host, self.world)
        else:
            self.driver = QemuDriver(host)
        await self.driver.start()
        return self.driver

    async def restart(self) -> VirtDriver:
        await self.stop()
        return await self.start()

    async def stop(self) -> None:
        await self.driver.stop()
        if self.world is not None:
            self.world.close()

    def processes(self) -> dict[str, int]:
        return process.find((self.path / "instances").resolve())


@pytest.fixture(
    params=["fake", pytest.param("qemu", marks=pytest.mark.live)],
)
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    if request.param == "qemu" and shutil.which("qemu-system-x86_64") is None:
        pytest.skip("QEMU is not installed")
    made = Lab(request.param, tmp_path)
    await made.start()
    yield made
    await made.stop()
    for server_id, pid in made.processes().items():
        left = process.Process.hold(pid, server_id)
        if left is not None:
            await left.end(seconds=0)
