"""Servers that are set aside count in no quota."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

INDEX = "ix_instance_mappings_usage"


def upgrade() -> None:
    """Add the column, and make it part of the index that counts."""
    op.add_column(
        "instance_mappings",
        sa.Column("set_aside", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.drop_index(INDEX, "instance_mappings")
    op.create_index(
        INDEX,
        "instance_mappings",
        ["project_id", "queued_for_delete", "set_aside", "user_id", "vcpus", "memory_mb"],
        unique=False,
    )
