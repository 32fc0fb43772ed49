"""What rules were called before, and what overrides of the old names do."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from kilonova.base.clock import VirtualClock
from kilonova.policy import compute, deprecated
from kilonova.policy.enforcer import PolicyEnforcer
from tests.unit.policy.test_enforcer import ADMIN, MEMBER, OURS, READER, Someone

NOBODY_SPECIAL = Someone(roles=("_member_",))
NAMES = {rule.name for rule in compute.RULES}


def enforcer(folder: Path, text: str, *, new: bool = True) -> PolicyEnforcer:
    file = folder / "policy.yaml"
    file.write_text(text)
    return PolicyEnforcer(
        compute.RULES, clock=VirtualClock(), policy_file=file, enforce_new_defaults=new
    )


def test_only_rules_that_exist_were_something_before() -> None:
    changed = {name for name in NAMES if deprecated.of(name) is not None}
    assert len(changed) == 79
    assert set(deprecated._BY_RULE) <= NAMES
    assert deprecated.of("os_compute_api:servers:show") is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("os-hypervisors", "os-hypervisors:search"),
        ("os-volumes", "os-volumes:snapshots:create"),
        ("os-used-limits", "limits:other_project"),
        ("os-networks:view", "os-networks:show"),
        ("os-rescue", "os-unrescue"),
        ("os-migrations:index", "os-migrations:index:host"),
        ("os-flavor-extra-specs:index", "servers:show:flavor-extra-specs"),
        ("os-security-groups", "os-security-groups:rule:create"),
    ],
)
def test_an_override_of_the_old_name_counts_and_is_warned_of(
    old: str, new: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        policy = enforcer(tmp_path, f'"os_compute_api:{old}": "role:chief"\n')
    assert f'"os_compute_api:{old}"' in caplog.text
    assert policy.allows(f"os_compute_api:{new}", Someone(roles=("chief",)), OURS)
    assert not policy.allows(f"os_compute_api:{new}", MEMBER, OURS)


def test_the_new_name_wins_over_the_old(tmp_path: Path) -> None:
    rule = "os_compute_api:os-services"
    policy = enforcer(tmp_path, f'"{rule}": "role:a"\n"{rule}:list": "role:b"\n')
    assert policy.allows(f"{rule}:list", Someone(roles=("b",)), OURS)
    assert not policy.allows(f"{rule}:list", Someone(roles=("a",)), OURS)
    assert policy.allows(f"{rule}:update", Someone(roles=("a",)), OURS)


def test_old_defaults_let_owners_do_what_they_could(tmp_path: Path) -> None:
    old, new = enforcer(tmp_path, "{}", new=False), enforcer(tmp_path, "{}")
    for rule in ("os_compute_api:servers:create", "os_compute_api:servers:show"):
        assert old.allows(rule, NOBODY_SPECIAL, OURS)
        assert not old.allows(rule, Someone("u2", "p2", roles=("_member_",)), OURS)
        assert not new.allows(rule, NOBODY_SPECIAL, OURS)
    assert old.allows("os_compute_api:os-volumes:create", READER, OURS)
    assert not new.allows("os_compute_api:os-volumes:create", READER, OURS)
    for rule in ("os_compute_api:os-services:list", "os_compute_api:os-migrate-server:migrate"):
        assert old.allows(rule, ADMIN, OURS)
        assert not old.allows(rule, NOBODY_SPECIAL, OURS)


def test_results_are_remembered_with_old_defaults_too(tmp_path: Path) -> None:
    policy = enforcer(tmp_path, "{}", new=False)
    policy.allows("os_compute_api:servers:show", READER, OURS)
    assert policy._simple["os_compute_api:servers:show"]
