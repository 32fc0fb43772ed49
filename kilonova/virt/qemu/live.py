"""The plain QEMU driver's part in moving running guests."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from kilonova.base.errors import Conflict, Fault, Unavailable
from kilonova.domain.guest import GuestSpec, GuestStatus, PowerState
from kilonova.domain.live import LiveDisk, LiveProgress, LiveShape, LiveTarget
from kilonova.virt import ports
from kilonova.virt.devices import Devices, plan
from kilonova.virt.driver import Host
from kilonova.virt.live import must_copy, store_id
from kilonova.virt.qemu import arrival, departure, hotplug, slots
from kilonova.virt.qemu.command import node_name
from kilonova.virt.qemu.departure import Departure
from kilonova.virt.qemu.guest import Given, Guest
from kilonova.virt.qemu.running import Running

LOAD_SECONDS = 60.0
PORT_TRIES = 8
GIB = 1 << 30


class QemuMoves:
    """Methods of ``kilonova.virt.driver.MovesLive``."""

    _host: Host

    def __init__(self) -> None:
        self._departures: dict[str, Departure] = {}

    async def live_check(self, guest: GuestSpec) -> LiveShape:
        """Disks, machine and the places of all devices, as QEMU itself tells them."""
        there = self._find(guest.server_id)
        if there.power not in (PowerState.RUNNING, PowerState.PAUSED) or there.record is None:
            raise Conflict(f"The guest {guest.name} is off; it cannot be moved while it runs.")
        devices = self._devices(there.record.spec)
        machine = await there.ask("qom-get", {"path": "/machine", "property": "type"})
        cards = {}
        for nic in there.record.spec.nics:
            name = await hotplug.find_nic(there.qemu, nic.mac)
            if name is not None:
                cards[nic.port_id] = name
        return LiveShape(
            store=await asyncio.to_thread(store_id, self._host.state_dir),
            disks=await _disks(there, devices),
            machine=str(machine).removesuffix("-machine"),
            cpu=self._need().accel.cpu,
            places=await _places(there.qemu),
            cards=cards,
        )

    async def live_suits(
        self, guest: GuestSpec, shape: LiveShape, *, block: bool | None, over_commit: bool
    ) -> None:
        """The same CPU, a directory of guests of its own, and room in that."""
        own = self._need().accel
        if shape.cpu != own.cpu and "host" in (shape.cpu, own.cpu):
            raise Conflict(
                f"Migration pre-check error: the guest's CPU is {shape.cpu}, host "
                f"{self._host.name} gives {own.cpu}."
            )
        store = await asyncio.to_thread(store_id, self._host.state_dir)
        if shape.disks and not must_copy(shape, store, block=block):
            raise Conflict(
                "Migration pre-check error: guests cannot be moved between hosts that share the "
                "directory of their guests; use block migration between directories of their own."
            )
        need = sum(disk.used if over_commit else disk.size for disk in shape.disks.values())
        free = (await asyncio.to_thread(shutil.disk_usage, self._host.state_dir)).free
        if need > free:
            raise Conflict(
                f"Migration pre-check error: the disks of {guest.name} need {need / GIB:.1f} GiB, "
                f"host {self._host.name} has {free / GIB:.1f} GiB."
            )

    async def live_prepare(
        self, guest: GuestSpec, shape: LiveShape, *, block: bool | None
    ) -> LiveTarget:
        """QEMU with the same devices, which waits for disks and memory on this host's address."""
        there = self._guest(guest.server_id)
        async with there.lock:
            await there.receive(guest, shape)
            with there.busy():
                return await self._listen(there, shape)

    async def live_move(self, guest: GuestSpec, target: LiveTarget) -> GuestStatus:
        """Send it; a failure lets it go on here."""
        there = self._find(guest.server_id)
        async with there.lock:
            record = there.record
            if record is None or not there.alive:
                raise Conflict(f"The guest {guest.name} is off; it cannot be moved while it runs.")
            was_running = there.power == PowerState.RUNNING
            moving = Departure(
                there.qemu,
                target,
                self._devices(record.spec).disks,
                self._host.settings,
                gib=guest.flavor.memory_mb / 1024 + _local_gib(there, target.disks),
                begun=bool(target.mark) and record.sending == target.mark,
                begins=functools.partial(there.sends, target.mark),
            )
            self._departures[guest.server_id] = moving
            with there.busy():
                try:
                    await moving.run()
                except Fault:
                    with contextlib.suppress(Fault, TimeoutError):
                        await departure.give_up(there.qemu, running=was_running)
                        there.sends("")
                    raise
                finally:
                    self._departures.pop(guest.server_id, None)
            return there.status()

    async def live_arrive(self, guest: GuestSpec, *, running: bool) -> GuestStatus:
        """Close the way in and let the CPUs run; Conflict when the memory did not come."""
        there = self._find(guest.server_id)
        async with there.lock:
            if there.record is not None and there.record.arriving:
                with there.busy():
                    await _loaded(there)
                    await _close_disks(there.qemu)
                    there.arrived(guest)
                    if running:
                        await there.resume()
            return there.status()

    async def live_stay(self, guest: GuestSpec, *, running: bool) -> GuestStatus:
        """Take back whatever was sent."""
        there = self._find(guest.server_id)
        async with there.lock:
            if there.alive:
                with there.busy():
                    await departure.give_up(there.qemu, running=running)
                    there.sends("")
            return there.status()

    async def live_force(self, server_id: str) -> None:
        """Let the guest stand still for the rest of it."""
        await self._under_way(server_id).force()

    async def live_progress(self, server_id: str) -> LiveProgress:
        """As QEMU counts."""
        return await self._under_way(server_id).progress()

    def _under_way(self, server_id: str) -> Departure:
        if server_id not in self._departures:
            raise Conflict(f"No guest of server {server_id} is being moved from here.")
        return self._departures[server_id]

    def _devices(self, spec: GuestSpec) -> Devices:
        return plan(spec, default_machine=self._host.settings.qemu.machine_type)

    async def _listen(self, there: Guest, shape: LiveShape) -> LiveTarget:
        settings, qemu = self._host.settings, there.qemu
        address = settings.libvirt.live_migration_inbound_addr or settings.default.my_ip
        tls = settings.libvirt.live_migration_with_native_tls
        await departure.capabilities(qemu, settings, source=False)
        if tls:
            await departure.credentials(qemu, settings, "server")
            wanted = {"tls-creds": departure.TLS}
            await qemu.execute("migrate-set-parameters", wanted)
        mark = f"{self._host.name}/{there.status().pid}"
        target = LiveTarget(address=address, name=self._host.name, mark=mark)
        if shape.disks:
            target = await self._listen_for_disks(there, shape, target, tls=tls)

        async def listen(port: int) -> None:
            place = msgspec.structs.replace(target, port=port)
            await qemu.execute("migrate-incoming", {"uri": departure.uri(place)})

        return msgspec.structs.replace(target, port=await self._on_port(there, address, listen))

    async def _listen_for_disks(
        self, there: Guest, shape: LiveShape, target: LiveTarget, *, tls: bool
    ) -> LiveTarget:
        qemu, record = there.qemu, there.record
        assert record is not None
        more: dict[str, Any] = {"tls-creds": departure.TLS} if tls else {}

        async def listen(port: int) -> None:
            data = {"host": target.address, "port": str(port)}
            server = {"addr": {"type": "inet", "data": data}, "max-connections": 0, **more}
            await qemu.execute("nbd-server-start", server)

        port = await self._on_port(there, target.address, listen)
        coming = [disk for disk in self._devices(record.spec).disks if disk.device in shape.disks]
        for disk in coming:
            export = {
                "type": "nbd",
                "id": f"live-{disk.device}",
                "node-name": arrival.export_node(disk),
                "name": disk.device,
                "writable": True,
            }
            await qemu.execute("block-export-add", export)
        whole = tuple(disk.device for disk in coming if not record.disks[disk.device].base)
        names = tuple(disk.device for disk in coming)
        return msgspec.structs.replace(target, disk_port=port, disks=names, whole=whole)

    async def _on_port(self, there: Guest, address: str, listen: Any) -> int:
        """The port that worked; somebody else may be faster with one that was free."""
        taken: set[int] = set()
        for _ in range(PORT_TRIES):
            span = self._host.settings.qemu.migration_port_range
            port = ports.choose(there.server_id, span, taken, address=address)
            try:
                await listen(port)
            except Unavailable:
                taken.add(port)
            else:
                return port
        raise Unavailable(f"Host {self._host.name} could not listen for the guest on {address}.")

    def _guest(self, server_id: str) -> Guest:
        raise AssertionError

    def _find(self, server_id: str) -> Guest:
        raise AssertionError

    def _need(self) -> Given:
        raise AssertionError


