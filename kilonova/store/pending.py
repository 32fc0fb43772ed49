"""What work under way must know of a server and nobody may read later: passwords and files."""

from __future__ import annotations

import datetime as dt

import msgspec

from kilonova.db.database import Tx
from kilonova.domain.guest import InjectedFile
from kilonova.store import servers

KEY = "pending"
"""The key of ``Private.system``."""


class Pending(msgspec.Struct, frozen=True, omit_defaults=True):
    """The administrator's password, and files to be put into the guest."""

    admin_pass: str | None = None
    files: tuple[InjectedFile, ...] = ()


def put(system: dict[str, str], what: Pending) -> dict[str, str]:
    """``Private.system`` with it."""
    return {**system, KEY: msgspec.json.encode(what).decode()}


def read(tx: Tx, server_id: str) -> Pending:
    """What is there; nothing when it was forgotten."""
    present = servers.private(tx, server_id)
    text = present.system.get(KEY) if present is not None else None
    return msgspec.json.decode(text, type=Pending) if text else Pending()


def forget(tx: Tx, server_id: str, *, now: dt.datetime) -> None:
    """It is needed no more; a server that is gone has none."""
    present = servers.private(tx, server_id)
    if present is None or KEY not in present.system:
        return
    left = {key: value for key, value in present.system.items() if key != KEY}
    if servers.get(tx, server_id) is not None:
        servers.update(tx, server_id, now=now, system=left)
