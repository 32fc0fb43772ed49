"""Every rule of the Compute API against every kind of caller, by a table of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kilonova.base.clock import VirtualClock
from kilonova.policy import compute
from kilonova.policy.enforcer import PolicyEnforcer
from tests.unit.policy.test_enforcer import Someone

# Name, default check and operations of each rule, as operators of Nova know them.
TABLE = Path(__file__).with_name("expected.txt")

PERSONAS = {
    "reader": Someone("u1", "p1", roles=("reader",)),
    "member": Someone("u1", "p1", roles=("member", "reader")),
    "manager": Someone("u1", "p1", roles=("manager", "member", "reader")),
    "admin": Someone("u0", "p0", roles=("admin", "manager", "member", "reader")),
    "colleague": Someone("u9", "p1", roles=("member", "reader")),
    "other member": Someone("u2", "p2", roles=("member", "reader")),
    "other manager": Someone("u2", "p2", roles=("manager", "member", "reader")),
    "same user elsewhere": Someone("u1", "p2", roles=("member", "reader")),
    "service": Someone("s1", "p3", roles=("service",)),
    "roleless": Someone("u1", "p1", roles=()),
    "system reader": Someone("u3", None, system_scope="all", roles=("reader",)),
    "system admin": Someone("u4", None, system_scope="all", roles=("admin", "member", "reader")),
    "domain admin": Someone("u5", None, domain_id="d1", roles=("admin",)),
}
TARGET = {"project_id": "p1", "user_id": "u1"}

# default check → who may act on what user u1 of project p1 has
ALLOWED = {
    "rule:context_is_admin": {"admin"},
    "rule:project_manager_or_admin": {"admin", "manager"},
    "rule:project_member_or_admin": {"admin", "manager", "member", "colleague"},
    "rule:project_reader_or_admin": {"admin", "manager", "member", "colleague", "reader"},
    "rule:service_or_admin": {"admin", "service"},
    "(rule:context_is_admin) or user_id:%(user_id)s": {
        *("admin", "manager", "member", "reader", "roleless", "same user elsewhere"),
    },
    "@": {
        *("reader", "member", "manager", "admin", "colleague", "other member", "other manager"),
        *("same user elsewhere", "service", "roleless"),
    },
    "!": set(),
}
_ADMINS = {"admin", "system admin", "domain admin"}
_MEMBERS = {"member", "manager", "colleague"}
# The rules the others are made of have no scope.
ALLOWED_BASE = {
    "context_is_admin": _ADMINS,
    "admin_or_owner": _ADMINS | _MEMBERS | {"reader", "roleless"},
    "admin_api": _ADMINS,
    "project_manager_api": {"manager"},
    "project_member_api": _MEMBERS,
    "project_reader_api": _MEMBERS | {"reader"},
    "service_api": {"service"},
    "project_manager_or_admin": _ADMINS | {"manager"},
    "project_member_or_admin": _ADMINS | _MEMBERS,
    "project_reader_or_admin": _ADMINS | _MEMBERS | {"reader"},
    "service_or_admin": _ADMINS | {"service"},
}


def rows() -> list[tuple[str, str, tuple[str, ...]]]:
    found = []
    for line in TABLE.read_text().splitlines():
        name, check, operations = (part.strip() for part in line.split(" |", 2))
        found.append((name, check, tuple(operations.split("; ")) if operations else ()))
    return found


def own(name: str) -> bool:
    """Whether a rule guards what only this cloud has."""
    return name.startswith("kilonova:")


@pytest.fixture(scope="module")
def enforcer() -> PolicyEnforcer:
    return PolicyEnforcer(compute.RULES, clock=VirtualClock())


def test_the_table_has_all_rules() -> None:
    listed = [name for name, _, _ in rows()]
    assert len([name for name in listed if not own(name)]) == 214
    assert set(listed) == {rule.name for rule in compute.RULES}
    assert set(ALLOWED_BASE) == {name for name, _, operations in rows() if not operations}


@pytest.mark.parametrize(("name", "check", "operations"), rows(), ids=[row[0] for row in rows()])
def test_each_rule_with_each_persona(
    name: str, check: str, operations: tuple[str, ...], enforcer: PolicyEnforcer
) -> None:
    rule = next(rule for rule in compute.RULES if rule.name == name)
    assert rule.check == check
    assert set(rule.operations) == set(operations)
    assert rule.scope_types == (("project",) if operations else ())
    expected = ALLOWED[check] if operations else ALLOWED_BASE[name]
    allowed = {who for who, caller in PERSONAS.items() if enforcer.allows(name, caller, TARGET)}
    assert allowed == expected


def test_nobody_but_administrators_and_services_acts_on_nothing_in_particular(
    enforcer: PolicyEnforcer,
) -> None:
    nothing: dict[str, Any] = {}
    for name, check, operations in rows():
        if not operations or check in ("@", "!"):
            continue
        allowed = {
            who for who, caller in PERSONAS.items() if enforcer.allows(name, caller, nothing)
        }
        expected = {"admin", "service"} if check == "rule:service_or_admin" else {"admin"}
        assert allowed == expected, name


def test_tools_of_oslo_policy_get_every_rule_with_its_scope() -> None:
    listed = {rule.name: rule for rule in compute.list_rules()}
    for name, _, operations in rows():
        assert listed[name].scope_types == (["project"] if operations else None)
