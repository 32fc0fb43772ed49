"""The first tables of Placement."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import DATETIME

revision = "0001"
down_revision = None

_BIN: dict[str, Any] = {
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mysql_engine": "InnoDB",
}
_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_When = sa.DateTime().with_variant(DATETIME(fsp=6), "mysql", "mariadb")


def _resource_providers() -> None:
    op.create_table(
        "resource_providers",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("uuid", sa.String(36), nullable=False, unique=True),
        sa.Column("name", sa.Unicode(200), nullable=False, unique=True),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("parent_id", _Id, sa.ForeignKey("resource_providers.id"), index=True),
        sa.Column("root_id", _Id, sa.ForeignKey("resource_providers.id"), index=True),
        sa.Column("updated_at", _When, nullable=False),
        **_BIN,
    )


def _resource_classes() -> None:
    op.create_table(
        "resource_classes",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("updated_at", _When, nullable=False),
        **_BIN,
    )


def _traits() -> None:
    op.create_table(
        "traits",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("updated_at", _When, nullable=False),
        **_BIN,
    )


def _resource_provider_traits() -> None:
    op.create_table(
        "resource_provider_traits",
        sa.Column("provider_id", _Id, sa.ForeignKey("resource_providers.id"), primary_key=True),
        sa.Column(
            "trait", sa.String(255), sa.ForeignKey("traits.name"), primary_key=True, index=True
        ),
        **_BIN,
    )


def _resource_provider_aggregates() -> None:
    op.create_table(
        "resource_provider_aggregates",
        sa.Column("provider_id", _Id, sa.ForeignKey("resource_providers.id"), primary_key=True),
        sa.Column("aggregate", sa.String(36), primary_key=True),
        **_BIN,
    )


def _class_key() -> sa.ForeignKey:
    return sa.ForeignKey("resource_classes.name", onupdate="CASCADE")


def _inventories() -> None:
    op.create_table(
        "inventories",
        sa.Column("provider_id", _Id, sa.ForeignKey("resource_providers.id"), primary_key=True),
        sa.Column("resource_class", sa.String(255), _class_key(), primary_key=True, index=True),
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("reserved", sa.Integer, nullable=False),
        sa.Column("min_unit", sa.Integer, nullable=False),
        sa.Column("max_unit", sa.Integer, nullable=False),
        sa.Column("step_size", sa.Integer, nullable=False),
        sa.Column("allocation_ratio", sa.Double, nullable=False),
        sa.Column("updated_at", _When, nullable=False),
        **_BIN,
    )


def _consumers() -> None:
    op.create_table(
        "consumers",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("uuid", sa.String(36), nullable=False, unique=True),
        sa.Column("project_id", sa.String(255), nullable=False),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("type", sa.String(255)),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Index("consumers_project_user", "project_id", "user_id"),
        **_BIN,
    )


def _allocations() -> None:
    op.create_table(
        "allocations",
        sa.Column("consumer_id", _Id, sa.ForeignKey("consumers.id"), primary_key=True),
        sa.Column("provider_id", _Id, sa.ForeignKey("resource_providers.id"), primary_key=True),
        sa.Column("resource_class", sa.String(255), _class_key(), primary_key=True, index=True),
        sa.Column("used", sa.Integer, nullable=False),
        sa.Column("updated_at", _When, nullable=False),
        sa.Index("allocations_provider", "provider_id", "resource_class", "used"),
        **_BIN,
    )


def _counters() -> None:
    op.create_table(
        "counters",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
        **_BIN,
    )


def upgrade() -> None:
    """Make all tables."""
    _resource_providers()
    _resource_classes()
    _traits()
    _resource_provider_traits()
    _resource_provider_aggregates()
    _inventories()
    _consumers()
    _allocations()
    _counters()
