"""The network service's tables."""

from __future__ import annotations

import sqlalchemy as sa

from kilonova.db import idempotency

METADATA = sa.MetaData()


def _common(*, project: bool = True) -> list[sa.Column[object]]:
    columns: list[sa.Column[object]] = [
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(255), nullable=False, default=""),
        sa.Column("description", sa.String(255), nullable=False, default=""),
        sa.Column("tags", sa.JSON, nullable=False, default=list),
        sa.Column("created_at", sa.String(20), nullable=False),
        sa.Column("updated_at", sa.String(20), nullable=False),
        sa.Column("revision_number", sa.Integer, nullable=False, default=1),
    ]
    if project:
        columns.insert(1, sa.Column("project_id", sa.String(255), nullable=False, index=True))
    return columns


def _flag(name: str, *, default: bool) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False, default=default)


KEYS = idempotency.table(METADATA)

NETWORKS = sa.Table(
    "networks",
    METADATA,
    *_common(),
    _flag("admin_state_up", default=True),
    sa.Column("status", sa.String(16), nullable=False, default="ACTIVE"),
    _flag("shared", default=False),
    _flag("external", default=False),
    _flag("is_default", default=False),
    _flag("port_security_enabled", default=True),
    sa.Column("mtu", sa.Integer, nullable=False),
    sa.Column("network_type", sa.String(32), nullable=False),
    sa.Column("physical_network", sa.String(64)),
    sa.Column("segmentation_id", sa.Integer, unique=True),
    sa.Column("dns_domain", sa.String(255), nullable=False, default=""),
    sa.Column("availability_zone_hints", sa.JSON, nullable=False, default=list),
)

