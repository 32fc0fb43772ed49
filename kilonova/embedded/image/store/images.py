"""Images with their properties and tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from kilonova.base.errors import Conflict
from kilonova.db.database import Tx
from kilonova.db.prepared import Prepared
from kilonova.embedded.image.records import Content, Image
from kilonova.embedded.image.tables import IMAGE, MEMBER, PROPERTY, TAG

_COLUMNS = tuple(column.name for column in IMAGE.columns)
_CHANGEABLE = (
    "name", "owner", "visibility", "disk_format", "container_format", "min_disk", "min_ram",
    "protected", "os_hidden", "updated_at",
)  # fmt: skip


_OF_IMAGES: sa.BindParameter[str] = sa.bindparam("images", expanding=True)
_BY_ID = sa.select(IMAGE).where(IMAGE.c.id == sa.bindparam("image"))
_FIND, _FIND_LOCKED = Prepared(_BY_ID), Prepared(_BY_ID.with_for_update())
_PROPERTIES = Prepared(
    sa.select(PROPERTY.c.image_id, PROPERTY.c.name, PROPERTY.c.value)
    .where(PROPERTY.c.image_id.in_(_OF_IMAGES))
    .order_by(PROPERTY.c.name)
)
_TAGS = Prepared(
    sa.select(TAG.c.image_id, TAG.c.value)
    .where(TAG.c.image_id.in_(_OF_IMAGES))
    .order_by(TAG.c.value)
)


def find(tx: Tx, image_id: str, *, lock: bool = False) -> Image | None:
    """An image, None when there is none; ``lock`` keeps others from changing it meanwhile."""
    rows = (_FIND_LOCKED if lock else _FIND).dicts(tx, {"image": image_id})
    return complete(tx, rows)[0] if rows else None


def complete(tx: Tx, found: Sequence[Mapping[str, Any]]) -> list[Image]:
    """Images from rows of `IMAGE`, with one statement each for properties and tags."""
    ids = [row["id"] for row in found]
    if not ids:
        return []
    properties: dict[str, dict[str, str]] = {}
    for image_id, name, value in _PROPERTIES.all(tx, {"images": ids}):
        properties.setdefault(image_id, {})[name] = value
    tags: dict[str, list[str]] = {}
    for image_id, value in _TAGS.all(tx, {"images": ids}):
        tags.setdefault(image_id, []).append(value)
    return [
        Image(
            **row,
            properties=properties.get(row["id"], {}),
            tags=tuple(tags.get(row["id"], ())),
        )
        for row in found
    ]


def create(tx: Tx, image: Image) -> None:
    """Write a new image; Conflict when the id is taken."""
    try:
        tx.execute(IMAGE.insert().values(**_values(image)))
    except exc.IntegrityError as error:
        raise Conflict(f"There is another image with the id {image.id}.") from error
    _set_properties(tx, image)
    set_tags(tx, image.id, image.tags)


def update(tx: Tx, image: Image) -> None:
    """Write what users may change of an image."""
    values = {name: getattr(image, name) for name in _CHANGEABLE}
    tx.execute(IMAGE.update().where(IMAGE.c.id == image.id).values(**values))
    tx.execute(PROPERTY.delete().where(PROPERTY.c.image_id == image.id))
    _set_properties(tx, image)
    set_tags(tx, image.id, image.tags)


def set_tags(tx: Tx, image_id: str, tags: Sequence[str]) -> None:
    """Make ``tags`` the tags of the image."""
    tx.execute(TAG.delete().where(TAG.c.image_id == image_id))
    values = [{"image_id": image_id, "value": tag} for tag in dict.fromkeys(tags)]
    if values:
        tx.execute(TAG.insert(), values)


def move(tx: Tx, image_id: str, before: Sequence[str], after: str, now: int) -> bool:
    """Change the status if it is one of ``before``; whether it was."""
    query = (
        IMAGE.update()
        .where(IMAGE.c.id == image_id, IMAGE.c.status.in_(list(before)))
        .values(status=after, updated_at=now)
    )
    return tx.execute(query).rowcount == 1


def fill(tx: Tx, image_id: str, before: str, after: str, content: Content, now: int) -> bool:
    """`move`, and record what the data is."""
    query = (
        IMAGE.update()
        .where(IMAGE.c.id == image_id, IMAGE.c.status == before)
        .values(
            status=after,
            size=content.size,
            checksum=content.checksum,
            os_hash_algo="sha512",
            os_hash_value=content.os_hash_value,
            virtual_size=content.virtual_size,
            updated_at=now,
        )
    )
    return tx.execute(query).rowcount == 1


def delete(tx: Tx, image_id: str) -> bool:
    """Remove an image and what belongs to it; whether it was there."""
    for table in (PROPERTY, TAG, MEMBER):
        tx.execute(table.delete().where(table.c.image_id == image_id))
    return tx.execute(IMAGE.delete().where(IMAGE.c.id == image_id)).rowcount == 1


def with_status(tx: Tx, statuses: Sequence[str]) -> list[str]:
    """The ids of images in these statuses."""
    query = sa.select(IMAGE.c.id).where(IMAGE.c.status.in_(list(statuses)))
    return list(tx.execute(query).scalars())


def present(tx: Tx, ids: Sequence[str]) -> set[str]:
    """Which of the ids are of images."""
    found: set[str] = set()
    for start in range(0, len(ids), 500):
        query = sa.select(IMAGE.c.id).where(IMAGE.c.id.in_(list(ids[start : start + 500])))
        found.update(tx.execute(query).scalars())
    return found


def _values(image: Image) -> dict[str, Any]:
    return {name: getattr(image, name) for name in _COLUMNS}


def _set_properties(tx: Tx, image: Image) -> None:
    values = [
        {"image_id": image.id, "name": name, "value": value}
        for name, value in image.properties.items()
    ]
    if values:
        tx.execute(PROPERTY.insert(), values)
