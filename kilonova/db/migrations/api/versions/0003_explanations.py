"""Why servers found no host."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0003"
down_revision = "0002"

INSTANT = sa.String(32)
TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "explanations",
        sa.Column("request_id", sa.String(length=255), nullable=False),
        sa.Column("server_id", sa.String(length=36), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("explanation", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("request_id", "server_id", name=op.f("pk_explanations")),
    )
    for name in ("created_at", "server_id"):
        op.create_index(op.f(f"ix_explanations_{name}"), "explanations", [name], unique=False)
