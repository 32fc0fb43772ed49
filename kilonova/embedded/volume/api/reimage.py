"""``os-reimage`` (3.68): an image over the data of a volume."""

from __future__ import annotations

import msgspec

from kilonova.base.errors import BadRequest
from kilonova.db.database import Tx
from kilonova.embedded.volume.app import Volumes, expect_status, show, visible
from kilonova.embedded.volume.making import of_image
from kilonova.embedded.volume.records import Attachment, Volume
from kilonova.embedded.volume.schemas import BOOLEAN, UUID, body, closed, truth
from kilonova.embedded.volume.store import rows
from kilonova.web.call import Call
from kilonova.web.routes import Routes

routes: Routes[Volumes] = Routes(prefix="/volumes/{volume_id}/action", tag="volume actions")

BODY = body("os-reimage", closed({"image_id": UUID, "reimage_reserved": BOOLEAN}, "image_id"))


@routes.post("", action="os-reimage", body=BODY, since=68, status=202)
async def reimage(call: Call[Volumes], volume_id: str) -> None:
    """Write an image over a volume that is free, or reserved where that is said to be meant.

    Servers that have it reserved are told when it ended, well or not.
    """
    given = call.body["os-reimage"]
    reserved = truth(given.get("reimage_reserved"))
    rule = "volume:reimage_reserved" if reserved else "volume:reimage"
    item = await show(call, Volume, volume_id, rule)
    source = await of_image(call, given["image_id"])
    if source.least > item.size:
        raise BadRequest(
            f"Invalid input received: Volume size '{item.size}'GB cannot be smaller than the image "
            f"size {source.least}GB."
        )
    allowed = ("available", "error", "reserved") if reserved else ("available", "error")

    def work(tx: Tx) -> None:
        present = visible(tx, Volume, volume_id, call.caller, lock=True)
        expect_status(present, allowed, "reimage")
        uses = rows.where(tx, Attachment, volume_id=volume_id)
        servers = tuple(sorted({use.server_id for use in uses if use.server_id}))
        job = msgspec.structs.replace(
            source.work,
            kind="reimage",
            after="reserved" if uses else "available",
            server_ids=servers,
        )
        rows.change(
            tx,
            Volume,
            volume_id,
            status="downloading",
            job=job,
            bootable=True,
            image_metadata=source.image_metadata,
        )

    await call.app.db.run(work)
    call.app.worker.begin(volume_id)
