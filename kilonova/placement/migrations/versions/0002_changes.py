"""A log of what changed, instead of a version in each provider."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add the log."""
    op.create_table(
        "provider_changes",
        sa.Column("seq", _Id, primary_key=True, autoincrement=True),
        sa.Column("provider_id", sa.BigInteger, nullable=False),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
        mysql_engine="InnoDB",
    )
    op.drop_column("resource_providers", "version")
    op.execute("DELETE FROM counters")
    op.execute("INSERT INTO counters (name, value) VALUES ('changes_pruned', 0)")
