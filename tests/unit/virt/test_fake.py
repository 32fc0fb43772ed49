from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from kilonova.base.clock import VirtualClock
from kilonova.base.errors import BadRequest, Conflict, NotFound, Unavailable
from kilonova.domain.guest import PowerState
from kilonova.virt.driver import Host
from kilonova.virt.fake import SMALL, FakeDriver, FakeWorld
from kilonova.virt.load import maker
from tests.support.guests import SERVER, Events, Files, Plugs, spec


def host(name: str, clock: VirtualClock, events: Events | None = None) -> Host:
    return Host(
        name=name,
        state_dir=Path("/nowhere"),
        images=Files(),
        vifs=Plugs(),
        clock=clock,
        on_event=events or Events(),
    )


async def test_it_fails_where_and_as_often_as_told() -> None:
    clock = VirtualClock()
    world = FakeWorld(clock=clock)
    one, two = (FakeDriver(host(name, clock), world) for name in ("h1", "h2"))
    world.fails("spawn", on="h1", times=2, error=Conflict("told to"))
    await two.spawn(spec(), paused=False)
    for _ in range(2):
        with pytest.raises(Conflict, match="told to"):
            await one.spawn(spec(), paused=False)
    await one.spawn(spec(), paused=False)
    world.fails("destroy", server=SERVER, times=None)
    for driver in (one, two, one):
        with pytest.raises(Unavailable):
            await driver.destroy(spec(), keep_disks=False)
    world.heals()
    await one.destroy(spec(), keep_disks=False)
    with pytest.raises(ValueError, match="dance"):
        world.fails("dance")


async def test_a_late_failure_leaves_its_effect() -> None:
    clock = VirtualClock()
    world = FakeWorld(clock=clock)
    driver = FakeDriver(host("h1", clock), world)
    world.fails("spawn", late=True)
    with pytest.raises(Unavailable):
        await driver.spawn(spec(), paused=False)
    assert (await driver.status(SERVER)).power == PowerState.RUNNING


async def test_it_takes_its_time() -> None:
    clock = VirtualClock()
    world = FakeWorld(clock=clock)
    driver = FakeDriver(host("h1", clock), world)
    world.takes("spawn", 30)
    work = asyncio.create_task(driver.spawn(spec(), paused=False))
    await asyncio.sleep(0)
    await clock.advance(29)
    assert not work.done()
    await clock.advance(2)
    assert (await work).power == PowerState.RUNNING


async def test_guests_do_things_by_themselves() -> None:
    clock, events = VirtualClock(), Events()
    world = FakeWorld(clock=clock)
    driver = FakeDriver(host("h1", clock, events), world)
    await driver.start()
    await driver.spawn(spec(), paused=False)
    world.says(SERVER, "hello\n")
    assert (await driver.console_log(SERVER)).endswith(b"hello\n")
    await world.crashes(SERVER)
    await world.vanishes(SERVER)
    assert [e.power for e in events.heard] == [PowerState.CRASHED, PowerState.NOSTATE]
    assert await driver.guests() == []
    with pytest.raises(NotFound):
        world.says(SERVER, "?")


async def test_the_world_is_remembered_without_being_closed(tmp_path: Path) -> None:
    clock = VirtualClock()
    file = tmp_path / "fake.db"
    first = FakeWorld(clock=clock, file=file)
    driver = FakeDriver(host("h1", clock), first)
    await driver.spawn(spec(), paused=False)
    first.says(SERVER, "still here\n")
    await driver.power_off(spec(), seconds=0)
    second = FakeWorld(clock=clock, file=file)
    driver = FakeDriver(host("h1", clock), second)
    (status,) = await driver.start()
    assert status.power == PowerState.SHUTDOWN
    assert b"still here" in await driver.console_log(SERVER)
    first.close()
    second.close()


async def test_ten_thousand_hosts(tmp_path: Path) -> None:
    clock = VirtualClock()
    world = FakeWorld(clock=clock, file=tmp_path / "fake.db", capacity=SMALL)
    began = time.process_time()
    drivers = [FakeDriver(host(f"h{n}", clock), world) for n in range(10_000)]
    for driver in drivers:
        await driver.start()
    for n, driver in enumerate(drivers):
        await driver.spawn(spec(f"5f2a9b1c-0000-4000-8000-{n:012d}"), paused=False)
    reports = [await driver.report() for driver in drivers]
    assert sum(r.used_vcpus for r in reports) == 10_000
    assert time.process_time() - began < 10
    world.close()


async def test_drivers_by_name() -> None:
    clock = VirtualClock()
    world = FakeWorld(clock=clock)
    small = maker("fake.SmallFakeDriver", world=world)(host("h1", clock))
    assert (await small.report()).vcpus == 2
    assert (await maker("fake", world=world)(host("h2", clock)).report()).vcpus == 1000
    assert maker("qemu.QemuDriver")(host("h3", clock)).name == "qemu"
    for name, words in (
        (None, "Set"),
        ("hyperv.HyperVDriver", "Hyper-V driver was removed"),
        ("no.SuchDriver", "no virt driver no.SuchDriver"),
        ("fake.FakeDriver", "FakeWorld"),
    ):
        with pytest.raises(BadRequest, match=words):
            maker(name)
