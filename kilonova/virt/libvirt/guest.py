"""One guest: its directory, its domain, and what is done to them."""

from __future__ import annotations

import asyncio
import logging
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from kilonova.base.aio import Signal
from kilonova.base.errors import Conflict, Fault, NotFound, Unavailable
from kilonova.domain.guest import Disk, GuestSpec, GuestStatus, Nic, PowerState
from kilonova.domain.operations import Snapped
from kilonova.domain.rescue import is_rescued
from kilonova.virt import ports, records
from kilonova.virt import snapshots as copies
from kilonova.virt.accel import Accel
from kilonova.virt.devices import Devices, DiskDevice, plan
from kilonova.virt.devices.nics import nics as nic_devices
from kilonova.virt.disks import DiskFile, Maker, copy, end_rescue
from kilonova.virt.driver import Host
from kilonova.virt.home import Home
from kilonova.virt.libvirt import (
    device_xml,
    domain_xml,
    domains,
    held_xml,
    passwords,
    plugging,
    secrets,
    sleep,
    snapshots,
    volumes,
)
from kilonova.virt.libvirt.domains import Live
from kilonova.virt.libvirt.events import Event, Kind
from kilonova.virt.libvirt.host import Link
from kilonova.virt.records import Record, Rescued

ASK_AGAIN_SECONDS = 10.0
LOOK_SECONDS = 1.0
START_SECONDS = 120.0
END_SECONDS = 120.0
ALIVE = (PowerState.RUNNING, PowerState.PAUSED, PowerState.SUSPENDED)
DIRECTORY_MODE = 0o711
"""QEMU runs as another user, to whom libvirt gives the files in it one by one."""
FILE_MODE = 0o600

log = logging.getLogger(__name__)


class Given(msgspec.Struct, frozen=True):
    """What all guests of a host share.

    ``taken``: ports of serial consoles in use by any. ``cells``: CPUs that guests share, by cell.
    """

    host: Host
    accel: Accel
    maker: Maker
    link: Link
    machine: str
    taken: set[int]
    cells: dict[int, frozenset[int]]


