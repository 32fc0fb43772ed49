"""The policy rules of the Compute API: Nova's names and defaults, grouped by default check."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kilonova.policy import base, deprecated
from kilonova.policy.rule import Rule

if TYPE_CHECKING:  # takes long to import, and only the tools need it
    from oslo_policy import policy

# "ACTION (x)" stands for "POST /servers/{server_id}/action (x)".
_ADMIN = {
    "kilonova:explain:hosts": "GET /ext/explain/{name}; POST /servers",
    "os_compute_api:os-admin-actions:reset_state": "ACTION (os-resetState)",
    "os_compute_api:os-admin-actions:inject_network_info": "ACTION (injectNetworkInfo)",
    "os_compute_api:os-aggregates:set_metadata": (
        "POST /os-aggregates/{aggregate_id}/action (set_metadata)"
    ),
    "os_compute_api:os-aggregates:add_host": "POST /os-aggregates/{aggregate_id}/action (add_host)",
    "os_compute_api:os-aggregates:create": "POST /os-aggregates",
    "os_compute_api:os-aggregates:remove_host": (
        "POST /os-aggregates/{aggregate_id}/action (remove_host)"
    ),
    "os_compute_api:os-aggregates:update": "PUT /os-aggregates/{aggregate_id}",
    "os_compute_api:os-aggregates:index": "GET /os-aggregates",
    "os_compute_api:os-aggregates:delete": "DELETE /os-aggregates/{aggregate_id}",
    "os_compute_api:os-aggregates:show": "GET /os-aggregates/{aggregate_id}",
    "compute:aggregates:images": "POST /os-aggregates/{aggregate_id}/images",
    "os_compute_api:os-availability-zone:detail": "GET /os-availability-zone/detail",
    "os_compute_api:os-baremetal-nodes:list": "GET /os-baremetal-nodes",
    "os_compute_api:os-baremetal-nodes:show": "GET /os-baremetal-nodes/{node_id}",
    "os_compute_api:os-console-auth-tokens": "GET /os-console-auth-tokens/{console_token}",
    "os_compute_api:os-evacuate": "ACTION (evacuate)",
    "os_compute_api:os-extended-server-attributes": (
        "GET /servers/{server_id}; GET /servers/detail; PUT /servers/{server_id}; ACTION (rebuild)"
    ),
    "os_compute_api:os-flavor-access:add_tenant_access": (
        "POST /flavors/{flavor_id}/action (addTenantAccess)"
    ),
    "os_compute_api:os-flavor-access:remove_tenant_access": (
        "POST /flavors/{flavor_id}/action (removeTenantAccess)"
    ),
    "os_compute_api:os-flavor-access": "GET /flavors/{flavor_id}/os-flavor-access",
    "os_compute_api:os-flavor-extra-specs:create": "POST /flavors/{flavor_id}/os-extra_specs/",
    "os_compute_api:os-flavor-extra-specs:update": (
        "PUT /flavors/{flavor_id}/os-extra_specs/{flavor_extra_spec_key}"
    ),
    "os_compute_api:os-flavor-extra-specs:delete": (
        "DELETE /flavors/{flavor_id}/os-extra_specs/{flavor_extra_spec_key}"
    ),
    "os_compute_api:os-flavor-manage:create": "POST /flavors",
    "os_compute_api:os-flavor-manage:update": "PUT /flavors/{flavor_id}",
    "os_compute_api:os-flavor-manage:delete": "DELETE /flavors/{flavor_id}",
    "os_compute_api:os-hosts:list": "GET /os-hosts",
    "os_compute_api:os-hosts:show": "GET /os-hosts/{host_name}",
    "os_compute_api:os-hosts:update": "PUT /os-hosts/{host_name}",
    "os_compute_api:os-hosts:reboot": "GET /os-hosts/{host_name}/reboot",
    "os_compute_api:os-hosts:shutdown": "GET /os-hosts/{host_name}/shutdown",
    "os_compute_api:os-hosts:start": "GET /os-hosts/{host_name}/startup",
    "os_compute_api:os-hypervisors:list": "GET /os-hypervisors",
    "os_compute_api:os-hypervisors:list-detail": "GET /os-hypervisors/details",
    "os_compute_api:os-hypervisors:statistics": "GET /os-hypervisors/statistics",
    "os_compute_api:os-hypervisors:show": "GET /os-hypervisors/{hypervisor_id}",
    "os_compute_api:os-hypervisors:uptime": "GET /os-hypervisors/{hypervisor_id}/uptime",
    "os_compute_api:os-hypervisors:search": (
        "GET /os-hypervisors/{hypervisor_hostname_pattern}/search"
    ),
    "os_compute_api:os-hypervisors:servers": (
        "GET /os-hypervisors/{hypervisor_hostname_pattern}/servers"
    ),
    "os_compute_api:os-instance-actions:events:details": (
        "GET /servers/{server_id}/os-instance-actions/{request_id}"
    ),
    "os_compute_api:os-instance-actions:events": (
        "GET /servers/{server_id}/os-instance-actions/{request_id}"
    ),
    "os_compute_api:os-instance-usage-audit-log:list": "GET /os-instance_usage_audit_log",
    "os_compute_api:os-instance-usage-audit-log:show": (
        "GET /os-instance_usage_audit_log/{before_timestamp}"
    ),
    "os_compute_api:limits:other_project": "GET /limits",
    "os_compute_api:os-lock-server:unlock:unlock_override": "ACTION (unlock)",
    "os_compute_api:os-migrate-server:migrate:host": "ACTION (migrate)",
    "os_compute_api:os-migrate-server:migrate_live:host": "ACTION (os-migrateLive)",
    "os_compute_api:os-migrations:index:all_projects": "GET /os-migrations",
    "os_compute_api:os-migrations:index:host": "GET /os-migrations",
    "os_compute_api:os-quota-class-sets:show": "GET /os-quota-class-sets/{quota_class}",
    "os_compute_api:os-quota-class-sets:update": "PUT /os-quota-class-sets/{quota_class}",
    "os_compute_api:os-quota-sets:update": "PUT /os-quota-sets/{tenant_id}",
    "os_compute_api:os-quota-sets:delete": "DELETE /os-quota-sets/{tenant_id}",
    "os_compute_api:os-server-diagnostics": "GET /servers/{server_id}/diagnostics",
    "os_compute_api:os-server-groups:index:all_projects": "GET /os-server-groups",
    "compute:server:topology:host:index": "GET /servers/{server_id}/topology",
    "os_compute_api:servers:index:get_all_tenants": "GET /servers",
    "os_compute_api:servers:detail:get_all_tenants": "GET /servers/detail",
    "os_compute_api:servers:allow_all_filters": "GET /servers; GET /servers/detail",
    "os_compute_api:servers:show:host_status": (
        "GET /servers/{server_id}; GET /servers/detail; PUT /servers/{server_id}; ACTION (rebuild)"
    ),
    "os_compute_api:servers:show:host_status:unknown-only": (
        "GET /servers/{server_id}; GET /servers/detail; PUT /servers/{server_id}; ACTION (rebuild)"
    ),
    "os_compute_api:servers:create:forced_host": "POST /servers",
    "compute:servers:create:requested_destination": "POST /servers",
    "os_compute_api:servers:create:zero_disk_flavor": "POST /servers",
    "network:attach_external_network": "POST /servers; POST /servers/{server_id}/os-interface",
    "os_compute_api:servers:migrations:show": "GET /servers/{server_id}/migrations/{migration_id}",
    "os_compute_api:servers:migrations:index:host": "GET /servers/{server_id}/migrations",
    "os_compute_api:os-services:list": "GET /os-services",
    "os_compute_api:os-services:update": "PUT /os-services/{service_id}",
    "os_compute_api:os-services:delete": "DELETE /os-services/{service_id}",
    "os_compute_api:os-shelve:unshelve_to_host": "ACTION (unshelve)",
    "os_compute_api:os-shelve:shelve_offload": "ACTION (shelveOffload)",
    "os_compute_api:os-simple-tenant-usage:list": "GET /os-simple-tenant-usage",
}

_MANAGER = {
    "os_compute_api:os-migrate-server:migrate": "ACTION (migrate)",
    "os_compute_api:os-migrate-server:migrate_live": "ACTION (os-migrateLive)",
    "os_compute_api:os-migrations:index": "GET /os-migrations",
    "os_compute_api:servers:migrations:force_complete": (
        "POST /servers/{server_id}/migrations/{migration_id}/action (force_complete)"
    ),
    "os_compute_api:servers:migrations:delete": (
        "DELETE /servers/{server_id}/migrations/{migration_id}"
    ),
    "os_compute_api:servers:migrations:index": "GET /servers/{server_id}/migrations",
}

_MEMBER = {
    "os_compute_api:os-admin-password": "ACTION (changePassword)",
    "os_compute_api:os-attach-interfaces:create": "POST /servers/{server_id}/os-interface",
    "os_compute_api:os-attach-interfaces:delete": (
        "DELETE /servers/{server_id}/os-interface/{port_id}"
    ),
    "os_compute_api:os-console-output": "ACTION (os-getConsoleOutput)",
    "os_compute_api:os-create-backup": "ACTION (createBackup)",
    "os_compute_api:os-deferred-delete:restore": "ACTION (restore)",
    "os_compute_api:os-deferred-delete:force": "ACTION (forceDelete)",
    "os_compute_api:os-floating-ips:add": "ACTION (addFloatingIp)",
    "os_compute_api:os-floating-ips:remove": "ACTION (removeFloatingIp)",
    "os_compute_api:os-floating-ips:create": "POST /os-floating-ips",
    "os_compute_api:os-floating-ips:delete": "DELETE /os-floating-ips/{floating_ip_id}",
    "os_compute_api:os-lock-server:lock": "ACTION (lock)",
    "os_compute_api:os-lock-server:unlock": "ACTION (unlock)",
    "os_compute_api:os-multinic:add": "ACTION (addFixedIp)",
    "os_compute_api:os-multinic:remove": "ACTION (removeFixedIp)",
    "os_compute_api:os-pause-server:pause": "ACTION (pause)",
    "os_compute_api:os-pause-server:unpause": "ACTION (unpause)",
    "os_compute_api:os-remote-consoles": (
        "ACTION (os-getSerialConsole); "
        "ACTION (os-getSPICEConsole); "
        "ACTION (os-getVNCConsole); "
        "POST /servers/{server_id}/remote-consoles"
    ),
    "os_compute_api:os-rescue": "ACTION (rescue)",
    "os_compute_api:os-unrescue": "ACTION (unrescue)",
    "os_compute_api:os-security-groups:create": "POST /os-security-groups",
    "os_compute_api:os-security-groups:update": "PUT /os-security-groups/{security_group_id}",
    "os_compute_api:os-security-groups:delete": "DELETE /os-security-groups/{security_group_id}",
    "os_compute_api:os-security-groups:rule:create": "POST /os-security-group-rules",
    "os_compute_api:os-security-groups:rule:delete": (
        "DELETE /os-security-group-rules/{security_group_id}"
    ),
    "os_compute_api:os-security-groups:add": "ACTION (addSecurityGroup)",
    "os_compute_api:os-security-groups:remove": "ACTION (removeSecurityGroup)",
    "os_compute_api:os-server-groups:create": "POST /os-server-groups",
    "os_compute_api:os-server-groups:delete": "DELETE /os-server-groups/{server_group_id}",
    "os_compute_api:server-metadata:create": "POST /servers/{server_id}/metadata",
    "os_compute_api:server-metadata:update_all": "PUT /servers/{server_id}/metadata",
    "os_compute_api:server-metadata:update": "PUT /servers/{server_id}/metadata/{key}",
    "os_compute_api:server-metadata:delete": "DELETE /servers/{server_id}/metadata/{key}",
    "os_compute_api:os-server-password:clear": "DELETE /servers/{server_id}/os-server-password",
    "os_compute_api:os-server-shares:create": "POST /servers/{server_id}/shares",
    "os_compute_api:os-server-shares:delete": "DELETE /servers/{server_id}/shares/{share_id}",
    "os_compute_api:os-server-tags:delete_all": "DELETE /servers/{server_id}/tags",
    "os_compute_api:os-server-tags:update_all": "PUT /servers/{server_id}/tags",
    "os_compute_api:os-server-tags:delete": "DELETE /servers/{server_id}/tags/{tag}",
    "os_compute_api:os-server-tags:update": "PUT /servers/{server_id}/tags/{tag}",
    "os_compute_api:servers:create": "POST /servers",
    "os_compute_api:servers:create:attach_volume": "POST /servers",
    "os_compute_api:servers:create:attach_network": "POST /servers",
    "os_compute_api:servers:create:trusted_certs": "POST /servers",
    "os_compute_api:servers:delete": "DELETE /servers/{server_id}",
    "os_compute_api:servers:update": "PUT /servers/{server_id}",
    "os_compute_api:servers:confirm_resize": "ACTION (confirmResize)",
    "os_compute_api:servers:revert_resize": "ACTION (revertResize)",
    "os_compute_api:servers:reboot": "ACTION (reboot)",
    "os_compute_api:servers:resize": "ACTION (resize)",
    "os_compute_api:servers:rebuild": "ACTION (rebuild)",
    "os_compute_api:servers:rebuild:trusted_certs": "ACTION (rebuild)",
    "os_compute_api:servers:create_image": "ACTION (createImage)",
    "os_compute_api:servers:create_image:allow_volume_backed": "ACTION (createImage)",
    "os_compute_api:servers:start": "ACTION (os-start)",
    "os_compute_api:servers:stop": "ACTION (os-stop)",
    "os_compute_api:servers:trigger_crash_dump": "ACTION (trigger_crash_dump)",
    "os_compute_api:os-shelve:shelve": "ACTION (shelve)",
    "os_compute_api:os-shelve:unshelve": "ACTION (unshelve)",
    "os_compute_api:os-suspend-server:resume": "ACTION (resume)",
    "os_compute_api:os-suspend-server:suspend": "ACTION (suspend)",
    "os_compute_api:os-volumes:create": "POST /os-volumes",
    "os_compute_api:os-volumes:delete": "DELETE /os-volumes/{volume_id}",
    "os_compute_api:os-volumes:snapshots:create": "POST /os-snapshots",
    "os_compute_api:os-volumes:snapshots:delete": "DELETE /os-snapshots/{snapshot_id}",
    "os_compute_api:os-volumes-attachments:create": (
        "POST /servers/{server_id}/os-volume_attachments"
    ),
    "os_compute_api:os-volumes-attachments:update": (
        "PUT /servers/{server_id}/os-volume_attachments/{volume_id}"
    ),
    "os_compute_api:os-volumes-attachments:delete": (
        "DELETE /servers/{server_id}/os-volume_attachments/{volume_id}"
    ),
}

_READER = {
    "kilonova:explain:show": "GET /ext/explain/{name}",
    "os_compute_api:os-attach-interfaces:list": "GET /servers/{server_id}/os-interface",
    "os_compute_api:os-attach-interfaces:show": "GET /servers/{server_id}/os-interface/{port_id}",
    "os_compute_api:os-flavor-extra-specs:show": (
        "GET /flavors/{flavor_id}/os-extra_specs/{flavor_extra_spec_key}"
    ),
    "os_compute_api:os-flavor-extra-specs:index": (
        "GET /flavors/{flavor_id}/os-extra_specs/; "
        "POST /flavors; "
        "GET /flavors/detail; "
        "GET /flavors/{flavor_id}; "
        "PUT /flavors/{flavor_id}"
    ),
    "os_compute_api:os-floating-ips:list": "GET /os-floating-ips",
    "os_compute_api:os-floating-ips:show": "GET /os-floating-ips/{floating_ip_id}",
    "os_compute_api:os-instance-actions:list": "GET /servers/{server_id}/os-instance-actions",
    "os_compute_api:os-instance-actions:show": (
        "GET /servers/{server_id}/os-instance-actions/{request_id}"
    ),
    "os_compute_api:ips:show": "GET /servers/{server_id}/ips/{network_label}",
    "os_compute_api:ips:index": "GET /servers/{server_id}/ips",
    "os_compute_api:os-networks:list": "GET /os-networks",
    "os_compute_api:os-networks:show": "GET /os-networks/{network_id}",
    "os_compute_api:os-quota-sets:show": "GET /os-quota-sets/{tenant_id}",
    "os_compute_api:os-quota-sets:detail": "GET /os-quota-sets/{tenant_id}/detail",
    "os_compute_api:os-security-groups:get": "GET /os-security-groups",
    "os_compute_api:os-security-groups:show": "GET /os-security-groups/{security_group_id}",
    "os_compute_api:os-security-groups:list": "GET /servers/{server_id}/os-security-groups",
    "os_compute_api:os-server-groups:index": "GET /os-server-groups",
    "os_compute_api:os-server-groups:show": "GET /os-server-groups/{server_group_id}",
    "os_compute_api:server-metadata:index": "GET /servers/{server_id}/metadata",
    "os_compute_api:server-metadata:show": "GET /servers/{server_id}/metadata/{key}",
    "os_compute_api:os-server-password:show": "GET /servers/{server_id}/os-server-password",
    "os_compute_api:os-server-shares:index": "GET /servers/{server_id}/shares",
    "os_compute_api:os-server-shares:show": "GET /servers/{server_id}/shares/{share_id}",
    "os_compute_api:os-server-tags:index": "GET /servers/{server_id}/tags",
    "os_compute_api:os-server-tags:show": "GET /servers/{server_id}/tags/{tag}",
    "compute:server:topology:index": "GET /servers/{server_id}/topology",
    "os_compute_api:servers:index": "GET /servers",
    "os_compute_api:servers:detail": "GET /servers/detail",
    "os_compute_api:servers:show": "GET /servers/{server_id}",
    "os_compute_api:servers:show:flavor-extra-specs": (
        "GET /servers/detail; GET /servers/{server_id}; PUT /servers/{server_id}; ACTION (rebuild)"
    ),
    "os_compute_api:os-simple-tenant-usage:show": "GET /os-simple-tenant-usage/{tenant_id}",
    "os_compute_api:os-tenant-networks:list": "GET /os-tenant-networks",
    "os_compute_api:os-tenant-networks:show": "GET /os-tenant-networks/{network_id}",
    "os_compute_api:os-volumes:list": "GET /os-volumes",
    "os_compute_api:os-volumes:detail": "GET /os-volumes/detail",
    "os_compute_api:os-volumes:show": "GET /os-volumes/{volume_id}",
    "os_compute_api:os-volumes:snapshots:list": "GET /os-snapshots",
    "os_compute_api:os-volumes:snapshots:detail": "GET /os-snapshots/detail",
    "os_compute_api:os-volumes:snapshots:show": "GET /os-snapshots/{snapshot_id}",
    "os_compute_api:os-volumes-attachments:index": "GET /servers/{server_id}/os-volume_attachments",
    "os_compute_api:os-volumes-attachments:show": (
        "GET /servers/{server_id}/os-volume_attachments/{volume_id}"
    ),
}

_SERVICE = {
    "os_compute_api:os-assisted-volume-snapshots:create": "POST /os-assisted-volume-snapshots",
    "os_compute_api:os-assisted-volume-snapshots:delete": (
        "DELETE /os-assisted-volume-snapshots/{snapshot_id}"
    ),
    "os_compute_api:os-server-external-events:create": "POST /os-server-external-events",
    "os_compute_api:os-volumes-attachments:swap": (
        "PUT /servers/{server_id}/os-volume_attachments/{volume_id}"
    ),
}

_SAME_USER = {
    "os_compute_api:os-keypairs:index": "GET /os-keypairs",
    "os_compute_api:os-keypairs:create": "POST /os-keypairs",
    "os_compute_api:os-keypairs:delete": "DELETE /os-keypairs/{keypair_name}",
    "os_compute_api:os-keypairs:show": "GET /os-keypairs/{keypair_name}",
}

_ANYONE = {
    "os_compute_api:os-availability-zone:list": "GET /os-availability-zone",
    "os_compute_api:extensions": "GET /extensions; GET /extensions/{alias}",
    "os_compute_api:os-floating-ip-pools": "GET /os-floating-ip-pools",
    "os_compute_api:limits": "GET /limits",
    "os_compute_api:os-quota-sets:defaults": "GET /os-quota-sets/{tenant_id}/defaults",
}

_NOBODY = {
    "compute:servers:resize:cross_cell": "ACTION (resize)",
}


def _rules(check: str, table: dict[str, str]) -> list[Rule]:
    return [
        Rule(
            name,
            check,
            operations=_operations(text),
            scope_types=("project",),
            deprecated=deprecated.of(name),
        )
        for name, text in table.items()
    ]


def _operations(text: str) -> tuple[str, ...]:
    full = text.replace("ACTION (", "POST /servers/{server_id}/action (")
    return tuple(full.split("; "))


RULES: tuple[Rule, ...] = (
    *(msgspec.structs.replace(rule, deprecated=deprecated.of(rule.name)) for rule in base.RULES),
    *_rules(base.ADMIN, _ADMIN),
    *_rules(base.MANAGER, _MANAGER),
    *_rules(base.MEMBER, _MEMBER),
    *_rules(base.READER, _READER),
    *_rules(base.SERVICE, _SERVICE),
    *_rules(base.SAME_USER, _SAME_USER),
    *_rules(base.ANYONE, _ANYONE),
    *_rules(base.NOBODY, _NOBODY),
)


def list_rules() -> list[policy.RuleDefault]:
    """Every rule as oslo.policy's tools want them (entry point ``oslo.policy.policies``)."""
    return [rule.default() for rule in RULES]
