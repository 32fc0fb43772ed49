"""The version documents, which need no token."""

from __future__ import annotations

from typing import Any

from kilonova.embedded.image.app import Images
from kilonova.web.call import Call, Reply
from kilonova.web.routes import Routes

routes: Routes[Images] = Routes(rooted=False, tag="versions")

_MINORS = (15, 12, 9, 7, 6, 5, 4, 3, 2, 1, 0)


def _document(call: Call[Images]) -> dict[str, Any]:
    link = [{"rel": "self", "href": f"{call.base}/v2/"}]
    rows = [{"id": f"v2.{minor}", "status": "SUPPORTED", "links": link} for minor in _MINORS]
    rows[0]["status"] = "CURRENT"
    return {"versions": rows}


@routes.get("/", public=True)
async def choices(call: Call[Images]) -> Reply:
    """All versions there are."""
    return Reply(_document(call), status=300)


@routes.get("/versions", public=True)
async def show(call: Call[Images]) -> dict[str, Any]:
    """The same, asked for by name."""
    return _document(call)


@routes.get("/v2", public=True)
async def second(call: Call[Images]) -> Reply:
    """The same under the root of version 2."""
    return Reply(_document(call), status=300)
