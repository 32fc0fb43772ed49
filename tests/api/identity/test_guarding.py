"""Every route: 401 without a token, 403 with the wrong role."""

from __future__ import annotations

from typing import Any

import pytest

from kilonova.embedded.identity.service import API
from kilonova.web.routes import PARAMETER, Route
from kilonova.web.testing import Client
from tests.support.identity import Place

BODIES: dict[str, Any] = {
    "/domains": {"domain": {"name": "x"}},
    "/projects": {"project": {"name": "x"}},
    "/users": {"user": {"name": "x"}},
    "/groups": {"group": {"name": "x"}},
    "/roles": {"role": {"name": "x"}},
    "/regions": {"region": {"description": "x"}},
    "/services": {"service": {"type": "x"}},
    "/endpoints": {"endpoint": {"service_id": "x", "interface": "public", "url": "http://x"}},
    "/credentials": {"credential": {"type": "ec2", "blob": "{}", "user_id": "x"}},
}
RESOURCE = {"service_id": "x", "resource_name": "x"}
SPECIAL: dict[str, Any] = {
    "/projects/{project_id}/tags": {"tags": []},
    "/users/{user_id}/application_credentials": {"application_credential": {"name": "x"}},
    "/registered_limits": {"registered_limits": [{**RESOURCE, "default_limit": 1}]},
    "/registered_limits/{limit_id}": {"registered_limit": {"default_limit": 1}},
    "/limits": {"limits": [{**RESOURCE, "resource_limit": 1, "project_id": "x"}]},
    "/limits/{limit_id}": {"limit": {"resource_limit": 1}},
    "/users/{user_id}/credentials/OS-EC2": {"tenant_id": "x"},
}
# Open to every token: what it shows is the caller's own, or no secret.
OPEN = {
    ("GET", "/auth/catalog"),
    ("GET", "/auth/projects"),
    ("GET", "/auth/domains"),
    ("GET", "/auth/system"),
    ("GET", "/regions"),
    ("GET", "/regions/{region_id}"),
    ("GET", "/credentials"),
    ("GET", "/limits/model"),
    ("GET", "/limits"),
    ("GET", "/limits/{limit_id}"),
    ("GET", "/registered_limits"),
    ("GET", "/registered_limits/{limit_id}"),
}

CLOSED = [row for row in API.routes if not row.public]


def _body(row: Route) -> Any:
    if row.body is None:
        return None
    first = "/" + row.path.split("/")[1]
    return SPECIAL.get(row.path) or BODIES[first]


def _path(row: Route) -> str:
    return "/v3" + PARAMETER.sub("0123456789abcdef0123456789abcdef", row.path)


@pytest.mark.parametrize("row", CLOSED, ids=lambda row: f"{row.method} {row.path}")
async def test_token_and_role_are_needed(row: Route, place: Place, demo: Client) -> None:
    answer = await place.anonymous.request(row.method, _path(row), json=_body(row))
    assert answer.status == 401
    if row.method != "HEAD":
        assert answer.json()["error"]["code"] == 401
    answer = await place.anonymous.request(row.method, _path(row), json=_body(row), token="bad")
    assert answer.status == 401
    headers = {"X-Subject-Token": await place.token("admin", "admin")}
    answer = await demo.request(row.method, _path(row), json=_body(row), headers=headers)
    if (row.method, row.path) in OPEN:
        assert answer.status in (200, 404)
    else:
        assert answer.status == 403, answer.text
        if row.method != "HEAD":
            assert answer.json()["error"]["title"] == "Forbidden"


async def test_public_routes_are_few() -> None:
    public = {(row.method, row.path) for row in API.routes if row.public}
    assert public == {
        ("GET", "/"),
        ("GET", ""),
        ("GET", "/ext/openapi.json"),
        ("POST", "/auth/tokens"),
        ("POST", "/users/{user_id}/password"),
    }
