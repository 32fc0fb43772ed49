"""What an operator does with sagas: list, show, retry a stuck one, skip what it is stuck at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from kilonova.base.clock import Clock
from kilonova.base.errors import Conflict, NotFound
from kilonova.db.database import Database, Tx
from kilonova.workflows.engine import journal
from kilonova.workflows.engine.errors import ErrorInfo
from kilonova.workflows.engine.journal import SAGAS, STEPS, UNDO, SagaRow, StepRow, UndoRow
from kilonova.workflows.engine.run import PIVOT
from kilonova.workflows.engine.steps import SAGAS as KINDS
from kilonova.workflows.engine.steps import Asked, decode, encode


class SagaView(msgspec.Struct, frozen=True):
    """A saga in a list. ``database`` is where it lives; times are seconds since 1970 (UTC).

    ``next_try`` is set while it backs off; ``step`` and ``error`` say what it is stuck at.
    """

    id: str
    name: str
    database: str
    state: str
    server_id: str | None
    owner: str | None
    epoch: int
    cancel_requested: bool
    queued_after: str | None
    next_try: float | None
    step: str
    error: str
    asked: Asked
    created_at: float
    updated_at: float
    ended_at: float | None


class SagaDetail(msgspec.Struct, frozen=True):
    """A saga with its journal (in the order of time) and its compensation stack (top first)."""

    saga: SagaView
    args: Any
    steps: list[StepRow]
    undo: list[UndoRow]


async def list_sagas(
    databases: Mapping[str, Database],
    *,
    stuck: bool = False,
    ended: bool = False,
    server_id: str | None = None,
    limit: int = 1000,
) -> list[SagaView]:
    """Sagas that have not ended (``ended``: those too), of one server, or the stuck ones only.

    Newest first over all databases.
    """
    found: list[SagaView] = []
    for name, db in databases.items():
        for row, steps, undo in await db.read(_rows, stuck, ended, server_id, limit):
            found.append(_view(name, row, steps, undo))
    return sorted(found, key=lambda v: v.created_at, reverse=True)[:limit]


async def show_saga(databases: Mapping[str, Database], saga_id: str) -> SagaDetail:
    """One saga with all it remembers; NotFound."""
    name, row = await _find(databases, saga_id)
    steps, undo = await databases[name].read(journal.memory, saga_id)
    ordered = sorted(steps.values(), key=lambda s: s.started_at)
    view = _view(name, row, ordered, undo)
    return SagaDetail(view, msgspec.json.decode(row.args), ordered, undo[::-1])


async def retry_saga(databases: Mapping[str, Database], saga_id: str, clock: Clock) -> None:
    """Let a stuck saga try again at once what it is stuck at; so does one that backs off.

    NotFound, or Conflict when it runs or has ended. Cast a wake-up after it.
    """
    name, _ = await _find(databases, saga_id)
    await databases[name].run(_retry, saga_id, clock.now().timestamp())


async def skip_saga(databases: Mapping[str, Database], saga_id: str, clock: Clock) -> str:
    """Leave out what a stuck saga is stuck at and let it go on; says what was left out.

    A stuck undo is marked skipped (what it would have removed is left behind: look at the audit). A
    step of a forward saga counts as done with no result. A saga that does not fit its journal any
    more is unwound. NotFound, or Conflict when it is not stuck. Cast a wake-up after it.
    """
    name, _ = await _find(databases, saga_id)
    return await databases[name].run(_skip, saga_id, clock.now().timestamp())


# -- inside ------------------------------------------------------------------------------------

_COLUMNS = [SAGAS.c[f] for f in SagaRow.__struct_fields__]


def _asked(row: SagaRow) -> Asked:
    """Nobody, when it cannot be read: such a saga is listed all the same."""
    try:
        asked: Asked = decode(row.request, Asked)
    except msgspec.MsgspecError:
        return Asked()
    return asked


def _rows(
    tx: Tx, stuck: bool, ended: bool, server_id: str | None, limit: int
) -> list[tuple[SagaRow, list[StepRow], list[UndoRow]]]:
    wanted = sa.select(*_COLUMNS).order_by(SAGAS.c.created_at.desc()).limit(limit)
    if stuck:
        wanted = wanted.where(SAGAS.c.state == "stuck")
    elif not ended:
        wanted = wanted.where(SAGAS.c.ended_at.is_(None), SAGAS.c.state != "elsewhere")
    if server_id is not None:
        wanted = wanted.where(SAGAS.c.server_id == server_id)
    rows = [SagaRow(*row) for row in tx.execute(wanted)]
    ids = [row.id for row in rows]
    steps: dict[str, list[StepRow]] = {i: [] for i in ids}
    undo: dict[str, list[UndoRow]] = {i: [] for i in ids}
    columns = [STEPS.c[f] for f in StepRow.__struct_fields__]
    open_ones = sa.select(STEPS.c.saga_id, *columns).where(
        STEPS.c.saga_id.in_(ids), STEPS.c.status.in_(("started", "unwinding"))
    )
    for saga_id, *rest in tx.execute(open_ones.order_by(STEPS.c.started_at)):
        steps[saga_id].append(StepRow(*rest))
    columns = [UNDO.c[f] for f in UndoRow.__struct_fields__]
    pending = sa.select(UNDO.c.saga_id, *columns).where(
        UNDO.c.saga_id.in_(ids), UNDO.c.state == "pending", UNDO.c.tries > 0
    )
    for saga_id, *rest in tx.execute(pending.order_by(UNDO.c.position)):
        undo[saga_id].append(UndoRow(*rest))
    return [(row, steps[row.id], undo[row.id]) for row in rows]


def _view(name: str, row: SagaRow, steps: list[StepRow], undo: list[UndoRow]) -> SagaView:
    error: ErrorInfo | None = decode(row.error, ErrorInfo)
    step = error.step if error else ""
    message = (error.message or error.type) if error else ""
    broken = _broken(undo)
    if broken is not None:
        step = f"undo of {broken.step}"
        cause: ErrorInfo | None = decode(broken.error, ErrorInfo)
        message = (cause.message or cause.type) if cause else message
    elif not step and row.state in journal.RUNNABLE:
        step = next((s.name for s in reversed(steps) if s.status == "started"), "")
    return SagaView(
        id=row.id,
        name=row.name,
        database=name,
        state=row.state,
        server_id=row.server_id,
        owner=row.owner,
        epoch=row.epoch,
        cancel_requested=row.cancel_requested,
        queued_after=row.queued_after,
        next_try=row.ready_at if row.owner is None and row.epoch else None,
        step=step,
        error=message,
        asked=_asked(row),
        created_at=row.created_at,
        updated_at=row.updated_at,
        ended_at=row.ended_at,
    )


def _broken(undo: list[UndoRow]) -> UndoRow | None:
    """The undo that stands in the way: undos run newest first and stop at the first that fails."""
    failing = [u for u in undo if u.state == "pending" and u.error is not None]
    return max(failing, key=lambda u: u.position, default=None)


async def _find(databases: Mapping[str, Database], saga_id: str) -> tuple[str, SagaRow]:
    for name, db in databases.items():
        row = await db.read(journal.load, saga_id)
        if row is not None and row.state != "elsewhere":
            return name, row
    raise NotFound(f"No saga {saga_id}.")


def _load(tx: Tx, saga_id: str) -> SagaRow:
    """The saga's row, locked until the end of the transaction."""
    tx.execute(sa.select(SAGAS.c.id).where(SAGAS.c.id == saga_id).with_for_update())
    row = journal.load(tx, saga_id)
    if row is None:
        raise NotFound(f"No saga {saga_id}.")
    return row


