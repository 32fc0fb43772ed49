"""Snapshots of volumes that are files, under guests that run and guests that are off."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from kilonova.base.errors import Conflict, NotFound, Unavailable
from kilonova.domain.disks import on_file
from kilonova.domain.guest import Disk, GuestSpec, PowerState
from kilonova.virt.driver import AttachesDisks, SnapshotsVolumes
from kilonova.virt.qemu import QemuDriver
from tests.contracts.virt.conftest import Lab
from tests.support.guests import SERVER, spec

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="no QEMU"),
]
VOLUME = "5f2a9b1c-0000-4000-8000-000000000001"


@pytest.fixture
async def lab(tmp_path: Path, guests_end: None) -> AsyncIterator[Lab]:
    made = Lab("qemu", tmp_path)
    await made.start()
    yield made
    with contextlib.suppress(Exception):
        await made.driver.destroy(spec(), keep_disks=False)
    await made.stop()


def image(path: Path, name: str, *options: str, below: tuple[str, str] | None = None) -> Path:
    """An image; ``below`` is name and format of its base."""
    base = ("-b", below[0], "-F", below[1]) if below else ()
    command = ["qemu-img", "create", "-q", "-f", "qcow2", *base, *options, name]
    subprocess.run([*command, *([] if below else ["16M"])], check=True, cwd=path)
    return path / name


def chain(file: Path) -> list[str]:
    """The files an image is made of by its own word."""
    command = ["qemu-img", "info", "-U", "--backing-chain", "--output=json", str(file)]
    told = subprocess.run(command, check=True, capture_output=True).stdout
    return [Path(row["filename"]).name for row in msgspec.json.decode(told)]


def pattern(file: Path, form: str, *writes: str) -> None:
    """Write into a file that nobody uses, or look what is in it."""
    words = [word for write in writes for word in ("-c", write)]
    done = subprocess.run(
        ["qemu-io", "-f", form, *words, file], check=True, capture_output=True, text=True
    )
    assert "failed" not in done.stdout, done.stdout


def disk_of(file: Path) -> Disk:
    return Disk(
        id="disk-1",
        role="volume",
        source="volume",
        device="vdb",
        size_mb=16,
        format="raw",
        serial=VOLUME,
        volume_id=VOLUME,
        connection={"driver_volume_type": "local", "data": {"device_path": str(file)}},
    )


def with_disk(disk: Disk) -> GuestSpec:
    plain = spec()
    return msgspec.structs.replace(plain, disks=(*plain.disks, disk))


async def write(lab: Lab, what: str) -> None:
    """Let the running guest's disk be written to, below the guest."""
    assert isinstance(lab.driver, QemuDriver)
    guest = lab.driver._guests[SERVER]
    device = "/machine/peripheral/disk-vdb/virtio-backend"
    line = {"command-line": f'qemu-io -d {device} "{what}"'}
    assert await guest.ask("human-monitor-command", line) == ""


