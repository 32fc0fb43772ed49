"""The enforcer against the rules of the Compute API."""

from __future__ import annotations

import collections
import itertools
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kilonova.base.clock import VirtualClock
from kilonova.policy import compute
from kilonova.policy.enforcer import PolicyEnforcer
from kilonova.policy.rule import Deprecated, PolicyError, Rule


class Someone(msgspec.Struct, frozen=True):
    user_id: str = "u1"
    project_id: str | None = "p1"
    domain_id: str | None = None
    system_scope: str | None = None
    roles: tuple[str, ...] = ()

    def credentials(self) -> dict[str, Any]:
        return {
            "user_id": self.user_id,
            "project_id": self.project_id,
            "domain_id": self.domain_id,
            "system_scope": self.system_scope,
            "roles": list(self.roles),
            "is_admin": False,
        }


ADMIN = Someone("u0", "p0", roles=("admin", "manager", "member", "reader"))
MEMBER = Someone(roles=("member", "reader"))
READER = Someone(roles=("reader",))
OTHER = Someone("u2", "p2", roles=("member", "reader"))
OURS = {"project_id": "p1", "user_id": "u1"}


def enforcer(rules: Any = compute.RULES, **more: Any) -> PolicyEnforcer:
    return PolicyEnforcer(rules, clock=more.pop("clock", VirtualClock()), **more)


def test_the_table_has_all_rules() -> None:
    rules = [rule for rule in compute.RULES if not rule.name.startswith("kilonova:")]
    assert len(rules) == 214
    assert len({rule.name for rule in compute.RULES}) == len(compute.RULES)
    counts = collections.Counter(rule.check for rule in rules if rule.operations)
    assert counts == {
        "rule:context_is_admin": 73,
        "rule:project_member_or_admin": 68,
        "rule:project_reader_or_admin": 42,
        "rule:project_manager_or_admin": 6,
        "@": 5,
        "rule:service_or_admin": 4,
        "(rule:context_is_admin) or user_id:%(user_id)s": 4,
        "!": 1,
    }
    for rule in compute.RULES:
        for operation in rule.operations:
            assert operation.split(" ")[0] in {"GET", "POST", "PUT", "DELETE"}, rule.name


def test_personas() -> None:
    policy = enforcer()
    show, create = "os_compute_api:servers:show", "os_compute_api:servers:create"
    assert policy.allows(show, READER, OURS)
    assert not policy.allows(create, READER, OURS)
    assert policy.allows(create, MEMBER, OURS)
    assert not policy.allows(create, OTHER, OURS)
    assert policy.allows(create, ADMIN, OURS)
    assert not policy.allows("os_compute_api:os-services:list", MEMBER, OURS)
    assert policy.allows("os_compute_api:os-services:list", ADMIN, {})
    assert not policy.allows("compute:servers:resize:cross_cell", ADMIN, OURS)
    assert policy.allows("os_compute_api:os-keypairs:show", MEMBER, OURS)
    assert not policy.allows("os_compute_api:os-keypairs:show", OTHER, OURS)
    manager = Someone(roles=("manager", "member", "reader"))
    assert policy.allows("os_compute_api:os-migrate-server:migrate", manager, OURS)
    assert not policy.allows("os_compute_api:os-migrate-server:migrate", MEMBER, OURS)
    service = Someone(roles=("service",))
    assert policy.allows("os_compute_api:os-server-external-events:create", service, {})
    assert policy.allows("admin_api", ADMIN, {})


def test_unknown_rules_and_scopes_are_refused() -> None:
    policy = enforcer()
    assert not policy.allows("os_compute_api:nonsense", ADMIN, OURS)
    system = Someone(project_id=None, system_scope="all", roles=("admin",))
    assert not policy.allows("os_compute_api:os-services:list", system, {})
    assert policy.allows("context_is_admin", system, {})


