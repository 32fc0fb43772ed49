"""Usage audits: which hosts have reported their servers of a period (cell database)."""

from __future__ import annotations

import datetime as dt

import msgspec
import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.tables.cell import instances, task_log
from kilonova.domain.server import Server
from kilonova.store.servers import decode

NAME = "instance_usage_audit"
DONE = "DONE"
_T = task_log.c


class Audit(msgspec.Struct, frozen=True):
    """What a host reported of a period: ``state`` DONE or RUNNING."""

    host: str
    state: str
    message: str
    task_items: int
    errors: int


_COLUMNS = [_T[name] for name in Audit.__struct_fields__]


def page(tx: Tx, begin: dt.datetime, end: dt.datetime) -> list[Audit]:
    """The reports of a period, by host."""
    query = sa.select(*_COLUMNS).where(
        _T.task_name == NAME, _T.period_beginning == begin, _T.period_ending == end
    )
    return [Audit(*row) for row in tx.execute(query.order_by(_T.host))]


def add(tx: Tx, begin: dt.datetime, end: dt.datetime, audit: Audit) -> None:
    """Record a report; a host has one for each period (IntegrityError)."""
    tx.execute(
        task_log.insert().values(
            task_name=NAME,
            period_beginning=begin,
            period_ending=end,
            **msgspec.structs.asdict(audit),
        )
    )


def active(tx: Tx, host: str, begin: dt.datetime, end: dt.datetime) -> list[Server]:
    """The servers of a host that were there at some moment of the period, deleted ones too."""
    c = instances.c
    query = sa.select(c.server).where(
        c.host == host,
        c.launched_at < end,
        sa.or_(c.terminated_at.is_(None), c.terminated_at >= begin),
    )
    return [decode(row[0]) for row in tx.execute(query.order_by(c.id))]
