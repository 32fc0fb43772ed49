"""File shares of servers (cell database)."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from kilonova.base.errors import BadRequest, Conflict, Fault
from kilonova.db.database import Tx
from kilonova.db.tables.cell import instances
from kilonova.db.tables.cell import share_mappings as mappings
from kilonova.domain.guest import GuestShare
from kilonova.domain.resources import ShareMapping, ShareStatus

REFUSED: dict[str, type[Fault]] = {
    "rebuild": BadRequest,
    **dict.fromkeys(("resize", "migrate", "shelve", "suspend"), Conflict),
    **dict.fromkeys(("os-migrateLive", "evacuate"), Conflict),
}
"""What is not done to servers with shares, by the names of ``domain.states.ACTIONS``."""
_TURNS = {
    True: (str(ShareStatus.INACTIVE), str(ShareStatus.ACTIVE)),
    False: (str(ShareStatus.ACTIVE), str(ShareStatus.INACTIVE)),
}
_COLUMNS = [mappings.c[name] for name in ShareMapping.__struct_fields__]


def of_server(tx: Tx, server_id: str) -> list[ShareMapping]:
    """The server's shares in the order they came."""
    query = sa.select(*_COLUMNS).where(mappings.c.server_id == server_id)
    rows = tx.execute(query.order_by(mappings.c.created_at, mappings.c.uuid))
    return [ShareMapping(*row) for row in rows]


def find(tx: Tx, server_id: str, share_id: str) -> ShareMapping | None:
    """One share of a server."""
    mine = (mappings.c.server_id == server_id, mappings.c.share_id == share_id)
    row = tx.execute(sa.select(*_COLUMNS).where(*mine)).first()
    return ShareMapping(*row) if row is not None else None


def of_guest(tx: Tx, server_id: str) -> tuple[GuestShare, ...]:
    """The shares a guest is started with."""
    return tuple(
        GuestShare(row.share_id, row.tag, row.export_location, row.share_proto)
        for row in of_server(tx, server_id)
    )


def refuse(tx: Tx, server_id: str, action: str) -> None:
    """Conflict, or BadRequest for rebuild, where a server with shares cannot do this."""
    fault = REFUSED.get(action)
    if fault is not None and of_server(tx, server_id):
        raise fault(f"The server has file shares; detach them before you {action} it.")


def add(tx: Tx, row: ShareMapping, *, now: dt.datetime) -> None:
    """A share comes to a server; Conflict when share or tag is there already."""
    for present in of_server(tx, row.server_id):
        if row.share_id == present.share_id or row.tag == present.tag:
            raise Conflict(
                f"The server has the share {present.share_id} with the tag {present.tag} already."
            )
    values = {name: str(getattr(row, name)) for name in ShareMapping.__struct_fields__}
    tx.execute(mappings.insert().values(**values, created_at=now))


def set_status(tx: Tx, server_id: str, share_id: str, status: str, *, now: dt.datetime) -> None:
    """Write the state of one share."""
    mine = (mappings.c.server_id == server_id, mappings.c.share_id == share_id)
    tx.execute(mappings.update().where(*mine).values(status=str(status), updated_at=now))


def follow(tx: Tx, server_id: str, *, running: bool, now: dt.datetime) -> None:
    """The guest was started with its shares, or it is off."""
    before, after = _TURNS[running]
    mine = (mappings.c.server_id == server_id, mappings.c.status == before)
    tx.execute(mappings.update().where(*mine).values(status=after, updated_at=now))


def drop(tx: Tx, server_id: str, share_id: str | None = None) -> None:
    """A share is not the server's any more; without ``share_id``, none is."""
    query = mappings.delete().where(mappings.c.server_id == server_id)
    if share_id is not None:
        query = query.where(mappings.c.share_id == share_id)
    tx.execute(query)


def used_by_others(tx: Tx, server_id: str, share_id: str, host: str) -> bool:
    """Whether another server on the host needs the share, which hosts are let use, not servers."""
    query = (
        sa.select(mappings.c.uuid)
        .join(instances, instances.c.uuid == mappings.c.server_id)
        .where(
            mappings.c.share_id == share_id,
            mappings.c.server_id != server_id,
            mappings.c.status != str(ShareStatus.DETACHING),
            instances.c.host == host,
            instances.c.deleted.is_(False),
        )
    )
    return tx.execute(query.limit(1)).first() is not None
