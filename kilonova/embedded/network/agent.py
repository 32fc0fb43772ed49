"""The data plane's agent of one host: fetch the plan, apply it, say which ports are open."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from kilonova.base.aio import backoff
from kilonova.embedded.network import plane
from kilonova.embedded.network.plane.desired import HostPlan
from kilonova.embedded.network.plane.metadata_proxy import MetadataProxy, ProxySettings
from kilonova.web.client import HttpClient

log = logging.getLogger(__name__)

LOOK = 0.05
ANNOUNCE = 20.0


class PlaneAgent:
    """Keeps one host as the network service wants it, until stopped."""

    def __init__(
        self,
        host: str,
        *,
        url: str,
        http: HttpClient,
        token: Callable[[], Awaitable[str]],
        env: plane.PlaneEnv,
        proxy: ProxySettings,
        vtep_ip: str | None = None,
    ) -> None:
        self._host = host
        self._url = f"{url.rstrip('/')}/ext/hosts/{host}"
        self._http = http
        self._token = token
        self._env = env
        self._proxy = MetadataProxy(proxy, env)
        self._vtep = vtep_ip
        self._plan: HostPlan | None = None
        self._told: dict[str, bool] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Announce the host and begin to follow the plan; Unavailable if the service is away."""
        await self._announce()
        self._tasks = [
            asyncio.create_task(self._follow(), name="network-plan"),
            asyncio.create_task(self._watch(), name="network-ports"),
            asyncio.create_task(self._live(), name="network-announce"),
        ]

    async def stop(self) -> None:
        """Stop following; what is on the host stays as it is."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        await self._proxy.close()

    async def audit(self) -> list[str]:
        """Where the host differs from the plan."""
        if self._plan is None:
            return []
        return await plane.audit(self._plan, self._env)

    async def _follow(self) -> None:
        version = ""
        pauses = backoff(0.2, most=5.0)
        while True:
            try:
                answer = await self._ask("GET", "/plan", params={"after": version}, seconds=45)
                self._plan = msgspec.convert(answer["plan"], HostPlan)
                report = await plane.apply(self._plan, env=self._env)
                for line in (*report.problems, *report.notes):
                    log.warning("network of this host: %s", line)
                for line in await self._proxy.sync(self._plan):
                    log.warning("metadata proxy: %s", line)
                await self._tell()
                # What could not be done is tried again soon, also when nothing changes.
                version = "" if report.problems else answer["version"]
                if report.problems:
                    await asyncio.sleep(next(pauses))
                else:
                    pauses = backoff(0.2, most=5.0)
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("the network of this host could not be brought up to date")
                await asyncio.sleep(next(pauses))

    async def _watch(self) -> None:
        """Report a port as soon as its card appears or goes."""
        while True:
            await asyncio.sleep(LOOK)
            try:
                await self._tell()
            except Exception as error:
                log.warning("could not report ports: %s", error)
                await asyncio.sleep(1.0)

    async def _tell(self) -> None:
        plan = self._plan
        if plan is None:
            return
        links = {name for _, name in socket.if_nameindex()}
        present = {port.id: port.tap in links for port in plan.ports}
        opened = [i for i, there in present.items() if there and not self._told.get(i)]
        closed = [i for i, there in present.items() if not there and self._told.get(i, True)]
        if opened or closed:
            await self._ask("PUT", "/ports", json={"opened": opened, "closed": closed})
        self._told = present

    async def _live(self) -> None:
        while True:
            await asyncio.sleep(ANNOUNCE)
            with contextlib.suppress(Exception):
                await self._announce()

    async def _announce(self) -> None:
        await self._ask("PUT", "", json={"mode": "bridge", "vtep_ip": self._vtep})

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: dict[str, str] | None = None,
        seconds: float = 30,
    ) -> Any:
        answer = await self._http.request(
            method,
            self._url + path,
            json=json,
            params=params,
            headers={"X-Auth-Token": await self._token()},
            timeout=seconds,
        )
        if answer.status not in (200, 204):
            raise RuntimeError(f"the network service answered {answer.status}: {answer.text[:200]}")
        return answer.json() if answer.body else None
