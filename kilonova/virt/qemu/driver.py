"""The virt driver over plain QEMU processes."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path

import msgspec

from kilonova.base.errors import Conflict, NotFound
from kilonova.domain.diagnostics import Diagnostics
from kilonova.domain.guest import (
    ConsoleTarget,
    Disk,
    GuestSpec,
    GuestStatus,
    HostReport,
    ImageRef,
    Nic,
    PowerState,
)
from kilonova.domain.moves import Offer
from kilonova.domain.operations import Snapped
from kilonova.virt import accel, aside, consolelog, hostinfo, records, snapshots, vifs
from kilonova.virt.brick import Brick
from kilonova.virt.devices import properties
from kilonova.virt.disks import Maker
from kilonova.virt.driver import Host
from kilonova.virt.imagecache import ImageCache
from kilonova.virt.qemu import counters, fileshares, process, version
from kilonova.virt.qemu import snapshots as copying
from kilonova.virt.qemu.fileshares import Mounter
from kilonova.virt.qemu.guest import Given, Guest
from kilonova.virt.qemu.live import QemuMoves

OFF = (PowerState.SHUTDOWN, PowerState.CRASHED, PowerState.SUSPENDED)
_SERIAL = re.compile(r"tcp:(?:\[[^]]*\]|[^:]*):(\d+)")

log = logging.getLogger(__name__)


class QemuDriver(QemuMoves):
    """Guests are processes of their own: they live on when the agent ends, and are taken up again.

    Everything of a guest is in ``<state_dir>/<server id>/``.
    """

    name = "qemu"

    def __init__(self, host: Host, *, mounter: Mounter | None = None) -> None:
        """``mounter`` brings file shares to the host: by NFS when not told."""
        super().__init__()
        self._host = host
        self._mounter = mounter or fileshares.Nfs()
        settings = host.settings
        directory = host.state_dir.resolve()
        self._cache = ImageCache(
            directory / settings.image_cache.subdirectory_name,
            host.images,
            clock=host.clock,
            settings=settings,
            host=host.name,
        )
        self._directory = directory
        self._brick = Brick(host.settings, host.name)
        self._guests: dict[str, Guest] = {}
        self._given: Given | None = None
        self._version = 0
        self._thaws = snapshots.Thaws()

    async def start(self) -> list[GuestStatus]:
        host = self._host
        host.state_dir = self._directory
        self._version = await version.find(host.settings.qemu.binary)
        self._directory.mkdir(parents=True, exist_ok=True)
        default = host.settings.default
        maker = Maker(
            self._cache,
            host.config_drive,
            default.default_ephemeral_format,
            default.config_drive_format,
            brick=self._brick,
        )
        self._given = Given(host, accel.choose(host.settings), maker, set(), self._mounter)
        log.info("Guests run with %s (%s)", self._given.accel.kind, self._given.accel.cpu)
        pids = process.find(self._directory)
        changed = []
        for entry in records.places(self._directory):
            if entry.is_dir():
                guest = self._guest(entry.name)
                if await guest.take_up(pids.get(entry.name)):
                    changed.append(guest)
        for guest in changed:
            await host.on_event(guest.status())
        return await self.guests()

    async def stop(self) -> None:
        await self._thaws.close()
        for guest in self._guests.values():
            await guest.let_go()
        self._guests.clear()

    async def report(self) -> HostReport:
        given = self._need()
        await asyncio.to_thread(consolelog.trim, [g.directory for g in self._guests.values()])
        shape = await asyncio.to_thread(hostinfo.shape, self._host.settings)
        report = hostinfo.report(
            node=self._host.name,
            state_dir=self._directory,
            version=self._version,
            accel=given.accel,
            guests=[g.record.spec for g in self._made() if g.record is not None],
            vnc=self._host.settings.vnc.enabled,
            shape=shape,
            connector=await self._brick.facts(),
        )
        traits = {*report.traits, *fileshares.traits()}
        return msgspec.structs.replace(report, traits=tuple(sorted(traits)))

    async def guests(self) -> list[GuestStatus]:
        here = [guest.status() for guest in self._made()]
        return here + await asyncio.to_thread(aside.statuses, self._directory, self._there())

    async def status(self, server_id: str) -> GuestStatus:
        guest = self._guests.get(server_id)
        if guest is None or guest.record is None or not guest.record.made:
            return GuestStatus(server_id, "", PowerState.NOSTATE)
        return guest.status()

    async def spawn(self, guest: GuestSpec, *, paused: bool) -> GuestStatus:
        there = self._guest(guest.server_id)
        async with there.lock:
            if there.record is None or not there.record.made:
                await there.make(guest, paused=paused)
            elif not there.alive:
                await there.start(guest, paused=paused)
            elif not paused:
                await there.resume()
            return there.status()

    async def resume(self, guest: GuestSpec) -> GuestStatus:
        there = self._find(guest.server_id)
        async with there.lock:
            if not there.alive:
                raise Conflict(f"The guest {guest.name} is off; start it first.")
            await there.resume()
            return there.status()

    async def destroy(self, guest: GuestSpec, *, keep_disks: bool) -> None:
        there = self._guest(guest.server_id)
        async with there.lock:
            if not there.alive:
                await self._end_stray(guest.server_id)
            await there.remove(guest, keep_disks=keep_disks)
            if there.record is None:
                self._guests.pop(guest.server_id, None)

    async def power_on(self, guest: GuestSpec) -> GuestStatus:
        there = await self._recalled(guest.server_id)
        async with there.lock:
            if not there.alive or there.power in OFF:
                await there.start(guest)
            else:
                await there.resume()
            return there.status()

    async def power_off(self, guest: GuestSpec, *, seconds: int) -> GuestStatus:
        there = self._find(guest.server_id)
        async with there.lock:
            if seconds <= 0 or not await there.shut_down(seconds):
                await there.cut()
            return there.status()

    async def reboot(self, guest: GuestSpec, *, hard: bool) -> GuestStatus:
        there = await self._recalled(guest.server_id)
        async with there.lock:
            if not hard:
                if there.power != PowerState.RUNNING:
                    raise Conflict(f"The guest {guest.name} does not run; reboot it hard.")
                if not await there.shut_down(self._host.settings.libvirt.wait_soft_reboot_seconds):
                    raise Conflict(f"The guest {guest.name} did not react; reboot it hard.")
            await there.start(guest)
            return there.status()

    async def rebuild(self, guest: GuestSpec, *, paused: bool) -> GuestStatus:
        there = self._guest(guest.server_id)
        async with there.lock:
            if not there.alive:
                await self._end_stray(guest.server_id)
            await there.rebuild(guest, paused=paused)
            return there.status()

    async def rescue(self, guest: GuestSpec) -> GuestStatus:
        there = self._find(guest.server_id)
        async with there.lock:
            await there.rescue(guest)
            return there.status()

    async def unrescue(self, guest: GuestSpec) -> GuestStatus:
        there = self._find(guest.server_id)
        async with there.lock:
            await there.start(guest)
            return there.status()

    async def set_password(self, guest: GuestSpec, user: str, password: str) -> GuestStatus:
        """By the guest agent of QEMU, where the image says that there is one."""
        there = self._find(guest.server_id)
        async with there.lock:
            _running(there)
            if not there.has_agent:
                raise Conflict("QEMU guest agent is not enabled")
            await there.set_password(user, password)
            return there.status()

    async def attach_disk(self, guest: GuestSpec, disk: Disk) -> GuestStatus:
        there = self._find(guest.server_id)
        async with there.lock:
            await there.plug(guest, disk)
            return there.status()

    async def detach_disk(self, guest: GuestSpec, disk: Disk) -> GuestStatus:
        there = self._find(guest.server_id)
        async with there.lock:
            await there.unplug(guest, disk)
            return there.status()

    async def resize_disk(self, guest: GuestSpec, disk: Disk) -> GuestStatus:
        there = self._find(guest.server_id)
        async with there.lock:
            await there.resize(guest, disk)
            return there.status()

    async def swap_disk(self, guest: GuestSpec, old: Disk, new: Disk) -> GuestStatus:
        there = self._find(guest.server_id)
        async with there.lock:
            await there.swap(guest, old, new)
            return there.status()

    async def snapshot_volume(self, guest: GuestSpec, disk: Disk, file: str) -> GuestStatus:
        """Put a file on top of those of a volume."""
        there = self._find(guest.server_id)
        async with there.lock:
            await there.go_on_in(guest, disk, file)
            return there.status()

    async def merge_volume(
        self, guest: GuestSpec, disk: Disk, file: str | None, into: str | None
    ) -> GuestStatus:
        """Take a file out of those of a volume."""
        there = self._find(guest.server_id)
        async with there.lock:
            await there.merge(guest, disk, file, into)
            return there.status()

    async def console_log(self, server_id: str) -> bytes:
        directory = self._find(server_id).directory
        return await asyncio.to_thread(consolelog.tail, directory)

    async def console(self, server_id: str, kind: str) -> ConsoleTarget:
        """VNC always, serial when ``[serial_console] enabled``."""
        there = self._find(server_id)
        settings = self._host.settings
        offered = {"vnc": settings.vnc.enabled, "serial": settings.serial_console.enabled}
        if not offered.get(kind, False):
            raise NotFound(f"The hypervisor of host {self._host.name} has no {kind} consoles.")
        if not there.alive:
            raise Conflict("The server does not run; start it to reach its console.")
        if kind == "vnc":
            shown = await there.ask("query-vnc")
            if not shown.get("enabled"):
                raise NotFound("The server has no graphics device, and so no VNC console.")
            address = settings.vnc.server_proxyclient_address
            return ConsoleTarget("vnc", address, int(shown["service"]))
        for chardev in await there.ask("query-chardev"):
            found = _SERIAL.search(chardev["filename"])
            if chardev["label"] == "serial0" and found is not None:
                address = settings.serial_console.proxyclient_address
                return ConsoleTarget("serial", address, int(found.group(1)))
        raise NotFound("The server was started without a serial console; reboot it hard.")

    async def pause(self, guest: GuestSpec) -> GuestStatus:
        """Stop the guest's CPUs; Conflict when it is off."""
        there = self._find(guest.server_id)
        async with there.lock:
            _running(there)
            await there.pause()
            return there.status()

    async def suspend(self, guest: GuestSpec) -> GuestStatus:
        """Keep the guest's memory in a file; Conflict when it is off."""
        there = self._find(guest.server_id)
        async with there.lock:
            if there.power != PowerState.SUSPENDED:
                _running(there)
            await there.suspend()
            return there.status()

    async def wake(self, guest: GuestSpec) -> GuestStatus:
        """Let a suspended guest go on."""
        there = self._find(guest.server_id)
        async with there.lock:
            await there.wake(guest)
            return there.status()

    async def inject_nmi(self, guest: GuestSpec) -> GuestStatus:
        """Send a non-maskable interrupt to the guest's CPUs."""
        there = self._find(guest.server_id)
        async with there.lock:
            _running(there)
            await there.ask("inject-nmi")
            return there.status()

    async def snapshot(self, guest: GuestSpec, image_id: str) -> Snapped:
        """Copy the root disk into one file, flat."""
        there = self._find(guest.server_id)
        async with there.lock:
            return await copying.take(there, self._host.settings, guest, image_id)

    async def send_snapshot(self, guest: GuestSpec, image_id: str) -> Snapped:
        """Send the copy, and remove it."""
        where = self._copies(self._find(guest.server_id))
        return await snapshots.send(self._host, where, image_id)

    async def drop_snapshot(self, guest: GuestSpec, image_id: str) -> None:
        """Remove the copy."""
        there = self._guests.get(guest.server_id)
        if there is not None:
            async with there.lock:
                await copying.drop(there.qemu, self._copies(there), image_id)

    async def quiesce(self, guest: GuestSpec) -> None:
        """Have the guest's file systems stand still, for a limited time."""
        there = self._find(guest.server_id)
        snapshots.require_agent(guest, properties.of(guest))
        await self._thaws.begin(guest.server_id, *copying.stills(there.directory))

    async def unquiesce(self, guest: GuestSpec) -> None:
        """Let them go on."""
        _, thaw = copying.stills(self._find(guest.server_id).directory)
        await self._thaws.end(guest.server_id, thaw)

    def _copies(self, guest: Guest) -> Path:
        return snapshots.place(self._host.settings, guest.directory)

    async def attach_nic(self, guest: GuestSpec, nic: Nic) -> GuestStatus:
        """Plug a network card in; a guest that is off has it at its next start."""
        there = self._find(guest.server_id)
        async with there.lock:
            await there.plug_nic(guest, nic)
            return there.status()

    async def detach_nic(self, guest: GuestSpec, nic: Nic) -> GuestStatus:
        """Take a network card out; Conflict when the guest does not let go of it."""
        there = self._find(guest.server_id)
        async with there.lock:
            await there.unplug_nic(nic)
            return there.status()

    async def depart(
        self, guest: GuestSpec, move: str, *, seconds: int, offer: bool
    ) -> Offer | None:
        """Switch a guest off and put it aside."""
        there = self._guest(guest.server_id)
        async with there.lock:
            return await there.depart(guest, move, seconds=seconds, offer=offer)

    async def arrive(
        self, guest: GuestSpec, move: str, offer: Offer | None, *, start: bool, paused: bool
    ) -> GuestStatus:
        """Make a guest from the disks of one that is aside."""
        there = self._guest(guest.server_id)
        async with there.lock:
            await there.arrive(guest, move, offer, start=start, paused=paused)
            return there.status()

    async def come_back(
        self, guest: GuestSpec, move: str, *, start: bool, paused: bool
    ) -> GuestStatus:
        """A guest that was aside is in its place again."""
        there = self._guest(guest.server_id)
        async with there.lock:
            await there.come_back(guest, move, start=start, paused=paused)
        return await self.status(guest.server_id)

    async def end_offer(self, guest: GuestSpec, move: str) -> None:
        """Export the disks of a guest that is aside no longer."""
        there = self._guest(guest.server_id)
        async with there.lock:
            await there.end_offer(move)

    async def forget_aside(self, guest: GuestSpec, move: str) -> None:
        """Remove a guest that is aside."""
        there = self._guest(guest.server_id)
        async with there.lock:
            await there.forget_aside(move)

    async def diagnostics(self, server_id: str) -> Diagnostics:
        """Counters of QEMU's monitor, its threads, and the guest's taps."""
        there = self._find(server_id)
        assert there.record is not None
        alive = there.alive
        return counters.diagnostics(
            there.record.started,
            power=there.power,
            kind=self._need().accel.virt_type,
            pid=there.status().pid,
            cpus=await there.ask("query-cpus-fast") if alive else [],
            blocks=await there.ask("query-blockstats", {"query-nodes": True}) if alive else [],
        )

    async def cache_image(self, image: ImageRef) -> bool:
        """Fetch the base of an image, unless it is here."""
        return await self._cache.ensure(image)

    async def leftovers(self, known: frozenset[str]) -> list[str]:
        lines = [
            f"process {pid} of server {server_id}"
            for server_id, pid in process.find(self._directory).items()
            if server_id not in known
        ]
        lines += await asyncio.to_thread(records.unused_places, self._directory, known)
        lines += await asyncio.to_thread(aside.unused, self._directory, known)
        lines += await asyncio.to_thread(fileshares.leftovers, self._directory, known)
        kept = (guest.record for guest in self._guests.values() if guest.server_id in known)
        found = await asyncio.to_thread(vifs.taps)
        return lines + records.unused_taps(found, [one for one in kept if one is not None])

    async def interrupted(self) -> list[GuestSpec]:
        """Guests that are off only because the host was restarted."""
        return [
            guest.record.started
            for guest in self._made()
            if guest.record is not None and guest.record.running and not guest.alive
        ]

    async def prune_images(self, *, unused_seconds: float) -> list[str]:
        """Remove base images no guest uses, unused for that long; their ids."""
        kept = [guest.record for guest in self._guests.values() if guest.record is not None]
        kept += [record for _, record in aside.everyone(self._directory)]
        used = records.images(kept)
        return await self._cache.prune(used, unused_seconds=unused_seconds)

    def _guest(self, server_id: str) -> Guest:
        if not records.is_server_id(server_id):
            raise NotFound(f"{server_id} is no server id.")
        if server_id not in self._guests:
            self._guests[server_id] = Guest(server_id, self._need())
        return self._guests[server_id]

    def _find(self, server_id: str) -> Guest:
        guest = self._guests.get(server_id)
        if guest is None or guest.record is None or not guest.record.made:
            raise NotFound(f"Host {self._host.name} has no guest for server {server_id}.")
        return guest

    async def _recalled(self, server_id: str) -> Guest:
        """A guest that is wanted where it was."""
        there = self._guest(server_id)
        async with there.lock:
            await there.recall()
        return self._find(server_id)

    def _there(self) -> set[str]:
        return {guest.server_id for guest in self._made()}

    def _made(self) -> list[Guest]:
        return [g for g in self._guests.values() if g.record is not None and g.record.made]

    def _need(self) -> Given:
        if self._given is None:
            raise Conflict("The driver was not started.")
        return self._given

    async def _end_stray(self, server_id: str) -> None:
        """End a process we lost sight of (its directory may be gone)."""
        pid = process.find(self._directory).get(server_id)
        stray = process.Process.hold(pid, server_id) if pid is not None else None
        if stray is not None:
            log.warning("Ending stray process %d of server %s", stray.pid, server_id)
            await stray.end(seconds=0)


def _running(guest: Guest) -> None:
    if guest.power not in (PowerState.RUNNING, PowerState.PAUSED):
        name = guest.record.spec.name if guest.record is not None else guest.server_id
        raise Conflict(f"The guest {name} is off; start it first.")
