"""A guest's memory kept in a file and taken up again: QEMU's migration, to a file and from it."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from kilonova.base.errors import Conflict, Fault, Unavailable
from kilonova.config.settings import Settings
from kilonova.domain.guest import GuestSpec, Nic
from kilonova.virt import records
from kilonova.virt.aside import G, Movable
from kilonova.virt.devices import Devices, plan
from kilonova.virt.qemu.hotplug import find_nic
from kilonova.virt.qemu.running import Running
from kilonova.virt.qemu.slots import PERIPHERALS
from kilonova.virt.records import Asleep, Record

MEMORY = "memory"
CHANNEL = "memory"
UNBOUNDED = 1 << 40
"""Bytes a second: what the disk takes."""
SAVE_SECONDS = 1500.0
LOOK_SECONDS = 0.05
QUIT_SECONDS = 10.0
UNDER_WAY = frozenset({"setup", "active", "pre-switchover", "device", "cancelling"})


async def save(qemu: Running, directory: Path, nics: Sequence[Nic]) -> Asleep:
    """Stop the guest, write its memory below ``directory``; what a later QEMU must be like.

    The file is whole and on the disk when this returns. Unavailable when QEMU cannot, e.g. because
    a device of the guest cannot be saved; the guest is stopped then.
    """
    await _calm(qemu)
    asleep = Asleep(await _machine(qemu), await _places(qemu, nics))
    part = directory / f"{MEMORY}.part"
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        await qemu.execute("migrate-set-parameters", {"max-bandwidth": UNBOUNDED})
        await qemu.give(fd, CHANNEL)
        await qemu.execute("migrate", {"uri": f"fd:{CHANNEL}"})
        if await _after(lambda: _state(qemu), UNDER_WAY) != "completed":
            raise Unavailable("The guest's memory could not be saved.")
        await asyncio.to_thread(os.fsync, fd)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    part.replace(directory / MEMORY)
    return asleep


async def load(qemu: Running, directory: Path) -> None:
    """Fill a QEMU that waits for it with the memory that was saved; the guest is stopped then.

    Unavailable when QEMU does not take it; it has ended then.
    """
    with (directory / MEMORY).open("rb") as memory:
        await qemu.give(memory.fileno(), CHANNEL)
        await qemu.execute("migrate-incoming", {"uri": f"fd:{CHANNEL}"})
        qemu.run = await _after(lambda: _run(qemu), {"inmigrate"})


def forget(directory: Path) -> None:
    """Remove what is kept of a guest's memory; nothing there is success."""
    for name in (MEMORY, f"{MEMORY}.part"):
        (directory / name).unlink(missing_ok=True)


async def _calm(qemu: Running) -> None:
    """Have a guest that is stopped, and nothing of an earlier try under way."""
    if await _state(qemu) in UNDER_WAY:
        await qemu.execute("migrate_cancel")
        await _after(lambda: _state(qemu), UNDER_WAY)
    if await _run(qemu) == "postmigrate":
        # QEMU writes the memory of a guest once, unless it has run since.
        await qemu.execute("cont")
    await qemu.execute("stop")


async def _state(qemu: Running) -> str:
    told: dict[str, Any] = await qemu.execute("query-migrate")
    return str(told.get("status", "none"))


async def _run(qemu: Running) -> str:
    return str((await qemu.execute("query-status"))["status"])


async def _machine(qemu: Running) -> str:
    """The machine's type with its version, which a later QEMU may call otherwise."""
    kind = await qemu.execute("qom-get", {"path": "/machine", "property": "type"})
    return str(kind).removesuffix("-machine")


async def _places(qemu: Running, nics: Sequence[Nic]) -> dict[str, dict[str, str]]:
    """Device id → where it is; a network card by its MAC address.

    What was plugged in while the guest ran is not where a command line would put it.
    """
    found: dict[str, dict[str, str]] = {}
    present = [str(item["name"]) for item in await qemu.execute("qom-list", {"path": PERIPHERALS})]
    root = "pcie.0" if "spare0" in present else "pci.0"
    for bus in await qemu.execute("query-pci"):
        _walk(bus["devices"], root, found)
    for name in present:
        if name in found:
            continue
        with contextlib.suppress(Unavailable, Conflict):
            path = f"{PERIPHERALS}/{name}"
            number = await qemu.execute("qom-get", {"path": path, "property": "scsi-id"})
            found[name] = {"scsi-id": str(number)}
    for nic in nics:
        name = await find_nic(qemu, nic.mac) or ""
        if name in found:
            found[nic.mac] = found.pop(name)
    return found


