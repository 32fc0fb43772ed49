"""Instance actions and their events (cell database)."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from typing import Any

import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.prepared import Prepared
from kilonova.db.tables.cell import instance_action_events as events
from kilonova.db.tables.cell import instance_actions as actions
from kilonova.domain.resources import Action, ActionEvent

_ACTION = [
    actions.c.id,
    actions.c.action,
    actions.c.server_id,
    actions.c.request_id,
    actions.c.user_id,
    actions.c.project_id,
    actions.c.start_time,
    actions.c.finish_time,
    actions.c.updated_at,
    actions.c.message,
]
_EVENT = [
    events.c.name,
    events.c.start_time,
    events.c.finish_time,
    events.c.result,
    events.c.traceback,
    events.c.host,
    events.c.details,
]

_START = Prepared(actions.insert())
_START_EVENT = Prepared(events.insert())
_CHANGE = Prepared(actions.update().where(actions.c.id == sa.bindparam("b_id")))
_CHANGE_EVENT = Prepared(
    events.update().where(
        events.c.action_id == sa.bindparam("b_action"), events.c.name == sa.bindparam("b_name")
    )
)
_ASKED = (
    actions.c.server_id == sa.bindparam("server"),
    actions.c.request_id == sa.bindparam("request"),
)
_FINISH = Prepared(actions.update().where(*_ASKED))
_OVER = Prepared(
    sa.select(actions.c.id).where(*_ASKED, actions.c.finish_time.is_not(None)).limit(1)
)
_FIND = Prepared(sa.select(actions.c.id).where(*_ASKED).order_by(actions.c.id.desc()).limit(1))


def start(
    tx: Tx,
    server_id: str,
    action: str,
    *,
    request_id: str,
    user_id: str | None,
    project_id: str | None,
    now: dt.datetime,
) -> int:
    """Record that an action was asked for; its id."""
    return _START.insert(
        tx,
        {
            "action": action,
            "server_id": server_id,
            "request_id": request_id,
            "user_id": user_id,
            "project_id": project_id,
            "start_time": now,
            "updated_at": now,
        },
    )


def finish(
    tx: Tx, server_id: str, request_id: str, *, now: dt.datetime, message: str | None = None
) -> None:
    """The action ended; a ``message`` says that it failed."""
    which = {"server": server_id, "request": request_id}
    _FINISH.run(tx, {**which, "finish_time": now, "updated_at": now, "message": message})


def is_over(tx: Tx, server_id: str, request_id: str) -> bool:
    """Whether the action has ended."""
    return _OVER.first(tx, {"server": server_id, "request": request_id}) is not None


def start_event(
    tx: Tx, server_id: str, request_id: str, name: str, *, now: dt.datetime, host: str | None = None
) -> bool:
    """A part of the action begins; beginning again forgets how it ended before.

    False when it was begun before.
    """
    action_id = _find(tx, server_id, request_id)
    if action_id is None:
        return True
    which = {"b_action": action_id, "b_name": name}
    unended = dict.fromkeys(("finish_time", "result", "traceback", "details"))
    again = bool(_CHANGE_EVENT.run(tx, {**which, "start_time": now, **unended}))
    if not again:
        _START_EVENT.run(
            tx, {"action_id": action_id, "name": name, "start_time": now, "host": host}
        )
    _CHANGE.run(tx, {"b_id": action_id, "updated_at": now})
    return not again


def finish_event(
    tx: Tx,
    server_id: str,
    request_id: str,
    name: str,
    *,
    now: dt.datetime,
    error: str | None = None,
    traceback: str | None = None,
) -> None:
    """A part of the action ended, with Success or with an error."""
    action_id = _find(tx, server_id, request_id)
    if action_id is None:
        return
    _CHANGE_EVENT.run(
        tx,
        {
            "b_action": action_id,
            "b_name": name,
            "finish_time": now,
            "result": "Error" if error is not None else "Success",
            "details": error,
            "traceback": traceback,
        },
    )
    values: dict[str, Any] = {"b_id": action_id, "updated_at": now}
    if error is not None:
        values["message"] = "Error"
    _CHANGE.run(tx, values)


def page(
    tx: Tx,
    server_id: str,
    *,
    limit: int | None = None,
    marker: str | None = None,
    since: dt.datetime | None = None,
    before: dt.datetime | None = None,
) -> list[Action] | None:
    """Actions of a server, newest first, without events; None for a marker that is not there."""
    query = sa.select(*_ACTION).where(actions.c.server_id == server_id)
    if since is not None:
        query = query.where(actions.c.updated_at >= since)
    if before is not None:
        query = query.where(actions.c.updated_at <= before)
    if marker is not None:
        row = tx.execute(
            sa.select(actions.c.start_time, actions.c.id).where(
                actions.c.server_id == server_id, actions.c.request_id == marker
            )
        ).first()
        if row is None:
            return None
        query = query.where(
            sa.or_(
                actions.c.start_time < row[0],
                sa.and_(actions.c.start_time == row[0], actions.c.id < row[1]),
            )
        )
    query = query.order_by(actions.c.start_time.desc(), actions.c.id.desc())
    if limit is not None:
        query = query.limit(limit)
    return [Action(*row) for row in tx.execute(query)]


def show(tx: Tx, server_id: str, request_id: str) -> Action | None:
    """One action with its events, the newest event first."""
    row = tx.execute(
        sa.select(*_ACTION)
        .where(actions.c.server_id == server_id, actions.c.request_id == request_id)
        .order_by(actions.c.id.desc())
    ).first()
    if row is None:
        return None
    own = tx.execute(
        sa.select(*_EVENT)
        .where(events.c.action_id == row[0])
        .order_by(events.c.start_time.desc(), events.c.id.desc())
    )
    return Action(*(*row, tuple(ActionEvent(*event) for event in own)))


def forget(tx: Tx, server_id: str) -> None:
    """Remove the actions of a server."""
    mine = sa.select(actions.c.id).where(actions.c.server_id == server_id)
    tx.execute(events.delete().where(events.c.action_id.in_(mine)))
    tx.execute(actions.delete().where(actions.c.server_id == server_id))


def all_events(tx: Tx, action_ids: list[int]) -> dict[int, list[ActionEvent]]:
    """Action id → events, for many actions at once."""
    found: dict[int, list[ActionEvent]] = defaultdict(list)
    rows = tx.execute(
        sa.select(events.c.action_id, *_EVENT)
        .where(events.c.action_id.in_(action_ids))
        .order_by(events.c.id)
    )
    for action_id, *event in rows:
        found[action_id].append(ActionEvent(*event))
    return found


def _find(tx: Tx, server_id: str, request_id: str) -> int | None:
    found: int | None = _FIND.scalar(tx, {"server": server_id, "request": request_id})
    return found