async def test_files_come_and_go_below_a_running_guest(lab: Lab) -> None:
    base = lab.path / "volume-1"
    base.write_bytes(b"\0" * (16 << 20))
    disk = disk_of(base)
    await lab.driver.spawn(with_disk(disk), paused=False)
    assert isinstance(lab.driver, SnapshotsVolumes)
    await write(lab, "write -P 1 0 64k")
    below = ("volume-1", "raw")
    for number, name in enumerate(("s1", "s2", "s3"), 2):
        image(lab.path, name, below=below)
        disk = on_file(disk, name)
        for _ in range(2):
            await lab.driver.snapshot_volume(with_disk(disk), disk, name)
        await write(lab, f"write -P {number} {number * 64}k 64k")
        below = (name, "qcow2")
    assert chain(lab.path / "s3") == ["s3", "s2", "s1", "volume-1"]
    for _ in range(2):
        await lab.driver.merge_volume(with_disk(disk), disk, "s2", "s1")
    assert chain(lab.path / "s3") == ["s3", "s1", "volume-1"]
    with pytest.raises(NotFound):
        await lab.driver.merge_volume(with_disk(disk), disk, "s1", "none")
    await lab.restart()
    assert isinstance(lab.driver, SnapshotsVolumes)
    await lab.driver.merge_volume(with_disk(disk), disk, "volume-1", None)
    assert chain(lab.path / "s3") == ["s3", "volume-1"]
    # A start finds the files again; then the guest's device lets go of all of them.
    assert (await lab.driver.reboot(with_disk(disk), hard=True)).power == PowerState.RUNNING
    await write(lab, "write -P 9 1M 64k")
    await lab.driver.merge_volume(with_disk(disk), disk, None, None)
    assert chain(lab.path / "s3") == ["s3"]
    await lab.driver.power_off(with_disk(disk), seconds=0)
    looks = [f"read -P {n} {at}k 64k" for n, at in ((1, 0), (2, 128), (3, 192), (4, 256))]
    pattern(lab.path / "s3", "qcow2", *looks, "read -P 9 1M 64k")


async def test_a_snapshot_in_vain_is_taken_back(lab: Lab) -> None:
    base = lab.path / "volume-1"
    base.write_bytes(b"\0" * (16 << 20))
    old = disk_of(base)
    new = on_file(old, "s1")
    image(lab.path, "s1", below=("volume-1", "raw"))
    await lab.driver.spawn(with_disk(old), paused=False)
    assert isinstance(lab.driver, SnapshotsVolumes)
    await lab.driver.snapshot_volume(with_disk(new), new, "s1")
    await write(lab, "write -P 5 0 64k")
    for _ in range(2):
        await lab.driver.merge_volume(with_disk(old), old, "s1", "volume-1")
    await lab.driver.power_off(with_disk(old), seconds=0)
    pattern(base, "raw", "read -P 5 0 64k")
    assert (await lab.driver.power_on(with_disk(old))).power == PowerState.RUNNING


async def test_a_guest_that_is_off(lab: Lab) -> None:
    base = lab.path / "volume-1"
    base.write_bytes(b"\0" * (16 << 20))
    disk = disk_of(base)
    await lab.driver.spawn(with_disk(disk), paused=False)
    await lab.driver.power_off(with_disk(disk), seconds=0)
    assert isinstance(lab.driver, SnapshotsVolumes)
    below = ("volume-1", "raw")
    for number, name in enumerate(("s1", "s2"), 1):
        pattern(lab.path / below[0], below[1], f"write -P {number} {number * 64}k 64k")
        image(lab.path, name, below=below)
        disk = on_file(disk, name)
        await lab.driver.snapshot_volume(with_disk(disk), disk, name)
        below = (name, "qcow2")
    with pytest.raises(Conflict):
        await lab.driver.merge_volume(with_disk(disk), disk, "s1", "volume-1")
    await lab.driver.merge_volume(with_disk(disk), disk, "volume-1", None)
    assert chain(lab.path / "s2") == ["s2", "volume-1"]
    pattern(lab.path / "s2", "qcow2", "read -P 1 64k 64k", "read -P 2 128k 64k")
    assert (await lab.driver.power_on(with_disk(disk))).power == PowerState.RUNNING


async def test_a_base_elsewhere_is_refused(lab: Lab) -> None:
    other = lab.path / "other"
    other.mkdir()
    (other / "secret").write_bytes(b"\0" * (16 << 20))
    file = image(lab.path, "s1", below=(str(other / "secret"), "raw"))
    disk = disk_of(file)
    data = {"device_path": str(file), "format": "qcow2"}
    wanted = {"driver_volume_type": "local", "data": data}
    disk = msgspec.structs.replace(disk, connection=wanted)
    await lab.driver.spawn(spec(), paused=False)
    assert isinstance(lab.driver, AttachesDisks)
    with pytest.raises(Unavailable, match="none of its files"):
        await lab.driver.attach_disk(with_disk(disk), disk)
