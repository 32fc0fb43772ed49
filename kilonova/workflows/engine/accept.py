"""Accept a saga inside the caller's own transaction; hold a server for one of another database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import exc

from kilonova.base.clock import Clock
from kilonova.base.ids import Ids
from kilonova.db.database import Tx
from kilonova.db.prepared import Prepared
from kilonova.workflows.engine import journal
from kilonova.workflows.engine.errors import Busy
from kilonova.workflows.engine.journal import SAGAS, SagaRow
from kilonova.workflows.engine.steps import SAGAS as KINDS
from kilonova.workflows.engine.steps import Asked, encode


def accept(
    tx: Tx,
    name: str,
    args: Sequence[Any],
    *,
    server_id: str | None,
    asked: Asked,
    ids: Ids,
    clock: Clock,
    cell: str | None = None,
    cancels: bool = False,
) -> str:
    """Write a new saga; its id. It is run as soon as a conductor sees it (cast a wake-up after).

    ``server_id`` is the server it will hold, None for none. If another saga holds it, raises Busy
    (let it end the transaction) unless ``cancels``: then that one is asked to stop (a stuck one to
    unwind once more), and so is whatever waits for it, and the new one waits its turn. A second one
    of the same name waiting is Busy as well, and so is one held from another database (state
    ``elsewhere``): accept it there.
    """
    KINDS.get(name)
    now = clock.now().timestamp()
    living = _living(tx, server_id) if server_id else None
    before = None
    if living is not None:
        if not cancels or living.state == "elsewhere":
            raise Busy(living.id, living.name, living.state)
        before = _stop(tx, living, name, now)
    row = SagaRow(
        id=ids.uuid(),
        name=name,
        args=encode(list(args)),
        server_id=server_id,
        living_for=server_id if living is None else None,
        state="queued",
        backward=False,
        queued_after=before,
        cell=cell,
        owner=None,
        epoch=0,
        ready_at=None if living else now,
        cancel_requested=False,
        tries=0,
        request=encode(asked),
        error=None,
        result=None,
        created_at=now,
        updated_at=now,
        ended_at=None,
    )
    _insert(tx, row)
    return row.id


def _stop(tx: Tx, living: SagaRow, name: str, now: float) -> str:
    """Ask the holder and those that wait to stop; the id of the last one, to wait for.

    One that waits has not begun: asked to stop it ends as soon as its turn comes.
    """
    line = [living]
    while (waiting := _QUEUED.first(tx, {"saga": line[-1].id})) is not None:
        line.append(SagaRow(*waiting))
    if len(line) > 1 and line[-1].name == name:
        raise Busy(line[-1].id, name, "queued")
    for row in line:
        cancel(tx, row, now)
    return line[-1].id


def cancel(tx: Tx, row: SagaRow, now: float) -> None:
    """Ask a living saga to stop; a stuck one tries to unwind once more. Forward sagas go on."""
    values: dict[str, Any] = {"cancel_requested": True, "updated_at": now}
    if row.state == "stuck":
        values |= {
            "state": "unwinding" if row.backward else "running",
            "ready_at": now,
            "tries": 0,
        }
        tx.execute(journal.UNDO.update().where(journal.UNDO.c.saga_id == row.id).values(tries=0))
    elif row.owner is None and row.ready_at is not None:
        values["ready_at"] = now
    tx.execute(SAGAS.update().where(SAGAS.c.id == row.id).values(**values))


def hold(tx: Tx, saga_id: str, name: str, server_id: str, *, clock: Clock) -> None:
    """Hold a server in this database for a saga that lives in another one (idempotent).

    Raises Busy when another saga holds it here.
    """
    now = clock.now().timestamp()
    living = _living(tx, server_id)
    if living is not None and living.id == saga_id:
        return
    if living is not None:
        raise Busy(living.id, living.name, living.state)
    let_go(tx, saga_id)
    _insert(
        tx,
        SagaRow(
            id=saga_id,
            name=name,
            args="[]",
            server_id=server_id,
            living_for=server_id,
            state="elsewhere",
            backward=False,
            queued_after=None,
            cell=None,
            owner=None,
            epoch=0,
            ready_at=None,
            cancel_requested=False,
            tries=0,
            request="{}",
            error=None,
            result=None,
            created_at=now,
            updated_at=now,
            ended_at=None,
        ),
    )


def let_go(tx: Tx, saga_id: str) -> None:
    """The opposite of ``hold`` (idempotent)."""
    _LET_GO.run(tx, {"saga": saga_id})


_LET_GO = Prepared(
    SAGAS.delete().where(SAGAS.c.id == sa.bindparam("saga"), SAGAS.c.state == "elsewhere")
)


def living(tx: Tx, server_id: str) -> SagaRow | None:
    """The saga that holds the server in this database, for reading."""
    row = _LIVING.first(tx, {"server": server_id})
    return SagaRow(*row) if row else None


def awaited(tx: Tx, saga_id: str) -> bool:
    """Whether another saga waits for the end of this one."""
    return _QUEUED.first(tx, {"saga": saga_id}) is not None


_COLUMNS = [SAGAS.c[field] for field in SagaRow.__struct_fields__]
_OF_SERVER = sa.select(*_COLUMNS).where(SAGAS.c.living_for == sa.bindparam("server"))
_LIVING, _LIVING_LOCKED = Prepared(_OF_SERVER), Prepared(_OF_SERVER.with_for_update())
_QUEUED = Prepared(sa.select(*_COLUMNS).where(SAGAS.c.queued_after == sa.bindparam("saga")))
_INSERT = Prepared(SAGAS.insert())


def _living(tx: Tx, server_id: str) -> SagaRow | None:
    row = _LIVING_LOCKED.first(tx, {"server": server_id})
    return SagaRow(*row) if row else None


def _insert(tx: Tx, row: SagaRow) -> None:
    try:
        _INSERT.run(tx, msgspec.structs.asdict(row))
    except exc.IntegrityError as error:
        # Two callers found the server free; the unique column lets one of them in.
        if row.living_for is None or "living_for" not in str(error.orig):
            raise
        raise Busy("", row.name, "queued") from error
