"""Every SQL statement of the engine over one database; each function is part of a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.prepared import Prepared
from kilonova.workflows.engine.errors import ErrorInfo, Fenced
from kilonova.workflows.engine.steps import encode
from kilonova.workflows.engine.tables import TABLES

S = TypeVar("S", bound=msgspec.Struct)

SAGAS, STEPS, UNDO, RECEIPTS, SIGNALS = TABLES

RUNNABLE = ("queued", "running", "unwinding")
ENDED = ("done", "undone", "cancelled")


class SagaRow(msgspec.Struct):
    """A saga. States: queued, running, unwinding, stuck, elsewhere, done, undone, cancelled."""

    id: str
    name: str
    args: str
    server_id: str | None
    living_for: str | None
    state: str
    backward: bool
    queued_after: str | None
    cell: str | None
    owner: str | None
    epoch: int
    ready_at: float | None
    cancel_requested: bool
    tries: int
    request: str
    error: str | None
    result: str | None
    created_at: float
    updated_at: float
    ended_at: float | None


class StepRow(msgspec.Struct):
    """A journal entry. Status: started, done, failed, skipped; unwinding for an attempt."""

    name: str
    status: str
    fingerprint: str
    place: str | None = None
    host: str | None = None
    task: str | None = None
    epoch: int = 0
    result: str | None = None
    error: str | None = None
    started_at: float = 0.0
    finished_at: float | None = None


class UndoRow(msgspec.Struct):
    """An entry of the compensation stack. State: pending, done, skipped."""

    position: int
    step: str
    undo: str
    args: str
    place: str | None = None
    host: str | None = None
    state: str = "pending"
    tries: int = 0
    error: str | None = None
    finished_at: float | None = None


class Guard(msgspec.Struct):
    """What each write learns about its saga."""

    cancel_requested: bool


def _select(kind: type[S], table: sa.Table) -> sa.Select[Any]:
    return sa.select(*(table.c[f] for f in kind.__struct_fields__))


_GUARD = Prepared(
    sa.select(SAGAS.c.epoch, SAGAS.c.cancel_requested)
    .where(SAGAS.c.id == sa.bindparam("saga"))
    .with_for_update()
)
_SAGA = _select(SagaRow, SAGAS).where(SAGAS.c.id == sa.bindparam("saga"))
_LOAD, _LOAD_LOCKED = Prepared(_SAGA), Prepared(_SAGA.with_for_update())
_STEPS = Prepared(_select(StepRow, STEPS).where(STEPS.c.saga_id == sa.bindparam("saga")))
_UNDO = Prepared(
    _select(UndoRow, UNDO).where(UNDO.c.saga_id == sa.bindparam("saga")).order_by(UNDO.c.position)
)
_CHANGE = Prepared(SAGAS.update().where(SAGAS.c.id == sa.bindparam("b_saga")))
_READY = SAGAS.c.ready_at <= sa.bindparam("now")


# -- taking sagas ---------------------------------------------------------------------------------


def any_ready(tx: Tx, names: Sequence[str], now: float) -> bool:
    """Whether there is a saga to take."""
    return _ANY_READY.first(tx, {"now": now, "names": names}) is not None


_READY_ONES = Prepared(
    _select(SagaRow, SAGAS)
    .where(_READY, SAGAS.c.name.in_(sa.bindparam("names", expanding=True)))
    .order_by(SAGAS.c.ready_at)
    .limit(sa.bindparam("most"))
    .with_for_update(skip_locked=True)
)
_ANY_READY = Prepared(
    sa.select(SAGAS.c.id)
    .where(_READY, SAGAS.c.name.in_(sa.bindparam("names", expanding=True)))
    .limit(1)
)
_CLAIM = Prepared(
    SAGAS.update()
    .where(SAGAS.c.id.in_(sa.bindparam("sagas", expanding=True)))
    .values(
        epoch=SAGAS.c.epoch + 1,
        state=sa.case((SAGAS.c.state == "queued", "running"), else_=SAGAS.c.state),
        **{c: sa.bindparam(c) for c in ("owner", "ready_at", "updated_at")},
    )
)


def claim(
    tx: Tx, names: Sequence[str], owner: str, now: float, lease: float, limit: int
) -> list[SagaRow]:
    """Take up to ``limit`` sagas of these names that nobody runs; each gets the next epoch."""
    rows = _READY_ONES.all(tx, {"now": now, "names": names, "most": limit})
    taken = [SagaRow(*row) for row in rows]
    if taken:
        lease_end = {"owner": owner, "ready_at": now + lease, "updated_at": now}
        _CLAIM.run(tx, {"sagas": [row.id for row in taken], **lease_end})
    for row in taken:
        row.owner, row.epoch, row.ready_at = owner, row.epoch + 1, now + lease
        row.state = "running" if row.state == "queued" else row.state
    return taken


def reclaim(tx: Tx, saga_id: str, owner: str, now: float, lease: float) -> SagaRow | None:
    """Take up a saga again that this owner still holds; None when it lost it."""
    row = _LOAD_LOCKED.first(tx, {"saga": saga_id})
    if row is None or (saga := SagaRow(*row)).owner != owner or saga.state not in RUNNABLE:
        return None
    saga.epoch, saga.ready_at = saga.epoch + 1, now + lease
    _update(tx, saga_id, epoch=saga.epoch, ready_at=saga.ready_at)
    return saga


def renew(tx: Tx, owner: str, saga_ids: Sequence[str], now: float, lease: float) -> dict[str, bool]:
    """Prolong these leases; saga id → cancel requested, of those this owner still holds."""
    mine = SAGAS.c.owner == owner, SAGAS.c.id.in_(saga_ids)
    tx.execute(SAGAS.update().where(*mine).values(ready_at=now + lease))
    return held(tx, owner)


def held(tx: Tx, owner: str) -> dict[str, bool]:
    """Saga id → cancel requested, of all this owner holds."""
    return dict(_HELD.all(tx, {"owner": owner}))


_HELD = Prepared(
    sa.select(SAGAS.c.id, SAGAS.c.cancel_requested).where(SAGAS.c.owner == sa.bindparam("owner"))
)


def release(tx: Tx, owner: str, now: float) -> None:
    """Give back every saga of this owner, to be taken at once by another."""
    tx.execute(SAGAS.update().where(SAGAS.c.owner == owner).values(owner=None, ready_at=now))


def owners(tx: Tx, prefix: str) -> list[str]:
    """Who holds sagas, of those whose name begins so."""
    found = sa.select(SAGAS.c.owner).where(SAGAS.c.owner.startswith(prefix, autoescape=True))
    return list(tx.execute(found.distinct()).scalars())


def next_ready(tx: Tx, names: Sequence[str]) -> float | None:
    """When the next saga becomes ready."""
    found = sa.select(sa.func.min(SAGAS.c.ready_at)).where(SAGAS.c.name.in_(names))
    return tx.execute(found).scalar()


# -- reading ----------------------------------------------------------------------------------


def load(tx: Tx, saga_id: str) -> SagaRow | None:
    """One saga."""
    row = _LOAD.first(tx, {"saga": saga_id})
    return SagaRow(*row) if row else None


def steps(tx: Tx, saga_id: str) -> dict[str, StepRow]:
    """The journal of a saga by step name."""
    return {row[0]: StepRow(*row) for row in _STEPS.all(tx, {"saga": saga_id})}


def undo(tx: Tx, saga_id: str) -> list[UndoRow]:
    """The compensation stack, bottom first."""
    return [UndoRow(*row) for row in _UNDO.all(tx, {"saga": saga_id})]


def memory(tx: Tx, saga_id: str) -> tuple[dict[str, StepRow], list[UndoRow]]:
    """All a run must know of what happened before."""
    return steps(tx, saga_id), undo(tx, saga_id)


# -- writing; every write begins with guard ---------------------------------------------------


def guard(tx: Tx, saga_id: str, epoch: int) -> Guard:
    """Lock the saga's row for this transaction; raises Fenced when the epoch is not ours."""
    row = _GUARD.first(tx, {"saga": saga_id})
    if row is None or row[0] != epoch:
        raise Fenced(f"saga {saga_id}: epoch {epoch} is over")
    return Guard(row[1])


