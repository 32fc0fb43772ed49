"""``GET /``: the version document."""

from __future__ import annotations

from kilonova.placement.api.common import Page, Placement, Request, serve
from kilonova.placement.api.faults import VERSIONS
from kilonova.web.routes import Routes

routes: Routes[Placement] = Routes(tag="versions")


@serve(routes, "GET", "/", policy="", summary="Show the versions of this API")
async def versions(call: Request) -> Page:
    """The one version there is, with its range of microversions; no token is needed."""
    return Page(
        {
            "versions": [
                {
                    "id": "v1.0",
                    "status": "CURRENT",
                    "min_version": VERSIONS.lowest,
                    "max_version": VERSIONS.highest,
                    "links": [{"rel": "self", "href": call.request.scope.get("root_path", "")}],
                }
            ]
        }
    )
