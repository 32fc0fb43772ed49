"""Key pairs of users (API database)."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from kilonova.base.errors import Conflict
from kilonova.db.database import Tx
from kilonova.db.tables.api import key_pairs
from kilonova.domain.quotas import refusal
from kilonova.domain.resources import KeyPair
from kilonova.store import quotas
from kilonova.store.noting import note, notes

_COLUMNS = [key_pairs.c[name] for name in KeyPair.__struct_fields__]


def get(tx: Tx, user_id: str, name: str) -> KeyPair | None:
    """One key pair."""
    row = tx.execute(
        sa.select(*_COLUMNS).where(key_pairs.c.user_id == user_id, key_pairs.c.name == name)
    ).first()
    return KeyPair(*row) if row else None


def page(
    tx: Tx, user_id: str, *, limit: int | None = None, marker: str | None = None
) -> list[KeyPair] | None:
    """A user's key pairs by name; None for a marker that is not there."""
    query = sa.select(*_COLUMNS).where(key_pairs.c.user_id == user_id)
    if marker is not None:
        if get(tx, user_id, marker) is None:
            return None
        query = query.where(key_pairs.c.name > marker)
    query = query.order_by(key_pairs.c.name)
    if limit is not None:
        query = query.limit(limit)
    return [KeyPair(*row) for row in tx.execute(query)]


def create(
    tx: Tx, pair: KeyPair, *, limit: int, unified: bool = False, imported: bool = True
) -> KeyPair:
    """Add a key pair; Conflict when the name is taken.

    OverQuota (in the words of a ``unified`` limit) when the user has ``limit`` of them.
    ``imported``: the public key was given, not generated.
    """
    quotas.lock(tx, pair.user_id)
    used = quotas.key_pairs_used(tx, pair.user_id)
    if 0 <= limit <= used:
        raise refusal("key_pairs", limit, unified=unified, used=used)
    if get(tx, pair.user_id, pair.name) is not None:
        raise Conflict(f"Key pair '{pair.name}' already exists.")
    values = {name: getattr(pair, name) for name in KeyPair.__struct_fields__ if name != "id"}
    event = "keypair.import" if imported else "keypair.create"
    before = pair if imported else msgspec.structs.replace(pair, public_key="", fingerprint="")
    note(tx, f"{event}.start", before)
    tx.execute(key_pairs.insert().values(**values))
    note(tx, f"{event}.end", pair)
    return pair


def delete(tx: Tx, user_id: str, name: str) -> bool:
    """Remove a key pair; whether it was there."""
    where = (key_pairs.c.user_id == user_id, key_pairs.c.name == name)
    pair = get(tx, user_id, name) if notes(tx) is not None else None
    if pair is not None:
        note(tx, "keypair.delete.start", pair)
    gone = bool(tx.execute(key_pairs.delete().where(*where)).rowcount)
    if pair is not None:
        note(tx, "keypair.delete.end", pair)
    return gone
