"""Which member of a server group has a place on which host."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "instance_group_places",
        sa.Column("group_id", sa.String(length=36), nullable=False),
        sa.Column("server_id", sa.String(length=36), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint(
            "group_id", "server_id", "host", name=op.f("pk_instance_group_places")
        ),
    )
    op.create_index(
        op.f("ix_instance_group_places_server_id"),
        "instance_group_places",
        ["server_id"],
        unique=False,
    )