_STEP_INSERT = Prepared(STEPS.insert())
_UNDO_INSERT = Prepared(UNDO.insert())
_STEP_UPDATE = Prepared(
    STEPS.update()
    .where(STEPS.c.saga_id == sa.bindparam("b_saga"), STEPS.c.name == sa.bindparam("b_name"))
    .values(
        {
            c: sa.bindparam(c)
            for c in ("status", "epoch", "result", "error", "finished_at", "fingerprint")
        }
    )
)


def put_step(tx: Tx, saga_id: str, row: StepRow, *, new: bool) -> None:
    """Write a journal entry."""
    if new:
        _STEP_INSERT.run(tx, {"saga_id": saga_id, **msgspec.structs.asdict(row)})
        return
    _STEP_UPDATE.run(
        tx,
        {
            "b_saga": saga_id,
            "b_name": row.name,
            "status": row.status,
            "epoch": row.epoch,
            "result": row.result,
            "error": row.error,
            "finished_at": row.finished_at,
            "fingerprint": row.fingerprint,
        },
    )


def forget_results(tx: Tx, saga_id: str, step: str) -> None:
    """Remove what a step (of that last name, in any part) gave: for secrets nobody needs again.

    The saga must not be able to read it any more: its part has ended.
    """
    _FORGET.run(tx, {"saga": saga_id, "step": step, "inside": f"%/{step}"})


