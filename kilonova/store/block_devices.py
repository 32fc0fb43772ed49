"""Disks of servers: what is read of them, and who has which volume."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.tables.cell import disks
from kilonova.domain.guest import Disk
from kilonova.domain.server import VolumeRef


def of_server(tx: Tx, server_id: str) -> list[Disk]:
    """The server's disks in their order."""
    query = sa.select(disks.c.disk).where(disks.c.server_id == server_id)
    return list(tx.execute(query.order_by(disks.c.position)).scalars())


def volume_refs(wanted: Sequence[Disk]) -> tuple[VolumeRef, ...]:
    """What is shown of the volumes among the disks."""
    return tuple(
        VolumeRef(disk.volume_id, disk.ends_with_server) for disk in wanted if disk.volume_id
    )


def users_of(tx: Tx, volume_id: str) -> list[str]:
    """The servers that have a volume."""
    rows = tx.execute(sa.select(disks.c.server_id).where(disks.c.volume_id == volume_id))
    return list(rows.scalars())


def all_volumes(tx: Tx) -> list[tuple[str, Disk]]:
    """Server id and disk, of every volume of every living server."""
    query = sa.select(disks.c.server_id, disks.c.disk).where(disks.c.volume_id.is_not(None))
    return [(row[0], row[1]) for row in tx.execute(query)]