def _walk(devices: Sequence[Mapping[str, Any]], bus: str, found: dict[str, dict[str, str]]) -> None:
    for device in devices:
        name = str(device.get("qdev_id", ""))
        if name:
            found[name] = {"bus": bus, "addr": f"{device['slot']:x}.{device['function']:x}"}
        bridge = device.get("pci_bridge")
        if bridge is not None and name:
            _walk(bridge.get("devices", ()), name, found)


async def _after(look: Callable[[], Awaitable[str]], busy: Container[str]) -> str:
    """What it says when it is none of the ``busy`` words any more; Unavailable."""
    try:
        async with asyncio.timeout(SAVE_SECONDS):
            while True:
                state = await look()
                if state not in busy:
                    return state
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        raise Unavailable("Saving or loading the guest's memory took too long.") from None


class Sleeper(Movable[G], abc.ABC):
    """The part of a guest that can be suspended; a base of the driver's guests."""

    _qemu: Running
    _settings: Settings

    @abc.abstractmethod
    def busy(self) -> contextlib.AbstractContextManager[None]:
        """While we do something ourselves, what it causes is no news."""

    @abc.abstractmethod
    async def resume(self) -> None:
        """Let the CPUs run."""

    @abc.abstractmethod
    def _note(self, **changes: Any) -> Record:
        """Change the record, and keep it."""

    @abc.abstractmethod
    async def _end_process(self, *, seconds: float) -> None:
        """End what there is of it."""

    @abc.abstractmethod
    async def _plug(self, spec: GuestSpec) -> None:
        """Have its cards on the host."""

    @abc.abstractmethod
    async def _start(self, devices: Devices, record: Record, *, paused: bool) -> None:
        """Start it, with its memory when the record says that it sleeps."""

    async def suspend(self) -> None:
        """Keep the memory in a file and end the process; if that fails the guest goes on."""
        assert self.record is not None
        with self.busy():
            if self.record.asleep is None:
                try:
                    made = await save(self._qemu, self.directory, self.record.spec.nics)
                except Fault:
                    with contextlib.suppress(Unavailable, Conflict):
                        await self._qemu.execute("cont")
                        self._qemu.run = "running"
                    raise
                done = self._note(asleep=made, running=False, ended="")
                await asyncio.to_thread(records.save, self.directory, done, durable=True)
            await self._end_process(seconds=QUIT_SECONDS)

    async def wake(self, spec: GuestSpec) -> None:
        """Let a suspended guest go on; one that has no memory any more is started."""
        record = self.record
        if record is None or record.asleep is None:
            await (self.resume() if self.alive else self.start(spec))
            return
        devices = plan(spec, default_machine=self._settings.qemu.machine_type)
        with self.busy():
            await self._end_process(seconds=0)
            disks = dict(record.disks)
            for device in devices.disks:
                if device.disk.source == "volume":
                    made = await self._given.maker.make(self.directory, spec, device)
                    disks[device.device] = made
            self._home.hand_over(path for file in disks.values() for path in file.owned)
            await self._plug(spec)
            same = Record(spec=spec, disks=disks, ports=record.ports, asleep=record.asleep)
            await self._start(devices, same, paused=False)

    async def _take_memory(self) -> None:
        """Fill the process that waits for it; from now on what was saved would be too old."""
        await load(self._qemu, self.directory)
        await self._keep_running()

    async def _keep_running(self) -> None:
        """It runs, or may be let run at any moment."""
        done = self._note(running=True, boot=records.boot_id(), asleep=None)
        await asyncio.to_thread(records.save, self.directory, done, durable=True)
        forget(self.directory)

    def _is_off(self) -> None:
        """It was switched off, asleep or not."""
        self._note(running=False, ended="", asleep=None)
        forget(self.directory)
