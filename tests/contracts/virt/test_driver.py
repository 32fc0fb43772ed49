"""What every virt driver must do."""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec
import pytest

from kilonova.base.errors import Conflict, NotFound, NotSupported
from kilonova.domain.disks import on_file
from kilonova.domain.guest import Disk, ImageRef, PowerState
from kilonova.domain.rescue import rescued
from kilonova.virt import records
from kilonova.virt.driver import (
    AttachesDisks,
    HasConsoles,
    HasDiagnostics,
    InjectsNmi,
    Pauses,
    PlugsNics,
    Rebuilds,
    Rescues,
    SetsPasswords,
    SnapshotsVolumes,
    Suspends,
)
from tests.contracts.virt.conftest import Lab
from tests.support.guests import SERVER, booting, image_of, spec

OTHER = "5f2a9b1c-0000-4000-8000-000000000002"


async def test_a_guest_is_made_paused_and_let_go(lab: Lab) -> None:
    status = await lab.driver.spawn(spec(), paused=True)
    assert (status.server_id, status.power) == (SERVER, PowerState.PAUSED)
    assert (await lab.driver.status(SERVER)).power == PowerState.PAUSED
    assert (await lab.driver.resume(spec())).power == PowerState.RUNNING
    assert (await lab.driver.resume(spec())).power == PowerState.RUNNING
    assert lab.events.heard == []


async def test_making_it_twice_makes_it_once(lab: Lab) -> None:
    first = await lab.driver.spawn(spec(), paused=False)
    again = await lab.driver.spawn(spec(), paused=False)
    assert first.power == again.power == PowerState.RUNNING
    assert first.pid == again.pid
    assert len(await lab.driver.guests()) == 1


async def test_power_cycle(lab: Lab) -> None:
    await lab.driver.spawn(spec(), paused=False)
    assert (await lab.driver.power_off(spec(), seconds=0)).power == PowerState.SHUTDOWN
    assert (await lab.driver.power_off(spec(), seconds=0)).power == PowerState.SHUTDOWN
    with pytest.raises(Conflict):
        await lab.driver.resume(spec())
    assert (await lab.driver.power_on(spec())).power == PowerState.RUNNING
    assert (await lab.driver.power_on(spec())).power == PowerState.RUNNING
    assert (await lab.driver.reboot(spec(), hard=True)).power == PowerState.RUNNING
    await lab.driver.power_off(spec(), seconds=0)
    assert (await lab.driver.reboot(spec(), hard=True)).power == PowerState.RUNNING
    assert lab.events.heard == []


async def test_a_guest_that_does_not_react(lab: Lab) -> None:
    """Nothing has booted in it, so it knows no power button."""
    await lab.driver.spawn(spec(), paused=False)
    if lab.world is not None:
        lab.world.deaf(SERVER)
    with pytest.raises(Conflict):
        await lab.driver.reboot(spec(), hard=False)
    assert (await lab.driver.status(SERVER)).power == PowerState.RUNNING
    assert (await lab.driver.power_off(spec(), seconds=1)).power == PowerState.SHUTDOWN
    with pytest.raises(Conflict):
        await lab.driver.reboot(spec(), hard=False)


async def test_destroy_leaves_nothing(lab: Lab) -> None:
    await lab.driver.spawn(spec(), paused=True)
    assert await lab.driver.leftovers(frozenset({SERVER})) == []
    assert await lab.driver.leftovers(frozenset()) != []
    await lab.driver.destroy(spec(), keep_disks=False)
    await lab.driver.destroy(spec(), keep_disks=False)
    assert await lab.driver.guests() == []
    assert (await lab.driver.status(SERVER)).power == PowerState.NOSTATE
    assert await lab.driver.leftovers(frozenset()) == []
    for ask in (lab.driver.power_on, lab.driver.resume):
        with pytest.raises(NotFound):
            await ask(spec())
    with pytest.raises(NotFound):
        await lab.driver.console_log(SERVER)


async def test_disks_can_be_kept(lab: Lab) -> None:
    await lab.driver.spawn(spec(), paused=False)
    await lab.driver.destroy(spec(), keep_disks=True)
    assert (await lab.driver.status(SERVER)).power == PowerState.SHUTDOWN
    assert (await lab.driver.power_on(spec())).power == PowerState.RUNNING


