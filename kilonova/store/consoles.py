"""Tokens that open a console (cell database); kept as SHA-256 only."""

from __future__ import annotations

import datetime as dt
import hashlib

import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.tables.cell import console_auth_tokens as tokens
from kilonova.domain.resources import ConsoleToken

_COLUMNS = [tokens.c[name] for name in ConsoleToken.__struct_fields__]


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def add(tx: Tx, token: str, row: ConsoleToken) -> None:
    """Keep a token."""
    values = {name: getattr(row, name) for name in ConsoleToken.__struct_fields__}
    tx.execute(tokens.insert().values(token_hash=_digest(token), **values))


def get(tx: Tx, token: str, *, now: dt.datetime) -> ConsoleToken | None:
    """What a token opens; None when it is unknown or its time is over."""
    row = tx.execute(sa.select(*_COLUMNS).where(tokens.c.token_hash == _digest(token))).first()
    if row is None or row.expires_at <= now:
        return None
    return ConsoleToken(*row)


def forget(tx: Tx, server_id: str) -> None:
    """Close a server's consoles."""
    tx.execute(tokens.delete().where(tokens.c.server_id == server_id))


def prune(tx: Tx, *, now: dt.datetime) -> None:
    """Remove tokens whose time is over."""
    tx.execute(tokens.delete().where(tokens.c.expires_at <= now))
