"""What each resource of the network API consists of: one row per attribute.

From these tables come the body schemas, the defaults, the views and the filters.
"""

from __future__ import annotations

from kilonova.embedded.network import tables
from kilonova.embedded.network.attrs import (
    ADMIN,
    DNS_DOMAIN,
    DNS_NAME,
    FLAG,
    REQUIRED,
    ROUTES,
    TEXT,
    UUID,
    UUID_OR_NONE,
    UUIDS,
    WHOLE,
    Attr,
    Kind,
)

ID = Attr("id", UUID, post=False, put=False)
PROJECT = Attr("project_id", TEXT, put=False)
NAME = Attr("name", TEXT, "")
DESCRIPTION = Attr("description", TEXT, "")
UP = Attr("admin_state_up", FLAG, default=True)
STATUS = Attr("status", TEXT, post=False, put=False)
HINTS = Attr(
    "availability_zone_hints", {"type": "array", "items": TEXT, "maxItems": 10}, (), put=False
)
TAIL = (
    Attr("tags", {"type": "array", "items": TEXT}, post=False, put=False),
    Attr("created_at", TEXT, post=False, put=False),
    Attr("updated_at", TEXT, post=False, put=False),
    Attr("revision_number", WHOLE, post=False, put=False),
)

NETWORK = Kind(
    "network",
    "networks",
    tables.NETWORKS,
    (
        ID,
        PROJECT,
        NAME,
        DESCRIPTION,
        UP,
        STATUS,
        Attr("shared", FLAG, default=False, post=ADMIN, put=ADMIN),
        Attr("router:external", FLAG, default=False, post=ADMIN, put=ADMIN, column="external"),
        Attr("is_default", FLAG, default=False, post=ADMIN, put=ADMIN),
        Attr("port_security_enabled", FLAG, default=True),
        Attr("mtu", WHOLE),
        Attr(
            "provider:network_type",
            TEXT,
            post=ADMIN,
            put=False,
            column="network_type",
            hidden=ADMIN,
        ),
        Attr(
            "provider:physical_network",
            TEXT,
            post=ADMIN,
            put=False,
            column="physical_network",
            hidden=ADMIN,
        ),
        Attr(
            "provider:segmentation_id",
            {"anyOf": [WHOLE, {"type": "null"}]},
            post=ADMIN,
            put=False,
            column="segmentation_id",
            hidden=ADMIN,
        ),
        Attr("dns_domain", DNS_DOMAIN, ""),
        HINTS,
        *TAIL,
    ),
    missing="NetworkNotFound",
)

SUBNET = Kind(
    "subnet",
    "subnets",
    tables.SUBNETS,
    (
        ID,
        PROJECT,
        NAME,
        DESCRIPTION,
        Attr("network_id", UUID, REQUIRED, put=False),
        Attr("ip_version", {"enum": [4, 6, "4", "6"]}, put=False),
        Attr("cidr", {"type": ["string", "null"], "maxLength": 64}, put=False),
        Attr("gateway_ip", {"type": ["string", "null"], "maxLength": 64}),
        Attr("enable_dhcp", FLAG, default=True),
        Attr(
            "dns_nameservers",
            {
                "type": ["array", "null"],
                "maxItems": 5,
                "items": {"type": "string", "maxLength": 64},
            },
            (),
        ),
        Attr("host_routes", ROUTES, ()),
        Attr(
            "allocation_pools",
            {
                "type": ["array", "null"],
                "maxItems": 100,
                "items": {
                    "type": "object",
                    "properties": {
                        "start": {"type": "string", "maxLength": 64},
                        "end": {"type": "string", "maxLength": 64},
                    },
                    "required": ["start", "end"],
                    "additionalProperties": False,
                },
            },
        ),
        Attr(
            "ipv6_ra_mode",
            {"enum": ["dhcpv6-stateful", "dhcpv6-stateless", "slaac", None]},
            None,
            put=False,
        ),
        Attr(
            "ipv6_address_mode",
            {"enum": ["dhcpv6-stateful", "dhcpv6-stateless", "slaac", None]},
            None,
            put=False,
        ),
        Attr("service_types", {"type": "array", "items": TEXT, "maxItems": 10}, ()),
        Attr("subnetpool_id", UUID_OR_NONE, put=False),
        Attr("use_default_subnetpool", FLAG, put=False),
        Attr("prefixlen", WHOLE, put=False),
        Attr("segment_id", {"type": "null"}, put=False),
        *TAIL,
    ),
    missing="SubnetNotFound",
)

