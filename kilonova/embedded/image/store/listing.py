"""Lists of images: who sees what, filters, order and pages as one SELECT."""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from kilonova.base.errors import BadRequest
from kilonova.db.database import Tx
from kilonova.embedded.image.records import Image
from kilonova.embedded.image.store import images
from kilonova.embedded.image.tables import IMAGE, MEMBER, PROPERTY, TAG

SORT_KEYS = (
    "name", "status", "container_format", "disk_format", "size", "id", "created_at", "updated_at",
    "owner", "visibility", "min_disk", "min_ram", "virtual_size", "checksum", "protected",
)  # fmt: skip
_SECOND = 1_000_000
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "eq": operator.eq,
    "neq": operator.ne,
}


class Where(msgspec.Struct, frozen=True):
    """A filter on a column (``=``, ``in``, ``gt`` …), on a property or on a tag."""

    name: str
    how: str
    value: Any
    kind: str = "column"


class Wanted(msgspec.Struct, frozen=True):
    """Which images, for whom, in which order.

    ``project_id`` None: an administrator without a project. ``visibility`` None: what one has or
    may boot from without asking for community images.
    """

    project_id: str | None
    admin: bool
    visibility: str | None
    member_status: str
    filters: tuple[Where, ...]
    order: tuple[tuple[str, bool], ...]
    limit: int
    marker: str | None


def page(tx: Tx, wanted: Wanted) -> list[Image]:
    """At most ``limit`` + 1 images; BadRequest for a marker that is not there."""
    query = sa.select(IMAGE).where(_visible(wanted), *(_clause(item) for item in wanted.filters))
    if wanted.marker is not None:
        query = query.where(_after(tx, wanted))
    for key, descending in wanted.order:
        column = _ordered(key)
        query = query.order_by(column.desc() if descending else column.asc())
    found = tx.execute(query.limit(wanted.limit + 1)).all()
    return images.complete(tx, [dict(row._mapping) for row in found])


def _shared(project_id: str, member_status: str) -> sa.ColumnElement[bool]:
    query = sa.select(MEMBER.c.image_id).where(MEMBER.c.member_id == project_id)
    if member_status != "all":
        query = query.where(MEMBER.c.status == member_status)
    return sa.and_(IMAGE.c.visibility == "shared", IMAGE.c.id.in_(query))


def _visible(wanted: Wanted) -> sa.ColumnElement[bool]:
    asked = wanted.visibility
    mine = IMAGE.c.owner == wanted.project_id if wanted.project_id else sa.false()
    everything: list[sa.ColumnElement[bool]] = [mine, IMAGE.c.visibility == "public"]
    if asked in ("all", "community"):
        everything.append(IMAGE.c.visibility == "community")
    if wanted.project_id:
        everything.append(_shared(wanted.project_id, wanted.member_status))
    if wanted.admin:
        everything.append(IMAGE.c.visibility != "community")
    clause = sa.or_(*everything)
    if asked in (None, "all"):
        return clause
    return sa.and_(clause, IMAGE.c.visibility == asked)


def _clause(item: Where) -> sa.ColumnElement[bool]:
    if item.kind == "property":
        having = sa.select(PROPERTY.c.image_id).where(
            PROPERTY.c.name == item.name, PROPERTY.c.value == item.value
        )
        return IMAGE.c.id.in_(having)
    if item.kind == "tag":
        return IMAGE.c.id.in_(sa.select(TAG.c.image_id).where(TAG.c.value == item.value))
    column: sa.ColumnElement[Any] = IMAGE.c[item.name]
    if item.how == "in":
        return column.in_(list(item.value))
    if item.name in ("created_at", "updated_at"):
        # Clients know whole seconds only.
        column = column - column % _SECOND
    clause: sa.ColumnElement[bool] = _COMPARE[item.how](column, item.value)
    return clause


def _ordered(key: str) -> sa.ColumnElement[Any]:
    column = IMAGE.c[key]
    if not column.nullable:
        return column
    nothing: Any = -1 if isinstance(column.type, sa.BigInteger) else ""
    return sa.func.coalesce(column, nothing)


def _after(tx: Tx, wanted: Wanted) -> sa.ColumnElement[bool]:
    row = tx.execute(sa.select(IMAGE).where(IMAGE.c.id == wanted.marker)).first()
    if row is None:
        raise BadRequest(f"The marker {wanted.marker} is no image.")
    same: list[sa.ColumnElement[bool]] = []
    steps: list[sa.ColumnElement[bool]] = []
    for key, descending in wanted.order:
        column = _ordered(key)
        value = getattr(row, key)
        if value is None:
            value = -1 if isinstance(IMAGE.c[key].type, sa.BigInteger) else ""
        steps.append(sa.and_(*same, column < value if descending else column > value))
        same.append(column == value)
    return sa.or_(*steps)


def moment(text: str) -> tuple[str, int]:
    """The operator and time of ``gt:2026-01-31T12:00:00Z``; BadRequest."""
    how, colon, rest = text.partition(":")
    if how not in _COMPARE or not colon:
        how, rest = "eq", text
    try:
        when = dt.datetime.fromisoformat(rest)
    except ValueError:
        raise BadRequest(f"{text[:64]!r} is no time with an operator.") from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=dt.UTC)
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return how, (when - epoch) // dt.timedelta(microseconds=1)


def split_in(text: str) -> Sequence[str]:
    """The values of ``in:a,"b,c",d``; BadRequest for quotes that do not close."""
    values: list[str] = []
    rest = text
    while rest:
        if rest.startswith('"'):
            value, quote, rest = rest[1:].partition('"')
            if not quote or (rest and not rest.startswith(",")):
                raise BadRequest("The quotes of the in: filter do not fit.")
            rest = rest[1:]
        else:
            value, _, rest = rest.partition(",")
        values.append(value)
    return values
