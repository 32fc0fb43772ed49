"""A guest that counts on its serial console is moved between two hosts of this machine."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from kilonova.base.errors import Conflict
from kilonova.config.hypervisor import Libvirt, Qemu
from kilonova.config.settings import Settings
from kilonova.domain.guest import (
    Disk,
    FixedIp,
    GuestMetadata,
    GuestSpec,
    ImageRef,
    Nic,
    PowerState,
)
from kilonova.domain.live import LiveTarget
from kilonova.embedded.guestimage import build
from kilonova.metadata import drive, openstack
from kilonova.virt.qemu import QemuDriver
from tests.contracts.virt.conftest import Lab
from tests.support.guests import SERVER, Files, flavor

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="no QEMU"),
]
DEADLINE = 110.0
SETTINGS = Settings(libvirt=Libvirt(virt_type="qemu"), qemu=Qemu(start_seconds=60))
EXTRAS = openstack.Extras(random=os.urandom)
COUNT = b"""#!/bin/sh
n=0
while true; do
  n=$((n+1)); echo "tick $n ." > /dev/ttyS0; echo $n > /mark; sleep 0.2
done &
"""
TICK = re.compile(r"tick (\d+) ")


async def _content(guest: GuestSpec) -> dict[str, bytes]:
    return drive.content(guest, EXTRAS)


class Pair:
    """Two hosts with directories of their own, and a guest that counts on the first."""

    def __init__(self, here: Lab, there: Lab, spec: GuestSpec) -> None:
        self.labs = (here, there)
        self.spec = spec

    @property
    def drivers(self) -> tuple[QemuDriver, QemuDriver]:
        here, there = self.labs[0].driver, self.labs[1].driver
        assert isinstance(here, QemuDriver) and isinstance(there, QemuDriver)
        return here, there

    async def ticks(self, number: int) -> list[int]:
        told = (await self.drivers[number].console_log(SERVER)).decode(errors="replace")
        return [int(found) for found in TICK.findall(told.replace("\r", ""))]

    async def counts(self, number: int, beyond: int) -> list[int]:
        """Wait until the guest on that host has counted so far; all it said there."""
        end = time.monotonic() + DEADLINE
        while not (found := await self.ticks(number)) or found[-1] <= beyond:
            assert time.monotonic() < end, (await self.drivers[number].console_log(SERVER))[-500:]
            await asyncio.sleep(0.1)
        return found

    async def prepare(self, *, block: bool | None = None) -> LiveTarget:
        here, there = self.drivers
        shape = await here.live_check(self.spec)
        await there.live_suits(self.spec, shape, block=block, over_commit=False)
        return await there.live_prepare(self.spec, shape, block=block)


@pytest.fixture
async def pair(
    tmp_path: Path, request: pytest.FixtureRequest, guests_end: None
) -> AsyncIterator[Pair]:
    kind, changes = getattr(request, "param", ("pc", {}))
    image = await build(
        tmp_path / "guest.qcow2",
        cache_dir=Path.home() / ".cache" / "kilonova",
        progress=lambda _text, _part: None,
    )
    labs = []
    for name in ("one", "two"):
        lab = Lab("qemu", tmp_path / name)
        lab.path.mkdir()
        libvirt = msgspec.structs.replace(SETTINGS.libvirt, **changes)
        lab.settings = msgspec.structs.replace(SETTINGS, libvirt=libvirt)
        lab.images = Files(tiny=image.path)
        await lab.start(config_drive=_content)
        labs.append(lab)
    ref = ImageRef(
        id="tiny",
        size=image.size,
        os_hash_algo="sha512",
        os_hash_value=image.sha512,
        properties={**image.properties, "hw_machine_type": kind},
    )
    root = Disk(id="r", role="root", source="image", device="vda", image=ref, boot_index=0)
    swap = Disk(id="s", role="swap", source="blank", device="vdc", size_mb=4)
    ip = FixedIp(address="10.0.0.5", subnet_id="s", cidr="10.0.0.0/24")
    nic = Nic(port_id="p1", mac="fa:16:3e:00:00:01", network_id="n", vif_type="user", ips=(ip,))
    spec = GuestSpec(
        server_id=SERVER,
        name="instance-00000001",
        flavor=flavor(memory_mb=128),
        image=ref,
        disks=(root, swap),
        nics=(nic,),
        metadata=GuestMetadata(
            server_id=SERVER,
            project_id="project",
            user_id="user",
            name="one",
            hostname="one",
            user_data=base64.b64encode(COUNT).decode(),
        ),
        config_drive=True,
        properties={"hw_machine_type": kind},
    )
    made = Pair(labs[0], labs[1], spec)
    await labs[0].driver.spawn(spec, paused=False)
    yield made
    for lab in labs:
        await lab.driver.destroy(spec, keep_disks=False)
        await lab.stop()


@pytest.mark.parametrize("pair", [("pc", {}), ("q35", {})], indirect=True)
async def test_a_guest_goes_on_counting_on_the_other_host(pair: Pair) -> None:
    here, there = pair.drivers
    last = (await pair.counts(0, 2))[-1]
    # A card that came later sits in a place of its own.
    card = Nic(port_id="p2", mac="fa:16:3e:00:00:02", network_id="n", vif_type="user")
    await here.attach_nic(pair.spec, card)
    pair.spec = msgspec.structs.replace(pair.spec, nics=(*pair.spec.nics, card))
    target = await pair.prepare()
    assert set(target.disks) == {"vda", "vdb", "vdc"}
    with pytest.raises(Conflict):
        await there.resume(pair.spec)
    began = time.monotonic()
    await here.live_move(pair.spec, target)
    last = (await pair.ticks(0))[-1]
    assert not await pair.ticks(1)
    stood = time.monotonic()
    status = await there.live_arrive(pair.spec, running=True)
    assert status.power == PowerState.RUNNING
    await here.destroy(pair.spec, keep_disks=False)
    print(f"moved in {stood - began:.1f} s, went on after {time.monotonic() - stood:.2f} s")
    assert not (pair.labs[0].path / "instances" / SERVER).exists()
    seen = await pair.counts(1, last + 5)
    assert seen[0] == last + 1
    assert seen == list(range(seen[0], seen[-1] + 1))
    assert not pair.labs[0].processes()
    # And its disks are whole: it starts again from what is there.
    await there.reboot(pair.spec, hard=True)
    await pair.counts(1, 3)


SLOW = {"live_migration_bandwidth": 4, "live_migration_completion_timeout": 0}


@pytest.mark.parametrize("pair", [("pc", SLOW)], indirect=True)
async def test_a_move_is_given_up_and_the_guest_goes_on_where_it_was(pair: Pair) -> None:
    here, there = pair.drivers
    await pair.counts(0, 2)
    target = await pair.prepare()
    moving = asyncio.create_task(here.live_move(pair.spec, target))
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        await asyncio.sleep(0.1)
        assert not moving.done(), moving.exception()
        try:
            seen = await here.live_progress(SERVER)
        except Conflict:
            continue
        if seen.memory_processed:
            break
    assert seen.memory_total > seen.memory_remaining > 0
    assert seen.disk_total >= seen.disk_processed > 0
    moving.cancel()
    await asyncio.gather(moving, return_exceptions=True)
    await there.destroy(pair.spec, keep_disks=False)
    status = await here.live_stay(pair.spec, running=True)
    assert status.power == PowerState.RUNNING
    assert not pair.labs[1].processes()
    assert not (pair.labs[1].path / "instances" / SERVER).exists()
    last = (await pair.ticks(0))[-1]
    seen_ticks = await pair.counts(0, last + 3)
    assert seen_ticks == list(range(seen_ticks[0], seen_ticks[-1] + 1))
