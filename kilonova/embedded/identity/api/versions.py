"""The version documents, which need no token."""

from __future__ import annotations

from typing import Any

from kilonova.embedded.identity.app import Identity
from kilonova.web.call import Call, Reply
from kilonova.web.routes import Routes

routes: Routes[Identity] = Routes(tag="versions")
top: Routes[Identity] = Routes(rooted=False, tag="versions")


def _document(call: Call[Identity]) -> dict[str, Any]:
    return {
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": f"{call.base}/v3/"}],
        "media-types": [
            {
                "base": "application/json",
                "type": "application/vnd.openstack.identity-v3+json",
            }
        ],
    }


@top.get("/", public=True)
async def choices(call: Call[Identity]) -> Reply:
    """All versions there are: one."""
    body = {"versions": {"values": [_document(call)]}}
    return Reply(body, status=300, headers={"Location": f"{call.base}/v3/"})


@routes.get("", public=True)
async def show(call: Call[Identity]) -> dict[str, Any]:
    """The document of version 3."""
    return {"version": _document(call)}
