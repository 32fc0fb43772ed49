"""Volumes that are opened by way of os-brick, with a kind of connection that needs no hardware."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from kilonova.base.errors import Unavailable
from kilonova.config.cinder import Cinder
from kilonova.domain.guest import Disk
from kilonova.virt.brick import Brick
from kilonova.virt.qemu import QemuDriver
from tests.contracts.virt.conftest import SETTINGS, Lab
from tests.support.guests import SERVER, spec

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(240),
    pytest.mark.skipif(importlib.util.find_spec("os_brick") is None, reason="no os-brick"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]
VOLUME = "aaaaaaaa-0000-4000-8000-000000000001"


def disk(path: Path, kind: str = "gpfs") -> Disk:
    """GPFS shows volumes as files, which any file can stand for."""
    return Disk(
        id="data",
        role="volume",
        source="volume",
        device="vdb",
        bus="virtio",
        format="raw",
        size_mb=1,
        volume_id=VOLUME,
        serial=VOLUME,
        connection={"driver_volume_type": kind, "data": {"device_path": str(path)}},
    )


@pytest.fixture
def brick() -> Brick:
    return Brick(msgspec.structs.replace(SETTINGS, cinder=Cinder(os_brick=True)), "h1")


async def test_a_host_says_how_storage_knows_it(brick: Brick) -> None:
    facts = await brick.facts()
    assert facts["host"] == "h1"
    assert facts["ip"] == "127.0.0.1"
    assert facts["multipath"] is False
    assert await Brick(SETTINGS, "h1").facts() == {}


async def test_what_goes_wrong_is_told(brick: Brick, tmp_path: Path) -> None:
    assert await brick.connect(disk(tmp_path / "v")) == str(tmp_path / "v")
    await brick.disconnect(disk(tmp_path / "v"), str(tmp_path / "v"))
    with pytest.raises(Unavailable, match="InvalidConnectorProtocol"):
        await brick.connect(disk(tmp_path / "v", "carrier_pigeon"))


@pytest.fixture
async def lab(tmp_path: Path, guests_end: None) -> AsyncIterator[Lab]:
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("no QEMU")
    made = Lab("qemu", tmp_path)
    made.settings = msgspec.structs.replace(SETTINGS, cinder=Cinder(os_brick=True))
    await made.start()
    yield made
    await made.driver.destroy(spec(), keep_disks=False)
    await made.stop()


async def test_a_guest_has_such_a_volume(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "v"
    file.write_bytes(bytes(1 << 20))
    data = disk(file)
    guest = msgspec.structs.replace(spec(), disks=(*spec().disks, data))
    assert isinstance(lab.driver, QemuDriver)
    await lab.driver.spawn(spec(), paused=False)
    await lab.driver.attach_disk(guest, data)
    nodes = await lab.driver._find(SERVER).ask("query-named-block-nodes", {"flat": True})
    assert str(file) in {node["file"] for node in nodes}
    await lab.driver.power_off(guest, seconds=0)
    await lab.driver.power_on(guest)
    await lab.driver.power_off(guest, seconds=0)
    await lab.driver.detach_disk(spec(), data)
    assert file.exists()
