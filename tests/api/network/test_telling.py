"""Events for the compute service: told at least once, across failures and restarts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from kilonova.base.clock import SystemClock
from kilonova.base.errors import Unavailable
from kilonova.base.ids import RandomIds
from kilonova.db.database import Database
from kilonova.embedded.network.app import NetworkApp, NetworkSettings
from kilonova.embedded.network.nova import NovaNotifier
from kilonova.embedded.network.open import open_network
from kilonova.embedded.network.store import outbox
from kilonova.embedded.network.telling import Notify
from kilonova.web.client import HttpClient

EVENT = {"name": "network-vif-plugged", "server_uuid": "s", "tag": "p", "status": "completed"}


async def opened(path: Path, notify: Notify) -> NetworkApp:
    return await open_network(
        Database(f"sqlite:///{path}/n.db"),
        NetworkSettings(mode="none"),
        clock=SystemClock(),
        ids=RandomIds(),
        random=os.urandom,
        notify=notify,
    )


async def until(look: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not look():
            await asyncio.sleep(0.005)


async def test_told_again_after_failures_and_after_a_restart(tmp_path: Path) -> None:
    tries: list[list[dict[str, Any]]] = []

    async def refuse(events: list[dict[str, Any]]) -> None:
        tries.append(events)
        raise Unavailable("not now")

    app = await opened(tmp_path, refuse)
    await app.db.run(outbox.put, [EVENT], "2999-01-01T00:00:00Z")
    await app.db.run(outbox.put, [EVENT | {"tag": "old"}], "2001-01-01T00:00:00Z")
    assert app.teller is not None
    app.teller.wake()
    await until(lambda: len(tries) >= 2)
    await app.close()
    app.db.close()

    taken: list[dict[str, Any]] = []

    async def take(events: list[dict[str, Any]]) -> None:
        taken.extend(events)

    again = await opened(tmp_path, take)
    await until(lambda: taken)
    assert taken == [EVENT], "what nobody took for an hour is dropped"
    async with asyncio.timeout(5):
        while await again.db.read(outbox.first, 10):
            await asyncio.sleep(0.005)
    await again.close()
    again.db.close()


@pytest.mark.parametrize(
    ("status", "good"), [(200, True), (207, True), (404, True), (400, True), (401, False),
                         (500, False)],
)  # fmt: skip
async def test_what_the_compute_service_answers(status: int, good: bool) -> None:
    seen: list[Any] = []

    async def compute(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        seen.append((request.url.path, request.headers["x-auth-token"], await request.json()))
        answer: Response = JSONResponse({}, status)
        await answer(scope, receive, send)

    async def token() -> str:
        return "secret"

    http = HttpClient(loopback={"http://compute": compute})
    notify = NovaNotifier(http, lambda: "http://compute", token)
    if good:
        await notify([EVENT])
    else:
        with pytest.raises(Unavailable):
            await notify([EVENT])
    assert seen == [("/v2.1/os-server-external-events", "secret", {"events": [EVENT]})]


async def test_without_an_endpoint_it_is_tried_later() -> None:
    async def token() -> str:
        return "secret"

    with pytest.raises(Unavailable):
        await NovaNotifier(HttpClient(), lambda: None, token)([EVENT])