async def _disks(there: Guest, devices: Devices) -> dict[str, LiveDisk]:
    """The disks that no other host has."""
    nodes = {
        node["node-name"]: node
        for node in await there.ask("query-named-block-nodes", {"flat": True})
    }
    found = {}
    assert there.record is not None
    for disk in devices.disks:
        file = there.record.disks.get(disk.device)
        node = nodes.get(node_name(disk.disk, disk.device))
        if disk.disk.source == "volume" or file is None or node is None:
            continue
        used = (await asyncio.to_thread(Path(file.path).stat)).st_blocks * 512
        found[disk.device] = LiveDisk(node["image"]["virtual-size"], used, bool(file.base))
    return found


def _local_gib(there: Guest, names: Iterable[str]) -> float:
    assert there.record is not None
    files = [there.record.disks[name].path for name in names if name in there.record.disks]
    return sum(Path(file).stat().st_blocks * 512 for file in files) / GIB


async def _places(qemu: Running) -> dict[str, tuple[str, str]]:
    """Device → bus and address, of all that has a name."""
    found: dict[str, tuple[str, str]] = {}
    for bus in await qemu.execute("query-pci"):
        _walk(bus["devices"], "", found)
    root = "pcie.0" if any(name.startswith("spare") for name in found) else "pci.0"
    places = {name: (bus or root, address) for name, (bus, address) in found.items()}
    for item in await qemu.execute("qom-list", {"path": slots.PERIPHERALS}):
        if str(item["type"]).startswith("child<scsi-"):
            where = {"path": f"{slots.PERIPHERALS}/{item['name']}", "property": "scsi-id"}
            places[item["name"]] = ("scsi0.0", str(await qemu.execute("qom-get", where)))
    return places


def _walk(devices: list[dict[str, Any]], bus: str, found: dict[str, tuple[str, str]]) -> None:
    for device in devices:
        name = device["qdev_id"]
        if name:
            found[name] = (bus, f"{device['slot']:#x}.{device['function']:#x}")
        _walk(device.get("pci_bridge", {}).get("devices", []), name, found)


async def _loaded(there: Guest) -> None:
    """Wait until QEMU has taken the memory in."""
    end = asyncio.get_running_loop().time() + LOAD_SECONDS
    while there.alive and asyncio.get_running_loop().time() < end:
        run = (await there.ask("query-status"))["status"]
        if run != "inmigrate":
            there.qemu.run = "paused" if run in ("prelaunch", "running") else run
            return
        await asyncio.sleep(departure.LOOK_SECONDS / 2)
    raise Conflict("The guest's memory did not come.")


async def _close_disks(qemu: Running) -> None:
    for export in await qemu.execute("query-block-exports"):
        if export["id"].startswith("live-"):
            how = {"id": export["id"], "mode": "hard"}
            with contextlib.suppress(Unavailable):
                await qemu.execute("block-export-del", how)
    with contextlib.suppress(Unavailable):
        await qemu.execute("nbd-server-stop")
