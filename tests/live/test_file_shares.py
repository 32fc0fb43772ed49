"""Guests with file shares: real QEMU and virtiofsd; a bind mount stands in for NFS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from kilonova.base import programs
from kilonova.base.errors import Fault, NotSupported, Unavailable
from kilonova.config.settings import Settings
from kilonova.domain.guest import GuestShare, GuestSpec, PowerState
from kilonova.virt.driver import Host
from kilonova.virt.qemu import QemuDriver, fileshares, process
from tests.contracts.virt.conftest import Lab
from tests.support.guests import SERVER, spec

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="no QEMU"),
    pytest.mark.skipif(fileshares.program() is None, reason="no virtiofsd, or not root"),
]


class Bind:
    """Mounts a directory of this machine as if it were an export."""

    def __init__(self) -> None:
        self.refuses = False

    async def mount(self, share: GuestShare, place: Path, settings: Settings) -> None:
        if self.refuses:
            raise Unavailable("mount failed: no such export")
        await programs.run("mount", "--bind", share.export, str(place))

    async def unmount(self, place: Path) -> None:
        await programs.run("umount", str(place))


class Place:
    """A driver, and a share that holds a file."""

    def __init__(self, path: Path) -> None:
        self.path, self.bind = path, Bind()
        self.lab = Lab("qemu", path)
        self.export = path / "export"
        self.export.mkdir()
        (self.export / "kept").write_text("kept")
        self.driver: QemuDriver

    async def start(self) -> None:
        lab = self.lab
        host = Host(
            name="h1",
            state_dir=self.path / "instances",
            images=lab.images,
            vifs=lab.plugs,
            clock=lab.clock,
            on_event=lab.events,
            settings=lab.settings,
        )
        self.driver = QemuDriver(host, mounter=self.bind)
        await self.driver.start()

    def guest(self, tag: str = "mine") -> GuestSpec:
        share = GuestShare("s1", tag, str(self.export))
        return msgspec.structs.replace(spec(), shares=(share,))

    def mounts(self) -> list[str]:
        found = Path("/proc/self/mounts").read_text().splitlines()
        return [line for line in found if str(self.path) in line]

    def daemons(self) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            words = process.arguments(int(entry.name)) if entry.name.isdecimal() else []
            if any(word.startswith(f"source={self.path}") for word in words):
                found.append(int(entry.name))
        return found

    def points(self) -> list[Path]:
        return list((self.path / "instances/shares").glob("*"))

    async def nothing_is_left(self) -> None:
        async with asyncio.timeout(20):
            while self.daemons() or self.mounts() or self.points():
                await asyncio.sleep(0.05)
        assert (self.export / "kept").read_text() == "kept"


@pytest.fixture
async def place(tmp_path: Path, guests_end: None) -> AsyncIterator[Place]:
    made = Place(tmp_path)
    await made.start()
    yield made
    with contextlib.suppress(Exception):
        await made.driver.destroy(spec(), keep_disks=False)
    await made.driver.stop()
    for pid in (*process.find(tmp_path / "instances").values(), *made.daemons()):
        os.kill(pid, signal.SIGKILL)
    for line in made.mounts():
        await programs.run("umount", "-l", line.split()[1])


async def test_a_start_brings_the_share_and_an_end_takes_it(place: Place) -> None:
    assert set(fileshares.TRAITS) <= set((await place.driver.report()).traits)
    await place.driver.spawn(spec(), paused=False)
    await place.driver.power_off(spec(), seconds=0)
    assert (await place.driver.power_on(place.guest())).power == PowerState.RUNNING
    assert place.daemons()
    assert len(place.mounts()) == 1
    guest = place.driver._guests[SERVER]
    found = {row["name"] for row in await guest.ask("qom-list", {"path": "/machine/peripheral"})}
    assert "share0" in found
    assert (await place.driver.reboot(place.guest(), hard=True)).power == PowerState.RUNNING
    assert place.daemons()
    assert len(place.mounts()) == 1
    await place.driver.power_off(place.guest(), seconds=0)
    await place.nothing_is_left()
    assert (await place.driver.power_on(place.guest())).power == PowerState.RUNNING
    await place.driver.destroy(place.guest(), keep_disks=False)
    await place.nothing_is_left()


async def test_a_guest_keeps_its_share_while_the_agent_is_away(place: Place) -> None:
    await place.driver.spawn(place.guest(), paused=False)
    await place.driver.stop()
    assert place.daemons()
    await place.start()
    assert (await place.driver.status(SERVER)).power == PowerState.RUNNING
    await place.driver.destroy(place.guest(), keep_disks=False)
    await place.nothing_is_left()


async def test_a_guest_that_ended_while_the_agent_was_away(place: Place) -> None:
    status = await place.driver.spawn(place.guest(), paused=False)
    await place.driver.stop()
    assert status.pid is not None
    os.kill(status.pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        while place.daemons():
            await asyncio.sleep(0.05)
    assert len(place.mounts()) == 1
    lines = await place.driver.leftovers(frozenset())
    assert f"file shares of server {SERVER}" in lines
    await place.start()
    await place.nothing_is_left()


async def test_a_guest_that_is_killed_leaves_no_mount(place: Place) -> None:
    status = await place.driver.spawn(place.guest(), paused=False)
    assert status.pid is not None
    os.kill(status.pid, signal.SIGKILL)
    await place.nothing_is_left()


async def test_what_cannot_be_leaves_nothing(place: Place) -> None:
    await place.driver.spawn(spec(), paused=False)
    await place.driver.power_off(spec(), seconds=0)
    place.bind.refuses = True
    with pytest.raises(Unavailable, match="no such export"):
        await place.driver.power_on(place.guest())
    place.bind.refuses = False
    with pytest.raises(NotSupported, match="36 bytes"):
        await place.driver.power_on(place.guest("x" * 37))
    other = GuestShare("s2", "other", str(place.export), "CEPHFS")
    with pytest.raises(Fault):
        await fileshares.Nfs().mount(other, place.path, Settings())
    await place.nothing_is_left()
    assert (await place.driver.power_on(spec())).power == PowerState.RUNNING