class Guest(sleep.Sleeper[Given]):
    """One guest on this host. Methods are called one at a time (the driver holds the lock)."""

    def __init__(self, server_id: str, given: Given) -> None:
        self.server_id = server_id
        self.directory = given.host.state_dir / server_id
        self.record: Record | None = records.load(self.directory)
        self.lock = asyncio.Lock()
        self.power = PowerState.NOSTATE
        self._given = given
        self._settings = given.host.settings
        self._home = Home(self.directory, None, mode=DIRECTORY_MODE)
        self._news = Signal()
        self._unplugged = Signal()
        self._tasks: set[asyncio.Task[None]] = set()

    # What it is.

    @property
    def made(self) -> bool:
        """Whether its disks are complete."""
        return self.record is not None and self.record.made

    @property
    def alive(self) -> bool:
        """Whether it had a process when last heard of."""
        return self.power in ALIVE and not self.asleep

    @property
    def link(self) -> Link:
        """The connection to libvirt."""
        return self._given.link

    @property
    def has_agent(self) -> bool:
        """Whether it was started with a channel to an agent inside it."""
        record = self.record
        return record is not None and self._plan(record.started).machine.guest_agent

    def status(self, detail: str = "") -> GuestStatus:
        """As last heard from libvirt."""
        record = self.record
        name = record.spec.name if record is not None else ""
        told = detail or (record.ended if record is not None else "")
        return GuestStatus(self.server_id, name, self.power, detail=told)

    def seen(self, live: Live | None) -> GuestStatus:
        """As libvirt tells it now; what nobody was told yet is looked into."""
        if self._power(live) != self.power and not self.lock.locked():
            self._spawn(self._refresh())
        return msgspec.structs.replace(self.status(), power=self._power(live))

    def _power(self, live: Live | None) -> PowerState:
        if live is not None and (live.active or live.crashed):
            return live.power
        if self.asleep:
            return PowerState.SUSPENDED
        ended = self.record is not None and self.record.ended
        return PowerState.CRASHED if ended else PowerState.SHUTDOWN

    async def look(self) -> Live | None:
        """Ask libvirt, and take its answer as known."""
        live = await self._given.link.ask(lambda c: domains.look(c, self.server_id))
        self.power = self._power(live) if self.made else PowerState.NOSTATE
        return live

    # Taking up, letting go, and what happens by itself.

    async def take_up(self, live: Live | None) -> bool:
        """Go on with what a former agent left; True when the guest is not as it was left."""
        record = self.record
        if record is None or not record.made:
            if live is not None:
                await self._end()
            return False
        if live is not None and live.active:
            self._note(running=True, boot=records.boot_id(), ended="", asleep=None)
            self.power = self._power(live)
            if self.power == PowerState.SHUTDOWN:
                await self.cut()
                return True
            return False
        if record.running and record.boot == records.boot_id():
            # A guest that ended with its host is no crash; it may be started again.
            self._note(running=False, ended=_why(live))
        self.power = self._power(live)
        return record.running

    def let_go(self) -> None:
        """Listen no more; the guest goes on."""
        for task in self._tasks:
            task.cancel()

    def hear(self, event: Event) -> None:
        """Take an event of libvirt's; what our own calls cause is no news."""
        if event.kind in (Kind.UNPLUGGED, Kind.STAYED):
            self._unplugged.set()
        elif event.kind is Kind.RESET:
            if self.made and not self.lock.locked():
                self._spawn(self._tell("guest-reset"))
        else:
            self._news.set()
            self._spawn(self._refresh())

    async def refresh(self) -> None:
        """Find out how the guest is, and tell it if nobody was told."""
        async with self.lock:
            if self.record is None or not self.record.made:
                return
            before = self.power
            live = await self.look()
            if self.power == before:
                return
            alive = live is not None and live.active and self.power != PowerState.SHUTDOWN
            ended = _why(live) if self.power == PowerState.CRASHED else ""
            self._note(running=alive, ended=ended, boot=records.boot_id())
            log.info("Guest %s is %s now", self.record.spec.name, self.power.name)
        await self._tell("")

    async def _refresh(self) -> None:
        try:
            await self.refresh()
        except Fault as fault:
            log.warning("Guest %s was not looked at: %s", self.server_id, fault.message)

    async def _tell(self, detail: str) -> None:
        await self._given.host.on_event(self.status(detail))

    # What is done to it.

    async def make(self, spec: GuestSpec, *, paused: bool) -> None:
        """Disks, cards and domain; what a former try left is thrown away."""
        devices = self._plan(spec)
        await self.remove(spec)
        self._home.make()
        self._save(Record(spec=spec, boot=records.boot_id()))
        await self._plug(spec)
        disks = await self._given.maker.make_all(self.directory, spec, devices.disks)
        await self._start(devices, Record(spec=spec, disks=disks), paused=paused)

    async def start(self, spec: GuestSpec, *, paused: bool = False) -> None:
        """Start a guest that is off, from the spec as it is now, with the disks it has.

        A spec with a rescue disk rescues it; another one ends the rescue.
        """
        record = self._need(spec)
        if is_rescued(spec):
            await self.rescue(spec)
            return
        devices = self._plan(spec)
        await self._end()
        maker = self._given.maker
        disks = await maker.renew(self.directory, spec, devices.disks, record.disks)
        await self._unplug_others(record.spec, spec)
        await self._plug(spec)
        end_rescue(self.directory)
        fresh = Record(spec=spec, disks=disks, ports=record.ports)
        await self._start(devices, fresh, paused=paused)

    async def rebuild(self, spec: GuestSpec, *, paused: bool) -> None:
        """Local disks anew, then start; it counts as not made until they are complete."""
        devices = self._plan(spec)
        before = self.record or Record(spec=spec)
        await self._end()
        self._home.make()
        # What the host is connected to is known until it is let go of or taken over.
        self._save(Record(spec=spec, disks=before.disks, ports=before.ports))
        await self._given.maker.begin_anew(self.directory)
        await self._unplug_others(before.spec, spec)
        await self._plug(spec)
        disks = await self._given.maker.make_all(self.directory, spec, devices.disks)
        fresh = Record(spec=spec, disks=disks, ports=before.ports)
        await self._start(devices, fresh, paused=paused)

    async def rescue(self, spec: GuestSpec) -> None:
        """Start from the rescue disk of the spec, which is made anew."""
        record = self._need(spec)
        devices = self._plan(spec)
        own = {disk.disk.id: disk.device for disk in self._plan(record.spec).disks}
        have = {key: record.disks[name] for key, name in own.items() if name in record.disks}
        await self._end()
        try:
            maker = self._given.maker
            disks = await maker.for_rescue(self.directory, spec, devices.disks, have)
            await self._plug(spec)
            rescued = Rescued(spec, disks)
            wanted = msgspec.structs.replace(record, rescue=rescued, asleep=None)
            await self._start(devices, wanted, paused=False)
        except BaseException:
            await self._end()
            end_rescue(self.directory)
            self._note(rescue=None)
            self._off()
            raise

    async def set_password(self, user: str, password: str) -> None:
        """By the agent inside the guest; see ``passwords.give``."""
        link = self._given.link
        await link.ask(lambda c: passwords.give(c, self.server_id, user, password))

    async def resume(self) -> None:
        """Let the CPUs run."""
        if self.power == PowerState.PAUSED:
            await self._ask("resume")

    async def pause(self) -> None:
        """Let the CPUs stand still."""
        if self.power == PowerState.RUNNING:
            await self._ask("suspend")

    def devices_of(self, spec: GuestSpec) -> tuple[DiskDevice, ...]:
        """The guest's disks with all decided."""
        return self._plan(spec).disks

    async def shut_down(self, seconds: float) -> bool:
        """Ask the guest to switch itself off; True when it did."""
        if self.power != PowerState.RUNNING:
            return False
        now = asyncio.get_running_loop().time
        end, again = now() + seconds, 0.0
        while (left := end - now()) > 0:
            if now() >= again:
                again = now() + ASK_AGAIN_SECONDS
                try:
                    await self._given.link.call(lambda c: _domain(c, self.server_id).shutdown())
                except (Unavailable, Conflict) as fault:
                    log.debug("Guest %s was not asked: %s", self.server_id, fault.message)
            await self._news.wait(min(left, LOOK_SECONDS))
            live = await self._given.link.ask(lambda c: domains.look(c, self.server_id))
            if live is None or not live.active:
                self._off()
                return True
        return False

    async def cut(self) -> None:
        """Take the power away."""
        await self._end()
        self._off()

    async def remove(self, spec: GuestSpec, *, keep_disks: bool = False) -> None:
        """Domain, cards and (unless kept) disks; nothing there is success."""
        await self._given.link.call(
            lambda c: domains.remove(c, self.server_id), seconds=END_SECONDS
        )
        known = self.record.spec.nics if self.record is not None else ()
        for nic in {nic.port_id: nic for nic in (*spec.nics, *known)}.values():
            await self._given.host.vifs.unplug(nic)
        if self.record is not None:
            self._given.taken.difference_update(self.record.ports.values())
            files = self.record.disks.values()
            await self._given.link.call(lambda c: secrets.take_back(c, files))
        if keep_disks:
            self._off()
            return
        for disk in self.record.spec.disks if self.record is not None else ():
            await self._given.maker.release(disk, self._file(disk))
        await asyncio.to_thread(self._home.remove)
        await asyncio.to_thread(copies.clear, self._settings, self.directory)
        self.record = None
        self.power = PowerState.NOSTATE

    # Devices that come and go.

    async def plug_nic(self, spec: GuestSpec, nic: Nic) -> None:
        """One card more, at once if the guest runs, else at its next start."""
        assert self.record is not None
        (device,) = nic_devices(msgspec.structs.replace(spec, nics=(nic,)))
        card = device_xml.card(device)
        others = tuple(n for n in self.record.spec.nics if n.port_id != nic.port_id)
        # Remembered first: what a broken-off try made is found and removed with the guest.
        self._note(spec=msgspec.structs.replace(self.record.spec, nics=(*others, nic)))
        if self.alive:
            await self._given.host.vifs.plug(nic)
            await self._given.link.call(lambda c: plugging.plug(c, self.server_id, card))
            await self._redefine()

    async def unplug_nic(self, nic: Nic) -> None:
        """One card less; Conflict when the guest does not let go of it."""
        assert self.record is not None
        if self.alive:
            alias = device_xml.card_alias(nic)
            await self._let_go(alias, "network card")
        await self._given.host.vifs.unplug(nic)
        left = tuple(n for n in self.record.spec.nics if n.port_id != nic.port_id)
        self._note(spec=msgspec.structs.replace(self.record.spec, nics=left))
        await self._redefine()

    async def plug(self, spec: GuestSpec, disk: Disk) -> None:
        """Give the guest one more volume, now if it runs."""
        device = self._device(spec, disk)
        file = await self._volume(spec, device)
        if self.alive:
            made = device_xml.disk(device, file, block=_is_block(file))
            await self._given.link.call(lambda c: volumes.plug(c, self.server_id, device, made))
        await self._keep(spec, {disk.device: file})

    async def unplug(self, spec: GuestSpec, disk: Disk) -> None:
        """Take a volume from the guest; Conflict when it does not let go."""
        if self.alive:
            await self._let_go(device_xml.disk_alias(disk.device), f"disk {disk.device}")
        file = self._file(disk)
        await self._release(disk, file)
        await self._keep(spec, {disk.device: None})

    async def snapshot(self, spec: GuestSpec, image_id: str) -> Snapped:
        """Keep a copy of the root disk as it is now; a running guest goes on meanwhile."""
        root = copies.root_of(spec)
        file = self._file(root)
        if file is None:
            raise NotFound(f"Host {self._given.host.name} has no disks of {spec.name}.")
        made = copies.plan(
            self._settings, self.copies, file, image_id, live=self.alive, packs=False
        )
        live = root.device if self.alive else ""
        return await snapshots.take(self._given.link, self.server_id, spec, file, made, live=live)

    async def drop_snapshot(self, image_id: str) -> None:
        """Remove the copy for an image, and end one that is being made."""
        await snapshots.drop(self._given.link, self.server_id, self.copies, image_id)

    @property
    def copies(self) -> Path:
        """Where copies of its disk lie."""
        return copies.place(self._settings, self.directory)

    def _file(self, disk: Disk) -> DiskFile | None:
        return self.record.disks.get(disk.device) if self.record is not None else None

    async def resize(self, spec: GuestSpec, disk: Disk) -> None:
        """Let a running guest see a volume's new size."""
        await self._given.maker.grow(disk, self._file(disk))
        if self.alive:
            await self._given.link.call(lambda c: volumes.resize(c, self.server_id, disk))
        await self._keep(spec, {})

    async def swap(self, spec: GuestSpec, old: Disk, new: Disk) -> None:
        """Go on with another volume that has the data of the old one."""
        device = self._device(spec, new)
        before = await self._given.maker.volume(self.directory, old)
        file = await self._volume(spec, device)
        if self.alive:
            target = device_xml.mirror(file, block=_is_block(file))
            await volumes.swap(self._given.link, self.server_id, old.device, file, target)
            await self._given.link.call(lambda c: volumes.resize(c, self.server_id, new))
        else:
            await copy(before, file)
        await self._keep(spec, {new.device: file})
        await self._release(old, before)

    async def _volume(self, spec: GuestSpec, device: DiskDevice) -> DiskFile:
        """Where a volume is, with its key given to libvirt."""
        file = await self._given.maker.make(self.directory, spec, device)
        try:
            await self._given.link.call(lambda c: secrets.give(c, [file]))
        except BaseException:
            await self._given.maker.release(device.disk, file)
            raise
        return file

    async def _release(self, disk: Disk, file: DiskFile | None) -> None:
        if file is not None:
            await self._given.link.call(lambda c: secrets.take_back(c, [file]))
            await self._given.maker.release(disk, file)

    async def _let_go(self, alias: str, what: str) -> None:
        limits = self._settings.libvirt
        link = self._given.link
        for _ in range(limits.device_detach_attempts):
            if not await link.call(lambda c: plugging.ask_to_release(c, self.server_id, alias)):
                return
            now = asyncio.get_running_loop().time
            end = now() + limits.device_detach_timeout
            while (left := end - now()) > 0:
                await self._unplugged.wait(min(left, LOOK_SECONDS))
                if not await link.ask(lambda c: plugging.has(c, self.server_id, alias)):
                    return
        raise Conflict(f"The guest did not let go of the {what}; is it in use, or still starting?")

    async def _keep(self, spec: GuestSpec, changed: dict[str, DiskFile | None]) -> None:
        assert self.record is not None
        disks = {**self.record.disks, **changed}
        left = {name: file for name, file in disks.items() if file is not None}
        kept = msgspec.structs.replace(self.record.spec, disks=spec.disks)
        records.save(self.directory, self._note(spec=kept, disks=left), durable=True)
        await self._redefine()

    # Starting and ending.

    def _plan(self, spec: GuestSpec) -> Devices:
        devices = plan(spec, default_machine=self._given.machine)
        held_xml.check(spec)
        for nic in devices.nics:
            device_xml.card(nic)  # refuses what cannot be, before anything is made
        return devices

    def _device(self, spec: GuestSpec, disk: Disk) -> DiskDevice:
        for device in self._plan(spec).disks:
            if device.disk.id == disk.id:
                return device
        raise NotFound(f"The guest {spec.name} has no disk {disk.device}.")

    async def _start(self, devices: Devices, record: Record, *, paused: bool) -> None:
        record = msgspec.structs.replace(record, made=True, boot="", ports=self._serial(record))
        self._save(record)
        self._home.hand_over(())
        self._protect(record.attached.values())
        definition = self._definition(devices, record)
        await self._given.link.call(lambda c: secrets.give(c, record.attached.values()))
        try:
            await self._given.link.call(
                lambda c: domains.start(c, definition, paused=paused), seconds=START_SECONDS
            )
        except Fault as fault:
            raise Unavailable(f"The guest could not be started. {fault.message}") from fault
        await self.look()
        done = self._note(running=True, boot=records.boot_id())
        await asyncio.to_thread(records.save, self.directory, done, durable=True)

    def _protect(self, files: Iterable[DiskFile]) -> None:
        """Nobody but whom libvirt gives it to may read a disk."""
        for path in (Path(file.path) for file in files):
            if path.parent == self.directory:
                path.chmod(FILE_MODE)

    def _definition(self, devices: Devices, record: Record) -> str:
        parts = domain_xml.Parts(
            directory=self.directory,
            guest=record.started,
            devices=devices,
            disks=record.attached,
            accel=self._given.accel,
            made=self._given.host.clock.now(),
            blocks=frozenset(n for n, file in record.attached.items() if _is_block(file)),
            serial_port=next(iter(record.ports.values()), 0),
            cells=self._given.cells,
        )
        return domain_xml.build(parts, self._settings)

    async def _redefine(self) -> None:
        """Have libvirt know the guest's devices for whoever starts it with other tools."""
        assert self.record is not None
        if self.record.running:
            definition = self._definition(self._plan(self.record.started), self.record)
            await self._given.link.call(lambda c: c.defineXML(definition))

    def _serial(self, record: Record) -> dict[str, int]:
        """A port for the serial console, where there is one: the one it had if that is free."""
        wanted = self._settings.serial_console
        if not wanted.enabled:
            return {}
        wish = record.ports.get("serial", 0)
        self._given.taken.discard(wish)
        port = ports.choose(
            self.server_id,
            wanted.port_range,
            self._given.taken,
            wish,
            address=wanted.proxyclient_address,
        )
        self._given.taken.add(port)
        return {"serial": port}

    def _need(self, spec: GuestSpec) -> Record:
        if self.record is None or not self.record.made:
            raise NotFound(f"Host {self._given.host.name} has no disks of {spec.name}.")
        return self.record

    async def _unplug_others(self, before: GuestSpec, now: GuestSpec) -> None:
        kept = {nic.port_id for nic in now.nics}
        for nic in before.nics:
            if nic.port_id not in kept:
                await self._given.host.vifs.unplug(nic)

    async def _plug(self, spec: GuestSpec) -> None:
        for nic in spec.nics:
            await self._given.host.vifs.plug(nic)

    async def _end(self) -> None:
        await self._given.link.call(lambda c: domains.end(c, self.server_id), seconds=END_SECONDS)
        if self.asleep:
            await self._given.link.call(lambda c: domains.forget_memory(c, self.server_id))
            self._note(asleep=None)

    async def _ask(self, what: str) -> None:
        await self._given.link.call(lambda c: getattr(_domain(c, self.server_id), what)())
        await self.look()

    # What is remembered.

    def _off(self) -> None:
        if self.record is not None:
            self._note(running=False, ended="", asleep=None)
            self.power = PowerState.SHUTDOWN if self.record.made else PowerState.NOSTATE

    def _save(self, record: Record) -> None:
        records.save(self.directory, record)
        self.record = record

    def _note(self, **changes: Any) -> Record:
        assert self.record is not None
        changed = msgspec.structs.replace(self.record, **changes)
        self._save(changed)
        return changed

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _domain(connection: Any, server_id: str) -> Any:
    return connection.lookupByUUIDString(server_id)


def _why(live: Live | None) -> str:
    """What is said of a guest that ended by itself; nothing of one that was switched off."""
    if live is None:
        return "the domain is gone"
    return "the process ended" if live.crashed else ""


def _is_block(file: DiskFile) -> bool:
    try:
        return stat.S_ISBLK(Path(file.path).stat().st_mode)
    except OSError:
        return False
