"""Tables of the API database: what all cells share."""

from __future__ import annotations

import sqlalchemy as sa

from kilonova.db.tables import outbox, sagas
from kilonova.db.tables.base import metadata_with_names
from kilonova.db.types import Instant, Json, blob, text
from kilonova.domain.explanation import Explanation
from kilonova.domain.server import BuildRequest, BuildSpec

metadata = metadata_with_names()

cell_mappings = sa.Table(
    "cell_mappings",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("uuid", sa.String(36), nullable=False, unique=True),
    sa.Column("name", sa.String(255)),
    sa.Column("transport_url", text(), nullable=False),
    sa.Column("database_connection", text(), nullable=False),
    sa.Column("disabled", sa.Boolean, nullable=False, default=False),
)

host_mappings = sa.Table(
    "host_mappings",
    metadata,
    sa.Column("host", sa.String(255), primary_key=True),
    sa.Column("cell_id", sa.String(36), nullable=False, index=True),
)

# vcpus and memory_mb make quota usage one range of one index.
instance_mappings = sa.Table(
    "instance_mappings",
    metadata,
    sa.Column("server_id", sa.String(36), primary_key=True),
    sa.Column("cell_id", sa.String(36)),
    sa.Column("project_id", sa.String(64), nullable=False),
    sa.Column("user_id", sa.String(64), nullable=False),
    sa.Column("queued_for_delete", sa.Boolean, nullable=False, default=False),
    sa.Column("set_aside", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("vcpus", sa.Integer, nullable=False),
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Index(
        "ix_instance_mappings_usage",
        "project_id",
        "queued_for_delete",
        "set_aside",
        "user_id",
        "vcpus",
        "memory_mb",
    ),
    sa.Index("ix_instance_mappings_cell_id", "cell_id", "queued_for_delete"),
)

build_requests = sa.Table(
    "build_requests",
    metadata,
    sa.Column("server_id", sa.String(36), primary_key=True),
    sa.Column("project_id", sa.String(64), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("request", Json(BuildRequest), nullable=False),
    sa.Index("ix_build_requests_project", "project_id", "created_at"),
)

request_specs = sa.Table(
    "request_specs",
    metadata,
    sa.Column("server_id", sa.String(36), primary_key=True),
    sa.Column("spec", Json(BuildSpec), nullable=False),
)

flavors = sa.Table(
    "flavors",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("flavorid", sa.String(255), nullable=False, unique=True),
    sa.Column("name", sa.String(255), nullable=False, unique=True),
    sa.Column("vcpus", sa.Integer, nullable=False),
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("root_gb", sa.Integer, nullable=False),
    sa.Column("ephemeral_gb", sa.Integer, nullable=False, default=0),
    sa.Column("swap_mb", sa.Integer, nullable=False, default=0),
    sa.Column("rxtx_factor", sa.Float, nullable=False, default=1.0),
    sa.Column("is_public", sa.Boolean, nullable=False, default=True),
    sa.Column("disabled", sa.Boolean, nullable=False, default=False),
    sa.Column("description", text()),
    sa.Column("extra_specs", Json(dict[str, str]), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("updated_at", Instant),
)

flavor_projects = sa.Table(
    "flavor_projects",
    metadata,
    sa.Column("flavor_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("project_id", sa.String(64), primary_key=True),
)

key_pairs = sa.Table(
    "key_pairs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("user_id", sa.String(64), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("type", sa.String(8), nullable=False),
    sa.Column("fingerprint", sa.String(128), nullable=False),
    sa.Column("public_key", text(), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.UniqueConstraint("user_id", "name", name="uq_key_pairs_user_id_name"),
)

aggregates = sa.Table(
    "aggregates",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("uuid", sa.String(36), nullable=False, unique=True),
    sa.Column("name", sa.String(255), nullable=False, unique=True),
    sa.Column("metadata", Json(dict[str, str]), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("updated_at", Instant),
)

aggregate_hosts = sa.Table(
    "aggregate_hosts",
    metadata,
    sa.Column("aggregate_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("host", sa.String(255), primary_key=True, index=True),
)

instance_groups = sa.Table(
    "instance_groups",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("uuid", sa.String(36), nullable=False, unique=True),
    sa.Column("project_id", sa.String(64), nullable=False, index=True),
    sa.Column("user_id", sa.String(64), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("policy", sa.String(64), nullable=False),
    sa.Column("rules", Json(dict[str, int]), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
)

instance_group_members = sa.Table(
    "instance_group_members",
    metadata,
    sa.Column("group_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("server_id", sa.String(36), primary_key=True, index=True),
)

# A member takes its place before it is built there; a move holds two. Rules are checked against
# these rows under the lock of the group's row.
instance_group_places = sa.Table(
    "instance_group_places",
    metadata,
    sa.Column("group_id", sa.String(36), primary_key=True),
    sa.Column("server_id", sa.String(36), primary_key=True, index=True),
    sa.Column("host", sa.String(255), primary_key=True),
)

# user_id is empty for a project's own limit.
quotas = sa.Table(
    "quotas",
    metadata,
    sa.Column("project_id", sa.String(64), primary_key=True),
    sa.Column("user_id", sa.String(64), primary_key=True),
    sa.Column("resource", sa.String(64), primary_key=True),
    sa.Column("hard_limit", sa.Integer, nullable=False),
)

quota_classes = sa.Table(
    "quota_classes",
    metadata,
    sa.Column("class_name", sa.String(64), primary_key=True),
    sa.Column("resource", sa.String(64), primary_key=True),
    sa.Column("hard_limit", sa.Integer, nullable=False),
)

# One row per project (or user): who changes usage locks it first.
quota_locks = sa.Table(
    "quota_locks",
    metadata,
    sa.Column("owner", sa.String(64), primary_key=True),
    sa.Column("turns", sa.BigInteger, nullable=False, default=0),
)

# Why servers found no host; old ones are pruned.
explanations = sa.Table(
    "explanations",
    metadata,
    sa.Column("request_id", sa.String(255), primary_key=True),
    sa.Column("server_id", sa.String(36), primary_key=True, index=True),
    sa.Column("created_at", Instant, nullable=False, index=True),
    sa.Column("explanation", Json(Explanation), nullable=False),
)

idempotency = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("begun_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("reply", blob()),
)

saga_tables = sagas.tables(metadata)
outbox_tables = outbox.tables(metadata)