SUBNETS = sa.Table(
    "subnets",
    METADATA,
    *_common(),
    sa.Column(
        "network_id", sa.ForeignKey("networks.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    sa.Column("ip_version", sa.Integer, nullable=False),
    sa.Column("cidr", sa.String(64), nullable=False),
    sa.Column("gateway_ip", sa.String(64)),
    _flag("enable_dhcp", default=True),
    sa.Column("dns_nameservers", sa.JSON, nullable=False, default=list),
    sa.Column("host_routes", sa.JSON, nullable=False, default=list),
    sa.Column("allocation_pools", sa.JSON, nullable=False),
    sa.Column("ipv6_ra_mode", sa.String(16)),
    sa.Column("ipv6_address_mode", sa.String(16)),
    sa.Column("service_types", sa.JSON, nullable=False, default=list),
    sa.Column("subnetpool_id", sa.String(36), index=True),
)

PORTS = sa.Table(
    "ports",
    METADATA,
    *_common(),
    sa.Column("network_id", sa.ForeignKey("networks.id"), nullable=False, index=True),
    _flag("admin_state_up", default=True),
    sa.Column("status", sa.String(16), nullable=False, default="DOWN"),
    sa.Column("mac_address", sa.String(32), nullable=False),
    sa.Column("device_id", sa.String(255), nullable=False, default="", index=True),
    sa.Column("device_owner", sa.String(255), nullable=False, default=""),
    sa.Column("allowed_address_pairs", sa.JSON, nullable=False, default=list),
    _flag("port_security_enabled", default=True),
    sa.Column("extra_dhcp_opts", sa.JSON, nullable=False, default=list),
    sa.Column("dns_name", sa.String(255), nullable=False, default=""),
    sa.Column("binding_host_id", sa.String(255), nullable=False, default="", index=True),
    sa.Column("binding_vnic_type", sa.String(32), nullable=False, default="normal"),
    sa.Column("binding_profile", sa.JSON, nullable=False, default=dict),
    sa.Column("binding_vif_type", sa.String(32), nullable=False, default="unbound"),
    sa.Column("binding_vif_details", sa.JSON, nullable=False, default=dict),
    sa.UniqueConstraint("network_id", "mac_address", name="uniq_mac"),
)

# One row per address in use: the primary key is what makes an address be given once, and the only
# place that knows which addresses a port has.
ADDRESSES = sa.Table(
    "addresses",
    METADATA,
    sa.Column("subnet_id", sa.ForeignKey("subnets.id"), primary_key=True),
    sa.Column("ip_address", sa.String(64), primary_key=True),
    sa.Column("port_id", sa.ForeignKey("ports.id", ondelete="CASCADE"), nullable=False, index=True),
)

SUBNETPOOLS = sa.Table(
    "subnetpools",
    METADATA,
    *_common(),
    sa.Column("ip_version", sa.Integer, nullable=False),
    sa.Column("prefixes", sa.JSON, nullable=False),
    sa.Column("default_prefixlen", sa.Integer, nullable=False),
    sa.Column("min_prefixlen", sa.Integer, nullable=False),
    sa.Column("max_prefixlen", sa.Integer, nullable=False),
    sa.Column("default_quota", sa.Integer),
    _flag("shared", default=False),
    _flag("is_default", default=False),
)

SECURITY_GROUPS = sa.Table(
    "security_groups",
    METADATA,
    *_common(),
    _flag("stateful", default=True),
    _flag("shared", default=False),
    # The project's name on its default group only: unique, so there is one.
    sa.Column("default_of", sa.String(255), unique=True),
)

RULES = sa.Table(
    "security_group_rules",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("project_id", sa.String(255), nullable=False, index=True),
    sa.Column("description", sa.String(255), nullable=False, default=""),
    sa.Column(
        "security_group_id",
        sa.ForeignKey("security_groups.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    sa.Column("direction", sa.String(8), nullable=False),
    sa.Column("ethertype", sa.String(8), nullable=False),
    sa.Column("protocol", sa.String(40)),
    sa.Column("port_range_min", sa.Integer),
    sa.Column("port_range_max", sa.Integer),
    sa.Column("remote_ip_prefix", sa.String(64)),
    sa.Column("remote_group_id", sa.ForeignKey("security_groups.id", ondelete="CASCADE")),
    sa.Column("created_at", sa.String(20), nullable=False),
    sa.Column("updated_at", sa.String(20), nullable=False),
    sa.Column("revision_number", sa.Integer, nullable=False, default=0),
)

PORT_GROUPS = sa.Table(
    "port_security_groups",
    METADATA,
    sa.Column("port_id", sa.ForeignKey("ports.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("security_group_id", sa.ForeignKey("security_groups.id"), primary_key=True),
)

ROUTERS = sa.Table(
    "routers",
    METADATA,
    *_common(),
    _flag("admin_state_up", default=True),
    sa.Column("status", sa.String(16), nullable=False, default="ACTIVE"),
    sa.Column("gateway_network_id", sa.ForeignKey("networks.id")),
    sa.Column("gateway_port_id", sa.String(36)),
    _flag("enable_snat", default=True),
    sa.Column("routes", sa.JSON, nullable=False, default=list),
    sa.Column("availability_zone_hints", sa.JSON, nullable=False, default=list),
)

FLOATING_IPS = sa.Table(
    "floating_ips",
    METADATA,
    *[c for c in _common() if c.name != "name"],
    sa.Column("status", sa.String(16), nullable=False, default="DOWN"),
    sa.Column("floating_network_id", sa.ForeignKey("networks.id"), nullable=False),
    sa.Column("floating_ip_address", sa.String(64), nullable=False),
    sa.Column("floating_port_id", sa.String(36), nullable=False),
    sa.Column("port_id", sa.ForeignKey("ports.id", ondelete="SET NULL"), index=True),
    sa.Column("fixed_ip_address", sa.String(64)),
    sa.Column("router_id", sa.String(36)),
    sa.Column("dns_name", sa.String(255), nullable=False, default=""),
    sa.Column("dns_domain", sa.String(255), nullable=False, default=""),
)

QUOTAS = sa.Table(
    "quotas",
    METADATA,
    sa.Column("project_id", sa.String(255), primary_key=True),
    sa.Column("resource", sa.String(64), primary_key=True),
    sa.Column("limit", sa.Integer, nullable=False),
)

# A row per project that writes: locked first, so that quota checks of one project take turns.
PROJECT_LOCKS = sa.Table(
    "project_locks",
    METADATA,
    sa.Column("project_id", sa.String(255), primary_key=True),
    sa.Column("count", sa.Integer, nullable=False, default=0),
)

TOPOLOGIES = sa.Table(
    "auto_allocated_topologies",
    METADATA,
    sa.Column("project_id", sa.String(255), primary_key=True),
    sa.Column("network_id", sa.String(36), nullable=False),
    sa.Column("router_id", sa.String(36)),
)

# What the compute service has to be told and has not yet taken: written with the change itself.
OUTBOX = sa.Table(
    "outbox",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("event", sa.JSON, nullable=False),
    sa.Column("created_at", sa.String(20), nullable=False),
)

HOSTS = sa.Table(
    "hosts",
    METADATA,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("id", sa.String(36), nullable=False, unique=True),
    sa.Column("vtep_ip", sa.String(64)),
    sa.Column("mode", sa.String(16), nullable=False),
    sa.Column("started_at", sa.String(20), nullable=False),
    sa.Column("seen_at", sa.String(20), nullable=False),
)
