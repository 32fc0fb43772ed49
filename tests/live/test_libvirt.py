"""What only a real libvirtd shows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kilonova.base.errors import BadRequest, Conflict, NotSupported, Unavailable
from kilonova.config.hypervisor import SerialConsole
from kilonova.domain.fit.shapes import GuestCell, GuestTopology, Held
from kilonova.domain.guest import Disk, GuestSpec, GuestStatus, PowerState
from kilonova.embedded.network.plane import netns
from kilonova.virt import records
from kilonova.virt.devices import plan
from kilonova.virt.driver import (
    AttachesDisks,
    HasConsoles,
    HasDiagnostics,
    PlugsNics,
    RemembersGuests,
)
from tests.contracts.virt.conftest import NIC, Lab
from tests.support import namespace, running
from tests.support.guests import SERVER, spec
from tests.support.libvirtd import Libvirtd, libvirtd, why_not

REASON = why_not() or namespace.possible()
pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Libvirtd, namespace.Namespace]]:
    with namespace.namespace() as space, libvirtd(space.inside([])) as daemon:
        yield daemon, space


@pytest.fixture
async def lab(place: tuple[Libvirtd, namespace.Namespace], tmp_path: Path) -> AsyncIterator[Lab]:
    daemon, space = place
    made = Lab("libvirt", tmp_path)
    made.use(daemon, space)
    await made.start()
    yield made
    with contextlib.suppress(Exception):
        await made.driver.destroy(spec(), keep_disks=False)
    await made.stop()
    daemon.clear()


@pytest.fixture
def daemon(place: tuple[Libvirtd, namespace.Namespace]) -> Libvirtd:
    return place[0]


async def heard(lab: Lab, power: PowerState, seconds: float = 5.0) -> GuestStatus:
    async with asyncio.timeout(seconds):
        while not (found := [e for e in lab.events.heard if e.power == power]):
            await asyncio.sleep(0.01)
    return found[0]


def only(daemon: Libvirtd) -> int:
    """The process of the one guest."""
    (pid,) = daemon.guests()
    return pid


def opened(daemon: Libvirtd) -> contextlib.closing[Any]:
    import libvirt

    return contextlib.closing(libvirt.open(daemon.uri))


async def test_a_killed_process_is_told_and_the_guest_starts_again(
    lab: Lab, daemon: Libvirtd
) -> None:
    await lab.driver.spawn(spec(), paused=False)
    os.kill(only(daemon), signal.SIGKILL)
    told = await heard(lab, PowerState.CRASHED, 3.0)
    assert told.detail == "the process ended"
    assert (await lab.driver.status(SERVER)).power == PowerState.CRASHED
    assert (await lab.driver.power_on(spec())).power == PowerState.RUNNING
    assert len(lab.events.heard) == 1


async def test_what_others_do_to_a_guest_is_told_within_a_second(
    lab: Lab, daemon: Libvirtd
) -> None:
    await lab.driver.spawn(spec(), paused=False)
    with opened(daemon) as connection:
        domain = connection.lookupByUUIDString(SERVER)
        for act, power in (
            (domain.suspend, PowerState.PAUSED),
            (domain.resume, PowerState.RUNNING),
            (domain.destroy, PowerState.SHUTDOWN),
            (domain.create, PowerState.RUNNING),
        ):
            lab.events.heard.clear()
            await asyncio.to_thread(act)
            await heard(lab, power, 1.0)
        lab.events.heard.clear()
        await asyncio.to_thread(domain.reset, 0)
        assert (await heard(lab, PowerState.RUNNING, 1.0)).detail == "guest-reset"
    assert (await lab.driver.status(SERVER)).power == PowerState.RUNNING


async def test_a_guest_that_died_while_nobody_looked_is_told_at_the_start(
    lab: Lab, daemon: Libvirtd
) -> None:
    await lab.driver.spawn(spec(), paused=False)
    await lab.driver.stop()
    os.kill(only(daemon), signal.SIGKILL)
    while daemon.guests():
        await asyncio.sleep(0.05)
    with opened(daemon) as connection:
        while connection.lookupByUUIDString(SERVER).isActive():
            await asyncio.sleep(0.05)
    await lab.start()
    assert [e.power for e in lab.events.heard] == [PowerState.CRASHED]


async def test_libvirtd_may_come_and_go(lab: Lab, daemon: Libvirtd) -> None:
    await lab.driver.spawn(spec(), paused=False)
    pid = only(daemon)
    for how in (signal.SIGTERM, signal.SIGKILL):
        await asyncio.to_thread(daemon.stop, how)
        with pytest.raises(Unavailable, match="libvirt"):
            await lab.driver.report()
        with pytest.raises(Unavailable):
            await lab.driver.guests()
        with pytest.raises(Unavailable):
            await lab.driver.power_off(spec(), seconds=0)
        await asyncio.to_thread(daemon.start)
        async with asyncio.timeout(15):
            while True:
                with contextlib.suppress(Unavailable):
                    assert (await lab.driver.status(SERVER)).power == PowerState.RUNNING
                    break
                await asyncio.sleep(0.05)
        assert lab.events.heard == []
        assert only(daemon) == pid
    await asyncio.to_thread(daemon.stop)
    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(daemon.start)
    gone = await heard_any(lab, 15.0)
    assert gone.power in (PowerState.SHUTDOWN, PowerState.CRASHED)
    assert (await lab.driver.power_on(spec())).power == PowerState.RUNNING


async def heard_any(lab: Lab, seconds: float) -> GuestStatus:
    async with asyncio.timeout(seconds):
        while not lab.events.heard:
            await asyncio.sleep(0.02)
    return lab.events.heard[0]


async def test_a_libvirtd_that_hangs_holds_up_nobody_for_ever(lab: Lab, daemon: Libvirtd) -> None:
    from kilonova.virt.libvirt import host

    await lab.driver.spawn(spec(), paused=False)
    pid = int((daemon.directory / "run" / "libvirtd.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await lab.driver.report()
        patience = host.KEEPALIVE[0] * (host.KEEPALIVE[1] + 2)
        assert time.monotonic() - began < patience + 5
    finally:
        os.kill(pid, signal.SIGCONT)
    async with asyncio.timeout(15):
        while True:
            with contextlib.suppress(Unavailable):
                await lab.driver.report()
                break
            await asyncio.sleep(0.1)


async def test_guests_of_another_boot_of_the_host_are_interrupted_not_crashed(lab: Lab) -> None:
    await lab.driver.spawn(spec(), paused=False)
    await lab.driver.power_off(spec(), seconds=0)
    await lab.stop()
    directory = lab.path / "instances" / SERVER
    record = records.load(directory)
    assert record is not None
    records.save(directory, msgspec.structs.replace(record, running=True, boot="another"))
    driver = await lab.start()
    assert isinstance(driver, RemembersGuests)
    assert [guest.server_id for guest in await driver.interrupted()] == [SERVER]
    assert (await driver.status(SERVER)).power == PowerState.SHUTDOWN
    assert (await driver.power_on(spec())).power == PowerState.RUNNING
    assert await driver.interrupted() == []


async def test_a_half_made_guest_is_made_anew(lab: Lab, daemon: Libvirtd) -> None:
    await lab.driver.spawn(spec(), paused=False)
    pid = only(daemon)
    await lab.stop()
    directory = lab.path / "instances" / SERVER
    record = records.load(directory)
    assert record is not None
    records.save(directory, msgspec.structs.replace(record, made=False))
    await lab.start()
    assert (await lab.driver.status(SERVER)).power == PowerState.NOSTATE
    assert daemon.guests() == {}
    assert (await lab.driver.spawn(spec(), paused=False)).power == PowerState.RUNNING
    assert only(daemon) != pid


@pytest.mark.parametrize("defined", [True, False])
async def test_a_guest_with_disks_that_was_not_started(lab: Lab, *, defined: bool) -> None:
    """The agent was killed between its record and libvirt's."""
    await lab.driver.spawn(spec(), paused=False)
    await lab.driver.destroy(spec(), keep_disks=True)
    if defined:
        await lab.driver.power_on(spec())
        await lab.driver.power_off(spec(), seconds=0)
    await lab.restart()
    assert (await lab.driver.spawn(spec(), paused=True)).power == PowerState.PAUSED
    assert len(await lab.driver.guests()) == 1


