"""Sagas that nobody asked for: begun for the server's owner, with an action that tells of it."""

from __future__ import annotations

from typing import Any

from kilonova.base.clock import Clock
from kilonova.base.ids import Ids
from kilonova.db.database import Tx
from kilonova.domain.sagas import SagaKind
from kilonova.domain.server import Server
from kilonova.store import actions
from kilonova.workflows.engine import accept as engine
from kilonova.workflows.engine.steps import Asked


def begin(
    tx: Tx, kind: SagaKind[Any], args: list[str], server: Server, *, clock: Clock, ids: Ids
) -> None:
    """Write the action and the saga (cell database); Busy when another one holds the server."""
    asked = Asked(
        request_id=f"req-{ids.uuid()}", user_id=server.user_id, project_id=server.project_id
    )
    actions.start(
        tx,
        server.id,
        kind.action,
        request_id=asked.request_id,
        user_id=asked.user_id,
        project_id=asked.project_id,
        now=clock.now(),
    )
    engine.accept(
        tx,
        kind.name,
        args,
        server_id=server.id,
        asked=asked,
        ids=ids,
        clock=clock,
        cancels=kind.cancels,
    )
