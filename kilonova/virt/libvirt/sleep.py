"""Guests whose memory libvirt keeps for them (a managed save), and that take it up again."""

from __future__ import annotations

import abc
import asyncio
from typing import Any

from kilonova.domain.guest import GuestSpec
from kilonova.virt import records
from kilonova.virt.aside import G, Movable
from kilonova.virt.devices import DiskDevice
from kilonova.virt.disks import DiskFile
from kilonova.virt.libvirt import domains, secrets
from kilonova.virt.libvirt.domains import Live
from kilonova.virt.libvirt.host import Link
from kilonova.virt.records import Asleep, Record

SLEEP_SECONDS = 1700.0


class Sleeper(Movable[G], abc.ABC):
    """The part of a guest that can be suspended; a base of the driver's guests."""

    server_id: str

    @property
    def asleep(self) -> bool:
        """Whether libvirt keeps its memory for it."""
        return self.record is not None and self.record.asleep is not None

    @property
    @abc.abstractmethod
    def link(self) -> Link:
        """The connection to libvirt."""

    @abc.abstractmethod
    async def look(self) -> Live | None:
        """Ask libvirt, and take its answer as known."""

    @abc.abstractmethod
    async def resume(self) -> None:
        """Let the CPUs run."""

    @abc.abstractmethod
    def _note(self, **changes: Any) -> Record:
        """Change the record, and keep it."""

    @abc.abstractmethod
    async def _plug(self, spec: GuestSpec) -> None:
        """Have its cards on the host."""

    @abc.abstractmethod
    async def _volume(self, spec: GuestSpec, device: DiskDevice) -> DiskFile:
        """Where a volume is, with its key given to libvirt."""

    async def suspend(self) -> None:
        """Have libvirt keep the memory and end the process; if that fails the guest goes on."""
        if self.asleep:
            return
        await self.link.call(
            lambda c: domains.put_to_sleep(c, self.server_id), seconds=SLEEP_SECONDS
        )
        done = self._note(asleep=Asleep(), running=False, ended="")
        await asyncio.to_thread(records.save, self.directory, done, durable=True)
        await self.look()

    async def wake(self, spec: GuestSpec) -> None:
        """Let a suspended guest go on; one that has no memory any more is started."""
        record = self.record
        if record is None or not self.asleep:
            await (self.resume() if self.alive else self.start(spec))
            return
        for device in self.devices_of(spec):
            if device.disk.source == "volume":
                await self._volume(spec, device)
        await self._plug(spec)
        await self.link.call(lambda c: secrets.give(c, record.disks.values()))
        await self.link.call(lambda c: domains.wake(c, self.server_id), seconds=SLEEP_SECONDS)
        done = self._note(asleep=None, running=True, boot=records.boot_id())
        await asyncio.to_thread(records.save, self.directory, done, durable=True)
        await self.look()
