"""Guests that really boot: made anew from another image, rescued, and given a new password."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from kilonova.base.errors import Conflict, NotSupported
from kilonova.domain.guest import ImageRef, PowerState
from kilonova.domain.rescue import rescued
from kilonova.virt.driver import Rebuilds, Rescues, SetsPasswords
from kilonova.virt.qemu import command
from tests.contracts.virt.conftest import Lab
from tests.live import test_qemu_guest
from tests.live.test_qemu_guest import Machine
from tests.support.guest_agent import GuestAgent, listening
from tests.support.guests import SERVER, spec

machine = test_qemu_guest.machine
pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="no QEMU"),
]
SIZE, PLACE = 300, 290
"""MiB of the root disk, and where on it a mark is left."""


async def sign(machine: Machine) -> None:
    """Leave a mark on the root disk, behind all that is in use there."""
    put = f"echo mine | dd of=/dev/vda bs=1M seek={PLACE} conv=notrunc,fsync 2>/dev/null"
    await machine.ssh(put)


async def signed(machine: Machine, disk: str) -> bool:
    """Whether the mark is on a disk."""
    get = f"dd if=/dev/{disk} bs=1M skip={PLACE} count=1 2>/dev/null | head -c 4"
    return await machine.ssh(get) == "mine"


async def sizes(machine: Machine) -> dict[str, int]:
    """MiB of each disk the guest sees."""
    told = await machine.ssh("for d in /sys/block/vd*; do echo ${d##*/} $(cat $d/size); done")
    return {name: int(size) >> 11 for name, size in (line.split() for line in told.splitlines())}


def another(machine: Machine, image_id: str, **properties: str) -> ImageRef:
    """The guest's image under another id."""
    own = machine.spec.image
    assert own is not None
    machine.lab.images.files[image_id] = machine.lab.images.files[own.id]
    return msgspec.structs.replace(own, id=image_id, properties={**own.properties, **properties})


async def test_a_guest_is_rescued_and_made_anew(machine: Machine) -> None:
    driver = machine.lab.driver
    root = msgspec.structs.replace(machine.spec.disks[0], size_mb=SIZE)
    own = msgspec.structs.replace(machine.spec, disks=(root,))
    await driver.spawn(own, paused=False)
    await machine.says("guest: ready")
    await sign(machine)
    assert await signed(machine, "vda")

    # Another image in the place of its disk, which is the second one now.
    assert isinstance(driver, Rescues)
    inside = rescued(own, another(machine, "help"), admin_pass="secret")
    assert (await driver.rescue(inside)).power == PowerState.RUNNING
    await machine.says("guest: ready", 2)
    assert (await sizes(machine))["vdb"] == SIZE
    assert not await signed(machine, "vda")
    assert await signed(machine, "vdb")

    # The same beside its disk, which keeps its place.
    inside = rescued(own, another(machine, "beside", hw_rescue_bus="virtio"))
    assert (await driver.rescue(inside)).power == PowerState.RUNNING
    await machine.says("guest: ready", 3)
    assert (await sizes(machine))["vda"] == SIZE
    assert await signed(machine, "vda")

    assert (await driver.unrescue(own)).power == PowerState.RUNNING
    await machine.says("guest: ready", 4)
    assert await signed(machine, "vda")
    assert not (machine.lab.path / "instances" / SERVER / "disk.rescue").exists()

    # Made anew it has a fresh disk and the same name and card.
    assert isinstance(driver, Rebuilds)
    image = another(machine, "other")
    new = msgspec.structs.replace(root, image=image)
    fresh = msgspec.structs.replace(own, image=image, disks=(new,))
    assert (await driver.rebuild(fresh, paused=False)).power == PowerState.RUNNING
    await machine.says("guest: ready")
    assert not await signed(machine, "vda")
    assert (await machine.ssh("cat mark; hostname")).split() == ["made-by-user-data", "web-1"]


async def test_a_password_by_an_agent(tmp_path: Path, guests_end: None) -> None:
    lab = Lab("qemu", tmp_path)
    driver = await lab.start()
    assert isinstance(driver, SetsPasswords)
    guest = spec(properties={"hw_qemu_guest_agent": "yes", "os_admin_user": "admin"})
    try:
        await driver.spawn(guest, paused=False)
        with pytest.raises(NotSupported):
            await driver.set_password(guest, "admin", "secret")
        socket = tmp_path / "instances" / SERVER / command.AGENT
        async with listening(socket, GuestAgent()) as agent:
            status = await driver.set_password(guest, "admin", "secret")
        assert (status.power, agent.passwords) == (PowerState.RUNNING, {"admin": "secret"})
        async with listening(socket, GuestAgent(refuses="no such user")):
            with pytest.raises(Conflict):
                await driver.set_password(guest, "nobody", "secret")
    finally:
        await driver.destroy(guest, keep_disks=False)
        await lab.stop()
