"""What every driver must do that can make images of its guests."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kilonova.base.errors import Conflict, Fault, NotFound
from kilonova.domain.guest import GuestSpec, PowerState
from kilonova.virt.driver import Quiesces, TakesSnapshots
from tests.contracts.virt.conftest import Lab
from tests.support.guests import SERVER, booting, image_of, spec

IMAGE = "1a000000-0000-4000-8000-000000000001"
OTHER = "1a000000-0000-4000-8000-000000000002"
BASE = "ba000000-0000-4000-8000-000000000001"


def taker(lab: Lab) -> TakesSnapshots:
    if not isinstance(lab.driver, TakesSnapshots):
        pytest.skip("it makes no images")
    return lab.driver


async def booted(lab: Lab) -> GuestSpec:
    """A guest whose disk lies over an image; that begins with a word."""
    file = lab.path / "base"
    file.write_bytes(b"the base of all".ljust(3 << 20, b"\0"))
    lab.images.files[BASE] = file
    made = booting(image_of(file, BASE, "raw"))
    await lab.driver.spawn(made, paused=False)
    return made


def told(lab: Lab, image_id: str, where: Path) -> dict[str, Any]:
    """What qemu-img says of an image that was sent, and how it begins."""
    form, data = lab.sink.images[image_id]
    file = where / "sent"
    file.write_bytes(data)
    shown = ["qemu-img", "info", "--output=json", "-f", form, str(file)]
    info: dict[str, Any] = json.loads(subprocess.run(shown, check=True, capture_output=True).stdout)
    raw = where / "raw"
    flat = ["qemu-img", "convert", "-f", form, "-O", "raw", str(file), str(raw)]
    subprocess.run(flat, check=True)
    return {**info, "begins": raw.read_bytes()[:15]}


async def nothing_left(lab: Lab) -> None:
    """No copy lies on the host."""
    if lab.world is not None:
        assert all(not guest.copies for guest in lab.world.guests("h1").values())
    assert list((lab.path / "instances").rglob("snapshot-*")) == []


@pytest.mark.parametrize("power", ["running", "paused", "off"])
async def test_an_image_of_a_guest(lab: Lab, tmp_path: Path, power: str) -> None:
    driver = taker(lab)
    guest = await booted(lab)
    if power == "paused":
        await lab.driver.pause(guest)  # type: ignore[attr-defined]
    if power == "off":
        await lab.driver.power_off(guest, seconds=0)
    before = (await lab.driver.status(SERVER)).power
    kept = await driver.snapshot(guest, IMAGE)
    assert kept.size > 0
    assert (await lab.driver.status(SERVER)).power == before
    assert lab.sink.images == {}
    sent = await driver.send_snapshot(guest, IMAGE)
    assert sent == kept
    assert lab.sink.images[IMAGE][0] == kept.disk_format
    await nothing_left(lab)
    if lab.world is None:
        info = told(lab, IMAGE, tmp_path)
        assert (info["format"], info["virtual-size"]) == ("qcow2", 3 << 20)
        assert info["begins"] == b"the base of all"
        assert "backing-filename" not in info
    again = await driver.send_snapshot(guest, IMAGE)
    assert again.size >= 0
    assert lab.events.heard == []
    assert await lab.driver.leftovers(frozenset({SERVER})) == []


async def test_a_copy_can_be_dropped_and_made_again(lab: Lab) -> None:
    driver = taker(lab)
    await lab.driver.spawn(spec(), paused=False)
    await driver.drop_snapshot(spec(), IMAGE)
    await driver.snapshot(spec(), IMAGE)
    await driver.snapshot(spec(), IMAGE)
    await driver.drop_snapshot(spec(), IMAGE)
    await driver.drop_snapshot(spec(), IMAGE)
    await nothing_left(lab)
    with pytest.raises(NotFound):
        await driver.send_snapshot(spec(), IMAGE)
    await driver.snapshot(spec(), IMAGE)
    await driver.snapshot(spec(), OTHER)
    with pytest.raises(NotFound):
        await driver.send_snapshot(spec(), IMAGE)
    await driver.send_snapshot(spec(), OTHER)
    assert list(lab.sink.images) == [OTHER]


async def test_a_copy_outlives_the_driver(lab: Lab) -> None:
    driver = taker(lab)
    await lab.driver.spawn(spec(), paused=False)
    kept = await driver.snapshot(spec(), IMAGE)
    await lab.restart()
    assert await taker(lab).send_snapshot(spec(), IMAGE) == kept
    assert (await lab.driver.status(SERVER)).power == PowerState.RUNNING


async def test_a_copy_goes_with_its_guest(lab: Lab) -> None:
    driver = taker(lab)
    await lab.driver.spawn(spec(), paused=False)
    await driver.snapshot(spec(), IMAGE)
    await lab.driver.destroy(spec(), keep_disks=False)
    await nothing_left(lab)
    await driver.drop_snapshot(spec(), IMAGE)
    with pytest.raises(NotFound):
        await driver.snapshot(spec(), IMAGE)


async def test_a_copy_that_is_given_up_leaves_nothing(lab: Lab) -> None:
    driver = taker(lab)
    guest = await booted(lab)
    if lab.world is not None:
        lab.world.takes("snapshot", 60)
    work = asyncio.create_task(driver.snapshot(guest, IMAGE))
    await asyncio.sleep(0.05)
    work.cancel()
    await asyncio.wait([work])
    await driver.drop_snapshot(guest, IMAGE)
    await nothing_left(lab)
    if lab.world is not None:
        lab.world.heals()
    assert (await driver.snapshot(guest, IMAGE)).size > 0
    assert (await lab.driver.power_off(guest, seconds=0)).power == PowerState.SHUTDOWN


async def test_a_guest_without_an_agent_cannot_be_quiesced(lab: Lab) -> None:
    if not isinstance(lab.driver, Quiesces):
        pytest.skip("it quiesces nobody")
    await lab.driver.spawn(spec(), paused=False)
    with pytest.raises(Fault):
        await lab.driver.quiesce(spec())


async def test_a_guest_that_must_be_quiesced_gives_no_copy_else(lab: Lab) -> None:
    driver = taker(lab)
    if lab.world is not None:
        pytest.skip("nobody looks inside of it")
    must = {"hw_qemu_guest_agent": "yes", "os_require_quiesce": "yes"}
    guest = spec(properties=must)
    await lab.driver.spawn(guest, paused=False)
    with pytest.raises(Conflict):
        await driver.snapshot(guest, IMAGE)
    await nothing_left(lab)
    wish = msgspec.structs.replace(guest, properties={"hw_qemu_guest_agent": "yes"})
    assert (await driver.snapshot(wish, IMAGE)).size > 0


@pytest.mark.parametrize("form", ["raw", "qcow2", "vmdk"])
async def test_the_format_is_the_operators_choice(lab: Lab, tmp_path: Path, form: str) -> None:
    driver = taker(lab)
    if lab.world is not None:
        pytest.skip("its disks have no format")
    await lab.stop()
    chosen = msgspec.structs.replace(
        lab.settings.libvirt,
        snapshot_image_format=form,
        snapshot_compression=True,
        snapshots_directory=str(tmp_path / "elsewhere"),
    )
    lab.settings = msgspec.structs.replace(lab.settings, libvirt=chosen)
    await lab.start()
    driver = taker(lab)
    guest = await booted(lab)
    for _ in range(2):
        assert (await driver.snapshot(guest, IMAGE)).disk_format == form
        lab.sink.images.clear()
        await driver.send_snapshot(guest, IMAGE)
        info = told(lab, IMAGE, tmp_path)
        assert (info["format"], info["begins"]) == (form, b"the base of all")
        await lab.driver.power_off(guest, seconds=0)
    await lab.driver.destroy(guest, keep_disks=False)
    assert list((tmp_path / "elsewhere").iterdir()) == []
