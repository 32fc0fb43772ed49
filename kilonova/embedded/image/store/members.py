"""The projects images are shared with."""

from __future__ import annotations

import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.embedded.image.records import Member
from kilonova.embedded.image.tables import MEMBER


def of_image(tx: Tx, image_id: str) -> list[Member]:
    """All members of an image."""
    query = (
        sa.select(MEMBER)
        .where(MEMBER.c.image_id == image_id)
        .order_by(MEMBER.c.created_at, MEMBER.c.member_id)
    )
    return [Member(**row._mapping) for row in tx.execute(query)]


def find(tx: Tx, image_id: str, member_id: str) -> Member | None:
    """One member."""
    query = sa.select(MEMBER).where(MEMBER.c.image_id == image_id, MEMBER.c.member_id == member_id)
    row = tx.execute(query).first()
    return None if row is None else Member(**row._mapping)


def create(tx: Tx, member: Member) -> None:
    """Write a new member."""
    values = {column.name: getattr(member, column.name) for column in MEMBER.columns}
    tx.execute(MEMBER.insert().values(**values))


def set_status(tx: Tx, member: Member, status: str, now: int) -> None:
    """Write what a member says to the offer."""
    tx.execute(
        MEMBER.update()
        .where(MEMBER.c.image_id == member.image_id, MEMBER.c.member_id == member.member_id)
        .values(status=status, updated_at=now)
    )


def delete(tx: Tx, image_id: str, member_id: str) -> bool:
    """Stop sharing; whether it was shared."""
    query = MEMBER.delete().where(MEMBER.c.image_id == image_id, MEMBER.c.member_id == member_id)
    return tx.execute(query).rowcount == 1