async def test_guests_outlive_the_driver(lab: Lab) -> None:
    running = await lab.driver.spawn(spec(), paused=False)
    await lab.driver.spawn(spec(OTHER), paused=True)
    driver = await lab.restart()
    found = {status.server_id: status for status in await driver.guests()}
    assert found[SERVER] == running
    assert found[OTHER].power == PowerState.PAUSED
    assert (await driver.spawn(spec(), paused=False)).pid == running.pid
    assert (await driver.resume(spec(OTHER))).power == PowerState.RUNNING
    assert (await driver.power_off(spec(), seconds=0)).power == PowerState.SHUTDOWN
    assert lab.events.heard == []
    driver = await lab.restart()
    assert (await driver.status(SERVER)).power == PowerState.SHUTDOWN
    assert lab.events.heard == []


async def test_console_log_and_console(lab: Lab) -> None:
    await lab.driver.spawn(spec(), paused=True)
    assert isinstance(await lab.driver.console_log(SERVER), bytes)
    assert isinstance(lab.driver, HasConsoles)
    with pytest.raises(NotFound):
        await lab.driver.console(SERVER, "smoke-signals")
    await lab.driver.resume(spec())
    target = await lab.driver.console(SERVER, "vnc")
    assert target.host == "127.0.0.1"
    assert target.port >= 5900
    await lab.driver.power_off(spec(), seconds=0)
    with pytest.raises(Conflict):
        await lab.driver.console(SERVER, "vnc")


async def test_the_report_counts_guests(lab: Lab) -> None:
    empty = await lab.driver.report()
    assert empty.node == "h1"
    assert min(empty.vcpus, empty.memory_mb, empty.disk_gb) > 0
    await lab.driver.spawn(spec(), paused=True)
    used = await lab.driver.report()
    assert used.used_vcpus - empty.used_vcpus == 1
    assert used.used_memory_mb - empty.used_memory_mb == 64


def volume(path: Path, number: int = 1) -> Disk:
    """A disk on a file, as a connected volume is."""
    file = path / f"volume-{number}"
    if not file.exists():
        with file.open("wb") as out:
            out.truncate(128 << 20)
    return Disk(
        id=f"disk-{number}",
        role="volume",
        source="volume",
        device="vdb",
        size_mb=64,
        format="raw",
        serial=f"5f2a9b1c-0000-4000-8000-00000000000{number}",
        volume_id=f"5f2a9b1c-0000-4000-8000-00000000000{number}",
        connection={"driver_volume_type": "local", "data": {"device_path": str(file)}},
    )


async def test_a_volume_comes_and_goes(lab: Lab) -> None:
    disk = volume(lab.path)
    plain = spec()
    full = msgspec.structs.replace(plain, disks=(*plain.disks, disk))
    await lab.driver.spawn(plain, paused=False)
    assert isinstance(lab.driver, AttachesDisks)
    for _ in range(2):
        assert (await lab.driver.attach_disk(full, disk)).power == PowerState.RUNNING
    await lab.restart()
    assert isinstance(lab.driver, AttachesDisks)
    grown = msgspec.structs.replace(disk, size_mb=128)
    await lab.driver.resize_disk(full, grown)
    if lab.world is not None:
        lab.world.deaf(SERVER)
    # No system runs in the guest, so nothing lets go of a disk.
    with pytest.raises(Conflict):
        await lab.driver.detach_disk(plain, disk)
    assert (await lab.driver.reboot(full, hard=True)).power == PowerState.RUNNING
    other = volume(lab.path, 2)
    swapped = msgspec.structs.replace(
        plain, disks=(*plain.disks, msgspec.structs.replace(other, size_mb=128))
    )
    await lab.driver.swap_disk(swapped, disk, swapped.disks[-1])
    await lab.driver.power_off(swapped, seconds=0)
    for _ in range(2):
        await lab.driver.detach_disk(plain, swapped.disks[-1])
    assert (await lab.driver.power_on(plain)).power == PowerState.RUNNING
    await lab.driver.destroy(plain, keep_disks=False)
    assert (lab.path / "volume-1").exists()
    assert (lab.path / "volume-2").exists()


