"""Conversations with a small service built on the kit."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest

from kilonova.base.clock import SystemClock
from kilonova.base.errors import Conflict, NotFound
from kilonova.base.ids import RandomIds
from kilonova.web.app import build
from kilonova.web.auth import StaticAuthenticator
from kilonova.web.call import Call, Caller, Reply
from kilonova.web.faults import nova_faults
from kilonova.web.idempotency import MemoryIdempotencyStore
from kilonova.web.routes import Api, Root, Routes
from kilonova.web.schema import Schema, since
from kilonova.web.testing import AllowRules, Client
from kilonova.web.versions import VersionRange


class Store(msgspec.Struct):
    rows: dict[str, Any] = {}
    made: list[str] = []


routes: Routes[Store] = Routes(prefix="/things")
top: Routes[Store] = Routes(rooted=False)

CREATE = Schema(
    {
        "type": "object",
        "properties": {
            "thing": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "minLength": 1, "maxLength": 10},
                    "size": since(5, {"type": "integer", "minimum": 0}),
                },
                "required": ["name", since(7, "size")],
                "additionalProperties": False,
            }
        },
        "required": ["thing"],
        "additionalProperties": False,
    }
)
QUERY = Schema(
    {
        "type": "object",
        "properties": {"limit": {"type": "integer", "minimum": 0}, "name": {"type": "string"}},
        "additionalProperties": False,
    }
)


@top.get("/", public=True, status=300)
async def versions(call: Call[Store]) -> dict[str, Any]:
    return {"versions": [call.link("v2.1")]}


@routes.get("", query=QUERY)
async def index(call: Call[Store]) -> dict[str, Any]:
    return {"things": list(call.app.rows), "names": call.query.all("name")}


@routes.get("/detail")
async def detail(call: Call[Store]) -> dict[str, Any]:
    return {"detail": True}


@routes.post("", body=CREATE, policy="things:create", status=202)
async def create(call: Call[Store]) -> Reply:
    key = call.ids.uuid()
    call.app.rows[key] = call.body["thing"]
    call.app.made.append(key)
    return Reply({"thing": {"id": key}}, headers={"Location": call.link("things", key)})


@routes.get("/{thing_id}")
async def show(call: Call[Store], thing_id: str) -> dict[str, Any]:
    if thing_id == "boom":
        raise RuntimeError("secret inside")
    if thing_id not in call.app.rows:
        raise NotFound(f"Thing {thing_id} could not be found.")
    return {"thing": call.app.rows[thing_id], "v": call.version}


@routes.delete("/{thing_id}", status=204)
async def delete(call: Call[Store], thing_id: str) -> None:
    call.app.rows.pop(thing_id, None)


@routes.post("/{thing_id}/action", action="start", status=202)
async def start(call: Call[Store], thing_id: str) -> None:
    raise Conflict(f"Cannot start {thing_id}.")


@routes.post("/{thing_id}/action", action="stop", since=3, status=202)
async def stop(call: Call[Store], thing_id: str) -> None:
    return None


@routes.get("/{thing_id}/old", until=4)
async def old(call: Call[Store], thing_id: str) -> dict[str, str]:
    return {"old": thing_id}


@routes.get("/{thing_id}/gone", gone=True)
async def gone(call: Call[Store], thing_id: str) -> None:
    return None


MEMBER = Caller(user_id="u1", project_id="p1", roles=("member", "reader"))
READER = Caller(user_id="u2", project_id="p1", roles=("reader",))


class MemberEnforcer(AllowRules):
    def allows(self, rule: str, caller: Caller, target: Any) -> bool:
        return "member" in caller.roles


@pytest.fixture
def store() -> Store:
    return Store({}, [])


@pytest.fixture
def client(store: Store) -> Client:
    api: Api[Store] = Api(
        "compute",
        [routes, top],
        versions=VersionRange("compute", 2, 1, 10, legacy_header="X-OpenStack-Nova-API-Version"),
        faults=nova_faults,
        roots=["/v2.1", "/v2.1/{project_id}", Root("/v2", relaxed=True)],
        request_id_header="X-Compute-Request-Id",
    )
    app = build(
        api,
        store,
        auth=StaticAuthenticator({"m": MEMBER, "r": READER}),
        policy=MemberEnforcer(),
        clock=SystemClock(),
        ids=RandomIds(),
        idempotency=MemoryIdempotencyStore(SystemClock()),
        auth_uri="http://identity:5000",
    )
    return Client(app, token="m")


async def test_create_and_show(client: Client) -> None:
    made = await client.post("/v2.1/things", json={"thing": {"name": "a"}})
    assert made.status == 202
    key = made.json()["thing"]["id"]
    assert made.headers["Location"] == f"http://testserver/v2.1/things/{key}"
    assert made.headers["X-Compute-Request-Id"] == made.headers["X-OpenStack-Request-Id"]
    assert made.headers["OpenStack-API-Version"] == "compute 2.1"
    assert made.headers["X-OpenStack-Nova-API-Version"] == "2.1"
    assert made.headers.getall("Vary") == ["OpenStack-API-Version", "X-OpenStack-Nova-API-Version"]
    shown = await client.get(f"/v2.1/things/{key}", version="latest")
    assert shown.json() == {"thing": {"name": "a"}, "v": 10}
    assert (await client.get("/v2.1/things/detail")).json() == {"detail": True}
    assert (await client.get("/v2.1/things/")).json()["things"] == [key]
    gone = await client.delete(f"/v2.1/things/{key}")
    assert (gone.status, gone.body) == (204, b"")


async def test_public_versions(client: Client) -> None:
    answer = await client.get("/", token="")
    assert (answer.status, answer.json()) == (300, {"versions": ["http://testserver/v2.1"]})


async def test_unauthorized(client: Client) -> None:
    for path in ("/v2.1/things", "/v2.1/nothing"):
        answer = await client.get(path, token="x")
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == 'Keystone uri="http://identity:5000"'
        assert answer.json()["error"]["code"] == 401


async def test_forbidden_comes_after_the_schema(client: Client) -> None:
    bad = await client.post("/v2.1/things", json={"thing": {}}, token="r")
    assert bad.status == 400
    answer = await client.post("/v2.1/things", json={"thing": {"name": "a"}}, token="r")
    assert answer.status == 403
    assert "things:create" in answer.json()["forbidden"]["message"]


async def test_schema_by_version(client: Client) -> None:
    body = {"thing": {"name": "a", "size": 3}}
    low = await client.post("/v2.1/things", json=body)
    assert low.status == 400
    assert "thing" in low.json()["badRequest"]["message"]
    assert (await client.post("/v2.1/things", json=body, version="2.5")).status == 202
    short = {"thing": {"name": "a"}}
    assert (await client.post("/v2.1/things", json=short, version="2.7")).status == 400
    relaxed = await client.post("/v2/things", json=body, version="2.7")
    assert relaxed.status == 202
    assert "OpenStack-API-Version" not in relaxed.headers


async def test_version_errors(client: Client) -> None:
    assert (await client.get("/v2.1/things", version="2.11")).status == 406
    assert (await client.get("/v2.1/things", version="2.x")).status == 400
    header = {"X-OpenStack-Nova-API-Version": "2.3"}
    answer = await client.get("/v2.1/things", headers=header)
    assert answer.headers["OpenStack-API-Version"] == "compute 2.3"


async def test_actions(client: Client) -> None:
    url = "/v2.1/things/7/action"
    assert (await client.post(url, json={"start": None})).status == 409
    assert (await client.post(url, json={"stop": None})).status == 404
    assert (await client.post(url, json={"stop": None}, version="2.3")).status == 202
    bodies: list[Any] = [{"jump": 1}, {"start": None, "stop": None}, {}, [], None]
    for body in bodies:
        answer = await client.post(url, json=body)
        assert answer.status == 400
        assert "no such action" in answer.json()["badRequest"]["message"]


async def test_windows_and_gone(client: Client) -> None:
    assert (await client.get("/v2.1/things/7/old", version="2.4")).status == 200
    assert (await client.get("/v2.1/things/7/old", version="2.5")).status == 404
    assert (await client.get("/v2.1/things/7/gone")).status == 410


async def test_methods_and_paths(client: Client) -> None:
    answer = await client.put("/v2.1/things", json={})
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, POST")
    assert "badMethod" in answer.json()
    assert (await client.get("/v2.1/nothing")).status == 404
    assert (await client.get("/v2.1/p1/things")).status == 200
    assert (await client.get("/v2.1/p2/things")).status == 400


async def test_bodies(client: Client) -> None:
    url = "/v2.1/things"
    for data in (b"{", b"[" * 3000, b'{"thing": {"name": "\\u0000"}}', b"\xff"):
        assert (await client.post(url, data=data)).status == 400
    big = await client.post(url, data=b'"' + b"x" * 114688 + b'"')
    assert (big.status, big.json()["overLimit"]["code"]) == (413, 413)
    text = {"Content-Type": "text/plain"}
    assert (await client.post(url, data=b"{}", headers=text)).status == 415
    assert (await client.post(url)).status == 400


async def test_query_schema(client: Client) -> None:
    url = "/v2.1/things"
    assert (await client.get(url, params={"limit": "-1"})).status == 400
    assert (await client.get(url, params={"limit": "x"})).status == 400
    assert (await client.get(url, params={"other": "x"})).status == 400
    answer = await client.get(url, params=[("limit", "1"), ("name", "a"), ("name", "b")])
    assert answer.json()["names"] == ["a", "b"]
    assert (await client.get(url + "?name=%ff")).status == 400


async def test_unexpected_error(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "kilonova.web"):
        answer = await client.get("/v2.1/things/boom")
    assert answer.status == 500
    assert "secret" not in answer.text
    assert answer.headers["X-OpenStack-Request-Id"] in answer.text
    assert "secret inside" in caplog.text
    assert '"GET /v2.1/things/boom" status: 500' in caplog.text


async def test_idempotency(client: Client, store: Store) -> None:
    key = {"Idempotency-Key": "k1"}
    body = {"thing": {"name": "a"}}
    first = await client.post("/v2.1/things", json=body, headers=key)
    again = await client.post("/v2.1/things", json=body, headers=key)
    assert (again.status, again.body) == (first.status, first.body)
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(store.made) == 1
    other = await client.post("/v2.1/things", json={"thing": {"name": "b"}}, headers=key)
    assert other.status == 409


async def test_health_and_metrics(client: Client) -> None:
    await client.get("/v2.1/things")
    assert (await client.get("/healthcheck", token="")).text == "OK"
    figures = (await client.get("/metrics", token="")).text
    assert 'kilonova_http_requests_total{method="GET",route="/things",status="200"} 1.0' in figures
