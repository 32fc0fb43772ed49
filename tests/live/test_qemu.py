"""What only real QEMU processes show."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from kilonova.base.errors import BadRequest, Unavailable
from kilonova.config.hypervisor import SerialConsole
from kilonova.domain.guest import Disk, GuestStatus, Nic, PowerState
from kilonova.virt import records
from kilonova.virt.qemu import QemuDriver
from tests.contracts.virt.conftest import SETTINGS, Lab
from tests.support.guests import SERVER, booting, flavor, image_of, spec

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="no QEMU"),
]
IMAGE = "11111111-0000-4000-8000-000000000001"


@pytest.fixture
async def lab(tmp_path: Path, guests_end: None) -> AsyncIterator[Lab]:
    made = Lab("qemu", tmp_path)
    await made.start()
    yield made
    with contextlib.suppress(Exception):
        await made.driver.destroy(spec(), keep_disks=False)
    await made.stop()


def image(path: Path, *options: str) -> Path:
    file = path / "image.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, file, "8M"], check=True)
    return file


async def heard(lab: Lab, power: PowerState, seconds: float = 5.0) -> GuestStatus:
    async with asyncio.timeout(seconds):
        while not (found := [e for e in lab.events.heard if e.power == power]):
            await asyncio.sleep(0.01)
    return found[0]


async def test_a_killed_process_is_told_and_the_guest_starts_again(lab: Lab) -> None:
    status = await lab.driver.spawn(spec(), paused=False)
    assert status.pid is not None
    os.kill(status.pid, signal.SIGKILL)
    told = await heard(lab, PowerState.CRASHED, 1.0)
    assert "signal 9" in told.detail
    assert (await lab.driver.status(SERVER)).power == PowerState.CRASHED
    assert (await lab.driver.power_on(spec())).power == PowerState.RUNNING


async def test_a_guest_that_died_while_nobody_looked_is_told_at_the_start(lab: Lab) -> None:
    status = await lab.driver.spawn(spec(), paused=False)
    assert status.pid is not None
    await lab.stop()
    os.kill(status.pid, signal.SIGKILL)
    while Path(f"/proc/{status.pid}/cmdline").exists() and lab.processes():
        await asyncio.sleep(0.01)
    await lab.start()
    assert [e.power for e in lab.events.heard] == [PowerState.CRASHED]


async def test_guests_of_another_boot_of_the_host_are_interrupted_not_crashed(lab: Lab) -> None:
    await lab.driver.spawn(spec(), paused=False)
    await lab.driver.power_off(spec(), seconds=0)
    await lab.stop()
    directory = lab.path / "instances" / SERVER
    record = records.load(directory)
    assert record is not None
    records.save(directory, msgspec.structs.replace(record, running=True, boot="another"))
    driver = await lab.start()
    assert isinstance(driver, QemuDriver)
    assert [guest.server_id for guest in await driver.interrupted()] == [SERVER]
    assert (await driver.status(SERVER)).power == PowerState.SHUTDOWN
    assert (await driver.power_on(spec())).power == PowerState.RUNNING
    assert await driver.interrupted() == []


async def test_a_half_made_guest_is_made_anew(lab: Lab) -> None:
    status = await lab.driver.spawn(spec(), paused=False)
    await lab.stop()
    directory = lab.path / "instances" / SERVER
    record = records.load(directory)
    assert record is not None
    records.save(directory, msgspec.structs.replace(record, made=False))
    await lab.start()
    assert (await lab.driver.status(SERVER)).power == PowerState.NOSTATE
    assert lab.processes() == {}
    again = await lab.driver.spawn(spec(), paused=False)
    assert again.power == PowerState.RUNNING
    assert again.pid != status.pid


async def test_a_stray_process_without_a_directory_is_ended(lab: Lab) -> None:
    await lab.driver.spawn(spec(), paused=True)
    await lab.stop()
    shutil.rmtree(lab.path / "instances" / SERVER)
    await lab.start()
    assert any(line.startswith("process") for line in await lab.driver.leftovers(frozenset()))
    await lab.driver.destroy(spec(), keep_disks=False)
    assert await lab.driver.leftovers(frozenset()) == []


async def test_disks_over_a_cached_base(lab: Lab, tmp_path: Path) -> None:
    file = image(tmp_path)
    lab.images.files[IMAGE] = file
    guest = booting(image_of(file, IMAGE), flavor=flavor(root_gb=1))
    root = msgspec.structs.replace(guest.disks[0], size_mb=1024)
    extra = (
        Disk(id="e", role="ephemeral", source="blank", device="vdb", size_mb=16, fs_label="eph"),
        Disk(id="s", role="swap", source="blank", device="vdc", size_mb=8),
        Disk(id="c", role="blank", source="blank", device="sda", bus="scsi", size_mb=8),
        Disk(id="i", role="blank", source="blank", device="hda", bus="ide", size_mb=8),
        Disk(id="t", role="blank", source="blank", device="sdb", bus="sata", size_mb=8),
        Disk(id="u", role="blank", source="blank", device="sdc", bus="usb", size_mb=8),
    )
    guest = msgspec.structs.replace(guest, disks=(root, *extra), config_drive=True)
    await lab.driver.spawn(guest, paused=False)
    directory = lab.path / "instances" / SERVER
    base = next((lab.path / "instances/_base").glob("*.img"))
    assert stat.S_IMODE(base.stat().st_mode) == 0o444
    info = subprocess.run(
        ["qemu-img", "info", "-U", "--output=json", directory / "disk"],
        check=True,
        capture_output=True,
    )
    told = msgspec.json.decode(info.stdout)
    assert told["virtual-size"] == 1 << 30
    assert told["full-backing-filename"] == str(base.resolve())
    assert told["backing-filename-format"] == "raw"
    assert b"eph" in (directory / "disk.vdb").read_bytes()[:4096]
    assert b"SWAPSPACE2" in (directory / "disk.vdc").read_bytes()[:4096]
    assert b"CD001" in (directory / "disk.config").read_bytes()[32768:34816]
    assert isinstance(lab.driver, QemuDriver)
    assert await lab.driver.prune_images(unused_seconds=0) == []
    await lab.driver.destroy(guest, keep_disks=False)
    assert await lab.driver.prune_images(unused_seconds=0) == [IMAGE]
    assert lab.images.downloads == 1


@pytest.mark.parametrize(
    "properties",
    [
        {"hw_machine_type": "q35", "hw_qemu_guest_agent": "yes"},
        {"hw_video_model": "virtio", "hw_pointer_model": "usbtablet", "os_type": "windows"},
        {"hw_video_model": "none", "hw_vif_model": "e1000", "hw_boot_menu": "true"},
        {"hw_video_model": "cirrus", "hw_vif_model": "rtl8139"},
        {"hw_video_model": "bochs", "hw_vif_model": "e1000e", "hw_machine_type": "q35"},
    ],
    ids=lambda properties: "-".join(properties.values()),
)
async def test_qemu_takes_what_image_properties_ask(lab: Lab, properties: dict[str, str]) -> None:
    nic = Nic(port_id="p1", mac="fa:16:3e:00:00:01", network_id="n", vif_type="user")
    guest = spec(properties=properties, nics=(nic,), config_drive=True)
    assert (await lab.driver.spawn(guest, paused=False)).power == PowerState.RUNNING


async def test_what_cannot_be_is_refused(lab: Lab, tmp_path: Path) -> None:
    bad = spec(properties={"hw_disk_bus": "xen"})
    with pytest.raises(BadRequest, match="hw_disk_bus=xen"):
        await lab.driver.spawn(bad, paused=False)
    base = tmp_path / "secret.raw"
    base.write_bytes(b"\0" * (8 << 20))
    file = image(tmp_path, "-F", "raw", "-b", str(base))
    lab.images.files[IMAGE] = file
    with pytest.raises(BadRequest, match="not safe"):
        await lab.driver.spawn(booting(image_of(file, IMAGE)), paused=False)
    await lab.driver.destroy(spec(), keep_disks=False)
    assert await lab.driver.leftovers(frozenset()) == []


async def test_forwarded_ports_do_not_collide_and_are_told(lab: Lab) -> None:
    other = SERVER[:-1] + "2"
    nic = Nic(port_id="p1", mac="fa:16:3e:00:00:01", network_id="n", vif_type="user")
    one = await lab.driver.spawn(spec(nics=(nic,)), paused=False)
    two = await lab.driver.spawn(spec(other, nics=(nic,)), paused=False)
    assert one.detail.startswith("ssh=127.0.0.1:")
    assert two.detail.startswith("ssh=127.0.0.1:")
    assert one.detail != two.detail
    await lab.driver.reboot(spec(nics=(nic,)), hard=True)
    assert (await lab.driver.status(SERVER)).detail == one.detail
    await lab.driver.destroy(spec(other), keep_disks=False)


async def test_the_graphical_console_speaks_rfb(lab: Lab) -> None:
    await lab.driver.spawn(spec(), paused=True)
    assert isinstance(lab.driver, QemuDriver)
    target = await lab.driver.console(SERVER, "vnc")
    reader, writer = await asyncio.open_connection(target.host, target.port)
    assert await reader.readexactly(12) == b"RFB 003.008\n"
    writer.close()
    await writer.wait_closed()


async def test_a_serial_console_over_tcp(lab: Lab) -> None:
    await lab.stop()
    lab.settings = msgspec.structs.replace(
        SETTINGS, serial_console=SerialConsole(enabled=True, port_range="23000:23999")
    )
    driver = await lab.start()
    assert isinstance(driver, QemuDriver)
    await driver.spawn(spec(), paused=True)
    target = await driver.console(SERVER, "serial")
    assert 23000 <= target.port <= 23999
    _, writer = await asyncio.open_connection(target.host, target.port)
    writer.close()
    await writer.wait_closed()


async def test_what_qemu_says_when_it_cannot_start(lab: Lab) -> None:
    await lab.stop()
    lab.settings = msgspec.structs.replace(
        SETTINGS, qemu=msgspec.structs.replace(SETTINGS.qemu, cpu_model="no-such-cpu")
    )
    await lab.start()
    with pytest.raises(Unavailable, match="no-such-cpu") as caught:
        await lab.driver.spawn(spec(), paused=False)
    assert str(lab.path) not in caught.value.message
    assert lab.processes() == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes an ordinary user first")
def test_an_ordinary_user_can_do_it_all(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same contract, run by nobody."""
    home = Path(f"/tmp/kilonova-nobody-{os.getpid()}")
    home.mkdir(mode=0o700)
    os.chown(home, 65534, 65534)
    root = Path(__file__).parents[2]
    try:
        done = subprocess.run(
            [
                # The interpreter may lie in root's home, so reading is allowed, nothing else is.
                *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
                *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"),
                *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
                *("--basetemp", str(home / "t"), "-k", "qemu and (paused or outlive or nothing)"),
                str(root / "tests/contracts/virt"),
            ],
            cwd=root,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(home),
                "PYTHONPATH": str(root),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        shutil.rmtree(home)
