"""What older releases called rules and allowed: overrides and checks that still work."""

from __future__ import annotations

from kilonova.policy.rule import Deprecated

_ADMIN = "rule:admin_api"
_OWNER = "rule:admin_or_owner"
_ADMIN_ROLE = "rule:context_is_admin"
_ADMINS = "is_admin:True"
_OWNERS = "is_admin:True or project_id:%(project_id)s"

_ROLES = "The roles reader, member, manager, service and admin took the place of this check."
_PARTED = "The rule was parted in several, so that each operation can be allowed by itself."

# (old name, old check, release, reason) → the rules that took its place
_BEFORE: dict[tuple[str, str, str, str], str] = {
    (_ADMIN, _ADMINS, "21.0.0", _ROLES): (
        "context_is_admin project_manager_api service_api project_manager_or_admin service_or_admin"
    ),
    (_OWNER, _OWNERS, "21.0.0", _ROLES): (
        "project_member_api project_reader_api project_member_or_admin project_reader_or_admin"
    ),
}
# The same for rules whose names begin with ``os_compute_api:``, as the old one's does; "+word"
# stands for the old name and ":word".
_API_BEFORE: dict[tuple[str, str, str, str], str] = {
    ("os-attach-interfaces", _OWNER, "21.0.0", _ROLES): "+list +show +create +delete",
    ("os-baremetal-nodes", _ADMIN, "22.0.0", _ROLES): "+list +show",
    ("os-deferred-delete", _OWNER, "21.0.0", _ROLES): "+restore +force",
    ("os-flavor-access", _OWNER, "21.0.0", _ROLES): "os-flavor-access",
    ("os-floating-ips", _OWNER, "22.0.0", _ROLES): "+add +remove +list +create +show +delete",
    ("os-hosts", _ADMIN, "22.0.0", _ROLES): "+list +show +update +reboot +shutdown +start",
    ("os-hypervisors", _ADMIN, "21.0.0", _ROLES): (
        "+list +list-detail +statistics +show +uptime +search +servers"
    ),
    ("os-instance-actions", _OWNER, "21.0.0", _ROLES): "+list +show",
    ("os-instance-usage-audit-log", _ADMIN, "21.0.0", _ROLES): "+list +show",
    ("os-used-limits", _ADMIN, "21.0.0", _ROLES): "limits:other_project",
    ("os-migrate-server:migrate_live", _ADMIN_ROLE, "32.0.0", _PARTED): ("+host"),
    ("os-migrations:index", _ADMIN_ROLE, "32.0.0", _PARTED): "+all_projects +host",
    ("os-multinic", _OWNER, "22.0.0", _ROLES): "+add +remove",
    ("os-networks:view", _OWNER, "22.0.0", _ROLES): "os-networks:list os-networks:show",
    ("os-rescue", _OWNER, "21.0.0", _PARTED): "os-unrescue",
    ("os-security-groups", _OWNER, "22.0.0", _ROLES): (
        "+get +show +create +update +delete +rule:create +rule:delete +list +add +remove"
    ),
    ("os-server-password", _OWNER, "21.0.0", _ROLES): "+show +clear",
    ("os-flavor-extra-specs:index", _OWNER, "25.0.0", _PARTED): "servers:show:flavor-extra-specs",
    ("servers:migrations:index", _ADMIN_ROLE, "32.0.0", _PARTED): "+host",
    ("os-services", _ADMIN, "21.0.0", _ROLES): "+list +update +delete",
    ("os-tenant-networks", _OWNER, "22.0.0", _ROLES): "+list +show",
    ("os-volumes", _OWNER, "22.0.0", _ROLES): (
        "+list +create +detail +show +delete"
        " +snapshots:list +snapshots:create +snapshots:detail +snapshots:show +snapshots:delete"
    ),
}


def of(rule: str) -> Deprecated | None:
    """What the rule was before; None for one that never changed."""
    return _BY_RULE.get(rule)


def _spread() -> dict[str, Deprecated]:
    found: dict[str, Deprecated] = {}
    for (name, check, since, reason), words in _BEFORE.items():
        before = Deprecated(name, check, reason, since)
        found.update(dict.fromkeys(words.split(), before))
    for (part, check, since, reason), words in _API_BEFORE.items():
        name = f"os_compute_api:{part}"
        before = Deprecated(name, check, reason, since)
        for word in words.split():
            tail = word.removeprefix("+")
            found[f"{name}:{tail}" if word != tail else f"os_compute_api:{word}"] = before
    return found


_BY_RULE = _spread()