async def test_a_volume_goes_on_in_another_file(lab: Lab) -> None:
    if not isinstance(lab.driver, SnapshotsVolumes):
        pytest.skip("it cannot")
    old = volume(lab.path)
    new = on_file(old, "volume-1.s1")
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "volume-1"]
    subprocess.run([*command, "volume-1.s1"], check=True, cwd=lab.path)
    plain = spec()
    before, after = (msgspec.structs.replace(plain, disks=(*plain.disks, d)) for d in (old, new))
    await lab.driver.spawn(before, paused=False)
    for _ in range(2):
        status = await lab.driver.snapshot_volume(after, new, "volume-1.s1")
        assert status.power == PowerState.RUNNING
    for _ in range(2):
        await lab.driver.merge_volume(after, new, None, None)
    with pytest.raises(NotFound):
        await lab.driver.merge_volume(after, new, "none", None)


async def test_a_guest_is_made_with_a_volume(lab: Lab) -> None:
    disk = msgspec.structs.replace(volume(lab.path), role="root", device="vda", boot_index=0)
    made = msgspec.structs.replace(spec(), disks=(disk,))
    await lab.driver.spawn(made, paused=False)
    await lab.driver.power_off(made, seconds=0)
    assert (await lab.driver.power_on(made)).power == PowerState.RUNNING
    await lab.driver.destroy(made, keep_disks=False)
    assert (lab.path / "volume-1").exists()


async def test_pausing(lab: Lab) -> None:
    driver = lab.driver
    if not isinstance(driver, Pauses):
        pytest.skip("it cannot")
    await driver.spawn(spec(), paused=False)
    for _ in range(2):
        assert (await driver.pause(spec())).power == PowerState.PAUSED
    assert (await driver.resume(spec())).power == PowerState.RUNNING
    await driver.power_off(spec(), seconds=0)
    with pytest.raises(Conflict):
        await driver.pause(spec())
    assert lab.events.heard == []


async def test_suspending(lab: Lab) -> None:
    driver = lab.driver
    if not isinstance(driver, Suspends):
        pytest.skip("it cannot")
    await driver.spawn(spec(), paused=False)
    for _ in range(2):
        assert (await driver.suspend(spec())).power == PowerState.SUSPENDED
    assert (await driver.status(SERVER)).power == PowerState.SUSPENDED
    with pytest.raises(Conflict):
        await driver.resume(spec())
    restarted = await lab.restart()
    assert isinstance(restarted, Suspends)
    assert [g.power for g in await restarted.guests()] == [PowerState.SUSPENDED]
    for _ in range(2):
        assert (await restarted.wake(spec())).power == PowerState.RUNNING
    await restarted.power_off(spec(), seconds=0)
    with pytest.raises(Conflict):
        await restarted.suspend(spec())
    assert lab.events.heard == []


async def test_a_suspended_guest_is_started_anew_or_removed(lab: Lab) -> None:
    driver = lab.driver
    if not isinstance(driver, Suspends):
        pytest.skip("it cannot")
    await driver.spawn(spec(), paused=False)
    await driver.suspend(spec())
    assert (await driver.reboot(spec(), hard=True)).power == PowerState.RUNNING
    await driver.suspend(spec())
    assert (await driver.power_off(spec(), seconds=1)).power == PowerState.SHUTDOWN
    assert (await driver.power_on(spec())).power == PowerState.RUNNING
    await driver.suspend(spec())
    await driver.destroy(spec(), keep_disks=False)
    assert await driver.leftovers(frozenset()) == []
    assert lab.events.heard == []


async def test_a_suspended_guest_keeps_what_was_plugged_in(lab: Lab) -> None:
    """What came while it ran is not where a new start would put it."""
    driver = lab.driver
    if not isinstance(driver, Suspends) or not isinstance(driver, AttachesDisks):
        pytest.skip("it cannot")
    assert isinstance(driver, PlugsNics)
    disk = volume(lab.path)
    plain = spec()
    full = msgspec.structs.replace(plain, disks=(*plain.disks, disk), nics=(lab.nic,))
    await driver.spawn(plain, paused=False)
    await driver.attach_nic(plain, lab.nic)
    await driver.attach_disk(full, disk)
    for _ in range(2):
        assert (await driver.suspend(full)).power == PowerState.SUSPENDED
        assert (await driver.wake(full)).power == PowerState.RUNNING
    assert lab.events.heard == []


