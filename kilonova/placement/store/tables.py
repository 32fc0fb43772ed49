"""The tables of Placement.

``provider_changes`` has a row for every change of anything a provider has (also where the API's
generation stays), written by the transaction that made it, so that followers in memory notice it;
its old rows are deleted, and the counter ``changes_pruned`` is the last one of those.
"""

from __future__ import annotations

import sqlalchemy as sa

from kilonova.db import idempotency
from kilonova.db.types import MicroTime

metadata = sa.MetaData()
_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_When = sa.DateTime().with_variant(MicroTime(), "mysql", "mariadb")

keys = idempotency.table(metadata)

providers = sa.Table(
    "resource_providers",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("uuid", sa.String(36), nullable=False, unique=True),
    sa.Column("name", sa.Unicode(200), nullable=False, unique=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("parent_id", _Id, sa.ForeignKey("resource_providers.id"), index=True),
    sa.Column("root_id", _Id, sa.ForeignKey("resource_providers.id"), index=True),
    sa.Column("updated_at", _When, nullable=False),
)

classes = sa.Table(
    "resource_classes",
    metadata,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("updated_at", _When, nullable=False),
)

traits = sa.Table(
    "traits",
    metadata,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("updated_at", _When, nullable=False),
)

provider_traits = sa.Table(
    "resource_provider_traits",
    metadata,
    sa.Column("provider_id", _Id, sa.ForeignKey("resource_providers.id"), primary_key=True),
    sa.Column("trait", sa.String(255), sa.ForeignKey("traits.name"), primary_key=True, index=True),
)

provider_aggregates = sa.Table(
    "resource_provider_aggregates",
    metadata,
    sa.Column("provider_id", _Id, sa.ForeignKey("resource_providers.id"), primary_key=True),
    sa.Column("aggregate", sa.String(36), primary_key=True),
)


def _class_key() -> sa.ForeignKey:
    return sa.ForeignKey("resource_classes.name", onupdate="CASCADE")


inventories = sa.Table(
    "inventories",
    metadata,
    sa.Column("provider_id", _Id, sa.ForeignKey("resource_providers.id"), primary_key=True),
    sa.Column("resource_class", sa.String(255), _class_key(), primary_key=True, index=True),
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("reserved", sa.Integer, nullable=False),
    sa.Column("min_unit", sa.Integer, nullable=False),
    sa.Column("max_unit", sa.Integer, nullable=False),
    sa.Column("step_size", sa.Integer, nullable=False),
    sa.Column("allocation_ratio", sa.Double, nullable=False),
    sa.Column("updated_at", _When, nullable=False),
)

consumers = sa.Table(
    "consumers",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("uuid", sa.String(36), nullable=False, unique=True),
    sa.Column("project_id", sa.String(255), nullable=False),
    sa.Column("user_id", sa.String(255), nullable=False),
    sa.Column("type", sa.String(255)),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Index("consumers_project_user", "project_id", "user_id"),
)

allocations = sa.Table(
    "allocations",
    metadata,
    sa.Column("consumer_id", _Id, sa.ForeignKey("consumers.id"), primary_key=True),
    sa.Column("provider_id", _Id, sa.ForeignKey("resource_providers.id"), primary_key=True),
    sa.Column("resource_class", sa.String(255), _class_key(), primary_key=True, index=True),
    sa.Column("used", sa.Integer, nullable=False),
    sa.Column("updated_at", _When, nullable=False),
    sa.Index("allocations_provider", "provider_id", "resource_class", "used"),
)

provider_changes = sa.Table(
    "provider_changes",
    metadata,
    sa.Column("seq", _Id, primary_key=True, autoincrement=True),
    sa.Column("provider_id", sa.BigInteger, nullable=False),
)

counters = sa.Table(
    "counters",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)
