"""Why servers found no host (API database)."""

from __future__ import annotations

import datetime as dt

import msgspec
import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.tables.api import explanations
from kilonova.domain.explanation import Explanation, Failure

_E = explanations.c
_MOST_FAILURES = 50
_MOST_ROWS = 1000


def put(tx: Tx, explanation: Explanation) -> None:
    """Keep why a server found no host; failures that were noted before stay."""
    before = _get(tx, explanation.request_id, explanation.server_id, lock=True)
    if before is not None:
        failures = (*before.failures, *explanation.failures)[:_MOST_FAILURES]
        explanation = msgspec.structs.replace(explanation, failures=failures)
    _write(tx, explanation, new=before is None)


def note(tx: Tx, explanation: Explanation, failure: Failure) -> None:
    """Add a host that did not take the server; ``explanation`` is kept if there is none yet."""
    before = _get(tx, explanation.request_id, explanation.server_id, lock=True)
    known = before or explanation
    if failure in known.failures:
        return
    failures = (*known.failures, failure)[:_MOST_FAILURES]
    _write(tx, msgspec.structs.replace(known, failures=failures), new=before is None)


def _get(tx: Tx, request_id: str, server_id: str, *, lock: bool) -> Explanation | None:
    query = sa.select(_E.explanation).where(_E.request_id == request_id, _E.server_id == server_id)
    found: Explanation | None = tx.execute(query.with_for_update() if lock else query).scalar()
    return found


def _write(tx: Tx, explanation: Explanation, *, new: bool) -> None:
    key = {"request_id": explanation.request_id, "server_id": explanation.server_id}
    values = {"created_at": explanation.at, "explanation": explanation}
    if new:
        tx.execute(explanations.insert().values(**key, **values))
    else:
        tx.execute(explanations.update().filter_by(**key).values(**values))


def find(tx: Tx, name: str, *, limit: int = 100) -> list[Explanation]:
    """Those of a request or of a server, the newest first."""
    query = (
        sa.select(_E.explanation)
        .where(sa.or_(_E.request_id == name, _E.server_id == name))
        .order_by(_E.created_at.desc(), _E.server_id)
        .limit(limit)
    )
    return list(tx.execute(query).scalars())


def prune(tx: Tx, *, before: dt.datetime) -> int:
    """Forget what is older; how many, 1,000 at most."""
    old = tx.execute(
        sa.select(_E.request_id, _E.server_id).where(_E.created_at < before).limit(_MOST_ROWS)
    ).all()
    for request_id, server_id in old:
        tx.execute(
            explanations.delete().where(_E.request_id == request_id, _E.server_id == server_id)
        )
    return len(old)
