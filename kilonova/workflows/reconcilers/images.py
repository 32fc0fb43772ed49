"""Having images on the hosts of an aggregate, and telling how far that is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from kilonova.base.aio import gather_bounded
from kilonova.base.errors import Fault, NotFound
from kilonova.db.database import Database, Tx
from kilonova.domain.agent import WantedImage, WantedImages, topic
from kilonova.domain.guest import ImageRef
from kilonova.domain.resources import Aggregate
from kilonova.messaging.bus import Bus
from kilonova.notifications.facts import CacheFacts
from kilonova.store import aggregates
from kilonova.store.noting import NOTES, note

log = logging.getLogger(__name__)

AT_ONCE = 10
IMAGE_SECONDS = 3600.0
EVENT = "aggregate.cache_images"


class ImageCacher:
    """Asks agents for images, some hosts at once. Serve ``cache_images``; ``close`` at the end."""

    def __init__(self, db: Database, bus: Bus) -> None:
        self._db = db
        self._bus = bus
        self._tasks: set[asyncio.Task[None]] = set()

    async def cache_images(self, wanted: WantedImages) -> None:
        """Bus method: begin; it goes on after the answer."""
        task = asyncio.create_task(self._all(wanted), name="images for an aggregate")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Ask no further host."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _all(self, wanted: WantedImages) -> None:
        try:
            found = await self._db.read(aggregates.get, wanted.aggregate_id)
        except NotFound:
            return
        await self._tell(f"{EVENT}.start", found)
        numbers = iter(range(1, len(wanted.hosts) + 1))

        async def one(host: str) -> None:
            await self._host(found, host, wanted, numbers)

        await gather_bounded(one, wanted.hosts, limit=AT_ONCE)
        await self._tell(f"{EVENT}.end", found)

    async def _host(
        self, found: Aggregate, host: str, wanted: WantedImages, numbers: Iterator[int]
    ) -> None:
        cached: list[str] = []
        failed: list[str] = []
        for image in wanted.images:
            (cached if await self._has(host, image) else failed).append(image.id)
        total = len(wanted.hosts)
        told = CacheFacts(found, host, tuple(cached), tuple(failed), next(numbers), total)
        await self._tell(f"{EVENT}.progress", told)

    async def _has(self, host: str, image: ImageRef) -> bool:
        try:
            return await self._bus.call(
                topic(host), "cache_image", WantedImage(image), reply=bool, seconds=IMAGE_SECONDS
            )
        except Fault as fault:
            log.warning("Image %s is not on host %s: %s", image.id, host, fault.message)
            return False

    async def _tell(self, event: str, subject: Aggregate | CacheFacts) -> None:
        if self._db.attachment(NOTES) is None:
            return

        def work(tx: Tx) -> None:
            note(tx, event, subject)

        await self._db.run(work)