async def test_a_stray_domain_without_a_directory_is_found_and_ended(
    lab: Lab, daemon: Libvirtd
) -> None:
    await lab.driver.spawn(spec(), paused=True)
    await lab.stop()
    shutil.rmtree(lab.path / "instances" / SERVER)
    await lab.start()
    (line,) = await lab.driver.leftovers(frozenset())
    assert line == f"domain instance-00000001 of server {SERVER}"
    await lab.driver.destroy(spec(), keep_disks=False)
    assert await lab.driver.leftovers(frozenset()) == []
    assert (daemon.guests(), daemon.domains()) == ({}, [])


async def test_domains_of_others_are_left_alone(lab: Lab, daemon: Libvirtd) -> None:
    foreign = (
        "<domain type='qemu'><name>instance-00000001</name><memory unit='MiB'>32</memory>"
        "<os><type arch='x86_64' machine='pc'>hvm</type></os></domain>"
    )
    with opened(daemon) as connection:
        connection.defineXML(foreign)
    assert await lab.driver.guests() == []
    assert await lab.driver.leftovers(frozenset()) == []
    with pytest.raises(Unavailable, match="already exists with uuid"):
        await lab.driver.spawn(spec(), paused=False)
    await lab.driver.destroy(spec(), keep_disks=False)
    assert daemon.domains() == ["instance-00000001"]


