"""The pipeline's edges: streams, disconnects, proxies, CORS, health, repeated requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from kilonova.base import log as context
from kilonova.base.clock import SystemClock, VirtualClock
from kilonova.base.errors import Conflict, NotFound
from kilonova.base.ids import RandomIds
from kilonova.web.app import build
from kilonova.web.auth import StaticAuthenticator
from kilonova.web.call import Call, Caller, Reply
from kilonova.web.client import HttpClient
from kilonova.web.faults import glance_faults
from kilonova.web.health import standalone
from kilonova.web.idempotency import MemoryIdempotencyStore
from kilonova.web.middleware import Cors
from kilonova.web.routes import Api, Root, Routes
from kilonova.web.testing import AllowAll, Client

LIMIT = 1000


class State(msgspec.Struct):
    ids: list[str] = []
    fail: Exception | None = None
    wait: asyncio.Event | None = None
    running: int = 0


routes: Routes[State] = Routes(prefix="/images")


@routes.put("/{image_id}/file", stream=True, consumes=["application/octet-stream"], status=204)
async def upload(call: Call[State], image_id: str) -> None:
    size = 0
    async for chunk in call.request.stream():
        size += len(chunk)
    call.app.ids.append(f"{image_id}:{size}")


@routes.get("/{image_id}/file")
async def download(call: Call[State], image_id: str) -> StreamingResponse:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 1000
        if image_id == "broken":
            raise RuntimeError("disk")

    return StreamingResponse(chunks(), media_type="application/octet-stream")


@routes.get("/{image_id}", head=True)
async def show(call: Call[State], image_id: str) -> Reply:
    ids = f"{context.global_request_id.get()} {context.request_id.get()} {context.who.get()}"
    return Reply({"id": image_id, "ids": ids, "href": call.link("images", image_id)})


@routes.get("")
async def index(call: Call[State]) -> dict[str, Any]:
    return {"bookmark": call.bookmark("images"), "project": call.project_in_path}


@routes.post("", max_body=LIMIT, status=201)
async def create(call: Call[State]) -> Reply:
    key = call.ids.uuid()
    call.app.running += 1
    if call.app.wait is not None:
        await call.app.wait.wait()
    if call.app.fail is not None:
        raise call.app.fail
    call.app.ids.append(key)
    return Reply({"id": key}, headers={"Location": call.link("images", key)})


@routes.post("/group")
async def group(call: Call[State]) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(asyncio.sleep(5))
        tasks.create_task(_fails())


async def _fails() -> None:
    raise NotFound("Image x is not there.")


async def _extra(request: Any) -> PlainTextResponse:
    return PlainTextResponse("extra")


PEOPLE = {
    "a": Caller(user_id="ua", project_id="pa", roles=("member",)),
    "b": Caller(user_id="ub", project_id="pb", roles=("member",)),
}


@pytest.fixture
def state() -> State:
    return State()


def made(state: State, **more: Any) -> ASGIApp:
    api: Api[State] = Api(
        "image",
        [routes],
        faults=glance_faults,
        roots=["/v2", Root("/v3/{project_id}")],
        wrong_method=404,
    )
    clock = more.pop("clock", SystemClock())
    options = {
        "auth": StaticAuthenticator(PEOPLE),
        "policy": AllowAll(),
        "clock": clock,
        "ids": RandomIds(),
        "idempotency": MemoryIdempotencyStore(clock),
        "extra": [Route("/extra", _extra)],
        **more,
    }
    return build(api, state, **options)


@pytest.fixture
def client(state: State) -> Client:
    return Client(made(state), token="a")


async def test_streams(client: Client, state: State, caplog: pytest.LogCaptureFixture) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield b"x" * 1000

    kind = {"Content-Type": "application/octet-stream"}
    answer = await client.put("/v2/images/1/file", data=pieces(), headers=kind)
    assert (answer.status, state.ids) == (204, ["1:300000"])
    wrong = await client.put("/v2/images/1/file", json={})
    assert (wrong.status, wrong.json()["code"]) == (415, "415 Unsupported Media Type")
    got = await client.get("/v2/images/1/file")
    assert len(got.body) == 10_000 and got.headers["X-OpenStack-Request-Id"].startswith("req-")
    with pytest.raises(Exception, match="broke off"):
        await client.get("/v2/images/broken/file")
    assert "disk" in caplog.text


async def test_head_and_methods(client: Client) -> None:
    head, get = await client.head("/v2/images/1"), await client.get("/v2/images/1")
    assert (head.status, head.body, head.headers["Content-Type"]) == (200, b"", "application/json")
    assert int(head.headers["Content-Length"]) == len(get.body)
    assert (await client.head("/v2/images")).status == 404
    assert (await client.delete("/v2/images")).status == 404


async def test_request_ids_reach_the_log_context(client: Client) -> None:
    outer = "req-7a1e6a5e-9d5a-4b3f-b9a6-f1b2c3d4e5f6"
    answer = await client.get("/v2/images/1", headers={"X-OpenStack-Request-ID": outer})
    own = answer.headers["X-OpenStack-Request-Id"]
    assert own != outer
    assert answer.json()["ids"] == f"{outer} {own} ua pa"
    forged = await client.get("/v2/images/1", headers={"X-OpenStack-Request-ID": "req-x\x01"})
    assert forged.json()["ids"].startswith(" req-")
    assert context.request_id.get() == context.global_request_id.get() == ""


async def test_project_roots(client: Client) -> None:
    answer = await client.get("/v3/pa/images")
    assert answer.json() == {"bookmark": "http://testserver/pa/images", "project": "pa"}
    assert (await client.get("/v3/pb/images")).status == 400


async def test_limits(client: Client, state: State) -> None:
    assert (await client.post("/v2/images", data=b"1" * (LIMIT + 1))).status == 413
    assert (await client.post("/v2/images", data=b"1")).status == 201

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(LIMIT):
            yield b"11"

    assert (await client.post("/v2/images", data=pieces())).status == 413
    odd = await client.post("/v2/images", data=b"1", headers={"Content-Length": "many"})
    assert odd.status == 400
    assert (await client.get("/v2/images/%00")).status == 400
    vendor = {"Content-Type": "application/vnd.openstack.image+json; charset=utf-8"}
    assert (await client.post("/v2/images", data=b"1", headers=vendor)).status == 201


async def test_errors_inside_task_groups(client: Client) -> None:
    answer = await client.post("/v2/images/group")
    assert (answer.status, answer.json()["message"]) == (404, "Image x is not there.")


async def test_a_client_that_goes_away(state: State) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/v2/images", "query_string": b"",
        "headers": [(b"x-auth-token", b"a")], "scheme": "http", "server": ("h", 80),
    }  # fmt: skip
    await made(state)(scope, receive, send)
    assert sent == [] and state.ids == []


async def test_extra_routes(client: Client) -> None:
    answer = await client.get("/extra", token="")
    assert (answer.status, answer.text) == (200, "extra")
    assert "X-OpenStack-Request-Id" in answer.headers
    assert (await client.get("/nothing", token="")).status == 404


async def test_proxies(state: State) -> None:
    headers = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "cloud.example",
        "X-Forwarded-Prefix": "/image",
    }
    plain = await Client(made(state), token="a").get("/v2/images/1", headers=headers)
    assert plain.json()["href"] == "http://testserver/v2/images/1"
    app = made(state, trust_forwarded=True)
    behind = await Client(app, token="a").get("/v2/images/1", headers=headers)
    assert behind.json()["href"] == "https://cloud.example/image/v2/images/1"
    rfc = {"Forwarded": 'for="[2001:db8::1]";proto=https;host="x.example:8443", for=10.0.0.1'}
    again = await Client(app, token="a").get("/v2/images/1", headers=rfc)
    assert again.json()["href"] == "https://x.example:8443/v2/images/1"
    fixed = made(state, public_url="https://public.example/i/")
    link = await Client(fixed, token="a").get("/v2/images/1")
    assert link.json()["href"] == "https://public.example/i/v2/images/1"
    strange = await Client(made(state), token="a").get("/v2/images/1", headers={"Host": "a b<"})
    assert "<" not in strange.json()["href"]


async def test_cors(state: State) -> None:
    app = made(state, cors=Cors(allowed_origin=("http://board",)))
    ask = {
        "Origin": "http://board",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "X-Auth-Token",
    }
    preflight = await Client(app).request("OPTIONS", "/v2/images", headers=ask)
    assert preflight.status == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == "http://board"
    assert preflight.headers["Access-Control-Allow-Headers"] == "X-Auth-Token"
    for wrong in (
        {"Origin": "http://evil"},
        {"Access-Control-Request-Method": "TRACE"},
        {"Access-Control-Request-Headers": "X-Auth-Token, X-Other"},
    ):
        refused = await Client(app).request("OPTIONS", "/v2/images", headers=ask | wrong)
        assert (refused.status, refused.body) == (200, b"")
        assert not [n for n in refused.headers if n.lower().startswith("access-control")]
    answer = await Client(app, token="a").get("/v2/images/1", headers={"Origin": "http://board"})
    assert "X-OpenStack-Request-Id" in answer.headers["Access-Control-Expose-Headers"]
    other = await Client(app, token="a").get("/v2/images/1", headers={"Origin": "http://evil"})
    assert "Access-Control-Allow-Origin" not in other.headers


async def test_health() -> None:
    async def fine() -> str | None:
        return None

    async def ill() -> str | None:
        return "the broker is away"

    async def broken() -> str | None:
        raise RuntimeError("password=x")

    answer = await Client(standalone({"db": fine})).get("/healthcheck")
    assert (answer.status, answer.text) == (200, "OK")
    client = Client(standalone({"db": fine, "bus": ill, "disk": broken}))
    bad = await client.get("/healthcheck")
    assert (bad.status, bad.text) == (503, "bus: the broker is away\ndisk: failed: RuntimeError\n")
    detail = await client.get("/healthcheck", headers={"Accept": "application/json"})
    assert detail.json()["status"] == "FAILED"
    assert [row["ok"] for row in detail.json()["checks"]] == [True, False, False]
    assert (await client.get("/other")).status == 404
    assert (await client.post("/metrics")).status == 405


KEY = {"Idempotency-Key": "key-1"}


async def test_keys_belong_to_their_user(client: Client, state: State) -> None:
    one = await client.post("/v2/images", json={}, headers=KEY)
    two = await client.post("/v2/images", json={}, headers=KEY, token="b")
    assert one.json() != two.json() and len(state.ids) == 2
    assert (await client.post("/v2/images", json={}, headers={"Idempotency-Key": ""})).status == 400


async def test_a_failed_request_may_be_repeated_with_the_same_ids(
    client: Client, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    state.fail = Conflict("later")
    assert (await client.post("/v2/images", json={}, headers=KEY)).status == 409
    state.fail = RuntimeError("crash")
    assert (await client.post("/v2/images", json={}, headers=KEY)).status == 500
    state.fail = None
    first = await client.post("/v2/images", json={}, headers=KEY)
    assert first.status == 201
    fresh = State()
    again = await Client(made(fresh), token="a").post("/v2/images", json={}, headers=KEY)
    assert again.json() == first.json()


async def test_equal_requests_at_once_run_once(client: Client, state: State) -> None:
    state.wait = asyncio.Event()
    both = [asyncio.create_task(client.post("/v2/images", json={}, headers=KEY)) for _ in range(2)]
    await asyncio.sleep(0.02)
    state.wait.set()
    answers = await asyncio.gather(*both)
    assert [answer.status for answer in answers] == [201, 201]
    assert answers[0].body == answers[1].body and state.running == 1


async def test_a_long_wait_ends_in_a_conflict(state: State) -> None:
    clock = VirtualClock()
    client = Client(made(state, clock=clock), token="a")
    state.wait = asyncio.Event()
    first = asyncio.create_task(client.post("/v2/images", json={}, headers=KEY))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(client.post("/v2/images", json={}, headers=KEY))
    await asyncio.sleep(0.01)
    await clock.advance(21)
    assert (await second).status == 409
    state.wait.set()
    assert (await first).status == 201


async def test_answers_are_kept_sealed(state: State) -> None:
    store = MemoryIdempotencyStore(SystemClock())
    client = Client(made(state, idempotency=store), token="a")
    answer = await client.post("/v2/images", json={}, headers=KEY)
    kept = msgspec.json.encode({key: row.reply for key, row in store._rows.items()})
    assert answer.json()["id"].encode() not in kept
    replayed = await client.post("/v2/images", json={}, headers=KEY)
    assert replayed.headers["Idempotency-Replayed"] == "true"


async def test_the_request_id_travels_to_neighbours(
    client: Client, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    inner = HttpClient(loopback={"http://inner": made(state)})
    mark = context.request_id.set("req-7a1e6a5e-9d5a-4b3f-b9a6-f1b2c3d4e5f6")
    answer = await inner.request("GET", "http://inner/v2/images/1", headers={"X-Auth-Token": "a"})
    context.request_id.reset(mark)
    assert answer.json()["ids"].startswith("req-7a1e6a5e-9d5a-4b3f-b9a6-f1b2c3d4e5f6 req-")


async def test_log_lines(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "kilonova.web"):
        await client.get("/v2/images/1")
    assert not caplog.records
    with caplog.at_level(logging.DEBUG, "kilonova.web"):
        await client.get("/v2/images/1?x=y")
    (line,) = [r.getMessage() for r in caplog.records if "status:" in r.getMessage()]
    assert line.startswith('127.0.0.1 "GET /v2/images/1?x=y" status: 200 len: ')
    assert "microversion: - time: 0." in line
