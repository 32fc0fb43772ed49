"""What every driver owes that moves running guests."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from kilonova.base.errors import Conflict, Fault
from kilonova.domain.guest import PowerState
from kilonova.domain.live import LiveTarget
from kilonova.virt.driver import Host, MovesLive, VirtDriver
from kilonova.virt.fake import FakeDriver, FakeWorld
from kilonova.virt.qemu import QemuDriver, process
from tests.contracts.virt.conftest import Lab
from tests.support.guests import SERVER, spec


class Pair:
    """Two hosts; the guest is on the first."""

    def __init__(self, labs: list[Lab]) -> None:
        self.labs = labs
        self.guest = spec()

    @property
    def here(self) -> VirtDriver:
        return self.labs[0].driver

    @property
    def there(self) -> VirtDriver:
        return self.labs[1].driver

    async def prepare(self, *, block: bool | None = None) -> LiveTarget:
        assert isinstance(self.here, MovesLive) and isinstance(self.there, MovesLive)
        shape = await self.here.live_check(self.guest)
        await self.there.live_suits(self.guest, shape, block=block, over_commit=False)
        return await self.there.live_prepare(self.guest, shape, block=block)

    async def power(self) -> tuple[PowerState, PowerState]:
        return (
            (await self.here.status(SERVER)).power,
            (await self.there.status(SERVER)).power,
        )


@pytest.fixture(params=["fake", pytest.param("qemu", marks=pytest.mark.live)])
async def pair(
    request: pytest.FixtureRequest, tmp_path: Path, guests_end: None
) -> AsyncIterator[Pair]:
    if request.param == "qemu" and shutil.which("qemu-system-x86_64") is None:
        pytest.skip("QEMU is not installed")
    labs = []
    for name in ("h1", "h2"):
        lab = Lab(request.param, tmp_path / name)
        lab.path.mkdir()
        await lab.start()
        labs.append(lab)
    if request.param == "fake":
        world = labs[0].world
        assert isinstance(world, FakeWorld)
        host = labs[1].driver._host  # type: ignore[attr-defined]
        labs[1].driver = FakeDriver(_named(host, "h2"), world)
    made = Pair(labs)
    await made.here.spawn(made.guest, paused=False)
    yield made
    for lab in labs:
        await lab.driver.destroy(made.guest, keep_disks=False)
    for lab in reversed(labs):
        await lab.stop()
        for server_id, pid in lab.processes().items():
            left = process.Process.hold(pid, server_id)
            if left is not None:
                await left.end(seconds=0)


def _named(host: Host, name: str) -> Host:
    host.name = name
    return host


async def test_a_guest_moves_and_runs_on_one_host_at_a_time(pair: Pair) -> None:
    here, there = pair.here, pair.there
    assert isinstance(here, MovesLive) and isinstance(there, MovesLive)
    target = await pair.prepare()
    assert await pair.power() == (PowerState.RUNNING, PowerState.PAUSED)
    with pytest.raises(Conflict):
        await there.resume(pair.guest)
    await here.live_move(pair.guest, target)
    assert await pair.power() == (PowerState.PAUSED, PowerState.PAUSED)
    await there.live_arrive(pair.guest, running=True)
    assert await pair.power() == (PowerState.PAUSED, PowerState.RUNNING)
    assert (await there.live_arrive(pair.guest, running=True)).power == PowerState.RUNNING
    await here.destroy(pair.guest, keep_disks=False)
    assert await pair.power() == (PowerState.NOSTATE, PowerState.RUNNING)
    assert (await there.power_off(pair.guest, seconds=0)).power == PowerState.SHUTDOWN
    assert (await there.power_on(pair.guest)).power == PowerState.RUNNING


async def test_a_paused_guest_stays_paused(pair: Pair) -> None:
    here, there = pair.here, pair.there
    assert isinstance(here, MovesLive) and isinstance(there, MovesLive)
    await here.pause(pair.guest)  # type: ignore[attr-defined]
    await here.live_move(pair.guest, await pair.prepare())
    await there.live_arrive(pair.guest, running=False)
    assert (await there.status(SERVER)).power == PowerState.PAUSED
    assert (await there.resume(pair.guest)).power == PowerState.RUNNING


async def test_what_was_sent_is_taken_back(pair: Pair) -> None:
    here, there = pair.here, pair.there
    assert isinstance(here, MovesLive) and isinstance(there, MovesLive)
    for _ in range(2):
        await here.live_move(pair.guest, await pair.prepare())
        await there.destroy(pair.guest, keep_disks=False)
        await here.live_stay(pair.guest, running=True)
        assert await pair.power() == (PowerState.RUNNING, PowerState.NOSTATE)
    await here.live_stay(pair.guest, running=True)
    # One whose destination is gone goes on by itself, and can be tried again.
    target = await pair.prepare()
    await there.destroy(pair.guest, keep_disks=False)
    with pytest.raises(Fault):
        await here.live_move(pair.guest, target)
    assert await pair.power() == (PowerState.RUNNING, PowerState.NOSTATE)
    await here.live_move(pair.guest, await pair.prepare())
    await there.live_arrive(pair.guest, running=True)
    assert await pair.power() == (PowerState.PAUSED, PowerState.RUNNING)


async def test_a_move_is_watched_given_up_and_forced(pair: Pair) -> None:
    here, there = pair.here, pair.there
    assert isinstance(here, MovesLive) and isinstance(there, MovesLive)
    with pytest.raises(Conflict):
        await here.live_progress(SERVER)
    with pytest.raises(Conflict):
        await here.live_force(SERVER)
    if isinstance(here, QemuDriver):
        slow = msgspec.structs.replace(here._host.settings.libvirt, live_migration_bandwidth=1)
        here._host.settings = msgspec.structs.replace(here._host.settings, libvirt=slow)
    else:
        world = pair.labs[0].world
        assert world is not None
        world.takes("live_move", 60)
    moving = asyncio.create_task(here.live_move(pair.guest, await pair.prepare()))
    async with asyncio.timeout(30):
        while True:
            await asyncio.sleep(0.05)
            assert not moving.done(), moving.exception()
            try:
                seen = await here.live_progress(SERVER)
            except Conflict:
                continue
            if seen.disk_total or seen.memory_total:
                break
    moving.cancel()
    await asyncio.gather(moving, return_exceptions=True)
    await there.destroy(pair.guest, keep_disks=False)
    await here.live_stay(pair.guest, running=True)
    assert await pair.power() == (PowerState.RUNNING, PowerState.NOSTATE)


@pytest.mark.parametrize("pair", [pytest.param("qemu", marks=pytest.mark.live)], indirect=True)
async def test_new_agents_take_a_move_up(pair: Pair) -> None:
    for lab in pair.labs:
        slow = msgspec.structs.replace(lab.settings.libvirt, live_migration_bandwidth=1)
        lab.settings = msgspec.structs.replace(lab.settings, libvirt=slow)
        await lab.restart()
    here = pair.here
    assert isinstance(here, QemuDriver)
    target = await pair.prepare()
    moving = asyncio.create_task(here.live_move(pair.guest, target))
    guest = here._guests[SERVER]
    async with asyncio.timeout(30):
        while guest.record is None or guest.record.sending != target.mark:
            assert not moving.done(), moving.exception()
            await asyncio.sleep(0.02)
    moving.cancel()
    await asyncio.gather(moving, return_exceptions=True)
    for lab in pair.labs:
        await lab.restart()
    here, there = pair.here, pair.there
    assert isinstance(here, MovesLive) and isinstance(there, MovesLive)
    await here.live_move(pair.guest, target)
    await there.live_arrive(pair.guest, running=True)
    assert await pair.power() == (PowerState.PAUSED, PowerState.RUNNING)
