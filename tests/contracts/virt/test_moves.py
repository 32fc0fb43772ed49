"""What every virt driver that moves guests must do."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kilonova.base.errors import NotFound
from kilonova.domain.guest import Disk, GuestSpec, PowerState
from kilonova.virt.driver import MovesGuests, VirtDriver
from tests.contracts.virt.conftest import Lab
from tests.support.guests import SERVER, flavor, spec

MOVE, OTHER = "move-1", "move-2"
SWAP = Disk(id="swap", role="swap", source="blank", device="vdb", size_mb=8)


def bigger() -> GuestSpec:
    """The guest with another flavor."""
    (root,) = spec().disks
    grown = msgspec.structs.replace(root, size_mb=32)
    return spec(flavor=flavor(memory_mb=96), disks=(grown, SWAP))


def able(driver: VirtDriver) -> MovesGuests:
    if not isinstance(driver, MovesGuests):
        pytest.skip("it cannot")
    return driver


def disk(lab: Lab, where: str = SERVER) -> Path:
    return lab.path / "instances" / where / "disk"


async def leaves(lab: Lab, *, offer: bool = False) -> None:
    """A guest that runs is put aside."""
    driver = able(lab.driver)
    await lab.driver.spawn(spec(), paused=False)
    if lab.kind != "fake":
        with disk(lab).open("r+b") as file:
            file.write(b"mine")
    for _ in range(2):
        await driver.depart(spec(), MOVE, seconds=0, offer=offer)


def data(lab: Lab) -> bytes:
    if lab.kind == "fake":
        return b"mine"
    with disk(lab).open("rb") as file:
        return file.read(4)


async def test_there_and_back_on_one_host(lab: Lab) -> None:
    await leaves(lab)
    driver = able(lab.driver)
    assert (await lab.driver.status(SERVER)).power == PowerState.NOSTATE
    (aside,) = await lab.driver.guests()
    assert (aside.server_id, aside.power) == (SERVER, PowerState.SHUTDOWN)
    for _ in range(2):
        made = await driver.arrive(bigger(), MOVE, None, start=True, paused=True)
        assert made.power == PowerState.PAUSED
    assert data(lab) == b"mine"
    assert (await lab.driver.resume(bigger())).power == PowerState.RUNNING
    assert len(await lab.driver.guests()) == 1
    if lab.kind != "fake":
        assert disk(lab).stat().st_size == 32 << 20
    for _ in range(2):
        back = await driver.come_back(spec(), MOVE, start=True, paused=False)
        assert back.power == PowerState.RUNNING
    assert data(lab) == b"mine"
    if lab.kind != "fake":
        assert disk(lab).stat().st_size == 16 << 20
    assert lab.events.heard == []
    await lab.driver.destroy(spec(), keep_disks=False)
    assert await lab.driver.leftovers(frozenset()) == []


async def test_what_is_aside_is_forgotten(lab: Lab) -> None:
    await leaves(lab)
    driver = able(lab.driver)
    await driver.arrive(bigger(), MOVE, None, start=False, paused=False)
    assert (await lab.driver.status(SERVER)).power == PowerState.SHUTDOWN
    await driver.forget_aside(spec(), OTHER)
    assert len(await lab.driver.leftovers(frozenset())) >= 2
    for _ in range(2):
        await driver.forget_aside(spec(), MOVE)
    with pytest.raises(NotFound):
        await driver.depart(
            spec("5f2a9b1c-0000-4000-8000-000000000002"), MOVE, seconds=0, offer=False
        )
    assert (await lab.driver.power_on(bigger())).power == PowerState.RUNNING
    assert data(lab) == b"mine"
    await lab.driver.destroy(bigger(), keep_disks=False)
    assert await lab.driver.leftovers(frozenset()) == []


async def test_it_comes_back_before_anything_arrived(lab: Lab) -> None:
    await leaves(lab)
    driver = able(lab.driver)
    with pytest.raises(NotFound):
        await driver.arrive(bigger(), OTHER, None, start=True, paused=False)
    restarted = able(await lab.restart())
    back = await restarted.come_back(spec(), OTHER, start=True, paused=False)
    assert back.power == PowerState.NOSTATE
    back = await restarted.come_back(spec(), MOVE, start=True, paused=False)
    assert back.power == PowerState.RUNNING
    # Nobody is there to be brought back now: the guest just goes on.
    again = await restarted.come_back(spec(), MOVE, start=True, paused=False)
    assert again.power == PowerState.RUNNING


async def test_one_that_nobody_brought_back_starts_again(lab: Lab) -> None:
    await leaves(lab)
    assert (await lab.driver.power_on(spec())).power == PowerState.RUNNING
    assert data(lab) == b"mine"


async def test_another_host_fetches_the_disks(lab: Lab, tmp_path: Path) -> None:
    await leaves(lab, offer=True)
    source = able(lab.driver)
    offer = await source.depart(spec(), MOVE, seconds=0, offer=True)
    assert offer is not None
    away = await lab.beside("h2")
    there = able(away.driver)
    made = await there.arrive(bigger(), MOVE, offer, start=True, paused=False)
    assert made.power == PowerState.RUNNING
    assert data(away) == b"mine"
    if lab.kind != "fake":
        assert disk(away).stat().st_size == 32 << 20
    for _ in range(2):
        await source.end_offer(spec(), MOVE)
    await source.forget_aside(spec(), MOVE)
    assert await lab.driver.leftovers(frozenset()) == []
    assert (await away.driver.reboot(bigger(), hard=True)).power == PowerState.RUNNING
    await away.driver.destroy(bigger(), keep_disks=False)
    assert await away.driver.leftovers(frozenset()) == []
