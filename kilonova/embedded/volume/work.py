"""Work that outlives its request: it stands in a row, and is done again after a crash."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kilonova.base.aio import backoff
from kilonova.base.errors import Fault
from kilonova.db.database import Tx
from kilonova.embedded.volume.files import CHUNK
from kilonova.embedded.volume.records import Attachment, Snapshot, Transfer, Volume, Work
from kilonova.embedded.volume.store import rows

if TYPE_CHECKING:
    from kilonova.embedded.volume.app import Volumes

log = logging.getLogger(__name__)

_FAILED = {"delete": "error_deleting", "extend": "error_extending"}
_TELL_TRIES = 8
TELL = "tell"
"""The work that is left of one whose data is written."""


class Worker:
    """Does the work of rows, a few at once."""

    def __init__(self, app: Volumes) -> None:
        self._app = app
        self._gate = asyncio.Semaphore(app.settings.jobs)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()

    def begin(self, key: str) -> None:
        """Do the work of the volume or snapshot ``key``, which is committed."""
        if key in self._tasks:
            # What is under way may have written its last and not ended yet: it would not see this.
            self._again.add(key)
            return
        task = asyncio.create_task(self._work(key), name=f"volume work {key}")
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._ended(key))

    def _ended(self, key: str) -> None:
        self._tasks.pop(key, None)
        if key in self._again:
            self._again.discard(key)
            self.begin(key)

    async def resume(self) -> int:
        """Begin all that a crash left; how much."""
        volumes = await self._app.db.read(rows.pending, Volume)
        snapshots = await self._app.db.read(rows.pending, Snapshot)
        for key in [*(v.id for v in volumes), *(s.id for s in snapshots)]:
            self.begin(key)
        return len(volumes) + len(snapshots)

    async def idle(self) -> None:
        """Wait until nothing is under way."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def stop(self) -> None:
        """Leave the rest to the next start."""
        self._again.clear()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, key: str) -> None:
        app = self._app
        async with self._gate:
            volume = await app.db.read(rows.find, Volume, key)
            if volume is not None:
                await self._volume(volume)
                return
            snapshot = await app.db.read(rows.find, Snapshot, key)
            if snapshot is not None:
                await self._snapshot(snapshot)

    async def _volume(self, volume: Volume) -> None:
        work = volume.job
        if work is None:
            return
        if work.kind == TELL:
            await self._inform(volume.id, "volume-reimaged", work.server_ids, status=work.source)
            await self._app.db.run(rows.change, Volume, volume.id, job=None)
            return
        try:
            await self._do_volume(volume)
        except Exception as error:
            _tell(f"volume {volume.id}", work.kind, error)
            status = _FAILED.get(work.kind, "error")
            if work.kind == "upload":
                status = work.after
                await self._drop_image(work.source)
            if work.kind == "reimage":
                await self._reimaged(volume, work, "error", "failed")
                return
            await self._end(volume, status)
        else:
            if work.kind == "reimage":
                await self._reimaged(volume, work, work.after, "completed")
                return
            if work.kind != "delete":
                await self._end(volume, work.after)
            if work.server_ids:
                await self._inform(volume.id, "volume-extended", work.server_ids)

    async def _do_volume(self, volume: Volume) -> None:
        app, work = self._app, volume.job
        assert work is not None
        files = app.files
        target = files.volume(volume.id)
        match work.kind:
            case "blank":
                await asyncio.to_thread(files.blank, target, volume.size)
            case "snapshot":
                source = files.snapshot(work.source)
                await asyncio.to_thread(files.copy, source, target, volume.size)
            case "volume":
                source = files.volume(work.source)
                await asyncio.to_thread(files.copy, source, target, volume.size)
            case "image" | "reimage":
                await files.from_image(
                    app.images.download(work.source),
                    target,
                    disk_format=work.disk_format,
                    size=volume.size,
                )
            case "extend":
                await asyncio.to_thread(files.grow, target, work.size)
                await app.db.run(rows.change, Volume, volume.id, size=work.size)
                if app.exports is not None:
                    await app.exports.renew(volume.id)
            case "upload":
                await self._upload(target, work.source, work.disk_format)
            case "delete":
                await asyncio.to_thread(files.delete, target)
                await app.db.run(_forget, volume.id)

    async def _upload(self, target: Path, image_id: str, disk_format: str) -> None:
        file, temporary = await self._app.files.image_file(target, disk_format)
        try:
            await self._app.images.upload(image_id, pieces(file))
        finally:
            if temporary:
                file.unlink(missing_ok=True)

    async def _drop_image(self, image_id: str) -> None:
        try:
            await self._app.images.delete(image_id)
        except Fault as fault:
            log.warning("image %s stays without data: %s", image_id, fault.message)

    async def _end(self, volume: Volume, status: str) -> None:
        now = self._app.clock.now()
        await self._app.db.run(
            rows.change, Volume, volume.id, status=status, job=None, updated_at=now
        )

    async def _snapshot(self, snapshot: Snapshot) -> None:
        app, work = self._app, snapshot.job
        if work is None:
            return
        target = app.files.snapshot(snapshot.id)
        status = "available"
        try:
            if work.kind == "delete":
                await asyncio.to_thread(app.files.delete, target)
                await app.db.run(rows.delete, Snapshot, snapshot.id)
                return
            source = app.files.volume(work.source)
            await asyncio.to_thread(app.files.copy, source, target, snapshot.size)
        except Exception as error:
            _tell(f"snapshot {snapshot.id}", work.kind, error)
            status = "error_deleting" if work.kind == "delete" else "error"
        now = app.clock.now()
        await app.db.run(
            rows.change, Snapshot, snapshot.id, status=status, job=None, updated_at=now
        )

    async def _reimaged(self, volume: Volume, work: Work, status: str, word: str) -> None:
        """The data is written, once: what is left to do after a crash is to tell of it."""
        left = Work(TELL, word, server_ids=work.server_ids)
        now = self._app.clock.now()
        await self._app.db.run(
            rows.change, Volume, volume.id, status=status, job=left, updated_at=now
        )
        await self._volume(msgspec.structs.replace(volume, job=left))

    async def _inform(
        self, volume_id: str, name: str, server_ids: tuple[str, ...], **more: str
    ) -> None:
        """Tell the compute service; it is no loss of data when that fails."""
        events = [
            {"name": name, "server_uuid": server, "tag": volume_id, **more} for server in server_ids
        ]
        pauses = backoff(0.5, most=30.0)
        for _ in range(_TELL_TRIES):
            try:
                await self._app.notify(events)
            except Fault as fault:
                log.info("the compute service was not told of a volume: %s", fault.message)
                await self._app.clock.sleep(next(pauses))
            else:
                return


def _forget(tx: Tx, volume_id: str) -> None:
    for use in rows.where(tx, Attachment, volume_id=volume_id):
        rows.delete(tx, Attachment, use.id)
    for offer in rows.where(tx, Transfer, volume_id=volume_id):
        rows.delete(tx, Transfer, offer.id)
    rows.delete(tx, Volume, volume_id)


def _tell(what: str, work: str, error: Exception) -> None:
    if isinstance(error, Fault):
        log.warning("%s: %s failed: %s", what, work, error.message)
    else:
        log.exception("%s: %s failed", what, work, exc_info=error)


async def pieces(file: Path) -> AsyncIterator[bytes]:
    """A file in pieces of a MiB."""
    with file.open("rb") as data:
        while piece := await asyncio.to_thread(data.read, CHUNK):
            yield piece
