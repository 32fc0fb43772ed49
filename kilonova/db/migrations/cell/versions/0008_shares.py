"""File shares of servers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0008"
down_revision = "0007"

INSTANT = sa.String(32)
TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "share_mappings",
        sa.Column("uuid", sa.String(36), nullable=False),
        sa.Column("server_id", sa.String(36), nullable=False),
        sa.Column("share_id", sa.String(36), nullable=False),
        sa.Column("tag", sa.String(255), nullable=False),
        sa.Column("export_location", TEXT, nullable=False),
        sa.Column("share_proto", sa.String(32), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT),
        sa.PrimaryKeyConstraint("uuid", name=op.f("pk_share_mappings")),
        sa.UniqueConstraint("server_id", "share_id", name="uq_share_mappings_share"),
        sa.UniqueConstraint("server_id", "tag", name="uq_share_mappings_tag"),
    )
    op.create_index(op.f("ix_share_mappings_share_id"), "share_mappings", ["share_id"])