FIXED_IPS = {
    "type": ["array", "null"],
    "maxItems": 50,
    "items": {
        "type": "object",
        "properties": {
            "subnet_id": UUID_OR_NONE,
            "subnet": UUID_OR_NONE,
            "ip_address": {"type": ["string", "null"], "maxLength": 64},
        },
        "additionalProperties": False,
    },
}

DHCP_OPTIONS = {
    "type": ["array", "null"],
    "maxItems": 50,
    "items": {
        "type": "object",
        "properties": {
            "opt_name": {"type": "string", "maxLength": 64, "pattern": "^[a-z0-9-]+$"},
            "opt_value": {
                "type": ["string", "null"],
                "maxLength": 255,
                "pattern": "^[\\x20-\\x7e]*$",
            },
            "ip_version": {"enum": [4, 6, "4", "6"]},
        },
        "required": ["opt_name", "opt_value"],
        "additionalProperties": False,
    },
}

PORT = Kind(
    "port",
    "ports",
    tables.PORTS,
    (
        ID,
        PROJECT,
        NAME,
        DESCRIPTION,
        Attr("network_id", UUID, REQUIRED, put=False),
        UP,
        STATUS,
        Attr("mac_address", {"type": "string", "maxLength": 32}, put=ADMIN),
        Attr("device_id", TEXT, ""),
        Attr("device_owner", TEXT, ""),
        Attr("fixed_ips", FIXED_IPS),
        Attr("security_groups", UUIDS),
        Attr(
            "allowed_address_pairs",
            {
                "type": ["array", "null"],
                "maxItems": 50,
                "items": {
                    "type": "object",
                    "properties": {
                        "ip_address": {"type": "string", "maxLength": 64},
                        "mac_address": {"type": ["string", "null"], "maxLength": 32},
                        "active": FLAG,
                    },
                    "required": ["ip_address"],
                    "additionalProperties": False,
                },
            },
            (),
        ),
        Attr("port_security_enabled", FLAG),
        Attr("extra_dhcp_opts", DHCP_OPTIONS, ()),
        Attr("dns_name", DNS_NAME, ""),
        Attr(
            "binding:host_id",
            TEXT,
            "",
            post=ADMIN,
            put=ADMIN,
            column="binding_host_id",
            hidden=ADMIN,
        ),
        Attr("binding:vnic_type", TEXT, "normal", column="binding_vnic_type"),
        Attr(
            "binding:profile",
            {"type": ["object", "null"]},
            post=ADMIN,
            put=ADMIN,
            column="binding_profile",
            hidden=ADMIN,
        ),
        Attr(
            "binding:vif_type",
            TEXT,
            post=False,
            put=False,
            column="binding_vif_type",
            hidden=ADMIN,
        ),
        Attr(
            "binding:vif_details",
            {"type": "object"},
            post=False,
            put=False,
            column="binding_vif_details",
            hidden=ADMIN,
        ),
        *TAIL,
    ),
    missing="PortNotFound",
)

RULE = Kind(
    "security_group_rule",
    "security_group_rules",
    tables.RULES,
    (
        ID,
        PROJECT,
        DESCRIPTION,
        Attr("security_group_id", UUID, REQUIRED, put=False),
        Attr("direction", {"enum": ["ingress", "egress"]}, REQUIRED, put=False),
        Attr("ethertype", {"enum": ["IPv4", "IPv6", "ipv4", "ipv6", None]}, "IPv4", put=False),
        Attr("protocol", {"type": ["string", "integer", "null"]}, None, put=False),
        Attr("port_range_min", {"anyOf": [WHOLE, {"type": "null"}]}, None, put=False),
        Attr("port_range_max", {"anyOf": [WHOLE, {"type": "null"}]}, None, put=False),
        Attr("remote_ip_prefix", {"type": ["string", "null"], "maxLength": 64}, None, put=False),
        Attr("remote_group_id", UUID_OR_NONE, None, put=False),
        Attr("created_at", TEXT, post=False, put=False),
        Attr("updated_at", TEXT, post=False, put=False),
        Attr("revision_number", WHOLE, post=False, put=False),
    ),
    missing="SecurityGroupRuleNotFound",
)

