"""Guests that are put aside while their server moves: what both drivers of QEMU do alike.

A guest's directory is renamed, so that another can be made in its place; the rename decides what
holds after a crash. The record inside says for which move it is aside.
"""

from __future__ import annotations

import abc
import asyncio
import logging
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec

from kilonova.base import programs
from kilonova.base.errors import NotFound
from kilonova.domain.guest import GuestSpec, GuestStatus, PowerState
from kilonova.domain.moves import Offer
from kilonova.virt import export, records
from kilonova.virt.devices import DiskDevice
from kilonova.virt.disks import MIB, DiskFile, Maker, name
from kilonova.virt.driver import Host
from kilonova.virt.home import Home
from kilonova.virt.records import Record

SUFFIX = "_resize"
ANEW = ("swap", "config")
"""Disks whose data is nobody's: they are made, not copied."""
GROW_SECONDS = 120.0

log = logging.getLogger(__name__)


class Given(Protocol):
    """What a guest's host gives it."""

    @property
    def host(self) -> Host: ...
    @property
    def maker(self) -> Maker: ...


G = TypeVar("G", bound=Given)


class Movable(abc.ABC, Generic[G]):
    """The part of a guest that can be put aside; a base of both drivers' guests."""

    directory: Path
    record: Record | None
    _given: G
    _home: Home

    @property
    @abc.abstractmethod
    def alive(self) -> bool:
        """Whether there is a process."""

    @abc.abstractmethod
    async def shut_down(self, seconds: float) -> bool:
        """Ask the guest to switch itself off; whether it did."""

    @abc.abstractmethod
    async def remove(self, spec: GuestSpec, *, keep_disks: bool = False) -> None:
        """Process, cards and (unless kept) disks."""

    @abc.abstractmethod
    async def start(self, spec: GuestSpec, *, paused: bool = False) -> None:
        """Start a guest that is off."""

    @abc.abstractmethod
    def devices_of(self, spec: GuestSpec) -> tuple[DiskDevice, ...]:
        """The disks of a description, with all decided."""

    @abc.abstractmethod
    def _save(self, record: Record) -> None:
        """Keep the record."""

    async def depart(
        self, spec: GuestSpec, move: str, *, seconds: int, offer: bool
    ) -> Offer | None:
        """Off, without cards and volumes, and aside; its disks offered if wanted."""
        there = aside(self.directory)
        if self.record is not None and self.record.made:
            if seconds > 0:
                await self.shut_down(seconds)
            await self.remove(spec, keep_disks=True)
            for disk in self.record.spec.disks:
                if disk.source == "volume":
                    await self._given.maker.release(disk, self.record.disks.get(disk.device))
            await self._throw_away(there)
            self._save(msgspec.structs.replace(self.record, running=False, ended="", aside=move))
            await asyncio.to_thread(self.directory.rename, there)
            self.record = None
        kept = load(self.directory)
        if kept is None or kept.aside != move:
            raise NotFound(f"Host {self._given.host.name} has no guest for {spec.name}.")
        if not offer:
            return None
        mine = {device: kept.disks[device] for device in self._data(kept)}
        settings = self._given.host.settings
        span = settings.kilonova.disk_copy_ports
        return await export.begin(there, mine, address=settings.default.my_ip, span=span)

    async def arrive(
        self, spec: GuestSpec, move: str, offer: Offer | None, *, start: bool, paused: bool
    ) -> None:
        """Disks from where they are, then the guest; what a former try left is thrown away."""
        if self.record is None or not self.record.made:
            kept = load(self.directory)
            if offer is None and (kept is None or kept.aside != move):
                raise NotFound(f"Nothing of {spec.name} is aside on {self._given.host.name}.")
            devices = self.devices_of(spec)
            await self.remove(spec)
            self._home.make()
            self._save(Record(spec=spec, boot=records.boot_id()))
            own: Mapping[str, DiskFile] = {} if offer or kept is None else kept.disks
            disks = await self._fetch(spec, devices, own, offer)
            self._home.hand_over(path for file in disks.values() for path in file.owned)
            done = Record(spec=spec, made=True, disks=disks)
            self._save(done)
            await asyncio.to_thread(records.save, self.directory, done, durable=True)
        if start and not self.alive:
            await self.start(spec, paused=paused)

    async def come_back(self, spec: GuestSpec, move: str, *, start: bool, paused: bool) -> None:
        """In its place again; nothing there, nor aside, is none of our business."""
        there = aside(self.directory)
        kept = load(self.directory)
        if kept is not None and kept.aside == move:
            await export.end(there)
            await self.remove(spec)
            await asyncio.to_thread(there.rename, self.directory)
            self.record = moved(kept, self.directory)
        if self.record is None or not self.record.made:
            return
        if self.record.aside:
            self._save(msgspec.structs.replace(self.record, aside=""))
        if start and not self.alive:
            await self.start(spec, paused=paused)

    async def recall(self) -> None:
        """A guest that nobody brought back takes its place when it is wanted."""
        kept = load(self.directory)
        if kept is not None and (self.record is None or not self.record.made):
            await self.come_back(kept.spec, kept.aside, start=False, paused=False)

    async def end_offer(self, move: str) -> None:
        """Export its disks no longer."""
        kept = load(self.directory)
        if kept is not None and kept.aside == move:
            await export.end(aside(self.directory))

    async def forget_aside(self, move: str) -> None:
        """Remove what is aside for a move, or for any."""
        kept = load(self.directory)
        if kept is None or move in ("", kept.aside):
            await self._throw_away(aside(self.directory))

    async def _throw_away(self, there: Path) -> None:
        if await asyncio.to_thread(there.exists):
            await export.end(there)
            await asyncio.to_thread(Home(there, None).remove)

    def _data(self, kept: Record) -> list[str]:
        """The devices of local disks with data of the guest's."""
        return [
            disk.device
            for disk in self.devices_of(kept.spec)
            if disk.disk.source != "volume"
            and disk.disk.role not in ANEW
            and disk.device in kept.disks
        ]

    async def _fetch(
        self,
        spec: GuestSpec,
        devices: tuple[DiskDevice, ...],
        own: Mapping[str, DiskFile],
        offer: Offer | None,
    ) -> dict[str, DiskFile]:
        """Disks with data are copied, from aside or from another host; the others are made."""
        made = {}
        for device in devices:
            what = device.disk
            known = own if offer is None else offer.disks
            if what.source == "volume" or what.role in ANEW or device.device not in known:
                made[device.device] = await self._given.maker.make(self.directory, spec, device)
                continue
            target = self.directory / name(device)
            if offer is None:
                source = own[device.device]
                file = msgspec.structs.replace(source, path=str(target))
                await _copy(source.path, target)
            else:
                form = "raw" if what.source == "blank" else "qcow2"
                file = DiskFile(str(target), form)
                await export.fetch(offer, device.device, target, form)
            await _grow(file, what.size_mb * MIB)
            made[device.device] = file
        return made


