"""Servers in the order of their names."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the index."""
    op.create_index(
        "ix_instances_name", "instances", ["deleted", "name", "created_at", "uuid"], unique=False
    )
