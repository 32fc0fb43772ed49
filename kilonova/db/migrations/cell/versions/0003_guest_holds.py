"""What guests hold of their hosts' NUMA cells, CPUs, pages and devices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0003"
down_revision = "0002"

TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "guest_holds",
        sa.Column("server_id", sa.String(length=36), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("held", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("server_id", "host", name=op.f("pk_guest_holds")),
    )
    op.create_index(op.f("ix_guest_holds_host"), "guest_holds", ["host"], unique=False)
