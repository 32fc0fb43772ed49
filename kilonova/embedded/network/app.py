"""What the handlers of the network service work with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from kilonova.base.clock import Clock, isoformat
from kilonova.base.ids import Ids
from kilonova.db.database import Database, Tx
from kilonova.embedded.network.store.quotas import DEFAULTS
from kilonova.web.call import Call, Caller

# What is told to the compute service: os-server-external-events entries.
Notify = Callable[[list[dict[str, Any]]], Awaitable[None]]

ADMINS = frozenset({"admin", "service"})


class NetworkSettings(msgspec.Struct, frozen=True):
    """How this network service works.

    ``mode``: bridge (taps on Linux bridges), user (user-mode networking of the hypervisor) or
    none (nothing is plugged: simulated hosts). ``mtu`` is of the physical network, in bytes.
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
    """The service: its database, settings and what wakes the data plane."""

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
        self.notify = notify
        self._boot = ids.hex()[:8]
        self._count = 0
        self._changed = asyncio.Condition()
        self._telling: set[asyncio.Task[None]] = set()

    @property
    def version(self) -> str:
        """Another word after each change of this process, and after each start."""
        return f"{self._boot}-{self._count}"

    def touch(self) -> None:
        """Something has changed: wake the hosts that wait."""
        self._count += 1
        task = asyncio.get_running_loop().create_task(self._tell())
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def beyond(self, version: str | None) -> None:
        """Return when the version is another one than ``version``."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.version != version)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


NetworkCall = Call[NetworkApp]


class Work:
    """One writing transaction of a handler."""

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
