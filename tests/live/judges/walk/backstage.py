"""A cloud of fake hosts in this process, as the walk's thread sees it from behind the stage."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec

from kilonova.services.all_in_one import Cloud
from kilonova.virt.fake import FakeWorld
from kilonova.workflows import operate

T = TypeVar("T")
WAIT = 180.0
"""Seconds that anything may take on a slow machine."""
SERVICES = ("compute", "network", "image", "block-storage")


class Backstage:
    """Made in the cloud's event loop, used from another thread."""

    def __init__(self, cloud: Cloud) -> None:
        assert cloud.world is not None and cloud.conductor is not None
        self._cloud = cloud
        self._loop = asyncio.get_running_loop()
        self._databases = {
            "api": cloud.conductor.sources.db,
            **{cell.id: cell.db for cell in cloud.conductor.sources.cells.all},
        }
        self.world: FakeWorld = cloud.world

    def busy(self, server_id: str) -> list[str]:
        """The sagas of a server that have not ended."""
        found = self._do(operate.list_sagas(self._databases, server_id=server_id))
        return [f"{view.name} ({view.state})" for view in found]

    def went_wrong(self, server_id: str) -> list[str]:
        """What the sagas of a server ended with that did not do their work."""
        found = self._do(operate.list_sagas(self._databases, server_id=server_id, ended=True))
        return [f"{view.name}: {view.error}" for view in found if view.error]

    def login(self) -> tuple[str, str, dict[str, str]]:
        """The administrator's project, token, and service type → address."""
        domain = {"name": "Default"}
        password = self._cloud.secrets.admin_password
        user = {"name": "admin", "password": password, "domain": domain}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": {"name": "admin", "domain": domain}},
            }
        }
        url = self._cloud.layout.url("identity", "/v3/auth/tokens")
        answer = self._do(self._cloud.http.request("POST", url, json=body))
        token = msgspec.json.decode(answer.body)["token"]
        urls = {
            row["type"]: entry["url"]
            for row in token["catalog"]
            for entry in row["endpoints"]
            if row["type"] in SERVICES and entry["interface"] == "public"
        }
        return token["project"]["id"], answer.headers["x-subject-token"], urls

    def stop_agent(self, host: str) -> None:
        """Let a host's agent end; its guests stay as they are."""
        self._do(self._cloud.agents.pop(host).stop())

    def start_agent(self, host: str) -> None:
        """Let the agent of a host begin anew."""
        self._do(self._start_agent(host))

    async def _start_agent(self, host: str) -> None:
        assert self._cloud.new_agent is not None
        agent = self._cloud.agents[host] = self._cloud.new_agent(host)
        await agent.start()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT)
