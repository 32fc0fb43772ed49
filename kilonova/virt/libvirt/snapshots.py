"""Copying a domain's disk as it is at one moment (a push backup), while a running one goes on."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import libvirt

from kilonova.base.errors import Fault, Unavailable
from kilonova.domain.guest import GuestSpec
from kilonova.domain.operations import Snapped
from kilonova.virt import snapshots
from kilonova.virt.disks import DiskFile
from kilonova.virt.libvirt import domains, xml
from kilonova.virt.libvirt.host import Link
from kilonova.virt.snapshots import Ask, Plan

LOOK_SECONDS = 0.2
END_SECONDS = 60.0
FREEZE_SECONDS = 60.0
_RUNNING = (libvirt.VIR_DOMAIN_JOB_BOUNDED, libvirt.VIR_DOMAIN_JOB_UNBOUNDED)


async def take(
    link: Link, server_id: str, spec: GuestSpec, file: DiskFile, made: Plan, *, live: str
) -> Snapped:
    """Make the copy; ``live``: the guest's name of the disk, empty when it is off."""
    where = made.part.parent
    await drop(link, server_id, where)
    await asyncio.to_thread(snapshots.make_room, where, file)
    try:
        if live:
            async with snapshots.quiet(spec, *agent(link, server_id)):
                await link.call(lambda c: _begin(c, server_id, live, made))
            await _done(link, server_id)
        else:
            await snapshots.convert(file, made, form=made.form)
        return await snapshots.finish(made)
    except BaseException:
        # Also when it is given up; what cannot be removed now is when the next copy is made.
        with contextlib.suppress(Fault):
            await asyncio.shield(drop(link, server_id, where))
        raise


async def drop(link: Link, server_id: str, where: Path, image_id: str = "*") -> None:
    """Remove the copies for an image (all by default), and end one that is being made."""
    if image_id == "*" or await asyncio.to_thread(snapshots.find, where, image_id) is None:
        await _abandon(link, server_id)
    await asyncio.to_thread(snapshots.drop, where, image_id)


def agent(link: Link, server_id: str) -> tuple[Ask, Ask]:
    """How the guest is frozen, and thawed."""

    async def freeze() -> None:
        await link.call(
            lambda c: c.lookupByUUIDString(server_id).fsFreeze(), seconds=FREEZE_SECONDS
        )

    async def thaw() -> None:
        await link.call(lambda c: c.lookupByUUIDString(server_id).fsThaw(), seconds=FREEZE_SECONDS)

    return freeze, thaw


async def _abandon(link: Link, server_id: str) -> None:
    end = asyncio.get_running_loop().time() + END_SECONDS
    while await link.call(lambda c: _stop(c, server_id)):
        if asyncio.get_running_loop().time() > end:
            raise Unavailable("The copy of the disk does not end.")
        await asyncio.sleep(LOOK_SECONDS)


async def _done(link: Link, server_id: str) -> None:
    end = asyncio.get_running_loop().time() + snapshots.COPY_SECONDS
    while (how := await link.ask(lambda c: _look(c, server_id))) is None:
        if asyncio.get_running_loop().time() > end:
            raise Unavailable("The copy of the disk took too long.")
        await asyncio.sleep(LOOK_SECONDS)
    if how:
        raise Unavailable(f"The disk could not be copied: {how}")


def _begin(connection: Any, server_id: str, device: str, made: Plan) -> None:
    """From now on what the disk holds at this moment is copied, whatever the guest writes."""
    domain = connection.lookupByUUIDString(server_id)
    disks = []
    for found in domains.description(connection, server_id).iterfind("devices/disk/target"):
        name = found.get("dev", "")
        if name == device:
            parts = (
                xml.element("driver", type_=made.form),
                xml.element("target", file=str(made.part)),
            )
            disks.append(xml.group("disk", parts, name=name, type_="file", backup="yes"))
        else:
            disks.append(xml.element("disk", name=name, backup="no"))
    wanted = xml.element("domainbackup", xml.group("disks", disks), mode="push")
    # What is told of a job that ended before would be taken for this one's end.
    domain.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
    domain.backupBegin(xml.text(wanted), None, 0)


def _look(connection: Any, server_id: str) -> str | None:
    """None while the copy is being made; then what went wrong, empty for nothing."""
    domain = connection.lookupByUUIDString(server_id)
    if domain.jobInfo()[0] in _RUNNING:
        return None
    ended = domain.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
    if ended.get("type") == libvirt.VIR_DOMAIN_JOB_COMPLETED:
        return ""
    return str(ended.get("errmsg") or "it was given up")


def _stop(connection: Any, server_id: str) -> bool:
    """Ask a copy to end; whether there was one."""
    domain = domains.find(connection, server_id)
    if domain is None or not domain.isActive() or domain.jobInfo()[0] not in _RUNNING:
        return False
    with contextlib.suppress(libvirt.libvirtError):
        domain.abortJob()
    return True