async def test_dumping(lab: Lab) -> None:
    driver = lab.driver
    if not isinstance(driver, InjectsNmi):
        pytest.skip("it cannot")
    await driver.spawn(spec(), paused=False)
    assert (await driver.inject_nmi(spec())).power == PowerState.RUNNING
    await driver.power_off(spec(), seconds=0)
    with pytest.raises(Conflict):
        await driver.inject_nmi(spec())


async def test_a_card_for_a_guest_that_runs(lab: Lab) -> None:
    driver = lab.driver
    if not isinstance(driver, PlugsNics) or not isinstance(driver, HasDiagnostics):
        pytest.skip("it cannot")
    await driver.spawn(spec(), paused=False)
    for _ in range(2):
        await driver.attach_nic(spec(), lab.nic)
        assert [n.mac_address for n in (await driver.diagnostics(SERVER)).nics] == [lab.nic.mac]
    assert lab.events.heard == []
    restarted = await lab.restart()
    assert isinstance(restarted, HasDiagnostics)
    assert len((await restarted.diagnostics(SERVER)).nics) == 1


async def test_a_card_for_a_guest_that_is_off(lab: Lab) -> None:
    driver = lab.driver
    if not isinstance(driver, PlugsNics) or not isinstance(driver, HasDiagnostics):
        pytest.skip("it cannot")
    await driver.spawn(spec(), paused=False)
    await driver.power_off(spec(), seconds=0)
    await driver.attach_nic(spec(), lab.nic)
    assert (await driver.power_on(spec(nics=(lab.nic,)))).power == PowerState.RUNNING
    await driver.power_off(spec(nics=(lab.nic,)), seconds=0)
    for _ in range(2):
        await driver.detach_nic(spec(nics=(lab.nic,)), lab.nic)
    told = await driver.diagnostics(SERVER)
    assert (told.state, told.nics) == ("shutdown", ())


async def test_counters(lab: Lab) -> None:
    driver = lab.driver
    if not isinstance(driver, HasDiagnostics):
        pytest.skip("it has none")
    with pytest.raises(NotFound):
        await driver.diagnostics(SERVER)
    await driver.spawn(spec(), paused=False)
    told = await driver.diagnostics(SERVER)
    assert (told.state, told.maximum_memory, len(told.cpus)) == ("running", 64, 1)
    (disk,) = told.disks
    assert (disk.name, disk.errors_count is not None) == ("vda", True)
    assert told.cpus[0].time is not None


def image(lab: Lab, image_id: str) -> ImageRef:
    """An image with its id in its first bytes."""
    file = lab.path / f"{image_id}.img"
    file.write_bytes(image_id.encode().ljust(1 << 16, b"\0"))
    lab.images.files[image_id] = file
    return image_of(file, image_id, "raw")


def wrote(lab: Lab) -> set[str]:
    """The files of the guest."""
    return {file.name for file in (lab.path / "instances" / SERVER).glob("disk*")}


async def test_a_guest_is_made_anew(lab: Lab) -> None:
    driver = lab.driver
    assert isinstance(driver, Rebuilds)
    disk = volume(lab.path)
    before = booting(image(lab, "one"))
    before = msgspec.structs.replace(before, disks=(*before.disks, disk))
    after = booting(image(lab, "two"))
    after = msgspec.structs.replace(after, disks=(*after.disks, disk), nics=(lab.nic,))
    first = await driver.spawn(before, paused=False)
    for paused in (True, False):
        made = await driver.rebuild(after, paused=paused)
        assert made.power == (PowerState.PAUSED if paused else PowerState.RUNNING)
    assert len(await driver.guests()) == 1
    if lab.world is None:
        assert wrote(lab) == {"disk"}
        assert made.pid is None or made.pid != first.pid
        record = records.load(lab.path / "instances" / SERVER)
        assert record is not None
        assert Path(record.disks["vda"].base).read_bytes().startswith(b"two")
    driver = await lab.restart()
    assert (await driver.status(SERVER)).power == PowerState.RUNNING
    await driver.power_off(after, seconds=0)
    assert (await driver.power_on(after)).power == PowerState.RUNNING
    assert isinstance(driver, Rebuilds)
    await driver.rebuild(after, paused=False)
    await driver.destroy(after, keep_disks=False)
    assert (lab.path / "volume-1").exists()
    assert await driver.leftovers(frozenset()) == []
    assert lab.events.heard == []