def _retry(tx: Tx, saga_id: str, now: float) -> None:
    row = _load(tx, saga_id)
    backing_off = row.owner is None and row.epoch and row.state in ("running", "unwinding")
    if row.state != "stuck" and not backing_off:
        raise Conflict(f"Saga {saga_id} is {row.state}; only a stuck one can be tried again.")
    _go_on(tx, row, now)


def _go_on(tx: Tx, row: SagaRow, now: float, **more: Any) -> None:
    tx.execute(UNDO.update().where(UNDO.c.saga_id == row.id).values(tries=0))
    values = {
        "state": "unwinding" if row.backward else "running",
        "ready_at": now,
        "owner": None,
        "tries": 0,
        "updated_at": now,
    }
    tx.execute(SAGAS.update().where(SAGAS.c.id == row.id).values(**(values | more)))


def _skip(tx: Tx, saga_id: str, now: float) -> str:
    row = _load(tx, saga_id)
    if row.state != "stuck":
        raise Conflict(f"Saga {saga_id} is {row.state}; only what is stuck can be skipped.")
    broken = _broken(journal.undo(tx, saga_id))
    if broken is not None:
        journal.put_undo(
            tx, saga_id, msgspec.structs.replace(broken, state="skipped", finished_at=now)
        )
        _go_on(tx, row, now)
        return f"undo of {broken.step}"
    error: ErrorInfo | None = decode(row.error, ErrorInfo)
    forward = KINDS.get(row.name).forward or PIVOT in journal.steps(tx, saga_id)
    if not forward:
        _go_on(tx, row, now, cancel_requested=True)
        return "the rest of the saga"
    if error is None or not error.step:
        raise Conflict(
            f"Saga {saga_id} is stuck in its own code, not at a step; retry it with code that fits."
        )
    known = journal.steps(tx, saga_id).get(error.step)
    done = msgspec.structs.replace(
        known or StepRow(error.step, "started", "", started_at=now),
        status="skipped",
        fingerprint="",
        epoch=row.epoch,
        error=encode(error),
        finished_at=now,
    )
    journal.put_step(tx, saga_id, done, new=known is None)
    _go_on(tx, row, now)
    return error.step
