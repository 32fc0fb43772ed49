"""Tables of a cell's database: its servers, hosts, and what happens to them.

``cell0`` has the same tables: it keeps servers that found no host.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from kilonova.db.tables import outbox, sagas
from kilonova.db.tables.base import metadata_with_names
from kilonova.db.types import Instant, Json, blob, text
from kilonova.domain.fit.shapes import Held
from kilonova.domain.guest import Disk, HostReport, Nic

metadata = metadata_with_names()

# ``server`` is the whole Server; the columns before it repeat what is searched or sorted by. One
# value to read and to decode for each server makes long lists cheap. Both are written by
# store.servers alone. The columns after it are a server's seldom-read parts.
instances = sa.Table(
    "instances",
    metadata,
    sa.Column("uuid", sa.String(36), nullable=False, unique=True),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("project_id", sa.String(64), nullable=False),
    sa.Column("user_id", sa.String(64), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("hostname", sa.String(255), nullable=False),
    sa.Column("description", text()),
    sa.Column("vm_state", sa.String(32), nullable=False),
    sa.Column("task_state", sa.String(64)),
    sa.Column("power_state", sa.Integer, nullable=False, default=0),
    sa.Column("progress", sa.Integer, nullable=False, default=0),
    sa.Column("host", sa.String(255)),
    sa.Column("node", sa.String(255)),
    sa.Column("availability_zone", sa.String(255)),
    sa.Column("flavor_id", sa.String(255), nullable=False),
    sa.Column("image_id", sa.String(36)),
    sa.Column("metadata", Json(dict[str, str]), nullable=False),
    sa.Column("key_name", sa.String(255)),
    sa.Column("config_drive", sa.Boolean, nullable=False, default=False),
    sa.Column("access_ip_v4", sa.String(39)),
    sa.Column("access_ip_v6", sa.String(39)),
    sa.Column("locked_by", sa.String(8)),
    sa.Column("reservation_id", sa.String(36), nullable=False, index=True),
    sa.Column("launch_index", sa.Integer, nullable=False, default=0),
    sa.Column("root_device", sa.String(255)),
    sa.Column("auto_disk_config", sa.Boolean, nullable=False, default=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("updated_at", Instant),
    sa.Column("launched_at", Instant),
    sa.Column("terminated_at", Instant),
    sa.Column("deleted", sa.Boolean, nullable=False, default=False),
    sa.Column("server", blob(), nullable=False),
    sa.Column("user_data", text()),
    sa.Column("key_type", sa.String(8), nullable=False, default="ssh"),
    sa.Column("public_key", text()),
    sa.Column("system", Json(dict[str, str]), nullable=False),
    sa.Index("ix_instances_project", "project_id", "deleted", "created_at", "uuid"),
    sa.Index("ix_instances_created", "deleted", "created_at", "uuid"),
    sa.Index("ix_instances_name", "deleted", "name", "created_at", "uuid"),
    sa.Index("ix_instances_host", "host", "deleted"),
    sa.Index("ix_instances_updated", "updated_at"),
    sa.Index("ix_instances_task", "task_state", "updated_at"),
    sqlite_autoincrement=True,
)

tags = sa.Table(
    "tags",
    metadata,
    sa.Column("server_id", sa.String(36), primary_key=True),
    sa.Column("tag", sa.String(80), primary_key=True, index=True),
)

disks = sa.Table(
    "disks",
    metadata,
    sa.Column("server_id", sa.String(36), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("volume_id", sa.String(36), index=True),
    sa.Column("delete_on_termination", sa.Boolean, nullable=False, default=True),
    sa.Column("disk", Json(Disk), nullable=False),
)

nics = sa.Table(
    "nics",
    metadata,
    sa.Column("server_id", sa.String(36), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("port_id", sa.String(36), nullable=False, index=True),
    sa.Column("nic", Json(Nic), nullable=False),
)

fixed_ips = sa.Table(
    "fixed_ips",
    metadata,
    sa.Column("server_id", sa.String(36), primary_key=True),
    sa.Column("address", sa.String(39), primary_key=True, index=True),
)

instance_faults = sa.Table(
    "instance_faults",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("server_id", sa.String(36), nullable=False, index=True),
    sa.Column("code", sa.Integer, nullable=False),
    sa.Column("message", text(), nullable=False),
    sa.Column("details", text(), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
)

instance_actions = sa.Table(
    "instance_actions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("action", sa.String(255), nullable=False),
    sa.Column("server_id", sa.String(36), nullable=False),
    sa.Column("request_id", sa.String(255), nullable=False),
    sa.Column("user_id", sa.String(64)),
    sa.Column("project_id", sa.String(64)),
    sa.Column("start_time", Instant, nullable=False),
    sa.Column("finish_time", Instant),
    sa.Column("updated_at", Instant),
    sa.Column("message", text()),
    sa.Index("ix_instance_actions_server", "server_id", "start_time", "id"),
    sa.Index("ix_instance_actions_request", "request_id", "server_id"),
)

instance_action_events = sa.Table(
    "instance_action_events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("action_id", sa.Integer, nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("start_time", Instant),
    sa.Column("finish_time", Instant),
    sa.Column("result", sa.String(16)),
    sa.Column("traceback", text()),
    sa.Column("host", sa.String(255)),
    sa.Column("details", text()),
    sa.Index("ix_instance_action_events_action", "action_id", "name"),
)

services = sa.Table(
    "services",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("uuid", sa.String(36), nullable=False, unique=True),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("binary", sa.String(255), nullable=False),
    sa.Column("topic", sa.String(255), nullable=False),
    sa.Column("disabled", sa.Boolean, nullable=False, default=False),
    sa.Column("disabled_reason", sa.String(255)),
    sa.Column("forced_down", sa.Boolean, nullable=False, default=False),
    sa.Column("last_seen_up", Instant),
    sa.Column("report_count", sa.BigInteger, nullable=False, default=0),
    sa.Column("version", sa.Integer, nullable=False, default=0),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("updated_at", Instant),
    sa.UniqueConstraint("host", "binary", name="uq_services_host_binary"),
    sa.Index("ix_services_out", "binary", "disabled", "forced_down", "last_seen_up"),
)

compute_nodes = sa.Table(
    "compute_nodes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("uuid", sa.String(36), nullable=False, unique=True),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("node", sa.String(255), nullable=False),
    sa.Column("report", Json(HostReport), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("updated_at", Instant),
    sa.UniqueConstraint("host", "node", name="uq_compute_nodes_host_node"),
    sa.Index("ix_compute_nodes_updated", "updated_at"),
)

# Written under the lock of the host's node, by store.holds alone. A move has two rows.
guest_holds = sa.Table(
    "guest_holds",
    metadata,
    sa.Column("server_id", sa.String(36), primary_key=True),
    sa.Column("host", sa.String(255), primary_key=True, index=True),
    sa.Column("held", Json(Held), nullable=False),
)

migrations = sa.Table(
    "migrations",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("uuid", sa.String(36), nullable=False, unique=True),
    sa.Column("server_id", sa.String(36), nullable=False, index=True),
    sa.Column("type", sa.String(32), nullable=False),
    sa.Column("status", sa.String(32), nullable=False, index=True),
    sa.Column("project_id", sa.String(64)),
    sa.Column("user_id", sa.String(64)),
    sa.Column("source_host", sa.String(255), index=True),
    sa.Column("source_node", sa.String(255)),
    sa.Column("dest_host", sa.String(255), index=True),
    sa.Column("dest_node", sa.String(255)),
    sa.Column("old_flavor_id", sa.Integer),
    sa.Column("new_flavor_id", sa.Integer),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("updated_at", Instant),
    sa.Column("data", Json(dict[str, Any]), nullable=False),
)

# Tokens are kept as SHA-256 only.
console_auth_tokens = sa.Table(
    "console_auth_tokens",
    metadata,
    sa.Column("token_hash", sa.String(64), primary_key=True),
    sa.Column("server_id", sa.String(36), nullable=False, index=True),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("port", sa.Integer, nullable=False),
    sa.Column("internal_path", sa.String(255)),
    sa.Column("url_base", sa.String(255), nullable=False),
    sa.Column("expires_at", Instant, nullable=False, index=True),
    sa.Column("tls_port", sa.Integer),
)

share_mappings = sa.Table(
    "share_mappings",
    metadata,
    sa.Column("uuid", sa.String(36), primary_key=True),
    sa.Column("server_id", sa.String(36), nullable=False),
    sa.Column("share_id", sa.String(36), nullable=False, index=True),
    sa.Column("tag", sa.String(255), nullable=False),
    sa.Column("export_location", text(), nullable=False),
    sa.Column("share_proto", sa.String(32), nullable=False),
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("updated_at", Instant),
    sa.UniqueConstraint("server_id", "share_id", name="uq_share_mappings_share"),
    sa.UniqueConstraint("server_id", "tag", name="uq_share_mappings_tag"),
)

# Which hosts have reported their servers of a period, see store.usage_audits.
task_log = sa.Table(
    "task_log",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("task_name", sa.String(255), nullable=False),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("period_beginning", Instant, nullable=False),
    sa.Column("period_ending", Instant, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("message", text(), nullable=False),
    sa.Column("task_items", sa.Integer, nullable=False),
    sa.Column("errors", sa.Integer, nullable=False),
    sa.UniqueConstraint(
        "task_name", "host", "period_beginning", "period_ending", name="uq_task_log_period"
    ),
)

saga_tables = sagas.tables(metadata)
outbox_tables = outbox.tables(metadata)
