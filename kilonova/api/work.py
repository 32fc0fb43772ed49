"""Starting sagas from handlers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from kilonova.api.find import is_admin
from kilonova.base import log as logs
from kilonova.base.errors import Conflict
from kilonova.context import Context
from kilonova.db.cells import Cell
from kilonova.db.database import Tx
from kilonova.domain.sagas import (
    ATTACH_INTERFACE,
    ATTACH_SHARE,
    ATTACH_VOLUME,
    DETACH_INTERFACE,
    DETACH_SHARE,
    DETACH_VOLUME,
    EXTEND_VOLUME,
    MERGE_VOLUME,
    SNAPSHOT_VOLUME,
    SagaContext,
    SagaKind,
)
from kilonova.domain.server import Server
from kilonova.store import actions, servers

A = TypeVar("A", bound=msgspec.Struct)
R = TypeVar("R")

_UNSEEN = frozenset(
    kind.name
    for kind in (
        ATTACH_VOLUME,
        DETACH_VOLUME,
        EXTEND_VOLUME,
        SNAPSHOT_VOLUME,
        MERGE_VOLUME,
        ATTACH_INTERFACE,
        DETACH_INTERFACE,
        ATTACH_SHARE,
        DETACH_SHARE,
    )
)
PATIENCE, PAUSE = 60.0, 0.1


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


def begin_unseen(tx: Tx, call: Context, server_id: str, rule: str, *, word: str = "") -> Server:
    """Begin work that shows no task: Conflict when the server's state or lock forbids it.

    ``rule`` names the states that allow it, ``word`` what the refusal calls it.
    """
    return servers.begin(
        tx,
        server_id,
        rule,
        task=None,
        now=call.clock.now(),
        override_lock=is_admin(call),
        word=word,
    )


async def when_free(call: Context, cell: Cell, begin: Callable[[Tx], R]) -> R:
    """Run the transaction once no other work that users do not see holds the server.

    Attaching and detaching have no task: clients may ask for the next one while one is under way.
    Conflict when it lasts too long, or a task shows.
    """
    end = call.clock.monotonic() + PATIENCE
    while True:
        try:
            return await cell.db.run(begin)
        except Conflict as conflict:
            if call.clock.monotonic() >= end or not _invisible(conflict):
                raise
            await call.clock.sleep(PAUSE)


def _invisible(conflict: Conflict) -> bool:
    return conflict.code == "server.busy" and conflict.details.get("saga") in _UNSEEN
