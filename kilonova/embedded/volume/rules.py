"""Who may do what: the table of rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kilonova.web.call import Caller

Rule = Callable[[Caller, Mapping[str, Any]], bool]


def is_admin(caller: Caller) -> bool:
    """Administrators, and services with an administrator's user, see every project."""
    return "admin" in caller.roles


def _own(caller: Caller, target: Mapping[str, Any]) -> bool:
    return caller.project_id is not None and target.get("project_id") == caller.project_id


def _admin(caller: Caller, _target: Mapping[str, Any]) -> bool:
    return is_admin(caller)


def _writer(caller: Caller, target: Mapping[str, Any]) -> bool:
    return is_admin(caller) or (_own(caller, target) and "member" in caller.roles)


def _reader(caller: Caller, target: Mapping[str, Any]) -> bool:
    return is_admin(caller) or _own(caller, target)


RULES: dict[str, Rule] = {
    "volume:get": _reader,
    "volume:create": _writer,
    "volume:update": _writer,
    "volume:delete": _writer,
    "volume:force_delete": _admin,
    "volume:extend": _writer,
    "volume:retype": _writer,
    "volume:upload": _writer,
    "volume:reimage": _writer,
    "volume:reimage_reserved": _writer,
    "volume:attach": _writer,
    "volume:reset_status": _admin,
    "volume:snapshot": _writer,
    "volume:snapshot_reset": _admin,
    "volume:transfer": _writer,
    "volume:types": _reader,
    "volume:types_manage": _admin,
    "volume:quota_show": _reader,
    "volume:quota_update": _admin,
    "volume:services": _admin,
    "volume:host_attributes": _admin,
    "volume:for_project": _admin,
}


class Policy:
    """The table as an `Enforcer`."""

    def allows(self, rule: str, caller: Caller, target: Mapping[str, Any]) -> bool:
        """Whether ``rule`` lets ``caller`` act on ``target``."""
        check = RULES.get(rule)
        return check is not None and check(caller, target)
