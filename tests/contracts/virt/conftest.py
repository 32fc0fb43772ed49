"""Every driver the contract is demanded of."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kilonova.base.clock import SystemClock
from kilonova.config.hypervisor import Libvirt, Qemu
from kilonova.config.settings import Settings
from kilonova.domain.guest import Nic
from kilonova.virt.driver import Host, VifPlugger, VirtDriver
from kilonova.virt.fake import FakeDriver, FakeWorld
from kilonova.virt.load import maker
from kilonova.virt.qemu import QemuDriver, process
from tests.support import libvirtd, namespace
from tests.support.guests import Events, Files, Plugs, Sink

SETTINGS = Settings(
    libvirt=Libvirt(
        virt_type="qemu",
        wait_soft_reboot_seconds=1,
        device_detach_attempts=1,
        device_detach_timeout=1,
    ),
    qemu=Qemu(start_seconds=30),
)


NIC = Nic(
    port_id="22222222-0000-4000-8000-000000000001",
    mac="fa:16:3e:00:00:42",
    network_id="n",
    vif_type="user",
)


class Lab:
    """One host; ``restart`` gives a new driver over what the old one left.

    ``nic`` is a card guests can have here.
    """

    def __init__(self, kind: str, path: Path, name: str = "h1") -> None:
        self.kind = kind
        self.name = name
        self.others: list[Lab] = []
        self.nic = NIC
        self.path = path
        self.clock = SystemClock()
        self.events = Events()
        self.plugs: VifPlugger = Plugs()
        self.images = Files()
        self.sink = Sink()
        self.settings = SETTINGS
        self.world: FakeWorld | None = None
        self.driver: VirtDriver

    async def start(self, **more: Any) -> VirtDriver:
        host = Host(
            name=self.name,
            state_dir=self.path / "instances",
            images=self.images,
            vifs=self.plugs,
            clock=self.clock,
            on_event=self.events,
            settings=self.settings,
            sink=self.sink,
            **more,
        )
        if self.kind == "fake":
            self.world = FakeWorld(clock=self.clock, file=self.path / "fake.db")
            self.driver = FakeDriver(host, self.world)
        elif self.kind == "qemu":
            self.driver = QemuDriver(host)
        else:
            self.driver = maker("libvirt.LibvirtDriver")(host)
        await self.driver.start()
        return self.driver

    async def restart(self) -> VirtDriver:
        await self.stop()
        return await self.start()

    async def beside(self, name: str) -> Lab:
        """Another host with the same driver."""
        other = Lab(self.kind, self.path / name, name)
        other.path.mkdir()
        other.plugs, other.nic, other.settings = self.plugs, self.nic, self.settings
        self.others.append(other)
        await other.start()
        return other

    async def stop(self) -> None:
        for other in self.others:
            await other.stop()
        await self.driver.stop()
        if self.world is not None:
            self.world.close()

    def use(self, daemon: libvirtd.Libvirtd, space: namespace.Namespace) -> None:
        """Have guests made by a libvirtd, with taps in its network namespace."""
        self.plugs = libvirtd.Taps(space)
        self.nic = msgspec.structs.replace(NIC, vif_type="tap")
        wanted = msgspec.structs.replace(self.settings.libvirt, connection_uri=daemon.uri)
        self.settings = msgspec.structs.replace(self.settings, libvirt=wanted)

    def processes(self) -> dict[str, int]:
        found = process.find((self.path / "instances").resolve())
        for other in self.others:
            found |= other.processes()
        return found


@pytest.fixture(scope="session")
def libvirt_place() -> Iterator[tuple[libvirtd.Libvirtd, namespace.Namespace]]:
    """A libvirtd for all tests, in a network namespace of its own."""
    why = libvirtd.why_not() or namespace.possible()
    if why is not None:
        pytest.skip(why)
    with namespace.namespace() as space, libvirtd.libvirtd(space.inside([])) as daemon:
        yield daemon, space


@pytest.fixture(
    params=[
        "fake",
        pytest.param("qemu", marks=pytest.mark.live),
        pytest.param("libvirt", marks=pytest.mark.live),
    ],
)
async def lab(
    request: pytest.FixtureRequest, tmp_path: Path, guests_end: None
) -> AsyncIterator[Lab]:
    if request.param == "qemu" and shutil.which("qemu-system-x86_64") is None:
        pytest.skip("QEMU is not installed")
    made = Lab(request.param, tmp_path)
    daemon = None
    if request.param == "libvirt":
        daemon, space = request.getfixturevalue("libvirt_place")
        made.use(daemon, space)
    await made.start()
    yield made
    await made.stop()
    if daemon is not None:
        daemon.clear()
    for server_id, pid in made.processes().items():
        left = process.Process.hold(pid, server_id)
        if left is not None:
            await left.end(seconds=0)
