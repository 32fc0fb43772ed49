"""Who may call what on the network API: one row per rule, with Neutron's names."""

from __future__ import annotations

from kilonova.embedded.network.api.meta import EMPTY
from kilonova.embedded.network.kinds import KINDS
from kilonova.policy.rule import Rule

ADMIN = "role:admin or role:service"
WRITE = f"role:member or role:manager or {ADMIN}"
READ = f"role:reader or {WRITE}"


def rules() -> list[Rule]:
    """Every rule with its default."""
    made: dict[str, str] = {
        "context_is_admin": "role:admin",
        "add_router_interface": WRITE,
        "remove_router_interface": WRITE,
        "get_quota": READ,
        "get_all_quotas": ADMIN,
        "update_quota": ADMIN,
        "delete_quota": ADMIN,
        "get_agent": ADMIN,
        "delete_agent": ADMIN,
        "host_plane": ADMIN,
        "get_extension": READ,
        "get_availability_zone": READ,
        "get_service_provider": READ,
        # Looking makes it, so a reader may not.
        "get_auto_allocated_topology": WRITE,
        "delete_auto_allocated_topology": WRITE,
    }
    for kind in KINDS:
        made[f"get_{kind.name}"] = READ
        made[f"get_{kind.plural}_tags"] = READ
        for verb in ("create", "update", "delete"):
            made[f"{verb}_{kind.name}"] = WRITE
            made[f"{verb}_{kind.plural}_tags"] = WRITE
    for plural in EMPTY.values():
        made[f"get_{plural.rstrip('s')}"] = READ
    return [Rule(name, check) for name, check in made.items()]