_FORGET = Prepared(
    STEPS.update()
    .where(
        STEPS.c.saga_id == sa.bindparam("saga"),
        sa.or_(STEPS.c.name == sa.bindparam("step"), STEPS.c.name.like(sa.bindparam("inside"))),
    )
    .values(result=None)
)


def push_undo(tx: Tx, saga_id: str, row: UndoRow) -> None:
    """Put an entry on the compensation stack."""
    _UNDO_INSERT.run(tx, {"saga_id": saga_id, **msgspec.structs.asdict(row)})


def put_undo(tx: Tx, saga_id: str, row: UndoRow) -> None:
    """Write how an undo went."""
    tx.execute(
        UNDO.update()
        .where(UNDO.c.saga_id == saga_id, UNDO.c.position == row.position)
        .values(state=row.state, tries=row.tries, error=row.error, finished_at=row.finished_at)
    )


def _update(tx: Tx, saga_id: str, **values: Any) -> None:
    _CHANGE.run(tx, {"b_saga": saga_id, **values})


def set_cell(tx: Tx, saga_id: str, cell: str | None) -> None:
    """Remember in which cell the saga stands."""
    _update(tx, saga_id, cell=cell)


_NEXT_EPOCH = Prepared(
    SAGAS.update().where(SAGAS.c.id == sa.bindparam("b_saga")).values(epoch=SAGAS.c.epoch + 1)
)


def turn(tx: Tx, saga_id: str, now: float, *, backward: bool, error: ErrorInfo | None) -> None:
    """Change direction: the epoch rises, so that nothing begun before can still be done.

    ``backward`` is for the whole saga; a part that is taken back leaves the saga going forward.
    """
    _NEXT_EPOCH.run(tx, {"b_saga": saga_id})
    values: dict[str, Any] = {"updated_at": now}
    if backward:
        values |= {"backward": True, "state": "unwinding", "tries": 0}
    if error is not None:
        values["error"] = encode(error)
    _update(tx, saga_id, **values)


def park(tx: Tx, saga_id: str, now: float, until: float, tries: int, error: ErrorInfo) -> None:
    """Let go of the saga until its next try."""
    _update(
        tx,
        saga_id,
        owner=None,
        ready_at=until,
        tries=tries,
        error=encode(error),
        updated_at=now,
    )


def stick(tx: Tx, saga_id: str, now: float, tries: int, error: ErrorInfo) -> None:
    """Leave the saga to an operator; it keeps holding its server."""
    _update(
        tx,
        saga_id,
        state="stuck",
        owner=None,
        ready_at=None,
        tries=tries,
        error=encode(error),
        updated_at=now,
    )


_END = Prepared(
    SAGAS.update()
    .where(SAGAS.c.id == sa.bindparam("b_saga"))
    .values(
        living_for=None,
        owner=None,
        ready_at=None,
        **{c: sa.bindparam(c) for c in ("state", "result", "error", "updated_at", "ended_at")},
    )
)
_PROMOTE = Prepared(
    SAGAS.update()
    .where(SAGAS.c.queued_after == sa.bindparam("b_saga"))
    .values(
        queued_after=None,
        living_for=SAGAS.c.server_id,
        ready_at=sa.bindparam("ready_at"),
        updated_at=sa.bindparam("updated_at"),
    )
)


def end(
    tx: Tx, saga_id: str, state: str, now: float, *, result: str | None, error: str | None
) -> bool:
    """End the saga, let its server go and wake the saga queued behind it; True if there is one."""
    _END.run(
        tx,
        {
            "b_saga": saga_id,
            "state": state,
            "result": result,
            "error": error,
            "updated_at": now,
            "ended_at": now,
        },
    )
    return promote(tx, saga_id, now)


def promote(tx: Tx, saga_id: str, now: float) -> bool:
    """Let the saga behind this one live."""
    woken = _PROMOTE.run(tx, {"b_saga": saga_id, "ready_at": now, "updated_at": now})
    return woken > 0


# -- other databases ------------------------------------------------------------------------------

