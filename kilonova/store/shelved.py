"""What is kept beside a shelved server, and which of them stand on hosts for how long."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.tables.cell import instances
from kilonova.domain.states import VmState

AT, HOST, IMAGE = "shelved_at", "shelved_host", "shelved_image_id"
"""Keys of ``Private.system``: when and from where the server was shelved, and as which image."""


def before(tx: Tx, limit: dt.datetime) -> list[str]:
    """Servers on a host that were shelved before that time and have no task."""
    c = instances.c
    rows = tx.execute(
        sa.select(c.uuid, c.system).where(
            c.vm_state == str(VmState.SHELVED),
            c.task_state.is_(None),
            c.deleted == sa.false(),
        )
    )
    return [server_id for server_id, system in rows if system.get(AT, "") < limit.isoformat()]


def forgotten(system: Mapping[str, str]) -> dict[str, str]:
    """``Private.system`` without any of it."""
    return {key: value for key, value in system.items() if key not in (AT, HOST, IMAGE)}
