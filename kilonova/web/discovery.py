"""Pieces of version documents: what clients read to discover a service's APIs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kilonova.web.versions import VersionRange


def version_entry(
    name: str,
    href: str,
    *,
    status: str = "CURRENT",
    versions: VersionRange | None = None,
    maximum_key: str = "version",
    updated: str | None = None,
    media_types: Sequence[dict[str, str]] = (),
    links: Sequence[dict[str, str]] = (),
) -> dict[str, Any]:
    """One API version as clients discover it: ``{"id", "status", "links", …}``.

    ``href`` is the absolute URL of its root. ``maximum_key`` names the greatest microversion:
    ``version`` (compute, volume, image) or ``max_version`` (placement). ``updated`` is an ISO
    time, ``media_types`` and further ``links`` go in as they are.
    """
    entry: dict[str, Any] = {
        "id": name,
        "status": status,
        "links": [{"rel": "self", "href": href}, *links],
    }
    if versions is not None:
        entry[maximum_key] = versions.highest
        entry["min_version"] = versions.lowest
    if updated is not None:
        entry["updated"] = updated
    if media_types:
        entry["media-types"] = list(media_types)
    return entry