@pytest.mark.parametrize(
    "properties",
    [
        {"hw_machine_type": "q35", "hw_qemu_guest_agent": "yes"},
        {"hw_video_model": "virtio", "hw_pointer_model": "usbtablet", "os_type": "windows"},
        {"hw_video_model": "none", "hw_vif_model": "e1000", "hw_boot_menu": "true"},
        {"hw_video_model": "cirrus", "hw_vif_model": "rtl8139"},
        {"hw_video_model": "bochs", "hw_vif_model": "e1000e", "hw_machine_type": "q35"},
        {"hw_video_model": "qxl", "hw_cdrom_bus": "ide"},
    ],
    ids=lambda properties: "-".join(properties.values()),
)
async def test_libvirt_takes_what_image_properties_ask(
    lab: Lab, daemon: Libvirtd, properties: dict[str, str]
) -> None:
    import libvirt

    extra = (
        Disk(id="e", role="ephemeral", source="blank", device="vdb", size_mb=16, fs_label="eph"),
        Disk(id="c", role="blank", source="blank", device="sda", bus="scsi", size_mb=8),
        Disk(id="k", role="blank", source="blank", device="sdk", bus="scsi", size_mb=8),
        Disk(id="t", role="blank", source="blank", device="sdb", bus="sata", size_mb=8),
        Disk(id="u", role="blank", source="blank", device="sdc", bus="usb", size_mb=8),
    )
    plain = spec()
    guest = msgspec.structs.replace(
        plain,
        disks=(*plain.disks, *extra),
        properties=properties,
        nics=(lab.nic,),
        config_drive=True,
    )
    assert (await lab.driver.spawn(guest, paused=False)).power == PowerState.RUNNING
    with opened(daemon) as connection:
        domain = connection.lookupByUUIDString(SERVER)
        definition = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        connection.defineXMLFlags(definition, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
        assert domain.XMLDesc(0).count("<controller type='scsi'") == 1
    told = await diagnostics(lab)
    assert {disk.name for disk in told.disks} == {d.device for d in plan(guest).disks}


async def diagnostics(lab: Lab) -> Any:
    assert isinstance(lab.driver, HasDiagnostics)
    return await lab.driver.diagnostics(SERVER)


async def test_what_cannot_be_is_refused_and_leaves_nothing(lab: Lab, daemon: Libvirtd) -> None:
    with pytest.raises(NotSupported, match="port of type user"):
        await lab.driver.spawn(spec(nics=(NIC,)), paused=False)
    with pytest.raises(BadRequest, match="hw_disk_bus=xen"):
        await lab.driver.spawn(spec(properties={"hw_disk_bus": "xen"}), paused=False)
    await lab.driver.spawn(spec(), paused=False)
    assert isinstance(lab.driver, PlugsNics)
    with pytest.raises(NotSupported):
        await lab.driver.attach_nic(spec(), NIC)
    with pytest.raises(Conflict):
        await lab.driver.detach_nic(spec(nics=(lab.nic,)), await plugged(lab))
    await lab.driver.destroy(spec(), keep_disks=False)
    assert await lab.driver.leftovers(frozenset()) == []
    assert daemon.domains() == []


async def plugged(lab: Lab) -> Any:
    """A card nobody in the guest will let go of."""
    assert isinstance(lab.driver, PlugsNics)
    await lab.driver.attach_nic(spec(nics=(lab.nic,)), lab.nic)
    return lab.nic


async def test_disks_are_nobody_elses_business(lab: Lab) -> None:
    guest: GuestSpec = spec(config_drive=True)
    await lab.driver.spawn(guest, paused=True)
    directory = lab.path / "instances" / SERVER
    assert directory.stat().st_mode & 0o777 == 0o711
    for name in ("disk", "disk.config", "console.log", "guest.json"):
        assert (directory / name).stat().st_mode & 0o077 == 0, name


async def test_the_graphical_console_speaks_rfb(
    lab: Lab, place: tuple[Libvirtd, namespace.Namespace]
) -> None:
    await lab.driver.spawn(spec(), paused=True)
    assert isinstance(lab.driver, HasConsoles)
    target = await lab.driver.console(SERVER, "vnc")

    async def greeting() -> bytes:
        reader, writer = await asyncio.open_connection(target.host, target.port)
        said = await reader.readexactly(12)
        writer.close()
        await writer.wait_closed()
        return said

    inside = await asyncio.to_thread(netns.run_in, place[1].path, lambda: asyncio.run(greeting()))
    assert inside == b"RFB 003.008\n"


async def test_a_serial_console_over_tcp(
    lab: Lab, place: tuple[Libvirtd, namespace.Namespace]
) -> None:
    await lab.stop()
    lab.settings = msgspec.structs.replace(
        lab.settings, serial_console=SerialConsole(enabled=True, port_range="23000:23999")
    )
    driver = await lab.start()
    assert isinstance(driver, HasConsoles)
    await driver.spawn(spec(), paused=True)
    target = await driver.console(SERVER, "serial")
    assert 23000 <= target.port <= 23999

    async def reached() -> None:
        _, writer = await asyncio.open_connection(target.host, target.port)
        writer.close()
        await writer.wait_closed()

    await asyncio.to_thread(netns.run_in, place[1].path, lambda: asyncio.run(reached()))
    await driver.reboot(spec(), hard=True)
    assert await driver.console(SERVER, "serial") == target


async def test_a_guest_has_the_cpus_that_are_its_own(lab: Lab, daemon: Libvirtd) -> None:
    cpu = min(os.sched_getaffinity(0))
    cell = GuestCell(id=0, memory_mb=64, pcpus=frozenset({0}), host_cell=0, pins=((0, cpu),))
    guest = spec(held=Held(GuestTopology((cell,), policy="dedicated")))
    assert (await lab.driver.spawn(guest, paused=True)).power == PowerState.PAUSED
    threads = {
        (task / "comm").read_text().strip(): os.sched_getaffinity(int(task.name))
        for task in Path(f"/proc/{only(daemon)}/task").iterdir()
    }
    assert [cpus for name, cpus in threads.items() if name.startswith("CPU 0")] == [{cpu}]


async def test_libvirt_keeps_the_key_of_a_volume(lab: Lab, daemon: Libvirtd) -> None:
    """No such target is there, so the guest is off: all but its start is real."""
    plain = spec()
    reached = {
        "driver_volume_type": "iscsi",
        "data": {
            "target_portal": "127.0.0.1:3260",
            "target_iqn": "iqn.2010-10.org.openstack:v1",
            "target_lun": 1,
            "auth_method": "CHAP",
            "auth_username": "u",
            "auth_password": "p4ss",
        },
    }
    disk = Disk(
        id="v", role="volume", source="volume", device="vdb", size_mb=64, format="raw",
        volume_id="v1", connection=reached,
    )  # fmt: skip
    full = msgspec.structs.replace(plain, disks=(*plain.disks, disk))
    await lab.driver.spawn(plain, paused=False)
    await lab.driver.power_off(plain, seconds=0)
    assert isinstance(lab.driver, AttachesDisks)
    await lab.driver.attach_disk(full, disk)
    with opened(daemon) as connection:
        (secret,) = connection.listAllSecrets(0)
        assert secret.usageID() == "chap-v1"
        with pytest.raises(Unavailable, match="could not be started"):
            await lab.driver.power_on(full)
        definition = connection.lookupByUUIDString(SERVER).XMLDesc(0)
        assert secret.UUIDString() in definition
        assert "p4ss" not in definition
        await lab.driver.detach_disk(plain, disk)
        assert connection.listAllSecrets(0) == []
    assert not list((lab.path / "instances" / SERVER).glob("secrets/*"))
    assert (await lab.driver.power_on(plain)).power == PowerState.RUNNING


async def test_a_volume_on_a_server_of_block_devices(
    lab: Lab, place: tuple[Libvirtd, namespace.Namespace], tmp_path: Path
) -> None:
    file = tmp_path / "volume"
    with file.open("wb") as out:
        out.truncate(64 << 20)
    words = ("qemu-nbd", "-e", "4", "-t", "-b", "127.0.0.1", "-p", "10809", "-f", "raw", "-x", "v")
    serving = subprocess.Popen(place[1].inside([*words, file]))
    try:
        where = {"host": "127.0.0.1", "port": 10809, "export": "v"}
        disk = Disk(
            id="v", role="volume", source="volume", device="vdb", size_mb=64, format="raw",
            volume_id="v1", connection={"driver_volume_type": "nbd", "data": where},
        )  # fmt: skip
        plain = spec()
        full = msgspec.structs.replace(plain, disks=(*plain.disks, disk))
        await lab.driver.spawn(plain, paused=False)
        assert isinstance(lab.driver, AttachesDisks)
        for _ in range(2):
            await lab.driver.attach_disk(full, disk)
        assert {one.name for one in (await diagnostics(lab)).disks} == {"vda", "vdb"}
        assert (await lab.driver.reboot(full, hard=True)).power == PowerState.RUNNING
        await lab.driver.destroy(full, keep_disks=False)
    finally:
        serving.terminate()
        serving.wait(10)


def test_a_cloud_without_libvirtd_says_what_to_do(tmp_path: Path) -> None:
    why = running.why_not()
    if why is not None:
        pytest.skip(why)
    nobody = tmp_path / "nobody"
    uri = f"qemu+unix:///system?socket={nobody}"
    (tmp_path / "kilonova.conf").write_text(f"[libvirt]\nconnection_uri = {uri}\n")
    with running.running(tmp_path) as cloud:
        for more in ((), ("--hosts", "2")):
            done = cloud.up("--driver", "libvirt", *more, check=False)
            assert done.returncode == 1
            said = " ".join(done.stderr.split())
            word = "start libvirtd" if not more else "--hosts is for --driver fake"
            assert word in said, said
