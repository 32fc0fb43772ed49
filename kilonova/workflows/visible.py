"""What users see of a saga: the task state, and the events of the instance action."""

from __future__ import annotations

from kilonova.base.clock import Clock
from kilonova.db.database import Database, Tx
from kilonova.store import actions, servers
from kilonova.workflows.engine.kit import Happening


class ServerVisible:
    """``engine.kit.Visible`` over the store; tells the API database by its engine."""

    def __init__(self, api: Database, clock: Clock) -> None:
        self._engine = api.engine
        self._clock = clock

    def step_started(self, tx: Tx, what: Happening) -> None:
        if what.server_id is None:
            return
        if tx.engine is self._engine:
            servers.set_building_task(tx, what.server_id, what.task)
            return
        now = self._clock.now()
        servers.set_task(tx, what.server_id, what.task, now=now)
        actions.start_event(
            tx, what.server_id, what.asked.request_id, _name(what), now=now, host=what.host
        )

    def step_finished(self, tx: Tx, what: Happening) -> None:
        if what.server_id is None or tx.engine is self._engine:
            return
        actions.finish_event(
            tx,
            what.server_id,
            what.asked.request_id,
            _name(what),
            now=self._clock.now(),
            error=what.error.message if what.error else None,
        )

    def saga_ended(self, tx: Tx, what: Happening) -> None:
        """The last step of each saga has written the end already."""


def _name(what: Happening) -> str:
    """The event's name: ``compute_spawn`` for a host's work, ``conductor_claim`` for our own."""
    step = what.step.rpartition("/")[2].partition("#")[0]
    return f"compute_{step}" if what.host else f"conductor_{step}"
