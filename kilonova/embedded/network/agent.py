"""The network agents of one host: fetch the plan, apply it, say which ports are open."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from kilonova.base.aio import Signal, backoff
from kilonova.base.errors import Unavailable
from kilonova.embedded.network import plane
from kilonova.embedded.network.links import LinkWatch
from kilonova.embedded.network.plane.desired import HostPlan
from kilonova.web.client import HttpClient

if TYPE_CHECKING:
    from kilonova.embedded.network.plane.metadata_proxy import ProxySettings

log = logging.getLogger(__name__)

ANNOUNCE = 20.0
WAIT = 30.0
LONGEST_TRUST = 60.0
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0
AUDIT_PATIENCE = 10.0
AUDIT_PAUSE = 0.2

Token = Callable[[], Awaitable[str]]


class HostLink:
    """One host's line to the network service (``{url}/ext/hosts/{host}``)."""

    def __init__(self, host: str, *, url: str, http: HttpClient, token: Token) -> None:
        self.host = host
        self._url = f"{url.rstrip('/')}/ext/hosts/{host}"
        self._http = http
        self._token = token

    async def announce(self, mode: str, vtep_ip: str | None = None) -> None:
        """Say that the host lives and how it plugs cards."""
        await self._ask("PUT", "", json={"mode": mode, "vtep_ip": vtep_ip})

    async def plan(self, after: str, wait: float) -> dict[str, Any]:
        """The plan as soon as it is another one than ``after``, or after ``wait`` seconds."""
        params = {"after": after, "wait": str(int(wait))}
        answer: dict[str, Any] = await self._ask("GET", "/plan", params=params, seconds=wait + 15)
        return answer

    async def report(self, opened: list[str], closed: list[str]) -> None:
        """Say which ports are open now and which no longer."""
        await self._ask("PUT", "/ports", json={"opened": opened, "closed": closed})

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
            raise Unavailable(f"the network service answered {answer.status}: {answer.text[:200]}")
        return answer.json() if answer.body else None


class Announcer:
    """Keeps a host known that has no data plane of ours (modes user and none)."""

    def __init__(self, link: HostLink, mode: str, vtep_ip: str | None = None) -> None:
        self._link = link
        self._mode = mode
        self._vtep = vtep_ip
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Announce the host, again and again; raises if the service cannot be reached now."""
        await self._link.announce(self._mode, self._vtep)
        self._task = asyncio.create_task(self._live(), name="network-announce")

    async def stop(self) -> None:
        """Announce no more."""
        await _end(self._task)
        self._task = None

    async def _live(self) -> None:
        while True:
            await asyncio.sleep(ANNOUNCE)
            try:
                await self._link.announce(self._mode, self._vtep)
            except Exception as error:
                log.warning("the network service does not know that this host lives: %s", error)


class PlaneAgent:
    """Keeps one host as the network service wants it, until stopped.

    A change of the plan is applied as soon as the service knows of it; every half minute the host
    is brought right again also without one.
    """

    def __init__(
        self,
        host: str,
        *,
        url: str,
        http: HttpClient,
        token: Token,
        env: plane.PlaneEnv,
        proxy: ProxySettings,
        vtep_ip: str | None = None,
    ) -> None:
        """``proxy`` says where guests' metadata requests go; ``vtep_ip`` where tunnels end."""
        from kilonova.embedded.network.plane.metadata_proxy import (  # noqa: PLC0415
            MetadataProxy,
        )

        self._link = HostLink(host, url=url, http=http, token=token)
        self._announcer = Announcer(self._link, "bridge", vtep_ip)
        self._env = env
        self._plane = plane.Plane(env)
        self._proxy = MetadataProxy(proxy, env)
        self._look = Signal()
        self._watch = LinkWatch(env.netns, self._look.set)
        self._plan: HostPlan | None = None
        self._told: dict[str, bool] = {}
        self._boot = ""
        self._applied = ""
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Announce the host and begin to follow the plan; Unavailable if the service is away."""
        await self._announcer.start()
        await self._watch.open()
        self._tasks = [
            asyncio.create_task(self._follow(), name="network-plan"),
            asyncio.create_task(self._report(), name="network-ports"),
        ]

    async def stop(self) -> None:
        """Stop following; what is on the host stays as it is."""
        for task in self._tasks:
            await _end(task)
        self._tasks = []
        self._watch.close()
        await self._announcer.stop()
        await self._proxy.close()

    @property
    def plan(self) -> HostPlan | None:
        """The plan in force; None before the first."""
        return self._plan

    async def audit(self) -> list[str]:
        """Where the host differs from what the service wants; Unavailable if it is away.

        A newer plan that is still being applied gets a moment to be.
        """
        end = self._env.clock.monotonic() + AUDIT_PATIENCE
        answer = await self._link.plan("", 0)
        while answer["version"] != self._applied and self._env.clock.monotonic() < end:
            await asyncio.sleep(AUDIT_PAUSE)
            answer = await self._link.plan("", 0)
        return await plane.audit(msgspec.convert(answer["plan"], HostPlan), self._env)

    async def _follow(self) -> None:
        version, wait, looked = "", WAIT, -LONGEST_TRUST
        pauses = backoff(FIRST_PAUSE, most=LONGEST_PAUSE)
        again = backoff(1.0, most=LONGEST_PAUSE)
        while True:
            try:
                answer = await self._link.plan(version, wait)
                # Without a change, and now and then among many, everything is looked at.
                now = self._env.clock.monotonic()
                whole = answer["version"] == version or now - looked > LONGEST_TRUST
                looked = now if whole else looked
                done = await self._apply(answer, whole=whole)
                version = self._applied = answer["version"]
            except Exception:
                log.exception("the network of this host could not be brought up to date")
                await asyncio.sleep(next(pauses))
                continue
            pauses = backoff(FIRST_PAUSE, most=LONGEST_PAUSE)
            if done:
                wait, again = WAIT, backoff(1.0, most=LONGEST_PAUSE)
            else:
                # Tried again soon also when nothing changes, and at once when something does.
                wait = next(again)

    async def _apply(self, answer: dict[str, Any], *, whole: bool) -> bool:
        """Bring the host to a plan; False when something is left to do."""
        wanted = msgspec.convert(answer["plan"], HostPlan)
        report = await self._plane.apply(wanted, whole=whole)
        for line in (*report.problems, *report.notes):
            log.warning("network of this host: %s", line)
        if report.enforced:
            self._plan = wanted
            if answer["boot"] != self._boot:
                self._told = {}
                self._boot = answer["boot"]
            self._look.set()
        problems = await self._proxy.sync(wanted)
        for line in problems:
            log.warning("metadata proxy: %s", line)
        return not report.problems and not problems

    async def _report(self) -> None:
        """Report ports whose cards are there and whose rules are in force, and those that left."""
        pauses = backoff(FIRST_PAUSE, most=LONGEST_PAUSE)
        while True:
            await self._look.wait()
            try:
                await self._compare()
                pauses = backoff(FIRST_PAUSE, most=LONGEST_PAUSE)
            except Exception as error:
                log.warning("ports could not be reported: %s", error)
                await asyncio.sleep(next(pauses))
                self._look.set()

    async def _compare(self) -> None:
        if self._plan is None:
            return
        devices = await self._watch.names()
        told = self._told
        present = {port.id: port.tap in devices for port in self._plan.ports}
        opened = [i for i, there in present.items() if there and not told.get(i)]
        closed = [i for i, there in present.items() if not there and told.get(i, True)]
        if opened or closed:
            await self._link.report(opened, closed)
        if self._told is told:
            self._told = present


async def _end(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
