"""Who may do what: Placement's rules with their defaults, evaluated by oslo.policy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oslo_config import cfg
from oslo_policy import opts, policy

from kilonova.base.clock import Clock, SystemClock
from kilonova.web.call import Caller

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
_SECONDS = 1.0
_REMEMBERED = 10_000
_NO_FILE = "/dev/null/policy.yaml"
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


def rules() -> list[policy.RuleDefault]:
    """All rules in oslo.policy's form."""
    made = [policy.RuleDefault(name, check) for name, check in _BASE.items()]
    for name, (check, before, what) in RULES.items():
        deprecated = before and policy.DeprecatedRule(
            name, before, deprecated_reason="Superseded by narrower roles.", deprecated_since="S"
        )
        made.append(
            policy.RuleDefault(
                name, check, description=what, scope_types=["project"], deprecated_rule=deprecated
            )
        )
    return made


class Enforcer:
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
        conf = cfg.ConfigOpts()
        conf([], project="placement", default_config_files=[], default_config_dirs=[])
        opts.set_defaults(
            conf,
            policy_file=str(policy_file or _NO_FILE),
            enforce_scope=enforce_scope,
            enforce_new_defaults=enforce_new_defaults,
        )
        self._enforcer = policy.Enforcer(conf)
        self._enforcer.suppress_deprecation_warnings = True
        self._enforcer.suppress_default_change_warnings = True
        self._enforcer.register_defaults(rules())
        self._clock = clock or SystemClock()
        self._decided: dict[tuple[object, ...], bool] = {}
        self._until = 0.0

    def allows(self, rule: str, caller: Caller, target: Mapping[str, Any]) -> bool:
        """Whether ``rule`` lets ``caller`` act on ``target``."""
        now = self._clock.monotonic()
        if now >= self._until or len(self._decided) >= _REMEMBERED:
            self._decided.clear()
            self._until = now + _SECONDS
        who = (caller.user_id, caller.project_id, caller.domain_id, caller.system_scope)
        homes = (caller.user_domain_id, caller.project_domain_id)
        roles = (caller.roles, caller.service_roles)
        key = (rule, who, homes, roles, tuple(target.items()))
        done = self._decided.get(key)
        if done is None:
            done = self._decided[key] = self._decide(rule, caller, target)
        return done

    def _decide(self, rule: str, caller: Caller, target: Mapping[str, Any]) -> bool:
        credentials = caller.credentials()
        credentials["system"] = caller.system_scope
        try:
            return bool(self._enforcer.enforce(rule, dict(target), credentials))
        except policy.InvalidScope:
            return False
