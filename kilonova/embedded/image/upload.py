"""Taking in the data of an image, so that a broken upload can go on and a bad one leaves nothing.

While data comes in the image is ``saving`` and its part file locked. However it ends the status
goes on: to the wished one when the data is complete and good, back to ``queued`` else. Data that
was refused is forgotten; data of an upload that broke off is kept, to go on with.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from kilonova.base.errors import (
    BadRequest,
    Conflict,
    Gone,
    TooLarge,
    UnsupportedMediaType,
)
from kilonova.embedded.image.app import Images
from kilonova.embedded.image.files import CHUNK, Meter, Writer
from kilonova.embedded.image.ranges import Part
from kilonova.embedded.image.records import Content, Image
from kilonova.embedded.image.store import images
from kilonova.web.body import ClientGone, declared_length
from kilonova.web.call import Call

if TYPE_CHECKING:  # slow to import, and needed only where data is looked at
    from kilonova.embedded.image.content import Reader

OFFSET = "X-Image-Upload-Offset"


async def receive(call: Call[Images], image: Image, part: Part | None, *, after: str) -> int | None:
    """Store the body as the data of a queued image, from the start or as ``part`` says.

    None when the image is complete and in status ``after``; otherwise the offset to go on at.
    BadRequest, Conflict, TooLarge, UnsupportedMediaType; Gone when the image was deleted
    meanwhile.
    """
    app = call.app
    length = declared_length(dict(call.request.scope["headers"]))
    if part is not None and length is not None and length != part.last - part.first + 1:
        raise BadRequest("Content-Length and Content-Range do not agree.")
    total = part.total if part is not None else length
    if total is not None and total > app.settings.most_bytes:
        raise TooLarge(f"The image data is larger than {app.settings.most_bytes} bytes.")
    if not await app.db.run(images.move, image.id, ["queued"], "saving", app.now()):
        raise Conflict(f"Image {image.id} is not queued: its data cannot be set.")
    try:
        # Read again: until the status changed, so could the formats.
        present = await app.db.read(images.find, image.id)
        if present is None:
            raise Gone(f"Image {image.id} was deleted.")
        if present.disk_format is None or present.container_format is None:
            raise BadRequest("Set disk_format and container_format before uploading data.")
        return await _store(call, present, part, length, after)
    except BaseException as error:
        # Whatever happened, also a cancellation: the image must not stay in status saving.
        await asyncio.shield(_give_up(app, image.id, error))
        if isinstance(error, ClientDisconnect):
            raise ClientGone from error
        raise


async def _give_up(app: Images, image_id: str, error: BaseException) -> None:
    refused = isinstance(error, (UnsupportedMediaType, TooLarge))
    if refused:
        await asyncio.to_thread(app.files.delete_part, image_id)
    still = await app.db.run(images.move, image_id, ["saving"], "queued", app.now())
    if not still and await app.db.read(images.find, image_id) is None:
        await asyncio.to_thread(app.files.delete, image_id)


async def _store(
    call: Call[Images], image: Image, part: Part | None, length: int | None, after: str
) -> int | None:
    app = call.app
    kept = await asyncio.to_thread(app.files.offset, image.id)
    offset = 0 if part is None else kept
    if part is not None and part.first not in (-1, kept):
        raise Conflict(
            f"The upload goes on at byte {kept}, not {part.first}.", headers={OFFSET: str(kept)}
        )
    await asyncio.to_thread(app.files.check_space, length or 0)
    staged = after == "uploading"
    reader = Meter() if staged else await reader_of(app, image)
    most = app.settings.most_bytes if part is None else part.total
    writer = await asyncio.to_thread(Writer, app.files, image.id, reader, offset=offset, most=most)
    try:
        async for chunk in _gathered(call):
            await asyncio.to_thread(writer.write, chunk)
        if part is not None and part.first >= 0 and reader.size != part.last + 1:
            raise BadRequest("The body does not fit its Content-Range.")
        content = None
        whole = part is None or reader.size == part.total
        if whole:
            content = await asyncio.to_thread(reader.finish)
    finally:
        await asyncio.to_thread(writer.close)
    if content is not None:
        await finish(app, image.id, "saving", content)
        return None
    status = after if whole else "queued"
    if not await app.db.run(images.move, image.id, ["saving"], status, app.now()):
        raise Gone(f"Image {image.id} was deleted during the upload.")
    return None if whole else reader.size


async def reader_of(app: Images, image: Image) -> Reader:
    """What looks at the data of an image."""

    def make() -> Reader:
        from kilonova.embedded.image.content import Reader  # noqa: PLC0415 (see above)

        match = app.settings.match_format
        return Reader(image.disk_format, image.container_format, match=match)

    return await asyncio.to_thread(make)


async def finish(app: Images, image_id: str, before: str, content: Content) -> None:
    """Make a complete, good part the data of an image, which becomes active; Gone."""
    gone = Gone(f"Image {image_id} was deleted during the upload.")
    try:
        await asyncio.to_thread(app.files.finish, image_id)
    except FileNotFoundError:
        raise gone from None
    if not await app.db.run(images.fill, image_id, before, "active", content, app.now()):
        await asyncio.to_thread(app.files.delete, image_id)
        raise gone


async def _gathered(call: Call[Images]) -> AsyncIterator[bytes]:
    """The body in pieces of about one MiB; BadRequest when nothing comes for too long."""
    stream = aiter(call.request.stream())
    idle = call.app.settings.idle_seconds
    pieces: list[bytes] = []
    size = 0
    broken: Exception | None = None
    while broken is None:
        try:
            async with asyncio.timeout(idle):
                piece = await anext(stream)
        except StopAsyncIteration:
            break
        except TimeoutError:
            broken = BadRequest(f"The upload sent nothing for {idle:g} seconds.")
        except ClientDisconnect as error:
            broken = error
        else:
            pieces.append(piece)
            size += len(piece)
            if size >= CHUNK:
                yield b"".join(pieces)
                pieces, size = [], 0
    if pieces:
        yield b"".join(pieces)
    if broken is not None:
        raise broken
