"""First tables of a cell's database: servers, hosts, actions, sagas."""

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
    _compute_nodes()
    _console_auth_tokens()
    _disks()
    _fixed_ips()
    _instance_action_events()
    _instance_actions()
    _instance_faults()
    _instances()
    _migrations()
    _nics()
    _saga_receipts()
    _saga_signals()
    _saga_steps()
    _saga_undo()
    _sagas()
    _services()
    _tags()


def _compute_nodes() -> None:
    op.create_table(
        "compute_nodes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("node", sa.String(length=255), nullable=False),
        sa.Column("report", TEXT, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_compute_nodes")),
        sa.UniqueConstraint("host", "node", name="uq_compute_nodes_host_node"),
        sa.UniqueConstraint("uuid", name=op.f("uq_compute_nodes_uuid")),
    )


def _console_auth_tokens() -> None:
    op.create_table(
        "console_auth_tokens",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("server_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("internal_path", sa.String(length=255), nullable=True),
        sa.Column("url_base", sa.String(length=255), nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("tls_port", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_console_auth_tokens")),
    )
    op.create_index(
        op.f("ix_console_auth_tokens_expires_at"),
        "console_auth_tokens",
        ["expires_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_console_auth_tokens_server_id"), "console_auth_tokens", ["server_id"], unique=False
    )


def _disks() -> None:
    op.create_table(
        "disks",
        sa.Column("server_id", sa.String(length=36), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("volume_id", sa.String(length=36), nullable=True),
        sa.Column("delete_on_termination", sa.Boolean(), nullable=False),
        sa.Column("disk", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("server_id", "position", name=op.f("pk_disks")),
    )
    op.create_index(op.f("ix_disks_volume_id"), "disks", ["volume_id"], unique=False)


def _fixed_ips() -> None:
    op.create_table(
        "fixed_ips",
        sa.Column("server_id", sa.String(length=36), nullable=False),
        sa.Column("address", sa.String(length=39), nullable=False),
        sa.PrimaryKeyConstraint("server_id", "address", name=op.f("pk_fixed_ips")),
    )
    op.create_index(op.f("ix_fixed_ips_address"), "fixed_ips", ["address"], unique=False)


def _instance_action_events() -> None:
    op.create_table(
        "instance_action_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("action_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("start_time", INSTANT, nullable=True),
        sa.Column("finish_time", INSTANT, nullable=True),
        sa.Column("result", sa.String(length=16), nullable=True),
        sa.Column("traceback", TEXT, nullable=True),
        sa.Column("host", sa.String(length=255), nullable=True),
        sa.Column("details", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance_action_events")),
    )
    op.create_index(
        "ix_instance_action_events_action",
        "instance_action_events",
        ["action_id", "name"],
        unique=False,
    )


def _instance_actions() -> None:
    op.create_table(
        "instance_actions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(length=255), nullable=False),
        sa.Column("server_id", sa.String(length=36), nullable=False),
        sa.Column("request_id", sa.String(length=255), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=True),
        sa.Column("project_id", sa.String(length=64), nullable=True),
        sa.Column("start_time", INSTANT, nullable=False),
        sa.Column("finish_time", INSTANT, nullable=True),
        sa.Column("updated_at", INSTANT, nullable=True),
        sa.Column("message", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance_actions")),
    )
    op.create_index(
        "ix_instance_actions_request", "instance_actions", ["request_id", "server_id"], unique=False
    )
    op.create_index(
        "ix_instance_actions_server",
        "instance_actions",
        ["server_id", "start_time", "id"],
        unique=False,
    )


def _instance_faults() -> None:
    op.create_table(
        "instance_faults",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("server_id", sa.String(length=36), nullable=False),
        sa.Column("code", sa.Integer(), nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.Column("details", TEXT, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance_faults")),
    )
    op.create_index(
        op.f("ix_instance_faults_server_id"), "instance_faults", ["server_id"], unique=False
    )


def _instances() -> None:
    op.create_table(
        "instances",
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("hostname", sa.String(length=255), nullable=False),
        sa.Column("description", TEXT, nullable=True),
        sa.Column("vm_state", sa.String(length=32), nullable=False),
        sa.Column("task_state", sa.String(length=64), nullable=True),
        sa.Column("power_state", sa.Integer(), nullable=False),
        sa.Column("progress", sa.Integer(), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=True),
        sa.Column("node", sa.String(length=255), nullable=True),
        sa.Column("availability_zone", sa.String(length=255), nullable=True),
        sa.Column("flavor_id", sa.String(length=255), nullable=False),
        sa.Column("image_id", sa.String(length=36), nullable=True),
        sa.Column("metadata", TEXT, nullable=False),
        sa.Column("key_name", sa.String(length=255), nullable=True),
        sa.Column("config_drive", sa.Boolean(), nullable=False),
        sa.Column("access_ip_v4", sa.String(length=39), nullable=True),
        sa.Column("access_ip_v6", sa.String(length=39), nullable=True),
        sa.Column("locked_by", sa.String(length=8), nullable=True),
        sa.Column("reservation_id", sa.String(length=36), nullable=False),
        sa.Column("launch_index", sa.Integer(), nullable=False),
        sa.Column("root_device", sa.String(length=255), nullable=True),
        sa.Column("auto_disk_config", sa.Boolean(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=True),
        sa.Column("launched_at", INSTANT, nullable=True),
        sa.Column("terminated_at", INSTANT, nullable=True),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column(
            "server",
            sa.LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb"),
            nullable=False,
        ),
        sa.Column("user_data", TEXT, nullable=True),
        sa.Column("key_type", sa.String(length=8), nullable=False),
        sa.Column("public_key", TEXT, nullable=True),
        sa.Column("system", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instances")),
        sa.UniqueConstraint("uuid", name=op.f("uq_instances_uuid")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_instances_created", "instances", ["deleted", "created_at", "uuid"], unique=False
    )
    op.create_index("ix_instances_host", "instances", ["host", "deleted"], unique=False)
    op.create_index(
        "ix_instances_project",
        "instances",
        ["project_id", "deleted", "created_at", "uuid"],
        unique=False,
    )
    op.create_index(
        op.f("ix_instances_reservation_id"), "instances", ["reservation_id"], unique=False
    )
    op.create_index("ix_instances_task", "instances", ["task_state", "updated_at"], unique=False)
    op.create_index("ix_instances_updated", "instances", ["updated_at"], unique=False)


def _migrations() -> None:
    op.create_table(
        "migrations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("server_id", sa.String(length=36), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=True),
        sa.Column("user_id", sa.String(length=64), nullable=True),
        sa.Column("source_host", sa.String(length=255), nullable=True),
        sa.Column("source_node", sa.String(length=255), nullable=True),
        sa.Column("dest_host", sa.String(length=255), nullable=True),
        sa.Column("dest_node", sa.String(length=255), nullable=True),
        sa.Column("old_flavor_id", sa.Integer(), nullable=True),
        sa.Column("new_flavor_id", sa.Integer(), nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=True),
        sa.Column("data", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_migrations")),
        sa.UniqueConstraint("uuid", name=op.f("uq_migrations_uuid")),
    )
    op.create_index(op.f("ix_migrations_dest_host"), "migrations", ["dest_host"], unique=False)
    op.create_index(op.f("ix_migrations_server_id"), "migrations", ["server_id"], unique=False)
    op.create_index(op.f("ix_migrations_source_host"), "migrations", ["source_host"], unique=False)
    op.create_index(op.f("ix_migrations_status"), "migrations", ["status"], unique=False)


def _nics() -> None:
    op.create_table(
        "nics",
        sa.Column("server_id", sa.String(length=36), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("port_id", sa.String(length=36), nullable=False),
        sa.Column("nic", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("server_id", "position", name=op.f("pk_nics")),
    )
    op.create_index(op.f("ix_nics_port_id"), "nics", ["port_id"], unique=False)


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


def _services() -> None:
    op.create_table(
        "services",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("binary", sa.String(length=255), nullable=False),
        sa.Column("topic", sa.String(length=255), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("disabled_reason", sa.String(length=255), nullable=True),
        sa.Column("forced_down", sa.Boolean(), nullable=False),
        sa.Column("last_seen_up", INSTANT, nullable=True),
        sa.Column("report_count", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_services")),
        sa.UniqueConstraint("host", "binary", name="uq_services_host_binary"),
        sa.UniqueConstraint("uuid", name=op.f("uq_services_uuid")),
    )


def _tags() -> None:
    op.create_table(
        "tags",
        sa.Column("server_id", sa.String(length=36), nullable=False),
        sa.Column("tag", sa.String(length=80), nullable=False),
        sa.PrimaryKeyConstraint("server_id", "tag", name=op.f("pk_tags")),
    )
    op.create_index(op.f("ix_tags_tag"), "tags", ["tag"], unique=False)
