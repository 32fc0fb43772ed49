"""What the HTTP kit costs: router, schema, view and the whole pipeline, in microseconds.

Run: ``python -m benchmarks.web [--seconds 0.5]``. Medians of five runs; CPU time of this process.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from kilonova.base.clock import SystemClock
from kilonova.base.ids import RandomIds
from kilonova.web.app import build
from kilonova.web.auth import CachingAuthenticator, StaticAuthenticator
from kilonova.web.call import Call, Caller
from kilonova.web.faults import nova_faults
from kilonova.web.router import Router
from kilonova.web.routes import Api, Routes
from kilonova.web.schema import Schema, since
from kilonova.web.testing import AllowAll
from kilonova.web.versions import VersionRange
from kilonova.web.view import Field, View

RESOURCES = 34
RUNS = 5


async def _handler(call: Call[None]) -> dict[str, Any]:
    return {"server": {"id": "x", "links": [call.link("servers", "x")]}}


async def _item(call: Call[None], item_id: str) -> dict[str, Any]:
    return {"server": {"id": item_id, "links": [call.link("servers", item_id)]}}


def _api() -> Api[None]:
    routes: Routes[None] = Routes()
    for number in range(RESOURCES):
        name = f"/resource{number}"
        routes.add("GET", name, _handler)
        routes.add("POST", name, _handler)
        routes.add("GET", f"{name}/{{item_id}}", _item, policy="resource:show")
        routes.add("DELETE", f"{name}/{{item_id}}", _item)
    return Api(
        "compute",
        [routes],
        versions=VersionRange("compute", 2, 1, 104, "X-OpenStack-Nova-API-Version"),
        faults=nova_faults,
        roots=("/v2.1", "/v2.1/{project_id}", "/v2", "/v2/{project_id}"),
        request_id_header="X-Compute-Request-Id",
    )


def _timed(work: Callable[[], object], seconds: float) -> float:
    """Microseconds of CPU per call, median of the runs."""
    results = []
    for _ in range(RUNS):
        count, begun, end = 0, time.process_time(), time.perf_counter() + seconds / RUNS
        while time.perf_counter() < end:
            for _ in range(100):
                work()
            count += 100
        results.append((time.process_time() - begun) / count * 1e6)
    return statistics.median(results)


async def _timed_async(work: Callable[[], Awaitable[object]], seconds: float) -> float:
    results = []
    for _ in range(RUNS):
        count, begun, end = 0, time.process_time(), time.perf_counter() + seconds / RUNS
        while time.perf_counter() < end:
            for _ in range(50):
                await work()
            count += 50
        results.append((time.process_time() - begun) / count * 1e6)
    return statistics.median(results)


def _request(app: Any, path: str) -> Callable[[], Awaitable[object]]:
    headers = [
        (b"host", b"127.0.0.1:8774"),
        (b"x-auth-token", b"t" * 180),
        (b"openstack-api-version", b"compute 2.96"),
        (b"accept", b"application/json"),
        (b"user-agent", b"bench"),
    ]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message: Any) -> None:
        return None

    async def once() -> None:
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
            "scheme": "http", "path": path, "raw_path": path.encode(), "root_path": "",
            "query_string": b"", "headers": headers, "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8774), "state": {},
        }  # fmt: skip
        await app(scope, receive, send)

    return once


def main() -> None:
    """Measure and print one line per part."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=0.5, help="per measurement")
    seconds = options.parse_args().seconds
    logging.getLogger("kilonova.web").setLevel(logging.WARNING)
    api, clock = _api(), SystemClock()
    router = Router(api)
    project = "0123456789abcdef0123456789abcdef"
    path = f"/v2.1/{project}/resource20/7a1e6a5e-9d5a-4b3f-b9a6-f1b2c3d4e5f6"
    print(f"{len(api.routes)} routes under {len(api.roots)} roots")
    print(f"router.find            {_timed(lambda: router.find(path), seconds):8.2f} us")
    schema = Schema(
        {
            "type": "object",
            "properties": {"server": {"type": "object", "properties": {
                "name": {"type": "string", "maxLength": 255},
                "flavorRef": {"type": "string"},
                "networks": since(37, {"type": "array"}),
            }, "required": ["name", "flavorRef"]}},
        }
    )  # fmt: skip
    body = {"server": {"name": "a", "flavorRef": "1", "networks": []}}
    print(f"schema.check           {_timed(lambda: schema.check(body, 96), seconds):8.2f} us")
    view = View("server", [Field(f"f{n}", lambda o: o, since=n * 3) for n in range(30)])
    print(f"view.render 30 fields  {_timed(lambda: view.render(1, 104), seconds):8.2f} us")
    caller = Caller(user_id="u", project_id=project, roles=("admin", "member", "reader"))
    auth = CachingAuthenticator(StaticAuthenticator({"t" * 180: caller}), clock)
    app = build(api, None, auth=auth, policy=AllowAll(), clock=clock, ids=RandomIds())
    whole = asyncio.run(_timed_async(_request(app, path), seconds))
    print(f"GET, whole pipeline    {whole:8.2f} us")


if __name__ == "__main__":
    main()
