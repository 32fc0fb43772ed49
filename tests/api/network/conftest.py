"""A network service in process, on SQLite in memory, with two projects and an administrator."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kilonova.base.clock import SystemClock
from kilonova.base.ids import RandomIds
from kilonova.db.database import Database
from kilonova.embedded.network import service
from kilonova.embedded.network.app import NetworkApp, NetworkSettings
from kilonova.web.auth import StaticAuthenticator
from kilonova.web.call import Caller
from kilonova.web.testing import Client
from tests.support.truth import truthful

ONE, TWO = "1" * 32, "2" * 32


def caller(project: str, *roles: str) -> Caller:
    return Caller(user_id=f"u-{project[:3]}", project_id=project, roles=roles)


class Cloud:
    """The service, what it told the compute service, and clients of everybody."""

    def __init__(self, db: Database, mode: str) -> None:
        self.events: list[dict[str, Any]] = []

        async def notify(events: list[dict[str, Any]]) -> None:
            self.events += events

        self.app = NetworkApp(
            db,
            NetworkSettings(mode=mode),
            clock=SystemClock(),
            ids=RandomIds(),
            random=os.urandom,
            notify=notify,
        )
        auth = StaticAuthenticator(
            {
                "one": caller(ONE, "member", "reader"),
                "two": caller(TWO, "member", "reader"),
                "reader": caller(ONE, "reader"),
                "nobody": caller(ONE),
                "admin": caller("a" * 32, "admin", "member", "reader"),
            }
        )
        self.asgi = truthful(service.build(self.app, auth=auth), service.api())
        self.auth = auth
        self.one = Client(self.asgi, token="one")
        self.two = Client(self.asgi, token="two")
        self.admin = Client(self.asgi, token="admin")

    async def told(self, count: int = 1) -> list[dict[str, Any]]:
        """What the compute service was told, once there are so many events."""
        async with asyncio.timeout(5):
            while len(self.events) < count:
                await asyncio.sleep(0.005)
        return self.events


@pytest.fixture
async def cloud(request: pytest.FixtureRequest) -> AsyncIterator[Cloud]:
    db = Database("sqlite://")
    service.prepare(db)
    made = Cloud(db, getattr(request, "param", "none"))
    made.app.start()
    yield made
    await made.app.close()
    db.close()
