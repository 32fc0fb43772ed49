"""What the handlers of the network service work with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from kilonova.base.clock import Clock, isoformat
from kilonova.base.errors import Conflict
from kilonova.base.ids import Ids
from kilonova.db.database import Database, Tx
from kilonova.db.inline import known_as
from kilonova.embedded.network.store import outbox, rows
from kilonova.embedded.network.store.quotas import DEFAULTS
from kilonova.embedded.network.telling import Notify, Teller
from kilonova.web.call import Call, Caller

T = TypeVar("T")

TRIES = 3
ADMINS = frozenset({"admin", "service"})


class NetworkSettings(msgspec.Struct, frozen=True):
    """How this network service works.

    ``mode``: bridge (taps on Linux bridges), user (user-mode networking of the hypervisor) or
    none (nothing is plugged: simulated hosts, any host binds). ``mtu`` is of the physical network,
    in bytes. ``tunnels``: networks span hosts by VXLAN. ``dns``: name servers given to guests of
    subnets that name none. ``auto_cidr`` is where automatic networks get their prefixes.
    """

    mode: str = "bridge"
    mtu: int = 1500
    tunnel_overhead: int = 50
    tunnels: bool = False
    dns: tuple[str, ...] = ()
    first_vni: int = 1
    last_vni: int = (1 << 24) - 1
    auto_cidr: str = "10.64.0.0/10"
    auto_prefix: int = 24
    quotas: dict[str, int] = msgspec.field(default_factory=lambda: dict(DEFAULTS))


class NetworkApp:
    """The service: its database, settings and what wakes the data plane.

    Call ``start`` in the event loop it is served by and ``close`` at the end.
    """

    def __init__(
        self,
        db: Database,
        settings: NetworkSettings,
        *,
        clock: Clock,
        ids: Ids,
        random: Callable[[int], bytes],
        notify: Notify | None = None,
    ) -> None:
        self.db = db
        self.settings = settings
        self.clock = clock
        self.ids = ids
        self.random = random
        self.teller = Teller(db, notify, clock) if notify is not None else None
        self.boot = ids.hex()[:8]
        self._changes = 0
        self._changed = asyncio.Event()

    def start(self) -> None:
        """Begin to tell the compute service what it does not know yet."""
        if self.teller is not None:
            self.teller.start()

    async def close(self) -> None:
        """Stop telling; what was not taken is told after the next start."""
        if self.teller is not None:
            await self.teller.close()

    @property
    def changes(self) -> int:
        """How often ``touch`` was called."""
        return self._changes

    def touch(self) -> None:
        """Something has changed: wake the hosts that wait."""
        self._changes += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def beyond(self, changes: int, seconds: float) -> bool:
        """True as soon as there are more changes than that, False after ``seconds``."""
        if self._changes != changes:
            return True
        if seconds <= 0:
            return False
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def write(
        self, caller: Caller, work: Callable[[Work], T], *, ids: Ids | None = None
    ) -> T:
        """Run ``work`` in one transaction, wake the data plane, tell the compute service."""
        told = False

        def work_and_keep(tx: Tx) -> T:
            nonlocal told
            job = Work(tx, self, caller, ids or self.ids)
            result = work(job)
            told = bool(job.events) and self.teller is not None
            if told:
                outbox.put(tx, job.events, job.now)
            return result

        known_as(work_and_keep, work)
        result = await self.run(work_and_keep)
        self.touch()
        if told and self.teller is not None:
            self.teller.wake()
        return result

    async def run(self, work: Callable[[Tx], T]) -> T:
        """One writing transaction; what clashed with another writer is run again, for the second
        look sees what that one did. Conflict when that does not end."""
        for _ in range(TRIES):
            try:
                return await self.db.run(work)
            except rows.Clash:
                continue
        raise Conflict("What this request speaks of is being changed; try again.", code="Conflict")


NetworkCall = Call[NetworkApp]


class Work:
    """One writing transaction of a handler. ``events`` are told to the compute service."""

    def __init__(self, tx: Tx, app: NetworkApp, caller: Caller, ids: Ids) -> None:
        self.tx = tx
        self.app = app
        self.caller = caller
        self.ids = ids
        self.now = isoformat(app.clock.now())
        self.events: list[dict[str, Any]] = []

    @property
    def admin(self) -> bool:
        """Whether the caller may do everything."""
        return is_admin(self.caller)

    @property
    def project_id(self) -> str:
        """The caller's own project."""
        return self.caller.project_id or ""


def is_admin(caller: Caller) -> bool:
    """Administrators and other services of the cloud."""
    return bool(ADMINS & set(caller.roles))
