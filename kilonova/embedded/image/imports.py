"""Making staged data the data of its image, recorded as a task."""

from __future__ import annotations

import asyncio

from kilonova.base.errors import Conflict, Fault, NotFound
from kilonova.embedded.image import upload
from kilonova.embedded.image.app import Images
from kilonova.embedded.image.records import Image, Task
from kilonova.embedded.image.store import images, tasks
from kilonova.web.call import Call


async def run(call: Call[Images], image: Image) -> None:
    """Check staged data and make it the image's, which becomes active.

    Bad data is forgotten, the image goes back to ``queued`` and the task tells why. Conflict when
    nothing is staged.
    """
    app = call.app
    if not await app.db.run(images.move, image.id, ["uploading"], "importing", app.now()):
        raise Conflict(f"Stage data first: image {image.id} is {image.status}, not uploading.")
    begun = app.now()
    try:
        message = await _take(app, image)
    except BaseException:
        # Data that was not judged stays staged.
        await asyncio.shield(
            app.db.run(images.move, image.id, ["importing"], "uploading", app.now())
        )
        raise
    task = Task(
        id=call.ids.uuid(),
        image_id=image.id,
        owner=image.owner,
        user_id=call.caller.user_id,
        request_id=call.request_id,
        status="failure" if message else "success",
        message=message,
        created_at=begun,
        updated_at=app.now(),
    )
    await app.db.run(tasks.add, task)


async def _take(app: Images, image: Image) -> str:
    """What is wrong with the data; empty when the image became active."""
    reader = await upload.reader_of(app, image)
    try:
        content = await asyncio.to_thread(app.files.read_part, image.id, reader)
        await upload.finish(app, image.id, "importing", content)
    except FileNotFoundError:
        fault: Fault = NotFound("The staged data is gone.")
    except Fault as error:
        fault = error
    else:
        return ""
    await asyncio.to_thread(app.files.delete_part, image.id)
    await app.db.run(images.move, image.id, ["importing"], "queued", app.now())
    return fault.message
