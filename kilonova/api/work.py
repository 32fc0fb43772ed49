"""Starting sagas from handlers."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from kilonova.base import log as logs
from kilonova.base.clock import Clock
from kilonova.base.ids import Ids
from kilonova.context import Context, HeldElsewhere
from kilonova.db.database import Tx
from kilonova.domain.sagas import SagaContext, SagaKind
from kilonova.store import actions
from kilonova.workflows.engine.accept import accept
from kilonova.workflows.engine.errors import Busy
from kilonova.workflows.engine.steps import Asked

A = TypeVar("A", bound=msgspec.Struct)


def asked_by(call: Context) -> SagaContext:
    """Who asks, for the work done later."""
    caller = call.caller
    return SagaContext(
        request_id=call.request_id,
        global_request_id=logs.global_request_id.get(),
        user_id=caller.user_id,
        project_id=caller.project_id or "",
        roles=caller.roles,
    )


def start(tx: Tx, call: Context, kind: SagaKind[A], args: A, server_id: str) -> None:
    """Write a saga in this transaction; Conflict when another one holds the server."""
    call.app.sagas.accept(
        tx,
        kind,
        args,
        server_id=server_id,
        asked=asked_by(call),
        ids=call.app.ids,
        clock=call.clock,
    )


class EngineSagas:
    """`kilonova.context.Sagas` on the saga engine; the saga modules must have been imported."""

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
        """See `kilonova.context.Sagas.accept`."""
        try:
            accept(
                tx,
                kind.name,
                [getattr(args, name) for name in args.__struct_fields__],
                server_id=server_id,
                asked=Asked(**msgspec.structs.asdict(asked)),
                ids=ids,
                clock=clock,
                cancels=kind.cancels,
            )
        except Busy as busy:
            if busy.state == "elsewhere":
                raise HeldElsewhere(busy.message, code=busy.code) from None
            raise


def record(tx: Tx, call: Context, action: str, server_id: str) -> None:
    """Write the instance action (cell database)."""
    actions.start(
        tx,
        server_id,
        action,
        request_id=call.request_id,
        user_id=call.caller.user_id,
        project_id=call.caller.project_id,
        now=call.clock.now(),
    )
