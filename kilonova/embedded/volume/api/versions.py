"""The version documents, which need no token."""

from __future__ import annotations

from typing import Any

from kilonova.embedded.volume.app import Volumes
from kilonova.web.call import Call, Reply
from kilonova.web.discovery import version_entry
from kilonova.web.routes import Routes
from kilonova.web.versions import VersionRange

routes: Routes[Volumes] = Routes(rooted=False, tag="versions")

VERSIONS = VersionRange("volume", 3, 0, 71)


def _document(call: Call[Volumes]) -> dict[str, Any]:
    entry = version_entry(
        "v3.0",
        f"{call.base}/v3/",
        versions=VERSIONS,
        updated="2023-08-31T00:00:00Z",
        media_types=(
            {
                "base": "application/json",
                "type": "application/vnd.openstack.volume+json;version=3",
            },
        ),
    )
    return {"versions": [entry]}


@routes.get("/", public=True)
async def choices(call: Call[Volumes]) -> Reply:
    """All versions there are."""
    return Reply(_document(call), status=300)


@routes.get("/v3", public=True)
async def third(call: Call[Volumes]) -> dict[str, Any]:
    """The same under the root of version 3."""
    return _document(call)