def test_remembered_results_equal_fresh_ones() -> None:
    policy = enforcer()
    people = [ADMIN, MEMBER, READER, OTHER, Someone(project_id=None)]
    targets: list[dict[str, Any]] = [
        OURS,
        {},
        {"project_id": "p2"},
        {"project_id": None},
        {"project_id": "p1", "user_id": "u2"},
    ]
    names = ["admin_or_owner", "project_reader_or_admin", "os_compute_api:os-keypairs:show"]
    for _ in range(2):
        for name, who, target in itertools.product(names, people, targets):
            fresh = enforcer([r for r in compute.RULES if not r.operations or r.name == name])
            assert policy.allows(name, who, target) == fresh.allows(name, who, target)


def test_overrides_are_read_again(tmp_path: Path) -> None:
    clock = VirtualClock()
    file = tmp_path / "policy.yaml"
    policy = enforcer(clock=clock, policy_file=file, check_every=0)
    rule = "os_compute_api:servers:delete"
    assert policy.allows(rule, MEMBER, OURS)
    file.write_text(f'"{rule}": "user_id:%(user_id)s and role:deleter"\n')
    assert not policy.allows(rule, MEMBER, OURS)
    file.write_text(f'"{rule}": "!"\n"context_is_admin": "role:boss"\n')
    os.utime(file, (1, 1))
    boss = Someone(roles=("boss",))
    assert not policy.allows(rule, ADMIN, OURS)
    assert policy.allows("admin_api", boss, {})
    assert not policy.allows("os_compute_api:os-services:list", ADMIN, OURS)
    file.write_text("{{{")
    assert policy.allows("admin_api", boss, {})
    file.unlink()
    assert policy.allows(rule, MEMBER, OURS)


def test_policy_directories(tmp_path: Path) -> None:
    folder = tmp_path / "policy.d"
    folder.mkdir()
    (folder / "a.yaml").write_text('"os_compute_api:servers:show": "role:nobody"\n')
    policy = enforcer(policy_dirs=[folder])
    assert not policy.allows("os_compute_api:servers:show", READER, OURS)
    assert policy.allows("os_compute_api:servers:index", READER, OURS)


def test_target_attributes_outside_the_usual_are_not_remembered(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text('"os_compute_api:servers:show": "role:%(wanted)s or user_id:%(owner)s"\n')
    policy = enforcer(policy_file=file)
    name = "os_compute_api:servers:show"
    assert policy.allows(name, READER, {"wanted": "reader", "owner": "x"})
    assert not policy.allows(name, READER, {"wanted": "chief", "owner": "x"})
    assert policy.allows(name, READER, {"wanted": "chief", "owner": "u1"})


def test_a_broken_file_at_the_start_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("{{{")
    with pytest.raises(PolicyError, match=r"policy\.yaml"):
        enforcer(policy_file=file)


def test_an_override_of_the_old_name_still_works(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    rule = Rule(
        "new:name",
        "role:member",
        operations=("GET /x",),
        deprecated=Deprecated("old:name", "role:reader", "renamed", "1.0"),
    )
    file = tmp_path / "policy.yaml"
    file.write_text('"old:name": "role:chief"\n')
    policy = enforcer([rule], policy_file=file)
    assert policy.allows("new:name", Someone(roles=("chief",)), {})
    assert not policy.allows("new:name", MEMBER, {})


def test_old_defaults_count_where_an_operator_wants_them() -> None:
    rule = Rule(
        "name",
        "role:member",
        operations=("GET /x",),
        deprecated=Deprecated("name", "role:reader", "narrowed", "1.0"),
    )
    assert not enforcer([rule]).allows("name", READER, {})
    assert enforcer([rule], enforce_new_defaults=False).allows("name", READER, {})


def test_rules_for_the_tools_of_oslo_policy() -> None:
    rules = {rule.name: rule for rule in compute.list_rules()}
    assert len(rules) == 216
    reboot = rules["os_compute_api:servers:reboot"]
    assert reboot.scope_types == ["project"]
    assert reboot.operations == [{"method": "POST", "path": "/servers/{server_id}/action (reboot)"}]
