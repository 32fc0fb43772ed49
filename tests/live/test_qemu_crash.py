"""An agent that is killed at any moment: the next one finds, finishes or removes everything."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kilonova.domain.guest import GuestSpec, Nic, PowerState
from tests.contracts.virt.conftest import Lab
from tests.support.guests import booting, flavor, image_of

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="no QEMU"),
]
ROOT = Path(__file__).parents[2]
IMAGE = "11111111-0000-4000-8000-000000000001"

VICTIM = """
import asyncio, sys
from pathlib import Path
from tests.contracts.virt.conftest import Lab
from tests.live.test_qemu_crash import IMAGE, guest

async def main():
    path = Path(sys.argv[1])
    lab = Lab("qemu", path)
    lab.images.files[IMAGE] = path / "image.qcow2"
    driver = await lab.start()
    print("begins", flush=True)
    async with asyncio.TaskGroup() as group:
        for n in range(3):
            group.create_task(life(driver, guest(path, n)))

async def life(driver, spec):
    while True:
        await driver.spawn(spec, paused=True)
        await driver.resume(spec)
        await driver.reboot(spec, hard=True)
        await driver.power_off(spec, seconds=0)
        await driver.destroy(spec, keep_disks=False)

asyncio.run(main())
"""


def guest(path: Path, number: int) -> GuestSpec:
    """One of three guests with an image, a config drive and a user-mode card."""
    nic = Nic(port_id=f"p{number}", mac="fa:16:3e:00:00:01", network_id="n", vif_type="user")
    return booting(
        image_of(path / "image.qcow2", IMAGE),
        f"5f2a9b1c-0000-4000-8000-{number:012d}",
        flavor=flavor(memory_mb=32),
        nics=(nic,),
        config_drive=True,
    )


@pytest.fixture
async def lab(tmp_path: Path, guests_end: None) -> AsyncIterator[Lab]:
    image = tmp_path / "image.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "8M"], check=True)
    made = Lab("qemu", tmp_path)
    made.images.files[IMAGE] = image
    yield made


async def test_killed_agents(lab: Lab) -> None:
    chance = random.Random(5)
    for _ in range(6):
        victim = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", VICTIM, str(lab.path)),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
        )
        assert victim.stdout is not None
        assert await asyncio.wait_for(victim.stdout.readline(), 30) == b"begins\n"
        await asyncio.sleep(chance.uniform(0, 1.2))
        victim.kill()
        await victim.wait()
        driver = await lab.start()
        specs = [guest(lab.path, n) for n in range(3)]
        kept = specs[0]
        assert (await driver.spawn(kept, paused=False)).power in (
            PowerState.RUNNING,
            PowerState.PAUSED,
        )
        await driver.resume(kept)
        for spec in specs:
            await driver.destroy(spec, keep_disks=False)
        assert await driver.leftovers(frozenset()) == []
        await lab.stop()
    assert sorted(p.name for p in (lab.path / "instances").iterdir()) == ["_base"]


async def test_work_given_up_at_any_moment(lab: Lab) -> None:
    chance = random.Random(7)
    driver = await lab.start()
    spec = guest(lab.path, 0)
    for _ in range(20):
        work = asyncio.create_task(driver.spawn(spec, paused=False))
        await asyncio.sleep(chance.uniform(0, 0.15))
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        if chance.random() < 0.5:
            assert (await driver.spawn(spec, paused=False)).power == PowerState.RUNNING
        await driver.destroy(spec, keep_disks=False)
        assert await driver.leftovers(frozenset()) == []
    await lab.stop()


async def test_ten_at_once(lab: Lab) -> None:
    driver = await lab.start()
    specs = [guest(lab.path, n) for n in range(10)]
    made = await asyncio.gather(*(driver.spawn(spec, paused=False) for spec in specs))
    assert {status.power for status in made} == {PowerState.RUNNING}
    assert len({status.detail for status in made}) == 10
    assert lab.images.downloads == 1
    await asyncio.gather(*(driver.destroy(spec, keep_disks=False) for spec in specs))
    assert await driver.leftovers(frozenset()) == []
    assert lab.events.heard == []
    await lab.stop()
