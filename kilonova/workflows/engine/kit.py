"""What every run of a saga is given: databases, world, clock, bus, limits, and the hooks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec

from kilonova.base.clock import Clock
from kilonova.db.database import Database, Tx
from kilonova.messaging.bus import Bus
from kilonova.workflows.engine.errors import ErrorInfo
from kilonova.workflows.engine.steps import Asked, SagaType
from kilonova.workflows.engine.waits import Watch

Hook = Callable[[str, str], None]
"""Called with (moment, step name) for the crash harness; whatever it raises happens there."""

Measure = Callable[[str, str, float], None]
"""Called with (step name, how it ended, seconds) when a step has ended."""


class Limits(msgspec.Struct, frozen=True):
    """How patient the engine is; seconds unless said otherwise.

    ``undo_tries`` and ``forward_tries`` are counts, ``concurrency`` is sagas at once.
    """

    lease: float = 30.0
    poll: float = 1.0
    concurrency: int = 64
    undo_tries: int = 10
    forward_tries: int = 20
    backoff_first: float = 1.0
    backoff_most: float = 60.0
    call: float = 30.0


class Happening(msgspec.Struct, frozen=True):
    """A step with a ``task``, or a whole saga, as the visible side is told of it."""

    kind: SagaType
    saga_id: str
    server_id: str | None
    asked: Asked
    step: str = ""
    task: str = ""
    host: str | None = None
    state: str = "running"
    error: ErrorInfo | None = None


class Visible(Protocol):
    """Writes what users see of a saga: task_state, instance action events, notifications.

    Each method is part of a transaction of the database the server stands in (the saga's cell, else
    the saga's own database). It may be called again for the same moment after a crash.
    ``tells_ends`` is False when the ends of steps and sagas leave no trace there.
    """

    tells_ends: bool

    def step_started(self, tx: Tx, what: Happening) -> None:
        """A step with a task begins."""

    def step_finished(self, tx: Tx, what: Happening) -> None:
        """A step with a task is done, or failed (``error``)."""

    def saga_ended(self, tx: Tx, what: Happening) -> None:
        """The saga is over: ``state`` is done, undone or cancelled."""


class Kit:
    """The collaborators of a runner."""

    def __init__(
        self,
        *,
        databases: Mapping[str, Database],
        clock: Clock,
        world: Any = None,
        settings: Any = None,
        bus: Bus | None = None,
        alive: Callable[[str], Awaitable[bool]] | None = None,
        visible: Visible | None = None,
        limits: Limits | None = None,
        hook: Hook | None = None,
        measure: Measure | None = None,
    ) -> None:
        self.databases = databases
        self.clock = clock
        self.world = world
        self.settings = settings
        self.bus = bus
        self.alive = alive or _always
        self.visible: Visible | None = visible
        self.limits = limits or Limits()
        self.hook = hook
        self.measure = measure
        self.watch = Watch(databases, clock, self.limits.poll)

    def now(self) -> float:
        """Seconds since 1970, UTC."""
        return self.clock.now().timestamp()

    def at(self, moment: str, step: str) -> None:
        """Tell the harness where a run stands."""
        if self.hook is not None:
            self.hook(moment, step)


async def _always(_host: str) -> bool:
    return True
