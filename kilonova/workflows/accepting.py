"""The API's door to the engine: accept a saga inside the caller's transaction."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from kilonova.base.clock import Clock
from kilonova.base.ids import Ids
from kilonova.context import HeldElsewhere
from kilonova.db.database import Tx
from kilonova.domain.sagas import SagaContext, SagaKind
from kilonova.workflows import sagas
from kilonova.workflows.engine import accept as engine
from kilonova.workflows.engine.errors import Busy
from kilonova.workflows.engine.steps import Asked
from kilonova.workflows.engine.waits import signal

A = TypeVar("A", bound=msgspec.Struct)

ELSEWHERE = "elsewhere"


class EngineSagas:
    """``context.Sagas`` on the saga engine."""

    registered = tuple(sagas.__all__)

    def accept(
        self,
        tx: Tx,
        kind: SagaKind[A],
        args: A,
        *,
        server_id: str,
        asked: SagaContext,
        ids: Ids,
        clock: Clock,
    ) -> None:
        """Conflict when another saga holds the server, unless ``kind.cancels``.

        HeldElsewhere when that one lives in the API database: accept it there.
        """
        try:
            engine.accept(
                tx,
                kind.name,
                msgspec.structs.astuple(args),
                server_id=server_id,
                asked=Asked(
                    request_id=asked.request_id,
                    global_request_id=asked.global_request_id,
                    user_id=asked.user_id,
                    project_id=asked.project_id,
                    roles=asked.roles,
                ),
                ids=ids,
                clock=clock,
                cancels=kind.cancels,
            )
        except Busy as busy:
            if busy.state == ELSEWHERE:
                raise HeldElsewhere(busy.message) from busy
            raise

    def cancel(self, tx: Tx, kind: SagaKind[Any], server_id: str, *, clock: Clock) -> bool:
        """One that is past its turning point goes on all the same."""
        living = engine.living(tx, server_id)
        if living is None or living.name != kind.name:
            return False
        engine.cancel(tx, living, clock.now().timestamp())
        return True

    def signal(self, tx: Tx, subject: str, name: str, *, ids: Ids, clock: Clock) -> None:
        """A row a waiting saga finds."""
        signal(tx, subject, name, ids=ids, clock=clock)
