"""Network cards plugged into a running guest and taken out again, over its monitor."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from kilonova.base.errors import Conflict, Unavailable
from kilonova.virt import vifs
from kilonova.virt.devices import NicDevice
from kilonova.virt.qemu import command, slots
from kilonova.virt.qemu.running import Running
from kilonova.virt.qemu.slots import PERIPHERALS

RELEASE_SECONDS = 30.0
ASK_EVERY = 0.2
ASK_AGAIN = 5.0


async def find_nic(qemu: Running, mac: str) -> str | None:
    """The device that has this MAC address; None when there is none.

    QEMU itself is asked: a device keeps the name it was plugged with when others have gone.
    """
    for item in await qemu.execute("qom-list", {"path": PERIPHERALS}):
        name = str(item["name"])
        if not name.startswith("net"):
            continue
        where = {"path": f"{PERIPHERALS}/{name}", "property": "mac"}
        if str(await qemu.execute("qom-get", where)).lower() == mac.lower():
            return name
    return None


async def plug_nic(qemu: Running, nic: NicDevice, *, port: int = 0) -> None:
    """Plug a card; one that is there is left. ``port``: forwarded, of user-mode networking.

    Unavailable when the guest has no free slot.
    """
    if await find_nic(qemu, nic.nic.mac) is not None:
        return
    name = device_name(nic)
    back = f"{name}-host"
    if nic.nic.vif_type == "user":
        await qemu.execute("netdev_add", _user(back, port))
    else:
        fd = vifs.open_tap(nic.tap)
        try:
            await qemu.give(fd, back)
        finally:
            os.close(fd)
        await qemu.execute("netdev_add", {"type": "tap", "id": back, "fd": back})
    try:
        await _add(qemu, nic, name, back)
    except Unavailable:
        await qemu.execute("netdev_del", {"id": back})
        raise


async def unplug_nic(qemu: Running, mac: str) -> None:
    """Take a card out; not there is success. Conflict when the guest does not let go of it."""
    name = await find_nic(qemu, mac)
    if name is None:
        return
    loop = asyncio.get_running_loop()
    end, again = loop.time() + RELEASE_SECONDS, 0.0
    while await _there(qemu, name):
        now = loop.time()
        if now > end:
            raise Conflict("The guest does not let go of the network card; is it still starting?")
        if now > again:
            again = now + ASK_AGAIN
            await _ask_to_release(qemu, name)
        await asyncio.sleep(ASK_EVERY)
    await qemu.execute("netdev_del", {"id": f"{name}-host"})


def device_name(nic: NicDevice) -> str:
    """The name of a card that was not there at the guest's start."""
    return f"net-{nic.nic.port_id[:11]}"


async def _add(qemu: Running, nic: NicDevice, name: str, back: str) -> None:
    device: dict[str, Any] = {
        "driver": command.NETWORK.get(nic.model, nic.model),
        "id": name,
        "netdev": back,
        "mac": nic.nic.mac,
        "romfile": "",
    }
    if nic.model == "virtio" and nic.nic.mtu and nic.nic.vif_type != "user":
        device["host_mtu"] = nic.nic.mtu
    await slots.plug(qemu, device)


async def _there(qemu: Running, name: str) -> bool:
    found = await qemu.execute("qom-list", {"path": PERIPHERALS})
    return any(item["name"] == name for item in found)


async def _ask_to_release(qemu: Running, name: str) -> None:
    """Press the slot's button; pressing it while the guest is busy with it is refused."""
    try:
        await qemu.execute("device_del", {"id": name})
    except Unavailable:
        return


def _user(back: str, port: int) -> dict[str, Any]:
    """The same confinement as cards of the guest's start, without the relay to metadata.

    The relay is a process that QEMU starts, which its sandbox forbids by then.
    """
    return {
        "type": "user",
        "id": back,
        "ipv6": False,
        "restrict": True,
        "net": "169.254.0.0/16",
        "host": command.HOST_ADDRESS,
        "dhcpstart": command.GUEST_ADDRESS,
        "hostfwd": [{"str": f"tcp:127.0.0.1:{port}-:22"}],
    }
