"""The generated OpenAPI documents are valid and follow the microversion."""

from __future__ import annotations

from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from kilonova.base.clock import VirtualClock
from kilonova.base.ids import RandomIds
from kilonova.web.app import build
from kilonova.web.auth import StaticAuthenticator
from kilonova.web.call import Call
from kilonova.web.faults import nova_faults
from kilonova.web.openapi import document, openapi_routes
from kilonova.web.routes import Api, Routes
from kilonova.web.schema import Schema, pick, since, single, until
from kilonova.web.testing import AllowAll, Client
from kilonova.web.versions import VersionRange
from kilonova.web.view import Field, View

SERVER = View(
    "server",
    [
        Field("id", schema={"type": "string", "format": "uuid"}),
        Field("tags", since=26, schema={"type": "array", "items": {"type": "string"}}),
    ],
)
CREATE = Schema(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "networks": pick(
                until(36, {"type": "array"}),
                since(37, {"oneOf": [{"type": "array"}, {"enum": ["auto"]}]}),
            ),
        },
        "required": ["name", since(37, "networks")],
    }
)
QUERY = Schema({"type": "object", "properties": {"limit": single({"type": "integer"})}})
ACTION = Schema({"type": "object", "properties": {"resize": {"type": "object"}}})
LIST = Schema({"type": "object", "properties": {"servers": SERVER}})

routes: Routes[None] = Routes(prefix="/servers", tag="servers")


@routes.get(
    "", query=QUERY, responses=Schema({"type": "object", "properties": {"servers": SERVER}})
)
async def index(call: Call[None]) -> dict[str, Any]:
    """List servers."""
    return {}


@routes.post("", body=CREATE, policy="servers:create", status=202)
async def create(call: Call[None]) -> dict[str, Any]:
    """Create a server."""
    return {}


@routes.get("/{server_id}")
async def show(call: Call[None], server_id: str) -> dict[str, Any]:
    return {}


@routes.delete("/{id}", status=204)
async def delete(call: Call[None], id: str) -> None:
    return None


@routes.post("/{server_id}/action", action="start", status=202)
async def start(call: Call[None], server_id: str) -> None:
    return None


@routes.post("/{server_id}/action", action="resize", body=ACTION, policy="resize", since=40)
async def resize(call: Call[None], server_id: str) -> None:
    return None


@routes.put("/{server_id}/file/{rest:path}", stream=True, consumes=["application/octet-stream"])
async def upload(call: Call[None], server_id: str, rest: str) -> None:
    return None


API: Api[None] = Api(
    "compute",
    [routes, openapi_routes(lambda: API)],
    versions=VersionRange("compute", 2, 1, 104),
    faults=nova_faults,
    roots=["/v2.1", "/v2.1/{project_id}"],
)


@pytest.mark.parametrize("version", [1, 37, 104])
def test_documents_are_valid(version: int) -> None:
    spec = document(API, version, title="Compute")
    OpenAPIV31SpecValidator(spec).validate()
    assert spec["info"] == {"title": "Compute", "version": f"2.{version}"}
    create_body = spec["paths"]["/servers"]["post"]["requestBody"]["content"]["application/json"]
    assert ("networks" in create_body["schema"]["required"]) == (version >= 37)
    listed = spec["paths"]["/servers"]["get"]["responses"]["200"]["content"]["application/json"]
    assert ("tags" in listed["schema"]["properties"]["servers"]["properties"]) == (version >= 26)
    actions = spec["paths"]["/servers/{server_id}/action"]["post"]["x-openstack"]["actions"]
    assert actions == (["start", "resize"] if version >= 40 else ["start"])
    both = spec["paths"]["/servers/{server_id}"]
    assert set(both) == {"get", "delete"}
    assert both["delete"]["parameters"][0]["name"] == "server_id"


async def test_served() -> None:
    app = build(
        API,
        None,
        auth=StaticAuthenticator({}),
        policy=AllowAll(),
        clock=VirtualClock(),
        ids=RandomIds(),
    )
    client = Client(app)
    for _ in range(2):
        answer = await client.get("/v2.1/ext/openapi.json", version="2.30")
        assert answer.status == 200
        assert answer.json()["info"]["version"] == "2.30"
        assert answer.json()["servers"] == [{"url": "http://testserver/v2.1"}]
