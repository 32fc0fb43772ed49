"""One guest: its directory, its process, its monitor, and what is done to them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from kilonova.base import sockets
from kilonova.base.errors import Conflict, Fault, NotFound, Unavailable
from kilonova.domain.guest import GuestSpec, GuestStatus, Nic, PowerState
from kilonova.domain.live import SENT_AWAY, LiveShape
from kilonova.domain.rescue import is_rescued
from kilonova.virt import ports, records, vifs
from kilonova.virt import snapshots as copies
from kilonova.virt.accel import Accel
from kilonova.virt.devices import Devices, DiskDevice, plan
from kilonova.virt.devices.machine import machine
from kilonova.virt.devices.nics import nics as nic_devices
from kilonova.virt.disks import Maker, end_rescue
from kilonova.virt.driver import Host
from kilonova.virt.home import Home
from kilonova.virt.qemu import agent, arrival, command, hotplug, sleep, usernet
from kilonova.virt.qemu.fileshares import FileShares, Mounter
from kilonova.virt.qemu.plugged import Plugged
from kilonova.virt.qemu.process import Process, spawn
from kilonova.virt.qemu.running import News, Running
from kilonova.virt.records import Record, Rescued

QEMU_LOG = "qemu.log"
START_TRIES = 5
QUIT_SECONDS = 10.0
ASK_AGAIN_SECONDS = 10.0

# QMP run states (QEMU's qapi/run-state.json) -> power states.
POWER = {
    "running": PowerState.RUNNING,
    "paused": PowerState.PAUSED,
    "prelaunch": PowerState.PAUSED,
    "debug": PowerState.PAUSED,
    "suspended": PowerState.RUNNING,
    "shutdown": PowerState.SHUTDOWN,
    "guest-panicked": PowerState.CRASHED,
    "internal-error": PowerState.CRASHED,
    "io-error": PowerState.PAUSED,
    "inmigrate": PowerState.PAUSED,
    "finish-migrate": PowerState.PAUSED,
    "postmigrate": PowerState.PAUSED,
}

log = logging.getLogger(__name__)


class Given(msgspec.Struct, frozen=True):
    """What all guests of a host share. ``taken``: forwarded ports in use by any of them."""

    host: Host
    accel: Accel
    maker: Maker
    taken: set[int]
    mounter: Mounter


class Guest(Plugged[Given], sleep.Sleeper[Given]):
    """One guest on this host. Methods are called one at a time (the driver holds the lock)."""

    def __init__(self, server_id: str, given: Given) -> None:
        self.server_id = server_id
        self.directory = given.host.state_dir / server_id
        self.record: Record | None = records.load(self.directory)
        self.lock = asyncio.Lock()
        self._given = given
        self._settings = given.host.settings
        self._home = Home(self.directory, self._settings.qemu.user)
        self._shares = FileShares(given.host.state_dir, self._home, self._settings, given.mounter)
        self._qemu = Running(
            self.directory / command.MONITOR,
            self._on_news,
            seconds=self._settings.qemu.start_seconds,
        )
        self._metadata: usernet.MetadataSocket | None = None
        self._quiet = 0
        self._tasks: set[asyncio.Task[None]] = set()

    # What it is.

    @property
    def power(self) -> PowerState:
        """As last heard from QEMU."""
        if self.record is not None and self.record.asleep is not None:
            return PowerState.SUSPENDED
        if self._qemu.alive:
            return POWER.get(self._qemu.run, PowerState.NOSTATE)
        if self.record is not None and self.record.ended:
            return PowerState.CRASHED
        return PowerState.SHUTDOWN

    @property
    def alive(self) -> bool:
        """Whether there is a process."""
        return self._qemu.alive

    @property
    def home(self) -> Home:
        """Its directory."""
        return self._home

    @property
    def has_agent(self) -> bool:
        """Whether it was started with a channel to an agent inside it."""
        record = self.record
        default = self._settings.qemu.machine_type
        return record is not None and machine(record.started, default_type=default).guest_agent

    def status(self, detail: str = "") -> GuestStatus:
        """As the driver tells it; ``detail`` holds forwarded ports (``ssh=127.0.0.1:22001``)."""
        record = self.record
        words = [detail] if detail else []
        if self.alive and self._qemu.run in ("finish-migrate", "postmigrate"):
            words.append(SENT_AWAY)
        if record is not None:
            words += [record.ended] if record.ended and not detail else []
            if self.alive:
                words += [f"ssh=127.0.0.1:{port}" for port in record.ports.values()]
        name = record.spec.name if record is not None else ""
        return GuestStatus(
            self.server_id, name, self.power, pid=self._qemu.pid, detail=" ".join(words)
        )

    @property
    def qemu(self) -> Running:
        """Its process and monitor."""
        return self._qemu

    # Taking up and letting go.

    async def take_up(self, pid: int | None) -> bool:
        """Connect to a process that lives on; True when the guest is not as it was left."""
        record = self.record
        process = Process.hold(pid, self.server_id) if pid is not None else None
        if record is None or not record.made or record.asleep is not None:
            # A suspended guest's process is one that had saved all, or that was not let run yet.
            if process is not None:
                await process.end(seconds=0)
            return False
        if process is None:
            await self._shares.down()
            if record.running:
                # A guest that ended with its host is no crash; it may be started again.
                gone = record.boot == records.boot_id()
                self._note(ended="the process is gone" if gone else "", running=not gone)
            return record.running
        with self.busy():
            self._given.taken.update(record.ports.values())
            await self._start_metadata(record.started)
            try:
                await self._qemu.attach(process)
            except Unavailable as fault:
                log.error("Guest %s is not taken up yet: %s", record.spec.name, fault.message)
                self._qemu.attach_later(process)
            self._note(running=True, boot=records.boot_id())
            if self.power in (PowerState.SHUTDOWN, PowerState.CRASHED):
                await self.cut()
                return True
        return False

    async def let_go(self) -> None:
        """Disconnect; the guest goes on."""
        self._qemu.stop_following()
        self._shares.let_go()
        await self._detach()
        for task in self._tasks:
            task.cancel()

    # What is done to it.

    async def make(self, spec: GuestSpec, *, paused: bool) -> None:
        """Disks, cards and process; what a former try left is thrown away."""
        devices = plan(spec, default_machine=self._settings.qemu.machine_type)
        with self.busy():
            await self.remove(spec)
            self._home.make()
            self._save(Record(spec=spec, boot=records.boot_id()))
            await self._plug(spec)
            disks = await self._given.maker.make_all(self.directory, spec, devices.disks)
            self._home.hand_over(path for file in disks.values() for path in file.owned)
            await self._start(devices, Record(spec=spec, disks=disks), paused=paused)

    async def receive(self, spec: GuestSpec, shape: LiveShape) -> None:
        """Make the like of a guest that runs elsewhere, which waits for its memory."""
        devices = arrival.devices(
            plan(spec, default_machine=self._settings.qemu.machine_type), shape
        )
        with self.busy():
            await self.remove(spec)
            self._home.make()
            fresh = Record(spec=spec, boot=records.boot_id(), arriving=True)
            self._save(fresh)
            await self._plug(spec)
            disks = await arrival.disks(self._given.maker, self.directory, spec, devices, shape)
            self._home.hand_over(path for file in disks.values() for path in file.owned)
            fresh = msgspec.structs.replace(fresh, disks=disks)
            await self._start(devices, fresh, paused=True, shape=shape)

    def sends(self, mark: str) -> None:
        """Its memory is on its way to whom that mark stands for ('': to nobody)."""
        if self.record is not None and self.record.sending != mark:
            records.save(self.directory, self._note(sending=mark), durable=True)

    def arrived(self, spec: GuestSpec) -> None:
        """It is this host's guest from now on."""
        done = self._note(spec=spec, arriving=False, running=True, boot=records.boot_id())
        records.save(self.directory, done, durable=True)

    async def start(self, spec: GuestSpec, *, paused: bool = False) -> None:
        """Start a guest that is off, from the spec as it is now, with the disks it has.

        A spec with a rescue disk rescues it; another one ends the rescue.
        """
        record = self.record
        if record is None or not record.made:
            raise NotFound(f"Host {self._given.host.name} has no disks of {spec.name}.")
        if is_rescued(spec):
            await self.rescue(spec)
            return
        devices = plan(spec, default_machine=self._settings.qemu.machine_type)
        with self.busy():
            await self._end_process(seconds=QUIT_SECONDS)
            maker = self._given.maker
            disks = await maker.renew(self.directory, spec, devices.disks, record.disks)
            self._home.hand_over(path for file in disks.values() for path in file.owned)
            await self._unplug_others(record.spec, spec)
            await self._plug(spec)
            end_rescue(self.directory)
            fresh = Record(spec=spec, disks=disks, ports=record.ports)
            await self._start(devices, fresh, paused=paused)

    async def rebuild(self, spec: GuestSpec, *, paused: bool) -> None:
        """Local disks anew, then start; it counts as not made until they are complete."""
        devices = plan(spec, default_machine=self._settings.qemu.machine_type)
        before = self.record or Record(spec=spec)
        with self.busy():
            await self._end_process(seconds=QUIT_SECONDS)
            self._home.make()
            # What the host is connected to is known until it is let go of or taken over.
            self._save(Record(spec=spec, disks=before.disks, ports=before.ports))
            await self._given.maker.begin_anew(self.directory)
            await self._unplug_others(before.spec, spec)
            await self._plug(spec)
            disks = await self._given.maker.make_all(self.directory, spec, devices.disks)
            self._home.hand_over(path for file in disks.values() for path in file.owned)
            fresh = Record(spec=spec, disks=disks, ports=before.ports)
            await self._start(devices, fresh, paused=paused)

    async def rescue(self, spec: GuestSpec) -> None:
        """Start from the rescue disk of the spec, which is made anew."""
        record = self.record
        if record is None or not record.made:
            raise NotFound(f"Host {self._given.host.name} has no disks of {spec.name}.")
        kind = self._settings.qemu.machine_type
        devices = plan(spec, default_machine=kind)
        own = {disk.disk.id: disk.device for disk in plan(record.spec, default_machine=kind).disks}
        have = {key: record.disks[name] for key, name in own.items() if name in record.disks}
        with self.busy():
            await self._end_process(seconds=QUIT_SECONDS)
            try:
                maker = self._given.maker
                disks = await maker.for_rescue(self.directory, spec, devices.disks, have)
                self._home.hand_over(path for file in disks.values() for path in file.owned)
                await self._plug(spec)
                rescued = Rescued(spec, disks)
                wanted = msgspec.structs.replace(record, rescue=rescued, asleep=None)
                await self._start(devices, wanted, paused=False)
            except BaseException:
                await self._end_process(seconds=0)
                end_rescue(self.directory)
                self._note(rescue=None, running=False, ended="")
                raise

    async def resume(self) -> None:
        """Let the CPUs run; Conflict while the guest runs elsewhere."""
        if self.record is not None and self.record.arriving:
            raise Conflict(f"The guest {self.record.spec.name} waits for its memory.")
        if self.power == PowerState.PAUSED:
            with self.busy():
                await self._qemu.execute("cont")
                self._qemu.run = "running"

    async def pause(self) -> None:
        """Let the CPUs stand still."""
        if self.power == PowerState.RUNNING:
            with self.busy():
                await self._qemu.execute("stop")
                self._qemu.run = "paused"

    async def set_password(self, user: str, password: str) -> None:
        """By the agent inside the guest; see ``agent.set_password``."""
        await agent.set_password(self.directory / command.AGENT, user, password)

    async def plug_nic(self, spec: GuestSpec, nic: Nic) -> None:
        """One card more, at once if the guest runs, else at its next start."""
        assert self.record is not None
        others = tuple(n for n in self.record.spec.nics if n.port_id != nic.port_id)
        wanted = msgspec.structs.replace(self.record.spec, nics=(*others, nic))
        # Remembered first: what a broken-off try made is found and removed with the guest.
        self._note(spec=wanted)
        if not self.alive:
            return
        with self.busy():
            await self._given.host.vifs.plug(nic)
            alone = msgspec.structs.replace(spec, nics=(nic,))
            if nic.port_id not in self.record.ports:
                chosen = self._choose_ports(Record(spec=alone))
                self._note(ports={**self.record.ports, **chosen})
            (device,) = nic_devices(alone)
            await hotplug.plug_nic(self._qemu, device, port=self.record.ports.get(nic.port_id, 0))

    async def unplug_nic(self, nic: Nic) -> None:
        """One card less; Conflict when the guest does not let go of it."""
        assert self.record is not None
        with self.busy():
            if self.alive:
                await hotplug.unplug_nic(self._qemu, nic.mac)
            await self._given.host.vifs.unplug(nic)
            spec, forwarded = self.record.spec, dict(self.record.ports)
            self._given.taken.discard(forwarded.pop(nic.port_id, 0))
            left = tuple(n for n in spec.nics if n.port_id != nic.port_id)
            self._note(spec=msgspec.structs.replace(spec, nics=left), ports=forwarded)

    def devices_of(self, spec: GuestSpec) -> tuple[DiskDevice, ...]:
        """The guest's disks with all decided."""
        return plan(spec, default_machine=self._settings.qemu.machine_type).disks

    async def shut_down(self, seconds: float) -> bool:
        """Ask the guest to switch itself off; True when it did, and its process is gone then."""
        if self.power != PowerState.RUNNING:
            return False
        with self.busy():
            end = asyncio.get_running_loop().time() + seconds
            while (left := end - asyncio.get_running_loop().time()) > 0 and self.alive:
                try:
                    await self._qemu.execute("system_powerdown")
                except (Unavailable, Conflict):
                    break
                try:
                    async with asyncio.timeout(min(left, ASK_AGAIN_SECONDS)):
                        await self._qemu.off.wait()
                    break
                except TimeoutError:
                    continue
            if not self._qemu.off.is_set():
                return False
            await self._end_process(seconds=QUIT_SECONDS)
            self._note(running=False, ended="")
            return True

    async def cut(self) -> None:
        """Take the power away."""
        with self.busy():
            await self._end_process(seconds=QUIT_SECONDS)
            if self.record is not None:
                self._is_off()

    async def remove(self, spec: GuestSpec, *, keep_disks: bool = False) -> None:
        """Process, cards and (unless kept) disks; nothing there is success."""
        with self.busy():
            await self._end_process(seconds=QUIT_SECONDS if keep_disks else 0)
            known = self.record.spec.nics if self.record is not None else ()
            for nic in {nic.port_id: nic for nic in (*spec.nics, *known)}.values():
                await self._given.host.vifs.unplug(nic)
            if self.record is not None:
                self._given.taken.difference_update(self.record.ports.values())
            if keep_disks:
                if self.record is not None:
                    self._is_off()
                return
            for disk in self.record.spec.disks if self.record is not None else ():
                await self._given.maker.release(disk, self._file(disk))
            await asyncio.to_thread(self._home.remove)
            await asyncio.to_thread(copies.clear, self._settings, self.directory)
            self.record = None

    async def ask(self, question: str, arguments: dict[str, Any] | None = None) -> Any:
        """The answer of QEMU to a command."""
        return await self._qemu.execute(question, arguments)

    # Starting.

    async def _start(
        self, devices: Devices, record: Record, *, paused: bool, shape: LiveShape | None = None
    ) -> None:
        for attempt in range(1, START_TRIES + 1):
            chosen = self._choose_ports(record)
            self._save(msgspec.structs.replace(record, made=True, ports=chosen, boot=""))
            await self._start_metadata(record.started)
            try:
                await self._start_once(devices, record, chosen, shape)
                break
            except _PortTaken:
                self._given.taken.difference_update(chosen.values())
                if attempt == START_TRIES:
                    raise Unavailable("No port of the host could be forwarded.") from None
        self._home.announce(chosen.values())
        if not paused:
            await self.resume()
        await self._keep_running()

    async def _start_once(
        self,
        devices: Devices,
        record: Record,
        forwarded: dict[str, int],
        shape: LiveShape | None,
    ) -> None:
        assert self.record is not None
        with contextlib.ExitStack() as opened:
            fds = self._open(devices, opened)
            fds |= await self._shares.up(self.record.started, opened)
            parts = command.Parts(
                directory=self.directory,
                guest=self.record.started,
                devices=devices,
                disks=record.attached,
                accel=self._given.accel,
                fds=fds,
                ports=forwarded,
                metadata=self._given.host.metadata is not None,
                asleep=record.asleep,
                names=None if shape is None else shape.places,
            )
            argv = command.build(parts, self._settings)
            if shape is not None:
                argv = arrival.fit(argv, devices, shape)
            said = self.directory / QEMU_LOG
            said.unlink(missing_ok=True)
            pid = spawn(argv, log=said, fds=tuple(fds.values()), user=self._home.user)
        process = Process(pid, os.pidfd_open(pid))
        try:
            await self._qemu.attach(process)
            if record.asleep is not None:
                await self._take_memory()
        except BaseException as error:
            await self._end_process(seconds=0)
            if isinstance(error, Fault):
                self._explain(said)
            raise

    def _open(self, devices: Devices, opened: contextlib.ExitStack) -> dict[str, int]:
        """Descriptors for QEMU: taps, and sockets that listen before QEMU is even started."""
        names = {"monitor": command.MONITOR}
        if devices.machine.guest_agent:
            names["agent"] = command.AGENT
        if not self._settings.serial_console.enabled:
            names["serial"] = command.SERIAL
        fds = {}
        for what, name in names.items():
            fds[what] = opened.enter_context(sockets.listen(self.directory / name)).fileno()
        for nic in devices.nics:
            if nic.nic.vif_type != "user":
                fd = vifs.open_tap(nic.tap)
                opened.callback(os.close, fd)
                fds[nic.id] = fd
        return fds

    def _choose_ports(self, record: Record) -> dict[str, int]:
        chosen = {}
        for nic in record.spec.nics:
            if nic.vif_type == "user":
                wish = record.ports.get(nic.port_id, 0)
                self._given.taken.discard(wish)
                span = self._settings.qemu.ssh_port_range
                chosen[nic.port_id] = ports.choose(nic.port_id, span, self._given.taken, wish)
                self._given.taken.add(chosen[nic.port_id])
        return chosen

    def _explain(self, said: Path) -> None:
        """Raise what QEMU's last words mean."""
        lines = said.read_text(errors="replace").strip().splitlines() if said.exists() else []
        last = lines[-1] if lines else "it said nothing"
        log.error("QEMU did not start %s: %s", self.server_id, " / ".join(lines[-3:]))
        if any("host forwarding" in line for line in lines):
            raise _PortTaken
        text = last.partition(": ")[2] or last
        raise Unavailable(
            f"QEMU could not start the guest: {text.replace(str(self._given.host.state_dir), '')}"
        ) from None

    async def _unplug_others(self, before: GuestSpec, now: GuestSpec) -> None:
        kept = {nic.port_id for nic in now.nics}
        for nic in before.nics:
            if nic.port_id not in kept:
                await self._given.host.vifs.unplug(nic)

    async def _plug(self, spec: GuestSpec) -> None:
        for nic in spec.nics:
            await self._given.host.vifs.plug(nic)

    async def _start_metadata(self, spec: GuestSpec) -> None:
        serve = self._given.host.metadata
        if serve is None or not any(nic.vif_type == "user" for nic in spec.nics):
            return
        await self._stop_metadata()
        path = self.directory / command.METADATA
        self._metadata = usernet.MetadataSocket(path, spec, serve)
        await self._metadata.start()
        self._home.own(path)

    # Ending, and what happens by itself.

    async def _end_process(self, *, seconds: float) -> None:
        await self._qemu.end(seconds=seconds)
        await self._shares.down()
        await self._stop_metadata()

    async def _detach(self) -> None:
        await self._qemu.detach()
        await self._stop_metadata()

    async def _stop_metadata(self) -> None:
        metadata, self._metadata = self._metadata, None
        if metadata is not None:
            await metadata.stop()

    def _on_news(self, news: News, detail: str) -> None:
        if self._quiet or self.record is None:
            return
        work = {News.OFF: self._went_off, News.GONE: self._is_gone}.get(news, self._tell)
        task = asyncio.create_task(work(detail))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, detail: str) -> None:
        await self._given.host.on_event(self.status(detail))

    async def _went_off(self, reason: str) -> None:
        """The guest switched itself off: tell it first, then end the empty process."""
        await self._tell(reason)
        async with self.lock:
            if self.alive and self.power == PowerState.SHUTDOWN:
                await self.cut()

    async def _is_gone(self, how: str) -> None:
        """The process ended although nobody told it to."""
        async with self.lock:
            if self.alive or self.record is None or not self.record.running:
                return
            log.warning("The process of guest %s ended: %s", self.record.spec.name, how)
            await self._detach()
            await self._shares.down()
            self._note(running=False, ended=f"the process ended ({how or 'cause unknown'})")
        await self._tell("")

    # What is remembered.

    def _save(self, record: Record) -> None:
        records.save(self.directory, record)
        self.record = record

    def _note(self, **changes: Any) -> Record:
        assert self.record is not None
        changed = msgspec.structs.replace(self.record, **changes)
        self._save(changed)
        return changed

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """While we do something ourselves, what it causes is no news."""
        self._quiet += 1
        try:
            yield
        finally:
            self._quiet -= 1


class _PortTaken(Exception):
    """Somebody was faster with a forwarded port."""
