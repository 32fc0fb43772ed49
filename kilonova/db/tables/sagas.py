"""The tables a database needs to hold sagas: journal, compensation stack, receipts, signals.

Times are seconds since 1970 (UTC) with a fraction.
"""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from kilonova.db.types import ExactString, LongText

_LONG = sa.Text().with_variant(LongText(), "mysql", "mariadb")
# MariaDB compares without regard to case unless told; the other engines do not.
_EXACT = sa.String(255).with_variant(ExactString(255), "mysql", "mariadb")
_ID = sa.String(36)
_TIME = sa.Double


class SagaTables(NamedTuple):
    """The five tables of one database."""

    sagas: sa.Table
    steps: sa.Table
    undo: sa.Table
    receipts: sa.Table
    signals: sa.Table


def tables(metadata: sa.MetaData) -> SagaTables:
    """Declare the five tables in ``metadata``; the same set in every database.

    ``sagas.ready_at`` is when a runner may take the saga: its accept time, the end of the lease
    while somebody runs it, the next try while it backs off, NULL when it is stuck, ended, or queued
    behind another. ``sagas.living_for`` repeats the server id while the saga holds the server.
    """
    return SagaTables(
        sagas=_sagas(metadata),
        steps=_steps(metadata),
        undo=_undo(metadata),
        receipts=sa.Table(
            "saga_receipts",
            metadata,
            sa.Column("saga_id", _ID, primary_key=True),
            sa.Column("step", _EXACT, primary_key=True),
            sa.Column("epoch", sa.Integer, nullable=False),
            sa.Column("result", _LONG),
            sa.Column("created_at", _TIME, nullable=False),
        ),
        signals=sa.Table(
            "saga_signals",
            metadata,
            sa.Column("id", _ID, primary_key=True),
            sa.Column("subject", sa.String(255), nullable=False),
            sa.Column("name", sa.String(255), nullable=False),
            sa.Column("payload", _LONG, nullable=False),
            sa.Column("created_at", _TIME, nullable=False),
            sa.Index("ix_saga_signals_subject", "subject", "created_at"),
        ),
    )


def _sagas(metadata: sa.MetaData) -> sa.Table:
    return sa.Table(
        "sagas",
        metadata,
        sa.Column("id", _ID, primary_key=True),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("args", _LONG, nullable=False),
        sa.Column("server_id", _ID),
        sa.Column("living_for", _ID),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("backward", sa.Boolean, nullable=False),
        sa.Column("queued_after", _ID),
        sa.Column("cell", sa.String(255)),
        sa.Column("owner", sa.String(255)),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("ready_at", _TIME),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("request", _LONG, nullable=False),
        sa.Column("error", _LONG),
        sa.Column("result", _LONG),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME),
        sa.UniqueConstraint("living_for", name="uq_sagas_living_for"),
        sa.Index("ix_sagas_ready_at", "ready_at"),
        sa.Index("ix_sagas_server_id", "server_id"),
        sa.Index("ix_sagas_queued_after", "queued_after"),
        sa.Index("ix_sagas_owner", "owner"),
        sa.Index("ix_sagas_ended_at", "ended_at"),
    )


def _steps(metadata: sa.MetaData) -> sa.Table:
    return sa.Table(
        "saga_steps",
        metadata,
        sa.Column("saga_id", _ID, primary_key=True),
        sa.Column("name", _EXACT, primary_key=True),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("fingerprint", sa.String(32), nullable=False),
        sa.Column("place", sa.String(255)),
        sa.Column("host", sa.String(255)),
        sa.Column("task", sa.String(64)),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("result", _LONG),
        sa.Column("error", _LONG),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("finished_at", _TIME),
    )


def _undo(metadata: sa.MetaData) -> sa.Table:
    return sa.Table(
        "saga_undo",
        metadata,
        sa.Column("saga_id", _ID, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("step", _EXACT, nullable=False),
        sa.Column("undo", sa.String(255), nullable=False),
        sa.Column("args", _LONG, nullable=False),
        sa.Column("place", sa.String(255)),
        sa.Column("host", sa.String(255)),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("error", _LONG),
        sa.Column("finished_at", _TIME),
    )


TABLES = tables(sa.MetaData())