SECURITY_GROUP = Kind(
    "security_group",
    "security_groups",
    tables.SECURITY_GROUPS,
    (
        ID,
        PROJECT,
        NAME,
        DESCRIPTION,
        Attr("stateful", FLAG, default=True),
        Attr("shared", FLAG, post=False, put=False),
        Attr("is_default", FLAG, post=False, put=False),
        *TAIL,
    ),
    missing="SecurityGroupNotFound",
)

GATEWAY = {
    "anyOf": [
        {"type": "null"},
        {"type": "object", "maxProperties": 0},
        {
            "type": "object",
            "properties": {
                "network_id": UUID,
                "enable_snat": FLAG,
                "external_fixed_ips": FIXED_IPS,
                "qos_policy_id": {"type": "null"},
            },
            "required": ["network_id"],
            "additionalProperties": False,
        },
    ]
}

ROUTER = Kind(
    "router",
    "routers",
    tables.ROUTERS,
    (
        ID,
        PROJECT,
        NAME,
        DESCRIPTION,
        UP,
        STATUS,
        Attr("external_gateway_info", GATEWAY, None),
        Attr("routes", ROUTES, (), post=False),
        Attr("ha", FLAG, default=False, put=False),
        Attr("distributed", FLAG, default=False, put=False),
        Attr("flavor_id", UUID_OR_NONE, None, put=False),
        HINTS,
        *TAIL,
    ),
    missing="RouterNotFound",
)

FLOATING_IP = Kind(
    "floatingip",
    "floatingips",
    tables.FLOATING_IPS,
    (
        ID,
        PROJECT,
        DESCRIPTION,
        STATUS,
        Attr("floating_network_id", UUID, REQUIRED, put=False),
        Attr("floating_ip_address", {"type": ["string", "null"], "maxLength": 64}, put=False),
        Attr("subnet_id", UUID_OR_NONE, None, put=False),
        Attr("port_id", UUID_OR_NONE, None),
        Attr("fixed_ip_address", {"type": ["string", "null"], "maxLength": 64}, None),
        Attr("router_id", UUID, post=False, put=False),
        Attr("dns_name", DNS_NAME, ""),
        Attr("dns_domain", DNS_DOMAIN, ""),
        *TAIL,
    ),
    missing="FloatingIPNotFound",
)

PREFIXES = {
    "type": "array",
    "minItems": 1,
    "maxItems": 100,
    "items": {"type": "string", "maxLength": 64},
}

SUBNETPOOL = Kind(
    "subnetpool",
    "subnetpools",
    tables.SUBNETPOOLS,
    (
        ID,
        PROJECT,
        NAME,
        DESCRIPTION,
        Attr("ip_version", WHOLE, post=False, put=False),
        Attr("prefixes", PREFIXES, REQUIRED),
        Attr("default_prefixlen", WHOLE),
        Attr("min_prefixlen", WHOLE),
        Attr("max_prefixlen", WHOLE),
        Attr("default_quota", {"anyOf": [WHOLE, {"type": "null"}]}, None),
        Attr("address_scope_id", {"type": "null"}, None),
        Attr("shared", FLAG, default=False, post=ADMIN, put=False),
        Attr("is_default", FLAG, default=False, post=ADMIN, put=ADMIN),
        *TAIL,
    ),
    missing="SubnetPoolNotFound",
)

KINDS: tuple[Kind, ...] = (
    NETWORK,
    SUBNET,
    PORT,
    SECURITY_GROUP,
    RULE,
    ROUTER,
    FLOATING_IP,
    SUBNETPOOL,
)
