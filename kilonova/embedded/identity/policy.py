"""Who may do what: one table of rules over the caller's roles, scope and what is acted on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kilonova.web.call import Caller

Rule = Callable[[Caller, Mapping[str, Any]], bool]


def _admin(caller: Caller, _target: Mapping[str, Any]) -> bool:
    return "admin" in caller.roles


def _reader(caller: Caller, target: Mapping[str, Any]) -> bool:
    return _admin(caller, target) or (caller.system_scope is not None and "reader" in caller.roles)


def _of_domain(caller: Caller, target: Mapping[str, Any]) -> bool:
    domain = target.get("domain_id")
    mine = bool(domain) and caller.domain_id == domain and "reader" in caller.roles
    return mine or _reader(caller, target)


def _owner(caller: Caller, target: Mapping[str, Any]) -> bool:
    return bool(caller.user_id) and target.get("user_id") == caller.user_id


def _owner_or(rule: Rule) -> Rule:
    return lambda caller, target: _owner(caller, target) or rule(caller, target)


def _token_reader(caller: Caller, target: Mapping[str, Any]) -> bool:
    return "service" in caller.roles or _owner(caller, target) or _reader(caller, target)


def _project_reader(caller: Caller, target: Mapping[str, Any]) -> bool:
    project = target.get("project_id")
    return (bool(project) and caller.project_id == project) or _of_domain(caller, target)


def _domain_viewer(caller: Caller, target: Mapping[str, Any]) -> bool:
    domain = target.get("domain_id")
    mine = bool(domain) and domain in (
        caller.domain_id,
        caller.project_domain_id if caller.project_id else None,
    )
    return mine or _reader(caller, target)


def _anybody(_caller: Caller, _target: Mapping[str, Any]) -> bool:
    return True


_MANAGED = (
    "domain", "project", "project_tags", "user", "group", "role", "implied_role", "grant",
    "service", "endpoint", "region", "registered_limit", "limit",
)  # fmt: skip

RULES: dict[str, Rule] = {
    **{f"identity:create_{noun}": _admin for noun in _MANAGED},
    **{f"identity:update_{noun}": _admin for noun in _MANAGED},
    **{f"identity:delete_{noun}": _admin for noun in _MANAGED},
    "identity:validate_token": _token_reader,
    "identity:revoke_token": _owner_or(_admin),
    "identity:get_auth": _anybody,
    "identity:list_domains": _reader,
    "identity:get_domain": _domain_viewer,
    "identity:list_projects": _of_domain,
    "identity:get_project": _project_reader,
    "identity:list_user_projects": _owner_or(_of_domain),
    "identity:list_users": _of_domain,
    "identity:get_user": _owner_or(_of_domain),
    "identity:list_groups": _of_domain,
    "identity:get_group": _of_domain,
    "identity:list_groups_for_user": _owner_or(_of_domain),
    "identity:list_users_in_group": _of_domain,
    "identity:add_user_to_group": _admin,
    "identity:remove_user_from_group": _admin,
    "identity:list_roles": _reader,
    "identity:get_role": _reader,
    "identity:get_implied_role": _reader,
    "identity:list_grants": _of_domain,
    "identity:list_role_assignments": _of_domain,
    "identity:list_services": _reader,
    "identity:get_service": _reader,
    "identity:list_endpoints": _reader,
    "identity:get_endpoint": _reader,
    "identity:list_regions": _anybody,
    "identity:get_region": _anybody,
    "identity:list_application_credentials": _owner_or(_reader),
    "identity:get_application_credential": _owner_or(_reader),
    "identity:create_application_credential": _owner,
    "identity:delete_application_credential": _owner_or(_admin),
    "identity:get_limit_model": _anybody,
    "identity:get_registered_limit": _anybody,
    "identity:list_limits": _anybody,
    "identity:list_all_limits": _reader,
    "identity:get_limit": _project_reader,
    "identity:list_credentials": _reader,
    "identity:get_credential": _owner_or(_reader),
    "identity:create_credential": _owner_or(_admin),
    "identity:update_credential": _owner_or(_admin),
    "identity:delete_credential": _owner_or(_admin),
}


class Policy:
    """The table as an `Enforcer`."""

    def allows(self, rule: str, caller: Caller, target: Mapping[str, Any]) -> bool:
        """Whether ``rule`` lets ``caller`` act on ``target``."""
        check = RULES.get(rule)
        return check is not None and check(caller, target)
