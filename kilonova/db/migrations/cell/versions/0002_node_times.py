"""Which compute nodes were written lately."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the index."""
    op.create_index("ix_compute_nodes_updated", "compute_nodes", ["updated_at"], unique=False)
