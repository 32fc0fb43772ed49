"""Sending a running guest to another host over QMP: disks, then memory, then it stands still."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from kilonova.base.errors import Conflict, Timeout, Unavailable
from kilonova.config.settings import Settings
from kilonova.domain.live import LiveProgress, LiveTarget
from kilonova.virt.devices import DiskDevice
from kilonova.virt.qemu.command import node_name
from kilonova.virt.qemu.running import Running

MIB, GIB = 1 << 20, 1 << 30
LOOK_SECONDS = 0.1
END_SECONDS = 60.0
STARTING = ("setup", "wait-unplug", "active", "device", "postcopy-active")
READY = "pre-switchover"
OVER = ("completed", "failed", "cancelled", "none")
TLS = "live-tls"


class Departure:
    """A move under way. ``gib`` is the guest's size, by which its time is measured.

    ``begun``: its memory is on its way already; ``begins`` is told when it is.
    """

    def __init__(
        self,
        qemu: Running,
        target: LiveTarget,
        disks: Sequence[DiskDevice],
        settings: Settings,
        *,
        gib: float,
        begun: bool,
        begins: Callable[[], None],
    ) -> None:
        self._begun = begun
        self._begins = begins
        self._qemu = qemu
        self._target = target
        self._disks = [disk for disk in disks if disk.device in target.disks]
        self._settings = settings
        self._gib = max(2.0, gib)
        self._forced = False

    async def run(self) -> None:
        """Send everything; returns when the other host has it all and the guest stands still.

        What a former run began is taken up. Conflict, Unavailable or Timeout when it cannot be
        done: the guest goes on here, ``give_up`` clears away what is left of the try.
        """
        limit = self._settings.libvirt.live_migration_completion_timeout * self._gib
        began = asyncio.get_running_loop().time()
        if not self._begun:
            # QEMU remembers how the last try ended, and perhaps has something left of it.
            await end_jobs(self._qemu, force=True)
            await self._copy_disks()
        allowed = 0
        while True:
            spent = asyncio.get_running_loop().time() - began
            if self._qemu.run == "shutdown":
                raise Conflict("The guest switched itself off while it was moved.")
            if limit and spent > limit and not self._forced:
                await self._late(limit)
            if not await self._disks_ready():
                await asyncio.sleep(LOOK_SECONDS)
                continue
            if not self._begun:
                await self._start_memory()
                self._begun = True
                self._begins()
            state = await status(self._qemu)
            if state == "completed":
                return
            await self._step(state)
            if state in STARTING:
                allowed = await self._allow(spent, allowed)
            await asyncio.sleep(LOOK_SECONDS)

    async def _step(self, state: str) -> None:
        if state == READY:
            await self._switch()
        elif state in OVER:
            info = await self._qemu.execute("query-migrate")
            raise Unavailable(f"The guest could not be sent: {info.get('error-desc', state)}.")

    async def force(self) -> None:
        """Let the guest stand still, so that it changes nothing any more."""
        self._forced = True
        await self._qemu.execute("stop")

    async def progress(self) -> LiveProgress:
        """Counters of now."""
        ram = (await self._qemu.execute("query-migrate")).get("ram", {})
        jobs = await _jobs(self._qemu)
        total = sum(job["len"] for job in jobs)
        done = sum(job["offset"] for job in jobs)
        return LiveProgress(
            ram.get("total", 0),
            ram.get("transferred", 0),
            ram.get("remaining", 0),
            total,
            done,
            total - done,
        )

    async def _late(self, limit: float) -> None:
        if self._settings.libvirt.live_migration_timeout_action == "force_complete":
            await self.force()
            return
        raise Timeout(f"The guest could not be moved within {limit:g} s.")

    async def _copy_disks(self) -> None:
        if not self._disks:
            return
        known = {node["node-name"] for node in await _nodes(self._qemu)}
        present = {job["device"] for job in await _jobs(self._qemu)}
        await self._credentials()
        speed = self._settings.libvirt.live_migration_bandwidth * MIB
        for disk in self._disks:
            node = f"to-{disk.device}"
            if node not in known:
                await self._qemu.execute("blockdev-add", self._remote(disk, node))
            if node in present:
                continue
            job: dict[str, Any] = {
                "job-id": node,
                "device": node_name(disk.disk, disk.device),
                "target": node,
                "sync": "full" if disk.device in self._target.whole else "top",
                "copy-mode": "write-blocking",
                "auto-dismiss": False,
            }
            await self._qemu.execute("blockdev-mirror", job | ({"speed": speed} if speed else {}))

    def _remote(self, disk: DiskDevice, node: str) -> dict[str, Any]:
        server = {
            "type": "inet",
            "host": self._target.address,
            "port": str(self._target.disk_port),
        }
        made: dict[str, Any] = {
            "node-name": node,
            "driver": "nbd",
            "server": server,
            "export": disk.device,
            "discard": "unmap",
        }
        if self._settings.libvirt.live_migration_with_native_tls:
            made |= {"tls-creds": TLS, "tls-hostname": self._target.name}
        return made

    async def _disks_ready(self) -> bool:
        """Whether every disk is the same on both sides; Unavailable when one cannot become it."""
        for job in await self._qemu.execute("query-jobs"):
            if job["id"].startswith("to-"):
                if job.get("error") or job["status"] in ("aborting", "concluded", "null"):
                    why = job.get("error", "the connection was lost")
                    raise Unavailable(f"A disk could not be copied: {why}.")
                if job["status"] not in ("ready", "standby"):
                    return False
        return True

    async def _credentials(self) -> None:
        if self._settings.libvirt.live_migration_with_native_tls:
            await credentials(self._qemu, self._settings, "client")

    async def _start_memory(self) -> None:
        libvirt = self._settings.libvirt
        await self._credentials()
        await capabilities(self._qemu, self._settings, source=True)
        wanted: dict[str, Any] = {"downtime-limit": self._downtime(0)}
        if libvirt.live_migration_bandwidth:
            wanted["max-bandwidth"] = libvirt.live_migration_bandwidth * MIB
        if libvirt.live_migration_with_native_tls:
            wanted |= {"tls-creds": TLS, "tls-hostname": self._target.name}
        await self._qemu.execute("migrate-set-parameters", wanted)
        await self._qemu.execute("migrate", {"uri": uri(self._target)})

    def _downtime(self, step: int) -> int:
        """Milliseconds the guest may stand still in that step."""
        libvirt = self._settings.libvirt
        most, steps = libvirt.live_migration_downtime, libvirt.live_migration_downtime_steps
        return min(most, most * (step + 1) // steps)

    async def _allow(self, spent: float, before: int) -> int:
        libvirt = self._settings.libvirt
        delay = libvirt.live_migration_downtime_delay * self._gib
        step = min(int(spent / delay), libvirt.live_migration_downtime_steps - 1)
        if step > before:
            limit = {"downtime-limit": self._downtime(step)}
            await self._qemu.execute("migrate-set-parameters", limit)
        return step

    async def _switch(self) -> None:
        """The CPUs stand still: the disks are let go as they are, the rest of the memory goes."""
        await end_jobs(self._qemu, force=False)
        await self._qemu.execute("migrate-continue", {"state": READY})


async def status(qemu: Running) -> str:
    """Where QEMU is with sending memory."""
    found: str = (await qemu.execute("query-migrate")).get("status", "none")
    return found


async def give_up(qemu: Running, *, running: bool) -> None:
    """The guest goes on here, whatever was sent of it; nothing sent is success."""
    state = await status(qemu)
    if state not in OVER:
        await qemu.execute("migrate_cancel")
        await _until_over(qemu)
    await end_jobs(qemu, force=True)
    if running and qemu.run not in ("running", "shutdown"):
        await qemu.execute("cont")
        qemu.run = "running"


async def _until_over(qemu: Running) -> None:
    async with asyncio.timeout(END_SECONDS):
        while True:
            if await status(qemu) in OVER:
                return
            await asyncio.sleep(LOOK_SECONDS)


async def end_jobs(qemu: Running, *, force: bool) -> None:
    """End the copies of disks and forget where they went."""
    async with asyncio.timeout(END_SECONDS):
        while jobs := [j for j in await qemu.execute("query-jobs") if j["id"].startswith("to-")]:
            for job in jobs:
                with contextlib.suppress(Unavailable):
                    if job["status"] == "concluded":
                        await qemu.execute("job-dismiss", {"id": job["id"]})
                    elif job["status"] in ("created", "running", "ready", "paused", "standby"):
                        how = {"device": job["id"], "force": force}
                        await qemu.execute("block-job-cancel", how)
            await asyncio.sleep(LOOK_SECONDS / 5)
    for node in await _nodes(qemu):
        if node["node-name"].startswith("to-"):
            with contextlib.suppress(Unavailable):
                await qemu.execute("blockdev-del", {"node-name": node["node-name"]})


async def capabilities(qemu: Running, settings: Settings, *, source: bool) -> None:
    """What both ends must agree on, and what each of them does."""
    libvirt = settings.libvirt
    wanted = {
        "return-path": True,
        "pause-before-switchover": source,
        "late-block-activate": not source,
        "auto-converge": source and libvirt.live_migration_permit_auto_converge,
        "multifd": libvirt.live_migration_parallel_connections > 1,
    }
    told = [{"capability": name, "state": state} for name, state in wanted.items()]
    await qemu.execute("migrate-set-capabilities", {"capabilities": told})
    if wanted["multifd"]:
        count = {"multifd-channels": libvirt.live_migration_parallel_connections}
        await qemu.execute("migrate-set-parameters", count)


async def credentials(qemu: Running, settings: Settings, endpoint: str) -> None:
    """Have the host's certificate in QEMU; a second time is as good."""
    made = {
        "qom-type": "tls-creds-x509",
        "id": TLS,
        "dir": settings.qemu.migration_tls_dir,
        "endpoint": endpoint,
        "verify-peer": True,
    }
    with contextlib.suppress(Unavailable):
        await qemu.execute("object-del", {"id": TLS})
    await qemu.execute("object-add", made)


def uri(target: LiveTarget) -> str:
    """Where memory goes, in QEMU's words."""
    address = f"[{target.address}]" if ":" in target.address else target.address
    return f"tcp:{address}:{target.port}"


async def _jobs(qemu: Running) -> list[dict[str, Any]]:
    found = await qemu.execute("query-block-jobs")
    return [job for job in found if job["device"].startswith("to-")]


async def _nodes(qemu: Running) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await qemu.execute("query-named-block-nodes", {"flat": True})
    return found
