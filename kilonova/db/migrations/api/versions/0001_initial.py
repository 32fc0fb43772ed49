"""First tables of the API database: cells, mappings, flavors, keys, quotas, sagas."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None

INSTANT = sa.String(32)
TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
LONG = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
EXACT = sa.String(255).with_variant(
    mysql.VARCHAR(255, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb"
)


def upgrade() -> None:
    """Make the tables."""
    _aggregate_hosts()
    _aggregates()
    _build_requests()
    _cell_mappings()
    _flavor_projects()
    _flavors()
    _host_mappings()
    _idempotency_keys()
    _instance_group_members()
    _instance_groups()
    _instance_mappings()
    _key_pairs()
    _quota_classes()
    _quota_locks()
    _quotas()
    _request_specs()
    _saga_receipts()
    _saga_signals()
    _saga_steps()
    _saga_undo()
    _sagas()


def _aggregate_hosts() -> None:
    op.create_table(
        "aggregate_hosts",
        sa.Column("aggregate_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("aggregate_id", "host", name=op.f("pk_aggregate_hosts")),
    )
    op.create_index(op.f("ix_aggregate_hosts_host"), "aggregate_hosts", ["host"], unique=False)


def _aggregates() -> None:
    op.create_table(
        "aggregates",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("metadata", TEXT, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_aggregates")),
        sa.UniqueConstraint("name", name=op.f("uq_aggregates_name")),
        sa.UniqueConstraint("uuid", name=op.f("uq_aggregates_uuid")),
    )


def _build_requests() -> None:
    op.create_table(
        "build_requests",
        sa.Column("server_id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("request", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("server_id", name=op.f("pk_build_requests")),
    )
    op.create_index(
        "ix_build_requests_project", "build_requests", ["project_id", "created_at"], unique=False
    )


def _cell_mappings() -> None:
    op.create_table(
        "cell_mappings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("transport_url", TEXT, nullable=False),
        sa.Column("database_connection", TEXT, nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cell_mappings")),
        sa.UniqueConstraint("uuid", name=op.f("uq_cell_mappings_uuid")),
    )


def _flavor_projects() -> None:
    op.create_table(
        "flavor_projects",
        sa.Column("flavor_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("flavor_id", "project_id", name=op.f("pk_flavor_projects")),
    )


def _flavors() -> None:
    op.create_table(
        "flavors",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("flavorid", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("vcpus", sa.Integer(), nullable=False),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("root_gb", sa.Integer(), nullable=False),
        sa.Column("ephemeral_gb", sa.Integer(), nullable=False),
        sa.Column("swap_mb", sa.Integer(), nullable=False),
        sa.Column("rxtx_factor", sa.Float(), nullable=False),
        sa.Column("is_public", sa.Boolean(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("description", TEXT, nullable=True),
        sa.Column("extra_specs", TEXT, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flavors")),
        sa.UniqueConstraint("flavorid", name=op.f("uq_flavors_flavorid")),
        sa.UniqueConstraint("name", name=op.f("uq_flavors_name")),
    )


def _host_mappings() -> None:
    op.create_table(
        "host_mappings",
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("cell_id", sa.String(length=36), nullable=False),
        sa.PrimaryKeyConstraint("host", name=op.f("pk_host_mappings")),
    )
    op.create_index(op.f("ix_host_mappings_cell_id"), "host_mappings", ["cell_id"], unique=False)


def _idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column(
            "reply",
            sa.LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb"),
            nullable=True,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(
        op.f("ix_idempotency_keys_expires_at"), "idempotency_keys", ["expires_at"], unique=False
    )


def _instance_group_members() -> None:
    op.create_table(
        "instance_group_members",
        sa.Column("group_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("server_id", sa.String(length=36), nullable=False),
        sa.PrimaryKeyConstraint("group_id", "server_id", name=op.f("pk_instance_group_members")),
    )
    op.create_index(
        op.f("ix_instance_group_members_server_id"),
        "instance_group_members",
        ["server_id"],
        unique=False,
    )


def _instance_groups() -> None:
    op.create_table(
        "instance_groups",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("policy", sa.String(length=64), nullable=False),
        sa.Column("rules", TEXT, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance_groups")),
        sa.UniqueConstraint("uuid", name=op.f("uq_instance_groups_uuid")),
    )
    op.create_index(
        op.f("ix_instance_groups_project_id"), "instance_groups", ["project_id"], unique=False
    )


def _instance_mappings() -> None:
    op.create_table(
        "instance_mappings",
        sa.Column("server_id", sa.String(length=36), nullable=False),
        sa.Column("cell_id", sa.String(length=36), nullable=True),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("queued_for_delete", sa.Boolean(), nullable=False),
        sa.Column("vcpus", sa.Integer(), nullable=False),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("server_id", name=op.f("pk_instance_mappings")),
    )
    op.create_index(
        "ix_instance_mappings_cell_id",
        "instance_mappings",
        ["cell_id", "queued_for_delete"],
        unique=False,
    )
    op.create_index(
        "ix_instance_mappings_usage",
        "instance_mappings",
        ["project_id", "queued_for_delete", "user_id", "vcpus", "memory_mb"],
        unique=False,
    )


def _key_pairs() -> None:
    op.create_table(
        "key_pairs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("type", sa.String(length=8), nullable=False),
        sa.Column("fingerprint", sa.String(length=128), nullable=False),
        sa.Column("public_key", TEXT, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_key_pairs")),
        sa.UniqueConstraint("user_id", "name", name="uq_key_pairs_user_id_name"),
    )


def _quota_classes() -> None:
    op.create_table(
        "quota_classes",
        sa.Column("class_name", sa.String(length=64), nullable=False),
        sa.Column("resource", sa.String(length=64), nullable=False),
        sa.Column("hard_limit", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("class_name", "resource", name=op.f("pk_quota_classes")),
    )


def _quota_locks() -> None:
    op.create_table(
        "quota_locks",
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("turns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", name=op.f("pk_quota_locks")),
    )


def _quotas() -> None:
    op.create_table(
        "quotas",
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("resource", sa.String(length=64), nullable=False),
        sa.Column("hard_limit", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "user_id", "resource", name=op.f("pk_quotas")),
    )


def _request_specs() -> None:
    op.create_table(
        "request_specs",
        sa.Column("server_id", sa.String(length=36), nullable=False),
        sa.Column("spec", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("server_id", name=op.f("pk_request_specs")),
    )


def _saga_receipts() -> None:
    op.create_table(
        "saga_receipts",
        sa.Column("saga_id", sa.String(length=36), nullable=False),
        sa.Column("step", EXACT, nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("result", LONG, nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("saga_id", "step", name=op.f("pk_saga_receipts")),
    )


def _saga_signals() -> None:
    op.create_table(
        "saga_signals",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("payload", LONG, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_saga_signals")),
    )
    op.create_index(
        "ix_saga_signals_subject", "saga_signals", ["subject", "created_at"], unique=False
    )


def _saga_steps() -> None:
    op.create_table(
        "saga_steps",
        sa.Column("saga_id", sa.String(length=36), nullable=False),
        sa.Column("name", EXACT, nullable=False),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("fingerprint", sa.String(length=32), nullable=False),
        sa.Column("place", sa.String(length=255), nullable=True),
        sa.Column("host", sa.String(length=255), nullable=True),
        sa.Column("task", sa.String(length=64), nullable=True),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("result", LONG, nullable=True),
        sa.Column("error", LONG, nullable=True),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("saga_id", "name", name=op.f("pk_saga_steps")),
    )


def _saga_undo() -> None:
    op.create_table(
        "saga_undo",
        sa.Column("saga_id", sa.String(length=36), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step", EXACT, nullable=False),
        sa.Column("undo", sa.String(length=255), nullable=False),
        sa.Column("args", LONG, nullable=False),
        sa.Column("place", sa.String(length=255), nullable=True),
        sa.Column("host", sa.String(length=255), nullable=True),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("error", LONG, nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("saga_id", "position", name=op.f("pk_saga_undo")),
    )


def _sagas() -> None:
    op.create_table(
        "sagas",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("args", LONG, nullable=False),
        sa.Column("server_id", sa.String(length=36), nullable=True),
        sa.Column("living_for", sa.String(length=36), nullable=True),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("backward", sa.Boolean(), nullable=False),
        sa.Column("queued_after", sa.String(length=36), nullable=True),
        sa.Column("cell", sa.String(length=255), nullable=True),
        sa.Column("owner", sa.String(length=255), nullable=True),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("ready_at", sa.Double(), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("request", LONG, nullable=False),
        sa.Column("error", LONG, nullable=True),
        sa.Column("result", LONG, nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sagas")),
        sa.UniqueConstraint("living_for", name="uq_sagas_living_for"),
    )
    op.create_index("ix_sagas_ended_at", "sagas", ["ended_at"], unique=False)
    op.create_index("ix_sagas_owner", "sagas", ["owner"], unique=False)
    op.create_index("ix_sagas_queued_after", "sagas", ["queued_after"], unique=False)
    op.create_index("ix_sagas_ready_at", "sagas", ["ready_at"], unique=False)
    op.create_index("ix_sagas_server_id", "sagas", ["server_id"], unique=False)
