"""The data of images: sending it at once or in parts, staging, importing and fetching it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import BinaryIO

from starlette.responses import Response, StreamingResponse

from kilonova.base.errors import BadRequest, Forbidden, NotFound, RangeNotSatisfiable
from kilonova.embedded.image import imports, upload
from kilonova.embedded.image.app import Images, show, writable
from kilonova.embedded.image.files import CHUNK
from kilonova.embedded.image.ranges import byte_range, content_range
from kilonova.embedded.image.records import Image
from kilonova.embedded.image.rules import is_admin
from kilonova.embedded.image.schemas import IMPORT
from kilonova.web.call import Call, Reply
from kilonova.web.routes import Routes

routes: Routes[Images] = Routes(prefix="/images/{image_id}", tag="image data")

_OCTETS = ("application/octet-stream",)


@routes.put("/file", status=204, stream=True, consumes=_OCTETS, also=(202, 410, 413, 415))
async def send(call: Call[Images], image_id: str) -> Reply | None:
    """Upload the data of a queued image.

    With ``Content-Range: bytes FIRST-LAST/TOTAL`` (or ``bytes */TOTAL`` without a body, to finish)
    the upload goes on at the offset that ``X-Image-Upload-Offset`` of a HEAD tells; 202 while more
    is to come, 409 with the right offset when ``FIRST`` is another one.
    """
    image = await writable(call, image_id, "upload_image")
    part = content_range(call.request.headers.get("content-range"))
    offset = await upload.receive(call, image, part, after="active")
    if offset is None:
        return None
    return Reply(None, status=202, headers={upload.OFFSET: str(offset)})


@routes.put("/stage", status=204, stream=True, consumes=_OCTETS)
async def stage(call: Call[Images], image_id: str) -> None:
    """Upload data that becomes the image's only when it is imported."""
    image = await writable(call, image_id, "upload_image")
    await upload.receive(call, image, None, after="uploading")


@routes.post("/import", status=202, body=IMPORT)
async def import_(call: Call[Images], image_id: str) -> None:
    """Make staged data the image's (``glance-direct``, the only method there is).

    Whether the data was good shows in the image's status and in its tasks.
    """
    image = await writable(call, image_id, "modify_image")
    method = call.body["method"]["name"]
    if method != "glance-direct":
        raise BadRequest(
            f"The import method {method} is not supported here; stage the data and use "
            "glance-direct, or upload it."
        )
    await imports.run(call, image)


@routes.get("/file", head=True, also=(204, 206, 304, 416))
async def fetch(call: Call[Images], image_id: str) -> Response:
    """The data, or one range of it; 204 with the offset of a begun upload when there is none."""
    image = await show(call, image_id)
    call.enforce("download_image", {"project_id": image.owner})
    if image.status == "deactivated" and not is_admin(call.caller):
        raise Forbidden("The requested image has been deactivated. Image data download is denied.")
    if image.status not in ("active", "deactivated"):
        offset = await asyncio.to_thread(call.app.files.offset, image_id)
        return Response(status_code=204, headers={upload.OFFSET: str(offset)})
    return await _answer(call, image)


async def _answer(call: Call[Images], image: Image) -> Response:
    size = image.size or 0
    tag = f'"{image.checksum}"'
    request = call.request
    headers = {"ETag": tag, "Accept-Ranges": "bytes"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    try:
        wanted = byte_range(request.headers.get("range"), size)
    except ValueError:
        raise RangeNotSatisfiable(
            f"The requested range is not inside the {size} bytes of the image.",
            headers={"Content-Range": f"bytes */{size}"},
        ) from None
    status = 200
    start, count = 0, size
    if wanted is not None:
        start, count, status = wanted.first, wanted.last - wanted.first + 1, 206
        headers["Content-Range"] = f"bytes {wanted.first}-{wanted.last}/{size}"
    elif image.checksum:
        headers["Content-MD5"] = image.checksum
    headers |= {"Content-Type": "application/octet-stream", "Content-Length": str(count)}
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    try:
        file = await asyncio.to_thread(call.app.files.open, image.id)
    except FileNotFoundError:
        raise NotFound(f"The data of image {image.id} is gone.") from None
    return StreamingResponse(_pieces(file, start, count), status_code=status, headers=headers)


async def _pieces(file: BinaryIO, start: int, count: int) -> AsyncIterator[bytes]:
    with file:
        await asyncio.to_thread(file.seek, start)
        while count > 0:
            piece = await asyncio.to_thread(file.read, min(CHUNK, count))
            if not piece:
                raise OSError("the file of the image is shorter than it should be")
            count -= len(piece)
            yield piece