_RECEIPTS = Prepared(
    sa.select(RECEIPTS.c.step, RECEIPTS.c.epoch, RECEIPTS.c.result)
    .where(
        RECEIPTS.c.saga_id == sa.bindparam("saga"),
        sa.or_(RECEIPTS.c.step == "", RECEIPTS.c.step == sa.bindparam("b_step")),
    )
    .with_for_update()
)
_FENCE = Prepared(
    RECEIPTS.update()
    .where(RECEIPTS.c.saga_id == sa.bindparam("saga"), RECEIPTS.c.step == "")
    .values(epoch=sa.bindparam("epoch"))
)
_RECEIPT_INSERT = Prepared(RECEIPTS.insert())


def receipt(tx: Tx, saga_id: str, step: str, epoch: int, now: float) -> tuple[str | None] | None:
    """Enter another database for a step: its kept result as a 1-tuple if it was done, else None.

    The row with the empty step name is the fence: it holds the highest epoch that was here and is
    locked until the end of the transaction. Raises Fenced when a higher epoch was here.
    """
    found = {row[0]: row for row in _RECEIPTS.all(tx, {"saga": saga_id, "b_step": step})}
    here = found.get("")
    if here is None:
        keep_receipt(tx, saga_id, "", epoch, None, now)
    elif here[1] > epoch:
        raise Fenced(f"saga {saga_id}: epoch {epoch} is over")
    elif here[1] < epoch:
        _FENCE.run(tx, {"saga": saga_id, "epoch": epoch})
    done = found.get(step) if step else None
    return (done[2],) if done is not None else None


def keep_receipt(
    tx: Tx, saga_id: str, step: str, epoch: int, result: str | None, now: float
) -> None:
    """Leave the proof of a step beside its effect."""
    _RECEIPT_INSERT.run(
        tx,
        {"saga_id": saga_id, "step": step, "epoch": epoch, "result": result, "created_at": now},
    )


# -- signals and cleaning -------------------------------------------------------------------


class SignalRow(msgspec.Struct, frozen=True):
    """Something that happened to a subject (a server id, …). ``payload`` is JSON text."""

    subject: str
    name: str
    payload: str
    created_at: float


_SIGNAL_INSERT = Prepared(SIGNALS.insert())
_SIGNALS = Prepared(
    _select(SignalRow, SIGNALS)
    .where(
        SIGNALS.c.subject.in_(sa.bindparam("subjects", expanding=True)),
        SIGNALS.c.created_at >= sa.bindparam("since"),
    )
    .order_by(SIGNALS.c.created_at)
)


def put_signal(tx: Tx, signal_id: str, row: SignalRow) -> None:
    """Write a signal."""
    _SIGNAL_INSERT.run(tx, {"id": signal_id, **msgspec.structs.asdict(row)})


def signals(tx: Tx, subjects: Iterable[str], since: float) -> list[SignalRow]:
    """The signals of these subjects not older than ``since``, oldest first."""
    rows = _SIGNALS.all(tx, {"subjects": list(subjects), "since": since})
    return [SignalRow(*row) for row in rows]


def prune(tx: Tx, before: float, *, limit: int = 1000) -> int:
    """Forget up to ``limit`` sagas that ended before that moment, and signals older than it."""
    old = list(
        tx.execute(sa.select(SAGAS.c.id).where(SAGAS.c.ended_at < before).limit(limit)).scalars()
    )
    for table in (STEPS, UNDO):
        tx.execute(table.delete().where(table.c.saga_id.in_(old)))
    tx.execute(SAGAS.delete().where(SAGAS.c.id.in_(old)))
    tx.execute(SIGNALS.delete().where(SIGNALS.c.created_at < before))
    return len(old)


def old_receipts(tx: Tx, before: float, *, limit: int = 500) -> list[str]:
    """Sagas whose last receipt here is older than that moment; up to ``limit``."""
    last = sa.func.max(RECEIPTS.c.created_at)
    query = sa.select(RECEIPTS.c.saga_id).group_by(RECEIPTS.c.saga_id).having(last < before)
    return list(tx.execute(query.limit(limit)).scalars())


def living(tx: Tx, saga_ids: Iterable[str]) -> set[str]:
    """Those of the sagas that stand here and have not ended."""
    query = sa.select(SAGAS.c.id).where(SAGAS.c.id.in_(list(saga_ids)), SAGAS.c.ended_at.is_(None))
    return set(tx.execute(query).scalars())


def drop_receipts(tx: Tx, saga_ids: Iterable[str]) -> int:
    """Forget all receipts of those sagas."""
    return tx.execute(RECEIPTS.delete().where(RECEIPTS.c.saga_id.in_(list(saga_ids)))).rowcount
