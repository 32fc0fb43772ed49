"""Which services take nothing: switched off, or silent for long."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the index."""
    op.create_index(
        "ix_services_out",
        "services",
        ["binary", "disabled", "forced_down", "last_seen_up"],
        unique=False,
    )
