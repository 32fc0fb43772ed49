"""What the handlers of the image service are given, and how they find images."""

from __future__ import annotations

import asyncio
import datetime as dt

from kilonova.base.clock import Clock
from kilonova.base.errors import NotFound
from kilonova.base.ids import Ids
from kilonova.db.database import Database, Tx
from kilonova.embedded.image import rules
from kilonova.embedded.image.files import Files
from kilonova.embedded.image.records import Image
from kilonova.embedded.image.settings import Settings
from kilonova.embedded.image.store import images, members
from kilonova.web.call import Call, Caller


class Images:
    """An open image service."""

    def __init__(self, settings: Settings, db: Database, *, clock: Clock, ids: Ids) -> None:
        self.settings = settings
        self.db = db
        self.clock = clock
        self.ids = ids
        self.files = Files(settings.directory, reserve=settings.reserve_bytes)

    def now(self) -> int:
        """Microseconds since 1970."""
        epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        return (self.clock.now() - epoch) // dt.timedelta(microseconds=1)

    def close(self) -> None:
        """Close the database."""
        self.db.close()


def visible(tx: Tx, image_id: str, caller: Caller, *, lock: bool = False) -> Image:
    """The image if the caller sees it, else NotFound; ``lock`` it to change it."""
    image = images.find(tx, image_id, lock=lock)
    if image is not None:
        project = caller.project_id
        member = (
            image.visibility == "shared"
            and project is not None
            and members.find(tx, image_id, project) is not None
        )
        if rules.sees(caller, image, member=member):
            return image
    raise NotFound(f"No image found with ID {image_id}")


async def show(call: Call[Images], image_id: str) -> Image:
    """`visible` for the caller of a request."""
    return await call.app.db.read(visible, image_id, call.caller)


async def writable(call: Call[Images], image_id: str, rule: str) -> Image:
    """The same, Forbidden unless ``rule`` lets the caller change it."""
    image = await show(call, image_id)
    call.enforce(rule, {"project_id": image.owner})
    return image


async def reconcile(app: Images) -> dict[str, int]:
    """Mend what a crash left: uploads nobody writes wait to go on, files of nobody are removed.

    Idempotent; how much of each was done.
    """
    done = {"requeued": 0, "removed": 0}
    for before, after in (("saving", "queued"), ("importing", "uploading")):
        for image_id in await app.db.read(images.with_status, [before]):
            if await asyncio.to_thread(app.files.is_written, image_id):
                continue
            await asyncio.to_thread(app.files.take_back, image_id)
            if await app.db.run(images.move, image_id, [before], after, app.now()):
                done["requeued"] += 1
    there = await asyncio.to_thread(app.files.ids)
    known = await app.db.read(images.present, sorted(there))
    for image_id in there - known:
        if not await asyncio.to_thread(app.files.is_written, image_id):
            await asyncio.to_thread(app.files.delete, image_id)
            done["removed"] += 1
    return done
