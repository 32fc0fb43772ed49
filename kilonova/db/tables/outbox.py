"""The tables a database needs to hold notifications until they are sent."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from kilonova.db.types import text

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


class OutboxTables(NamedTuple):
    """The notifications of one database, and who sends them."""

    outbox: sa.Table
    senders: sa.Table


def tables(metadata: sa.MetaData) -> OutboxTables:
    """Declare both in ``metadata``; the same in every database of compute.

    ``outbox.form`` is versioned or unversioned; ``message`` is the whole message but its envelope.
    ``outbox_senders`` has one row: only its ``owner`` sends, until ``lease_until`` (seconds since
    1970).
    """
    return OutboxTables(
        outbox=sa.Table(
            "outbox",
            metadata,
            sa.Column("id", _NUMBER, primary_key=True, autoincrement=True),
            sa.Column("form", sa.String(12), nullable=False),
            sa.Column("event", sa.String(100), nullable=False),
            sa.Column("priority", sa.String(8), nullable=False),
            sa.Column("message", text(), nullable=False),
            sqlite_autoincrement=True,
        ),
        senders=sa.Table(
            "outbox_senders",
            metadata,
            sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("owner", sa.String(255), nullable=False),
            sa.Column("lease_until", sa.Double, nullable=False),
        ),
    )


TABLES = tables(sa.MetaData())
