"""The virt driver over libvirt."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

from kilonova.base.errors import Conflict, NotFound, Unavailable
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
from kilonova.virt.libvirt import access, counters, domains, xml
from kilonova.virt.libvirt.events import Event
from kilonova.virt.libvirt.guest import Given, Guest
from kilonova.virt.libvirt.host import Link, shown
from kilonova.virt.libvirt.outside import SYSTEM
from kilonova.virt.libvirt.snapshots import agent

ARCHITECTURE = "x86_64"

log = logging.getLogger(__name__)


class LibvirtDriver:
    """Guests are domains of libvirt; they live on when the agent or libvirtd ends.

    Disks and what is remembered of a guest are in ``<state_dir>/<server id>/``.
    """

    name = "libvirt"

    def __init__(self, host: Host) -> None:
        self._host = host
        settings = host.settings
        self._directory = host.state_dir.resolve()
        self._cache = ImageCache(
            self._directory / settings.image_cache.subdirectory_name,
            host.images,
            clock=host.clock,
            settings=settings,
            host=host.name,
        )
        self._link = Link(
            settings.libvirt.connection_uri or SYSTEM,
            clock=host.clock,
            tell=self._hear,
            back=self._look_again,
            hidden=str(host.state_dir),
        )
        self._brick = Brick(host.settings, host.name)
        self._guests: dict[str, Guest] = {}
        self._given: Given | None = None
        self._version = 0
        self._thaws = snapshots.Thaws()

    async def start(self) -> list[GuestStatus]:
        host = self._host
        settings = host.settings
        host.state_dir = self._directory
        chosen = accel.choose(settings)
        check_cpu(chosen, settings.libvirt.cpu_mode, settings.libvirt.cpu_models)
        self._directory.mkdir(parents=True, exist_ok=True)
        maker = Maker(
            self._cache,
            host.config_drive,
            settings.default.default_ephemeral_format,
            settings.default.config_drive_format,
            brick=self._brick,
        )
        machine = machine_type(settings.libvirt.hw_machine_type)
        await self._link.open()
        try:
            self._version = await self._link.ask(lambda c: c.getVersion())
            capabilities = await self._link.call(lambda c: c.getCapabilities())
            access.check(xml.read(capabilities), self._directory)
            shape = await asyncio.to_thread(hostinfo.shape, self._host.settings)
            cells = {cell.id: cell.cpus for cell in shape.cells}
            self._given = Given(host, chosen, maker, self._link, machine, set(), cells)
            return await self._take_up()
        except BaseException:
            await self._link.close()
            raise

    async def _take_up(self) -> list[GuestStatus]:
        given = self._need()
        log.info("Guests run with QEMU %s (%s)", shown(self._version), given.accel.kind)
        found = await self._link.ask(domains.states)
        changed = []
        for entry in records.places(self._directory):
            if entry.is_dir():
                guest = self._guest(entry.name)
                async with guest.lock:
                    if await guest.take_up(found.get(entry.name)):
                        changed.append(guest)
        for guest in changed:
            await self._host.on_event(guest.status())
        return await self.guests()

    async def stop(self) -> None:
        await self._thaws.close()
        for guest in self._guests.values():
            guest.let_go()
        self._guests.clear()
        await self._link.close()

    async def report(self) -> HostReport:
        given = self._need()
        # Asked although it is known: a host whose libvirt is gone has nothing to offer.
        self._version = await self._link.ask(lambda c: c.getVersion())
        await asyncio.to_thread(consolelog.trim, [g.directory for g in self._guests.values()])
        shape = await asyncio.to_thread(hostinfo.shape, self._host.settings)
        return hostinfo.report(
            node=self._host.name,
            state_dir=self._directory,
            version=self._version,
            accel=given.accel,
            guests=[record.spec for record in self._records() if record.made],
            vnc=self._host.settings.vnc.enabled,
            shape=shape,
            connector=await self._brick.facts(),
        )

    async def guests(self) -> list[GuestStatus]:
        found = await self._link.ask(domains.states)
        here = [g for g in self._guests.values() if g.made]
        shown = [g.seen(found.get(g.server_id)) for g in here]
        there = {g.server_id for g in here}
        return shown + await asyncio.to_thread(aside.statuses, self._directory, there)

    async def status(self, server_id: str) -> GuestStatus:
        guest = self._guests.get(server_id)
        if guest is None or not guest.made:
            return GuestStatus(server_id, "", PowerState.NOSTATE)
        return guest.seen(await self._link.ask(lambda c: domains.look(c, server_id)))

    async def spawn(self, guest: GuestSpec, *, paused: bool) -> GuestStatus:
        there = self._guest(guest.server_id)
        async with there.lock:
            await there.look()
            if not there.made:
                await there.make(guest, paused=paused)
            elif not there.alive:
                await there.start(guest, paused=paused)
            elif not paused:
                await there.resume()
            return there.status()

    async def resume(self, guest: GuestSpec) -> GuestStatus:
        async with self._held(guest) as there:
            if not there.alive:
                raise Conflict(f"The guest {guest.name} is off; start it first.")
            await there.resume()
            return there.status()

    async def destroy(self, guest: GuestSpec, *, keep_disks: bool) -> None:
        there = self._guest(guest.server_id)
        async with there.lock:
            await there.remove(guest, keep_disks=keep_disks)
            if there.record is None:
                self._guests.pop(guest.server_id, None)

    async def power_on(self, guest: GuestSpec) -> GuestStatus:
        await self._recall(guest.server_id)
        async with self._held(guest) as there:
            if there.alive:
                await there.resume()
            else:
                await there.start(guest)
            return there.status()

    async def power_off(self, guest: GuestSpec, *, seconds: int) -> GuestStatus:
        async with self._held(guest) as there:
            if seconds <= 0 or not await there.shut_down(seconds):
                await there.cut()
            return there.status()

    async def reboot(self, guest: GuestSpec, *, hard: bool) -> GuestStatus:
        await self._recall(guest.server_id)
        there = self._find(guest.server_id)
        async with there.lock:
            if not hard:
                await there.look()
                if there.power != PowerState.RUNNING:
                    raise Conflict(f"The guest {guest.name} does not run; reboot it hard.")
                if not await there.shut_down(self._host.settings.libvirt.wait_soft_reboot_seconds):
                    raise Conflict(f"The guest {guest.name} did not react; reboot it hard.")
            await there.start(guest)
            return there.status()

    async def pause(self, guest: GuestSpec) -> GuestStatus:
        """Stop the guest's CPUs; Conflict when it is off."""
        async with self._held(guest) as there:
            _check_running(there)
            await there.pause()
            return there.status()

    async def suspend(self, guest: GuestSpec) -> GuestStatus:
        """Have libvirt keep the guest's memory; Conflict when it is off."""
        async with self._held(guest) as there:
            await there.suspend()
            return there.status()

    async def wake(self, guest: GuestSpec) -> GuestStatus:
        """Let a suspended guest go on."""
        async with self._held(guest) as there:
            await there.wake(guest)
            return there.status()

    async def inject_nmi(self, guest: GuestSpec) -> GuestStatus:
        """Send a non-maskable interrupt to the guest's CPUs."""
        async with self._held(guest) as there:
            _check_running(there)
            await self._link.call(lambda c: _domain(c, guest.server_id).injectNMI())
            return there.status()

    async def rebuild(self, guest: GuestSpec, *, paused: bool) -> GuestStatus:
        there = self._guest(guest.server_id)
        async with there.lock:
            await there.rebuild(guest, paused=paused)
            return there.status()

    async def rescue(self, guest: GuestSpec) -> GuestStatus:
        async with self._held(guest) as there:
            await there.rescue(guest)
            return there.status()

    async def unrescue(self, guest: GuestSpec) -> GuestStatus:
        async with self._held(guest) as there:
            await there.start(guest)
            return there.status()

    async def set_password(self, guest: GuestSpec, user: str, password: str) -> GuestStatus:
        """By the guest agent of QEMU, where the image says that there is one."""
        async with self._held(guest) as there:
            _check_running(there)
            if not there.has_agent:
                raise Conflict("QEMU guest agent is not enabled")
            await there.set_password(user, password)
            return there.status()

    async def attach_disk(self, guest: GuestSpec, disk: Disk) -> GuestStatus:
        async with self._held(guest) as there:
            await there.plug(guest, disk)
            return there.status()

    async def detach_disk(self, guest: GuestSpec, disk: Disk) -> GuestStatus:
        async with self._held(guest) as there:
            await there.unplug(guest, disk)
            return there.status()

    async def resize_disk(self, guest: GuestSpec, disk: Disk) -> GuestStatus:
        async with self._held(guest) as there:
            await there.resize(guest, disk)
            return there.status()

    async def swap_disk(self, guest: GuestSpec, old: Disk, new: Disk) -> GuestStatus:
        async with self._held(guest) as there:
            await there.swap(guest, old, new)
            return there.status()

    async def snapshot(self, guest: GuestSpec, image_id: str) -> Snapped:
        """Copy the root disk into one file, flat."""
        async with self._held(guest) as there:
            return await there.snapshot(guest, image_id)

    async def send_snapshot(self, guest: GuestSpec, image_id: str) -> Snapped:
        """Send the copy, and remove it."""
        there = self._find(guest.server_id)
        return await snapshots.send(self._host, there.copies, image_id)

    async def drop_snapshot(self, guest: GuestSpec, image_id: str) -> None:
        """Remove the copy."""
        there = self._guests.get(guest.server_id)
        if there is not None:
            async with there.lock:
                await there.drop_snapshot(image_id)

    async def quiesce(self, guest: GuestSpec) -> None:
        """Have the guest's file systems stand still, for a limited time."""
        self._find(guest.server_id)
        snapshots.require_agent(guest, properties.of(guest))
        await self._thaws.begin(guest.server_id, *agent(self._link, guest.server_id))

    async def unquiesce(self, guest: GuestSpec) -> None:
        """Let them go on."""
        _, thaw = agent(self._link, guest.server_id)
        await self._thaws.end(guest.server_id, thaw)

    async def attach_nic(self, guest: GuestSpec, nic: Nic) -> GuestStatus:
        """Plug a network card in; a guest that is off has it at its next start."""
        async with self._held(guest) as there:
            await there.plug_nic(guest, nic)
            return there.status()

    async def detach_nic(self, guest: GuestSpec, nic: Nic) -> GuestStatus:
        """Take a network card out; Conflict when the guest does not let go of it."""
        async with self._held(guest) as there:
            await there.unplug_nic(nic)
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
        live = await self._link.ask(lambda c: domains.look(c, server_id))
        if live is None or not live.active:
            raise Conflict("The server does not run; start it to reach its console.")
        described = await self._link.ask(lambda c: domains.description(c, server_id))
        if kind == "vnc":
            screen = described.find("devices/graphics[@type='vnc']")
            if screen is None:
                raise NotFound("The server has no graphics device, and so no VNC console.")
            address = settings.vnc.server_proxyclient_address
            return ConsoleTarget("vnc", address, xml.number(screen.get("port")))
        source = described.find("devices/serial[@type='tcp']/source")
        if source is None or there.record is None:
            raise NotFound("The server was started without a serial console; reboot it hard.")
        address = settings.serial_console.proxyclient_address
        return ConsoleTarget("serial", address, xml.number(source.get("service")))

    async def depart(
        self, guest: GuestSpec, move: str, *, seconds: int, offer: bool
    ) -> Offer | None:
        """Switch a guest off and put it aside."""
        there = self._guest(guest.server_id)
        async with there.lock:
            await there.look()
            return await there.depart(guest, move, seconds=seconds, offer=offer)

    async def arrive(
        self, guest: GuestSpec, move: str, offer: Offer | None, *, start: bool, paused: bool
    ) -> GuestStatus:
        """Make a guest from the disks of one that is aside."""
        there = self._guest(guest.server_id)
        async with there.lock:
            await there.look()
            await there.arrive(guest, move, offer, start=start, paused=paused)
            return there.status()

    async def come_back(
        self, guest: GuestSpec, move: str, *, start: bool, paused: bool
    ) -> GuestStatus:
        """A guest that was aside is in its place again."""
        there = self._guest(guest.server_id)
        async with there.lock:
            await there.look()
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
        """The counters libvirt keeps of a guest."""
        there = self._find(server_id)
        assert there.record is not None
        told = await self._link.call(lambda c: counters.ask(c, server_id))
        power = there.seen(await self._link.ask(lambda c: domains.look(c, server_id))).power
        kind = self._need().accel.virt_type
        return counters.diagnostics(there.record.started, power=power, kind=kind, told=told)

    async def cache_image(self, image: ImageRef) -> bool:
        """Fetch the base of an image, unless it is here."""
        return await self._cache.ensure(image)

    async def prune_images(self, *, unused_seconds: float) -> list[str]:
        """Remove base images no guest uses, unused for that long; their ids."""
        kept = [record for _, record in aside.everyone(self._directory)]
        used = records.images([*self._records(), *kept])
        return await self._cache.prune(used, unused_seconds=unused_seconds)

    async def interrupted(self) -> list[GuestSpec]:
        """Guests that are off only because the host was restarted."""
        return [
            guest.record.started
            for guest in self._guests.values()
            if guest.record is not None
            and guest.record.made
            and guest.record.running
            and not guest.alive
        ]

    async def leftovers(self, known: frozenset[str]) -> list[str]:
        found = await self._link.ask(lambda c: domains.ours(c, str(self._directory)))
        lines = [
            f"domain {name} of server {server_id}"
            for server_id, name in found.items()
            if server_id not in known
        ]
        lines += await asyncio.to_thread(records.unused_places, self._directory, known)
        lines += await asyncio.to_thread(aside.unused, self._directory, known)
        kept = (guest.record for guest in self._guests.values() if guest.server_id in known)
        taps = await asyncio.to_thread(vifs.taps)
        return lines + records.unused_taps(taps, [one for one in kept if one is not None])

    def _hear(self, event: Event) -> None:
        guest = self._guests.get(event.server_id)
        if guest is not None:
            guest.hear(event)

    async def _look_again(self) -> None:
        """libvirt was away: find out what became of the guests meanwhile."""
        for guest in list(self._guests.values()):
            await guest.refresh()

    def _guest(self, server_id: str) -> Guest:
        if not records.is_server_id(server_id):
            raise NotFound(f"{server_id} is no server id.")
        if server_id not in self._guests:
            self._guests[server_id] = Guest(server_id, self._need())
        return self._guests[server_id]

    def _find(self, server_id: str) -> Guest:
        guest = self._guests.get(server_id)
        if guest is None or not guest.made:
            raise NotFound(f"Host {self._host.name} has no guest for server {server_id}.")
        return guest

    async def _recall(self, server_id: str) -> None:
        """Have a guest that is wanted where it was."""
        there = self._guest(server_id)
        async with there.lock:
            await there.recall()

    @contextlib.asynccontextmanager
    async def _held(self, guest: GuestSpec) -> AsyncIterator[Guest]:
        """A guest that is here, for nobody else meanwhile, after a look at how it is."""
        there = self._find(guest.server_id)
        async with there.lock:
            await there.look()
            yield there

    def _records(self) -> list[records.Record]:
        return [guest.record for guest in self._guests.values() if guest.record is not None]

    def _need(self) -> Given:
        if self._given is None:
            raise Conflict("The driver was not started.")
        return self._given


def machine_type(words: tuple[str, ...]) -> str:
    """The machine type that ``[libvirt] hw_machine_type`` names for images that ask for none."""
    named = dict(word.partition("=")[::2] for word in words)
    return named.get(ARCHITECTURE, "pc")


def check_cpu(chosen: accel.Accel, mode: str | None, models: tuple[str, ...]) -> None:
    """Unavailable for a CPU that guests cannot have here."""
    if mode == "host-passthrough" and chosen.kind != "kvm":
        raise Unavailable(
            "[libvirt] cpu_mode is host-passthrough, but guests are emulated here; use "
            "host-model, maximum or custom."
        )
    if mode == "custom" and not models:
        raise Unavailable("[libvirt] cpu_mode is custom; name the model in cpu_models.")


def _check_running(guest: Guest) -> None:
    if guest.power not in (PowerState.RUNNING, PowerState.PAUSED):
        name = guest.record.spec.name if guest.record is not None else guest.server_id
        raise Conflict(f"The guest {name} is off; start it first.")


def _domain(connection: Any, server_id: str) -> Any:
    return connection.lookupByUUIDString(server_id)
