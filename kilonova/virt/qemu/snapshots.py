"""Copying a guest's disk as it is at one moment, while a guest that runs goes on."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from kilonova.base.errors import Fault, NotFound, Unavailable
from kilonova.config.settings import Settings
from kilonova.domain.guest import GuestSpec
from kilonova.domain.operations import Snapped
from kilonova.virt import snapshots
from kilonova.virt.qemu import agent, command
from kilonova.virt.qemu.guest import Guest
from kilonova.virt.qemu.running import Running
from kilonova.virt.snapshots import Ask, Plan

JOB = "snapshot"
TARGET, FILE = "snapshot-target", "snapshot-file"
LOOK_SECONDS = 0.2
END_SECONDS = 60.0
OVER = frozenset({"concluded", "null"})


async def take(guest: Guest, settings: Settings, spec: GuestSpec, image_id: str) -> Snapped:
    """Copy the root disk of a guest that nobody else works on; NotFound, Unavailable, Conflict."""
    root = snapshots.root_of(spec)
    file = guest.record.disks.get(root.device) if guest.record is not None else None
    if file is None:
        raise NotFound(f"There are no disks of {spec.name} on its host.")
    qemu, home = guest.qemu, guest.home
    where = snapshots.place(settings, home.path)
    made = snapshots.plan(settings, where, file, image_id, live=qemu.alive)
    await drop(qemu, where)
    await asyncio.to_thread(snapshots.make_room, where, file)
    home.own(where)
    try:
        if qemu.alive:
            await snapshots.blank(made, await snapshots.size_of(file))
            home.own(made.part)
            async with snapshots.quiet(spec, *stills(home.path)):
                await _begin(qemu, command.node_name(root, root.device), made)
            await _done(qemu)
            await abandon(qemu)
        else:
            await snapshots.convert(file, made, form=made.form)
        return await snapshots.finish(made)
    except BaseException:
        # Also when it is given up; what cannot be removed now is when the next copy is made.
        with contextlib.suppress(Fault, TimeoutError):
            await asyncio.shield(drop(qemu, where))
        raise


async def drop(qemu: Running, where: Path, image_id: str = "*") -> None:
    """Remove the copies for an image (all by default), and end one that is being made."""
    if await asyncio.to_thread(snapshots.find, where, image_id) is None or image_id == "*":
        await abandon(qemu)
    await asyncio.to_thread(snapshots.drop, where, image_id)


def stills(directory: Path) -> tuple[Ask, Ask]:
    """How the guest in that directory is frozen, and thawed."""
    socket = directory / command.AGENT

    async def freeze() -> None:
        await agent.freeze(socket)

    async def thaw() -> None:
        await agent.thaw(socket)

    return freeze, thaw


async def abandon(qemu: Running) -> None:
    """End a copy, whole or not, and let go of its file; there being none is success."""
    if not qemu.alive:
        return
    async with asyncio.timeout(END_SECONDS):
        while (job := await _job(qemu)) is not None:
            over = job["status"] in OVER
            with contextlib.suppress(Unavailable):
                # It may end between the look and the word.
                await qemu.execute("job-dismiss" if over else "job-cancel", {"id": JOB})
            await asyncio.sleep(0 if over else LOOK_SECONDS)
    found = await qemu.execute("query-named-block-nodes", {"flat": True})
    present = {node["node-name"] for node in found}
    for node in (TARGET, FILE):
        if node in present:
            await qemu.execute("blockdev-del", {"node-name": node})


async def _begin(qemu: Running, node: str, made: Plan) -> None:
    """From now on what the disk holds at this moment is copied, whatever the guest writes."""
    file = {"node-name": FILE, "driver": "file", "filename": str(made.part)}
    await qemu.execute("blockdev-add", file)
    await qemu.execute("blockdev-add", {"node-name": TARGET, "driver": made.form, "file": FILE})
    # Kept when it is over, so that its error can be read.
    wanted: dict[str, Any] = {"job-id": JOB, "device": node, "target": TARGET, "sync": "full"}
    wanted["auto-dismiss"] = False
    if made.compress and made.form == "qcow2":
        wanted["compress"] = True
    await qemu.execute("blockdev-backup", wanted)


async def _done(qemu: Running) -> None:
    """Wait for the end of the copy; Unavailable with what went wrong."""
    end = asyncio.get_running_loop().time() + snapshots.COPY_SECONDS
    while (job := await _job(qemu)) is not None:
        if job["status"] in OVER:
            if job.get("error"):
                raise Unavailable(f"The disk could not be copied: {job['error']}")
            return
        if asyncio.get_running_loop().time() > end:
            raise Unavailable("The copy of the disk took too long.")
        await asyncio.sleep(LOOK_SECONDS)
    raise Unavailable("The copy of the disk was given up.")


async def _job(qemu: Running) -> dict[str, Any] | None:
    for job in await qemu.execute("query-jobs"):
        if job["id"] == JOB:
            found: dict[str, Any] = job
            return found
    return None