async def _copy(source: str, target: Path) -> None:
    """A second file with the same data; on file systems that can, nothing is copied yet."""
    await programs.run(
        *("cp", "--reflink=auto", "--sparse=always", "--", source, str(target)),
        seconds=export.COPY_SECONDS,
    )


async def _grow(file: DiskFile, size: int) -> None:
    """Let a disk have ``size`` bytes; one that has more keeps them."""
    told = await programs.run(
        *("qemu-img", "info", "--output=json", "-f", file.format, file.path), seconds=GROW_SECONDS
    )
    if msgspec.json.decode(told)["virtual-size"] < size:
        await programs.run(
            *("qemu-img", "resize", "-q", "-f", file.format, file.path, str(size)),
            seconds=GROW_SECONDS,
        )


def aside(directory: Path) -> Path:
    """Where a guest's directory is when it is aside."""
    return directory.with_name(directory.name + SUFFIX)


def load(directory: Path) -> Record | None:
    """The record of the guest that is aside of that directory, with its files where they are."""
    there = aside(directory)
    kept = records.load(there)
    return moved(kept, there) if kept is not None else None


def moved(record: Record, to: Path) -> Record:
    """The record of a guest whose directory is ``to`` by now."""
    home = record.spec.server_id
    disks = {
        device: msgspec.structs.replace(file, path=str(to / Path(file.path).name))
        if Path(file.path).parent.name in (home, home + SUFFIX)
        else file
        for device, file in record.disks.items()
        if not file.remote
    }
    return msgspec.structs.replace(record, disks=disks)


def everyone(directory: Path) -> Iterator[tuple[str, Record]]:
    """Server id and record of each guest that is aside below a driver's directory."""
    for there in sorted(directory.glob(f"*{SUFFIX}")) if directory.exists() else ():
        server_id = there.name.removesuffix(SUFFIX)
        kept = load(there.with_name(server_id)) if records.is_server_id(server_id) else None
        if kept is not None:
            yield server_id, kept


def statuses(directory: Path, there: Container[str]) -> list[GuestStatus]:
    """The guests that are aside below a driver's directory, without those that are ``there``."""
    return [
        GuestStatus(server_id, kept.spec.name, PowerState.SHUTDOWN)
        for server_id, kept in everyone(directory)
        if server_id not in there
    ]


def unused(directory: Path, known: frozenset[str]) -> list[str]:
    """A sentence for each directory that is aside of a server that is none of the ``known``."""
    found = directory.glob(f"*{SUFFIX}") if directory.exists() else ()
    return [
        f"directory {there} of server {there.name.removesuffix(SUFFIX)}"
        for there in sorted(found)
        if there.name.removesuffix(SUFFIX) not in known
    ]
