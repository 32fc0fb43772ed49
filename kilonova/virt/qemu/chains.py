"""Files of a running guest's volume over QMP: one more on top, or one less."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import PurePosixPath
from typing import Any

import msgspec

from kilonova.base.errors import NotFound, Unavailable
from kilonova.domain.guest import Disk
from kilonova.virt.devices import DiskDevice
from kilonova.virt.disks import DiskFile, name_of
from kilonova.virt.qemu.command import block_node, link_name, node_name
from kilonova.virt.qemu.running import Running

LOOK_SECONDS = 0.1


async def top(qemu: Running, disk: Disk) -> str:
    """The node the guest writes to: the volume's own, or one that came on top of it since."""
    own = node_name(disk, disk.device)
    for row in await qemu.execute("query-block"):
        if f"disk-{disk.device}" in row.get("qdev", "").split("/"):
            name: str = row.get("inserted", {}).get("node-name") or own
            return name
    return own


async def put_on(qemu: Running, device: DiskDevice, file: DiskFile) -> None:
    """Let the guest go on in a file that is there already, on top of what it has."""
    name = name_of(file.remote or {"filename": file.path})
    before = await top(qemu, device.disk)
    if (await _files(qemu, device.disk)).get(name) == before:
        return
    node = link_name(device.disk, name)
    if node not in {row["node-name"] for row in await _nodes(qemu)}:
        wanted = {**block_node(device, file), "node-name": node, "backing": None}
        await qemu.execute("blockdev-add", wanted)
    await qemu.execute("blockdev-snapshot", {"node": before, "overlay": node})


async def merge(qemu: Running, disk: Disk, file: str | None, into: str | None) -> None:
    """Make one of two files; see ``operations.MergeVolume``. NotFound, Unavailable."""
    files = await _files(qemu, disk)
    job = f"merge-{disk.device}"
    if job not in {row["id"] for row in await qemu.execute("query-jobs")}:
        device = await top(qemu, disk)
        common = {"job-id": job, "device": device, "auto-dismiss": False}
        if into is not None:
            base = _need(files, into)
            if file not in files:
                return
            above = {"top-node": files[file], "base-node": base}
            own = {} if files[file] == device else {"backing-file": into}
            await qemu.execute("block-commit", {**common, **above, **own})
        else:
            base_node = {} if file is None else {"base-node": _need(files, file)}
            said = {} if file is None else {"backing-file": file}
            await qemu.execute("block-stream", {**common, **base_node, **said})
    await _finish(qemu, job)
    await drop(qemu, disk)


async def drop(qemu: Running, disk: Disk) -> None:
    """Close the files of a volume that nothing uses any more."""
    left = await nodes(qemu, disk)
    for _ in range(len(left)):
        for node in tuple(left):
            # QEMU refuses for what is in use, and for what goes with another.
            with contextlib.suppress(Unavailable):
                await qemu.execute("blockdev-del", {"node-name": node})
                left.remove(node)


async def nodes(qemu: Running, disk: Disk) -> list[str]:
    """The nodes of a volume's files."""
    return list((await _files(qemu, disk)).values())


async def _finish(qemu: Running, job: str) -> None:
    while True:
        row = next((r for r in await qemu.execute("query-jobs") if r["id"] == job), None)
        if row is None:
            raise Unavailable("The files of the volume could not be merged.")
        if row["status"] == "concluded":
            await qemu.execute("job-dismiss", {"id": job})
            if "error" in row:
                raise Unavailable(f"The files of the volume could not be merged: {row['error']}")
            return
        if row["status"] == "ready":
            await qemu.execute("job-complete", {"id": job})
        await asyncio.sleep(LOOK_SECONDS)


async def _files(qemu: Running, disk: Disk) -> dict[str, str]:
    """File → node, of all files of a volume."""
    own, others = node_name(disk, disk.device), link_name(disk, "").rpartition("-")[0]
    return {
        _file(row["image"]["filename"]): row["node-name"]
        for row in await _nodes(qemu)
        if row["node-name"] == own or row["node-name"].startswith(f"{others}-")
    }


def _file(said: str) -> str:
    """The name of a file as QEMU tells of it: a path, an address, or options as JSON."""
    if not said.startswith("json:"):
        return PurePosixPath(said.partition("?")[0]).name
    options = msgspec.json.decode(said.removeprefix("json:"))
    inner = options.get("file", options)
    return name_of(inner) if isinstance(inner, dict) else ""


def _need(files: dict[str, str], file: str) -> str:
    if file not in files:
        raise NotFound(f"The volume has no file {file}.")
    return files[file]


async def _nodes(qemu: Running) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await qemu.execute("query-named-block-nodes", {"flat": True})
    return found
