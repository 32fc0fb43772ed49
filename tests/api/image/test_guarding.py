"""Every route: 401 without a token, 403 with the wrong role."""

from __future__ import annotations

from typing import Any

import pytest

from kilonova.embedded.image.service import API
from kilonova.web.routes import Route
from tests.support.image import OCTETS, PATCH, Place, make

BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/images"): {"name": "x"},
    ("POST", "/images/{image_id}/members"): {"member": "p-bob"},
    ("PUT", "/images/{image_id}/members/{member_id}"): {"status": "accepted"},
    ("POST", "/images/{image_id}/import"): {"method": {"name": "glance-direct"}},
}
CLOSED = [row for row in API.routes if not row.public]
ADMIN_ONLY = {"/info/stores/detail", "/tasks", "/tasks/{task_id}"}


async def _ask(place: Place, row: Route, token: str, image_id: str) -> int:
    path = "/v2" + row.path.format(
        image_id=image_id, member_id="p-alice", tag="t", name="image", task_id="t"
    )
    more: dict[str, Any] = {}
    if row.method == "PATCH":
        more = {"data": b"[]", "headers": {"Content-Type": PATCH}}
    elif row.stream:
        more = {"data": b"data", "headers": OCTETS}
    else:
        more = {"json": BODIES.get((row.method, row.path))}
    return (await place.anonymous.request(row.method, path, token=token, **more)).status


@pytest.mark.parametrize("row", CLOSED, ids=lambda row: f"{row.method} {row.path}")
async def test_token_and_role_are_needed(row: Route, place: Place) -> None:
    image_id = (await make(place.alice))["id"]
    for token in ("", "wrong"):
        assert await _ask(place, row, token, image_id) == 401
    given = await _ask(place, row, "reader", image_id)
    if row.method == "GET" and row.path not in ADMIN_ONLY:
        assert given in (200, 204, 404)
    else:
        assert given == 403
    if "{image_id}" in row.path:
        assert await _ask(place, row, "bob", image_id) == 404


async def test_public_routes_are_few() -> None:
    public = {(row.method, row.path) for row in API.routes if row.public}
    assert public == {
        ("GET", "/"),
        ("GET", "/versions"),
        ("GET", "/v2"),
        ("GET", "/ext/openapi.json"),
    }