async def test_a_guest_that_cannot_be_made_anew(lab: Lab) -> None:
    driver = lab.driver
    assert isinstance(driver, Rebuilds)
    before = booting(image(lab, "one"))
    await driver.spawn(before, paused=False)
    if lab.world is not None:
        lab.world.fails("rebuild", error=NotFound("gone"))
    with pytest.raises(NotFound):
        await driver.rebuild(booting(ImageRef("gone", disk_format="raw")), paused=False)
    driver = await lab.restart()
    assert isinstance(driver, Rebuilds)
    again = booting(image(lab, "two"))
    assert (await driver.rebuild(again, paused=False)).power == PowerState.RUNNING
    await driver.destroy(again, keep_disks=False)
    # One that is lost altogether is made as well.
    assert (await driver.rebuild(again, paused=False)).power == PowerState.RUNNING


async def test_a_rescue_and_its_end(lab: Lab) -> None:
    driver = lab.driver
    assert isinstance(driver, Rescues)
    own = booting(image(lab, "one"))
    await driver.spawn(own, paused=False)
    beside = msgspec.structs.replace(image(lab, "beside"), properties={"hw_rescue_bus": "virtio"})
    for help_ in (image(lab, "help"), beside):
        inside = rescued(own, help_, admin_pass="secret")
        for _ in range(2):
            assert (await driver.rescue(inside)).power == PowerState.RUNNING
        if lab.world is None:
            assert wrote(lab) == {"disk", "disk.rescue"}
        else:
            assert lab.world.guests("h1")[SERVER].rescue == help_.id
        restarted = await lab.restart()
        assert (await restarted.status(SERVER)).power == PowerState.RUNNING
        assert isinstance(restarted, Rescues)
        driver = restarted
        for _ in range(2):
            assert (await driver.unrescue(own)).power == PowerState.RUNNING
        if lab.world is None:
            assert wrote(lab) == {"disk"}
    assert isinstance(driver, Rescues)
    await driver.rescue(rescued(own, beside))
    await lab.driver.destroy(own, keep_disks=False)
    assert await lab.driver.leftovers(frozenset()) == []
    assert lab.events.heard == []


async def test_a_rescue_that_fails(lab: Lab) -> None:
    driver = lab.driver
    assert isinstance(driver, Rescues)
    own = booting(image(lab, "one"))
    await driver.spawn(own, paused=False)
    if lab.world is not None:
        lab.world.fails("rescue", error=NotFound("gone"))
    with pytest.raises(NotFound):
        await driver.rescue(rescued(own, ImageRef("gone", disk_format="raw")))
    if lab.world is None:
        assert wrote(lab) == {"disk"}
    assert (await lab.driver.reboot(own, hard=True)).power == PowerState.RUNNING
    assert lab.events.heard == []


async def test_a_password(lab: Lab) -> None:
    driver = lab.driver
    assert isinstance(driver, SetsPasswords)
    plain = spec()
    await driver.spawn(plain, paused=False)
    if lab.world is None:
        with pytest.raises(Conflict, match="not enabled"):
            await driver.set_password(plain, "root", "secret")
        plain = spec(properties={"hw_qemu_guest_agent": "yes"})
        await lab.driver.reboot(plain, hard=True)
    else:
        await driver.set_password(plain, "root", "secret")
        lab.world.without_agent(SERVER)
    with pytest.raises(NotSupported):
        await driver.set_password(plain, "root", "secret")
    await lab.driver.power_off(plain, seconds=0)
    with pytest.raises(Conflict):
        await driver.set_password(plain, "root", "secret")
