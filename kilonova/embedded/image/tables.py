"""Tables of the image service. Times are whole microseconds since 1970 (UTC)."""

from __future__ import annotations

import sqlalchemy as sa

from kilonova.db import idempotency

META = sa.MetaData()

KEYS = idempotency.table(META)

IMAGE = sa.Table(
    "image_image",
    META,
    sa.Column("id", sa.String(36), primary_key=True, nullable=False),
    sa.Column("name", sa.String(255), nullable=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("owner", sa.String(255), nullable=True, index=True),
    sa.Column("visibility", sa.String(16), nullable=False),
    sa.Column("disk_format", sa.String(20), nullable=True),
    sa.Column("container_format", sa.String(20), nullable=True),
    sa.Column("size", sa.BigInteger, nullable=True),
    sa.Column("virtual_size", sa.BigInteger, nullable=True),
    sa.Column("min_disk", sa.Integer, nullable=False),
    sa.Column("min_ram", sa.Integer, nullable=False),
    sa.Column("protected", sa.Boolean, nullable=False),
    sa.Column("os_hidden", sa.Boolean, nullable=False),
    sa.Column("checksum", sa.String(32), nullable=True),
    sa.Column("os_hash_algo", sa.String(16), nullable=True),
    sa.Column("os_hash_value", sa.String(128), nullable=True),
    sa.Column("created_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.Index("ix_image_image_visibility", "visibility", "os_hidden"),
)

PROPERTY = sa.Table(
    "image_property",
    META,
    sa.Column("image_id", sa.String(36), primary_key=True, nullable=False),
    sa.Column("name", sa.String(255), primary_key=True, nullable=False),
    sa.Column("value", sa.Text, nullable=False),
)

TAG = sa.Table(
    "image_tag",
    META,
    sa.Column("image_id", sa.String(36), primary_key=True, nullable=False),
    sa.Column("value", sa.String(255), primary_key=True, nullable=False),
)

MEMBER = sa.Table(
    "image_member",
    META,
    sa.Column("image_id", sa.String(36), primary_key=True, nullable=False),
    sa.Column("member_id", sa.String(255), primary_key=True, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.Index("ix_image_member_member_id", "member_id"),
)

TASK = sa.Table(
    "image_task",
    META,
    sa.Column("id", sa.String(36), primary_key=True, nullable=False),
    sa.Column("image_id", sa.String(36), nullable=False, index=True),
    sa.Column("owner", sa.String(255), nullable=True),
    sa.Column("user_id", sa.String(64), nullable=False),
    sa.Column("request_id", sa.String(64), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
)
