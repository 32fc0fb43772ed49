"""Whatever a client sends, the answer is well formed and never a 500."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kilonova.base.clock import VirtualClock
from kilonova.base.ids import RandomIds
from kilonova.web.app import build
from kilonova.web.auth import StaticAuthenticator
from kilonova.web.call import Call, Caller
from kilonova.web.faults import nova_faults
from kilonova.web.idempotency import MemoryIdempotencyStore
from kilonova.web.pages import page, sorting
from kilonova.web.routes import Api, Root, Routes
from kilonova.web.schema import Schema, since
from kilonova.web.testing import AllowAll
from kilonova.web.versions import VersionRange

routes: Routes[None] = Routes(prefix="/servers")


@routes.get("")
async def index(call: Call[None]) -> dict[str, Any]:
    found = page(call.query)
    return {"limit": found.limit, "sort": [key.key for key in sorting(call.query)]}


@routes.post(
    "",
    body=Schema(
        {
            "type": "object",
            "properties": {"name": {"type": "string", "pattern": "^[a-z]+$"}, "n": since(5, {})},
            "additionalProperties": False,
        }
    ),
)
async def create(call: Call[None]) -> dict[str, Any]:
    return {"name": call.body.get("name"), "href": call.link("servers", str(call.body))}


@routes.post("/{server_id}/action", action="start")
async def start(call: Call[None], server_id: str) -> dict[str, str]:
    return {"id": server_id}


API: Api[None] = Api(
    "compute",
    [routes],
    versions=VersionRange("compute", 2, 1, 104, "X-OpenStack-Nova-API-Version"),
    faults=nova_faults,
    roots=["/v2.1", "/v2.1/{project_id}", Root("/v2", relaxed=True)],
)
APP = build(
    API,
    None,
    auth=StaticAuthenticator({"t": Caller(user_id="u", project_id="p")}),
    policy=AllowAll(),
    clock=VirtualClock(),
    ids=RandomIds(),
    idempotency=MemoryIdempotencyStore(VirtualClock()),
)

values = st.binary(max_size=40) | st.sampled_from([b"compute 2.5", b"compute latest", b"req-1"])
names = st.sampled_from(
    [
        b"openstack-api-version",
        b"x-openstack-nova-api-version",
        b"x-openstack-request-id",
        b"x-service-token",
        b"idempotency-key",
        b"content-type",
        b"content-length",
        b"host",
        b"accept",
    ]
)
json_bodies = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "n", "start", "x"]), inner, max_size=2)
    ),
    max_leaves=6,
).map(msgspec.json.encode)
paths = st.sampled_from(
    ["/v2.1/servers", "/v2/servers", "/v2.1/p/servers", "/v2.1/servers/x/action", "/v2.1", "/"]
) | st.text(max_size=20).map(lambda text: "/v2.1/" + text)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "BREW"]),
    path=paths,
    query=st.binary(max_size=20) | st.sampled_from([b"limit=5", b"limit=-1&sort_key=a"]),
    headers=st.lists(st.tuples(names, values), max_size=3),
    body=st.binary(max_size=30) | json_bodies,
    token=st.sampled_from([b"t", b"", b"\xff"]),
)
def test_anything(
    method: str,
    path: str,
    query: bytes,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
    token: bytes,
) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": [(b"x-auth-token", token), *headers],
        "scheme": "http",
        "server": ("h", 80),
    }
    asyncio.run(APP(scope, receive, send))  # type: ignore[arg-type]
    start, *rest = sent
    assert 200 <= start["status"] < 500
    for name, value in start["headers"]:
        assert name == name.lower() and b"\n" not in value and b"\r" not in value
    text = b"".join(message["body"] for message in rest)
    if text:
        msgspec.json.decode(text)
    assert not rest[-1].get("more_body")
