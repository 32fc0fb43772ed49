"""Who may do what: Placement's rules with their defaults."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kilonova.base.clock import Clock, SystemClock
from kilonova.policy.enforcer import PolicyEnforcer
from kilonova.policy.rule import Deprecated, Rule

if TYPE_CHECKING:  # takes long to import, and only the tools need it
    from oslo_policy import policy

_ADMIN_OR_SERVICE = "rule:admin_or_service_api"
_BASE = {
    "admin_api": "role:admin",
    "service_api": "role:service",
    "admin_or_service_api": "role:admin or role:service",
    "project_reader_api": "role:reader and project_id:%(project_id)s",
    "admin_or_project_reader_or_service_api": (
        "rule:admin_or_service_api or rule:project_reader_api"
    ),
}
_PROVIDERS = "placement:resource_providers"

# rule → (default, what was allowed before besides, what it guards)
RULES: dict[str, tuple[str, str | None, str]] = {
    f"{_PROVIDERS}:list": (_ADMIN_OR_SERVICE, None, "List providers"),
    f"{_PROVIDERS}:create": (_ADMIN_OR_SERVICE, None, "Create a provider"),
    f"{_PROVIDERS}:show": (_ADMIN_OR_SERVICE, None, "Show a provider"),
    f"{_PROVIDERS}:update": (_ADMIN_OR_SERVICE, None, "Rename or move a provider"),
    f"{_PROVIDERS}:delete": (_ADMIN_OR_SERVICE, None, "Delete a provider"),
    "placement:resource_classes:list": (_ADMIN_OR_SERVICE, None, "List classes"),
    "placement:resource_classes:create": (_ADMIN_OR_SERVICE, None, "Create a class"),
    "placement:resource_classes:show": (_ADMIN_OR_SERVICE, None, "Show a class"),
    "placement:resource_classes:update": (_ADMIN_OR_SERVICE, None, "Create or rename a class"),
    "placement:resource_classes:delete": (_ADMIN_OR_SERVICE, None, "Delete a class"),
    f"{_PROVIDERS}:inventories:list": (_ADMIN_OR_SERVICE, None, "List inventories"),
    f"{_PROVIDERS}:inventories:create": (_ADMIN_OR_SERVICE, None, "Add an inventory"),
    f"{_PROVIDERS}:inventories:show": (_ADMIN_OR_SERVICE, None, "Show an inventory"),
    f"{_PROVIDERS}:inventories:update": (_ADMIN_OR_SERVICE, None, "Replace inventories"),
    f"{_PROVIDERS}:inventories:delete": (_ADMIN_OR_SERVICE, None, "Delete inventories"),
    f"{_PROVIDERS}:aggregates:list": (_ADMIN_OR_SERVICE, None, "List a provider's aggregates"),
    f"{_PROVIDERS}:aggregates:update": (_ADMIN_OR_SERVICE, None, "Replace them"),
    f"{_PROVIDERS}:usages": (_ADMIN_OR_SERVICE, None, "Show what is in use of a provider"),
    "placement:usages": (
        "rule:admin_or_project_reader_or_service_api",
        "role:admin",
        "Show what a project uses",
    ),
    "placement:traits:list": (_ADMIN_OR_SERVICE, None, "List traits"),
    "placement:traits:show": (_ADMIN_OR_SERVICE, None, "See whether a trait exists"),
    "placement:traits:update": (_ADMIN_OR_SERVICE, None, "Create a trait"),
    "placement:traits:delete": (_ADMIN_OR_SERVICE, None, "Delete a trait"),
    f"{_PROVIDERS}:traits:list": (_ADMIN_OR_SERVICE, None, "List a provider's traits"),
    f"{_PROVIDERS}:traits:update": (_ADMIN_OR_SERVICE, None, "Replace them"),
    f"{_PROVIDERS}:traits:delete": (_ADMIN_OR_SERVICE, None, "Remove them"),
    "placement:allocations:manage": (_ADMIN_OR_SERVICE, None, "Set several allocations"),
    "placement:allocations:list": (_ADMIN_OR_SERVICE, None, "Show a consumer's allocations"),
    "placement:allocations:update": (_ADMIN_OR_SERVICE, None, "Set a consumer's allocations"),
    "placement:allocations:delete": (_ADMIN_OR_SERVICE, None, "Free a consumer"),
    f"{_PROVIDERS}:allocations:list": (_ADMIN_OR_SERVICE, None, "List what is held of it"),
    "placement:allocation_candidates:list": (_ADMIN_OR_SERVICE, None, "Find candidates"),
    "placement:allocation_candidates:explain": (
        _ADMIN_OR_SERVICE,
        None,
        "Learn why providers are not among the candidates",
    ),
    "placement:reshaper:reshape": ("rule:service_api", "role:admin", "Reshape providers"),
}


def rules() -> list[Rule]:
    """All rules."""
    made = [Rule(name, check) for name, check in _BASE.items()]
    for name, (check, before, what) in RULES.items():
        deprecated = before and Deprecated(name, before, "Superseded by narrower roles.", "S")
        made.append(Rule(name, check, what, (), ("project",), deprecated or None))
    return made


def list_rules() -> list[policy.RuleDefault]:
    """Every rule as oslo.policy's tools want them (entry point ``oslo.policy.policies``)."""
    return [rule.default() for rule in rules()]


class Enforcer(PolicyEnforcer):
    """Decides by the rules above and an operator's policy file.

    ``enforce_new_defaults`` False also allows what was allowed before. What was decided is
    remembered for a second, after which changed files are noticed.
    """

    def __init__(
        self,
        *,
        policy_file: Path | None = None,
        enforce_new_defaults: bool = True,
        enforce_scope: bool = True,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(
            rules(),
            clock=clock or SystemClock(),
            policy_file=policy_file,
            enforce_scope=enforce_scope,
            enforce_new_defaults=enforce_new_defaults,
        )
