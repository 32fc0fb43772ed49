"""The volumes of one guest: plugged in and out, grown, swapped, and gone on in other files."""

from __future__ import annotations

import abc
import contextlib
import logging
from typing import Any

import msgspec

from kilonova.config.settings import Settings
from kilonova.domain.guest import Disk, GuestSpec
from kilonova.virt import chains as files
from kilonova.virt import records
from kilonova.virt.aside import G, Movable
from kilonova.virt.disks import DiskFile, copy
from kilonova.virt.qemu import chains, volumes
from kilonova.virt.qemu.running import Running
from kilonova.virt.records import Record

log = logging.getLogger(__name__)


class Plugged(Movable[G]):
    """The part of a guest that its volumes are; methods are called one at a time."""

    _settings: Settings
    _qemu: Running

    @abc.abstractmethod
    def busy(self) -> contextlib.AbstractContextManager[None]:
        """While we do something ourselves, what it causes is no news."""

    @abc.abstractmethod
    def _note(self, **changes: Any) -> Record:
        """Change the record."""

    async def plug(self, spec: GuestSpec, disk: Disk) -> None:
        """Give the guest one more volume, now if it runs."""
        device = volumes.device_of(spec, disk, self._settings)
        file = await self._given.maker.make(self.directory, spec, device)
        self._home.hand_over(file.owned)
        with self.busy():
            if self.alive:
                await volumes.plug(self._qemu, device, file)
            self._keep(spec, {disk.device: file})

    async def unplug(self, spec: GuestSpec, disk: Disk) -> None:
        """Take a volume from the guest; Conflict when it does not let go."""
        file = self._file(disk)
        with self.busy():
            if self.alive:
                await volumes.unplug(self._qemu, disk, self._settings.libvirt, file)
            await self._given.maker.release(disk, file)
            self._keep(spec, {disk.device: None})

    async def resize(self, spec: GuestSpec, disk: Disk) -> None:
        """Let a running guest see a volume's new size."""
        with self.busy():
            await self._given.maker.grow(disk, self._file(disk))
            if self.alive:
                await volumes.resize(self._qemu, disk)
            self._keep(spec, {})

    async def swap(self, spec: GuestSpec, old: Disk, new: Disk) -> None:
        """Go on with another volume that has the data of the old one."""
        device = volumes.device_of(spec, new, self._settings)
        file = await self._given.maker.make(self.directory, spec, device)
        before = await self._given.maker.volume(self.directory, old)
        self._home.hand_over((*file.owned, *before.owned))
        with self.busy():
            if self.alive:
                await volumes.swap(self._qemu, old, device, file, before)
            else:
                await copy(before, file)
            self._keep(spec, {new.device: file})
            await self._given.maker.release(old, before)

    async def go_on_in(self, spec: GuestSpec, disk: Disk, name: str) -> None:
        """Let a volume's new data go to another file, now or at the guest's next start."""
        device = volumes.device_of(spec, disk, self._settings)
        file = await self._given.maker.volume(self.directory, disk)
        self._home.hand_over(file.owned)
        with self.busy():
            if self.alive:
                await chains.put_on(self._qemu, device, file)
            self._keep(spec, {disk.device: file})
        log.info("The volume %s of %s goes on in %s", disk.volume_id, spec.name, name)

    async def merge(self, spec: GuestSpec, disk: Disk, name: str | None, into: str | None) -> None:
        """Make one of two files of a volume."""
        with self.busy():
            if self.alive:
                await chains.merge(self._qemu, disk, name, into)
            else:
                await files.merge(await self._given.maker.volume(self.directory, disk), name, into)
            file = await self._given.maker.volume(self.directory, disk)
            self._keep(spec, {disk.device: file})

    def _file(self, disk: Disk) -> DiskFile | None:
        return self.record.disks.get(disk.device) if self.record is not None else None

    def _keep(self, spec: GuestSpec, changed: dict[str, DiskFile | None]) -> None:
        assert self.record is not None
        disks = {**self.record.disks, **changed}
        left = {name: file for name, file in disks.items() if file is not None}
        kept = msgspec.structs.replace(self.record.spec, disks=spec.disks)
        records.save(self.directory, self._note(spec=kept, disks=left), durable=True)
