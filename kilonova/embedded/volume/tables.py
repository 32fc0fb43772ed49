"""Tables of the block storage service."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from kilonova.db import idempotency
from kilonova.db.types import Instant, Json
from kilonova.embedded.volume.records import Work

META = sa.MetaData()
KEYS = idempotency.table(META)


def _common(*columns: sa.Column[Any]) -> list[sa.Column[Any]]:
    return [
        sa.Column("id", sa.String(36), primary_key=True, nullable=False),
        *columns,
        sa.Column("created_at", Instant, nullable=False),
    ]


VOLUME = sa.Table(
    "volume_volume",
    META,
    *_common(
        sa.Column("project_id", sa.String(64), nullable=False, index=True),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(255), nullable=True),
        sa.Column("description", sa.Text, nullable=True),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("bootable", sa.Boolean, nullable=False),
        sa.Column("multiattach", sa.Boolean, nullable=False),
        sa.Column("readonly", sa.Boolean, nullable=False),
        sa.Column("type_id", sa.String(36), nullable=False),
        sa.Column("availability_zone", sa.String(255), nullable=False),
        sa.Column("snapshot_id", sa.String(36), nullable=True),
        sa.Column("source_volid", sa.String(36), nullable=True),
        sa.Column("metadata", Json(dict[str, str]), nullable=False),
        sa.Column("image_metadata", Json(dict[str, str]), nullable=False),
        sa.Column("job", Json(Work), nullable=True),
        sa.Column("updated_at", Instant, nullable=True),
    ),
)

SNAPSHOT = sa.Table(
    "volume_snapshot",
    META,
    *_common(
        sa.Column("project_id", sa.String(64), nullable=False, index=True),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("volume_id", sa.String(36), nullable=False, index=True),
        sa.Column("type_id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(255), nullable=True),
        sa.Column("description", sa.Text, nullable=True),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("metadata", Json(dict[str, str]), nullable=False),
        sa.Column("job", Json(Work), nullable=True),
        sa.Column("updated_at", Instant, nullable=True),
    ),
)

ATTACHMENT = sa.Table(
    "volume_attachment",
    META,
    *_common(
        sa.Column("volume_id", sa.String(36), nullable=False, index=True),
        sa.Column("server_id", sa.String(36), nullable=True, index=True),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("mode", sa.String(8), nullable=False),
        sa.Column("mountpoint", sa.String(255), nullable=True),
        sa.Column("connector", Json(dict[str, Any]), nullable=False),
        sa.Column("attached_at", Instant, nullable=True),
    ),
)

TYPE = sa.Table(
    "volume_type",
    META,
    *_common(
        sa.Column("name", sa.String(255), nullable=False, unique=True),
        sa.Column("description", sa.String(255), nullable=True),
        sa.Column("is_public", sa.Boolean, nullable=False),
        sa.Column("extra_specs", Json(dict[str, str]), nullable=False),
        sa.Column("projects", Json(list[str]), nullable=False),
        sa.Column("updated_at", Instant, nullable=True),
    ),
)

TRANSFER = sa.Table(
    "volume_transfer",
    META,
    *_common(
        sa.Column("volume_id", sa.String(36), nullable=False, unique=True),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(255), nullable=True),
        sa.Column("salt", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(128), nullable=False),
    ),
)

LIMIT = sa.Table(
    "volume_limit",
    META,
    sa.Column("project_id", sa.String(80), primary_key=True, nullable=False),
    sa.Column("resource", sa.String(64), primary_key=True, nullable=False),
    sa.Column("value", sa.Integer, nullable=False),
)
