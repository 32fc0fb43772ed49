"""Signs of life: who the agent is, that it lives, and what its host offers when that changed."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Awaitable, Callable

from kilonova.base.clock import Clock
from kilonova.base.errors import Conflict, Fault, Unavailable
from kilonova.compute import inventory
from kilonova.config.settings import Settings
from kilonova.domain.agent import CONDUCTOR, DriverAway, Heartbeat, Welcome
from kilonova.domain.guest import HostReport
from kilonova.messaging.bus import Bus

BINARY = "nova-compute"
VERSION = 1
REPORT_SECONDS = 300.0
CALL_SECONDS = 10.0
FAREWELL_SECONDS = 2.0
MOST_BACKOFF = 6
WELCOME_PAUSE = 0.5

log = logging.getLogger(__name__)


class Heart:
    """The heartbeat of one agent. ``look`` gives a fresh report."""

    def __init__(
        self,
        *,
        bus: Bus,
        clock: Clock,
        settings: Settings,
        host: str,
        node_uuid: str,
        boot: str,
        look: Callable[[], Awaitable[HostReport]],
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._host = host
        self._node_uuid = node_uuid
        self._boot = boot
        self._look = look
        self._default = settings.default
        self._away = False
        self._every = settings.default.report_interval
        interval = settings.default.update_resources_interval
        self._look_every = float("inf") if interval < 0 else float(interval or 60)
        self._report: HostReport | None = None
        self._looked = 0.0
        self._reported = 0.0
        self.welcomed = False
        self._evacuated: frozenset[str] = frozenset()

    async def introduce(self) -> Welcome | None:
        """Say who we are and wait for the answer; None when no conductor gave one.

        Raises Conflict when the conductor does not want this agent.
        """
        self._report = await self._look()
        self._looked = self._clock.monotonic()
        try:
            welcome = await self._bus.call(
                CONDUCTOR,
                "heartbeat",
                self._beat(self._report),
                reply=Welcome,
                seconds=CALL_SECONDS,
            )
        except Fault as fault:
            log.info("No conductor welcomed host %s yet: %s", self._host, fault.message)
            return None
        if not welcome.accepted:
            raise Conflict(f"The conductor refuses host {self._host}: {welcome.reason}")
        self.welcomed = True
        self._evacuated = frozenset(welcome.evacuated)
        self._reported = self._looked
        return welcome

    async def evacuated(self) -> frozenset[str]:
        """The servers whose guests must not start here again, once a conductor has said so."""
        while not self.welcomed:
            await self._clock.sleep(WELCOME_PAUSE)
        return self._evacuated

    async def run(self) -> None:
        """Beat for ever; hosts of one process do not beat at the same moment."""
        await self._clock.sleep(self._every * (zlib.crc32(self._host.encode()) % 1000) / 1000)
        failures = 0
        while True:
            try:
                await self.beat()
                failures = 0
            except Exception as error:
                failures += 1
                text = error.message if isinstance(error, Fault) else repr(error)
                log.warning("Heartbeat of host %s failed: %s", self._host, text)
            await self._clock.sleep(self._every * min(1 + failures, MOST_BACKOFF))

    async def beat(self) -> None:
        """One sign of life, with the report when it changed or was not sent for long."""
        if not self.welcomed:
            await self.introduce()
            return
        now = self._clock.monotonic()
        fresh = None
        if now - self._looked >= self._look_every:
            report = await self._look_or_tell()
            self._looked = now
            if not inventory.same(report, self._report) or now - self._reported >= REPORT_SECONDS:
                fresh = report
        await self._bus.cast(CONDUCTOR, "heartbeat", self._beat(fresh))
        if fresh is not None:
            self._report, self._reported = fresh, now

    async def _look_or_tell(self) -> HostReport:
        """The report; that there is none any more is told once."""
        try:
            report = await self._look()
        except Unavailable as fault:
            if not self._away:
                self._away = True
                default = self._default
                told = DriverAway(
                    self._host, default.my_ip, default.compute_driver or "", fault.message
                )
                await self._bus.cast(CONDUCTOR, "driver_away", told)
            raise
        self._away = False
        return report

    async def farewell(self) -> None:
        """Tell that the agent stops on purpose.

        The answer is waited for: an agent that starts at once must not be heard before this.
        """
        bye = self._beat(None, stopping=True)
        try:
            await self._bus.call(
                CONDUCTOR, "heartbeat", bye, reply=Welcome, seconds=FAREWELL_SECONDS
            )
        except Fault as fault:
            log.info("Host %s could not say that it stops: %s", self._host, fault.message)

    def _beat(self, report: HostReport | None, *, stopping: bool = False) -> Heartbeat:
        return Heartbeat(
            host=self._host,
            binary=BINARY,
            node_uuid=self._node_uuid,
            boot=self._boot,
            version=VERSION,
            report=report,
            stopping=stopping,
        )
