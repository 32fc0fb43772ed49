"""Default rules mean to us what they mean to oslo.policy."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from kilonova.embedded.network import policies as network
from kilonova.placement import policies as placement
from kilonova.policy import compute
from kilonova.policy.check import Defaults, Fixed, parse
from kilonova.policy.library import Written
from kilonova.policy.rule import Rule

TABLES = {
    "compute": compute.RULES,
    "placement": tuple(placement.rules()),
    "network": tuple(network.rules()),
}
WRITTEN = (
    "",
    "@",
    "!",
    "role:a",
    "role:A and not role:b",
    "role:a or role:b and role:c",
    "(role:a or role:b) and role:c",
    "not (role:a or rule:other)",
    "((role:a)) OR ((role:b) AND (role:c))",
    "role:%(wanted)s",
    "user_id:%(target.user.id)s",
    "True:%(enabled)s",
    "'Member':%(role.name)s",
    "7:%(number)s",
    "token.project.domain.id:%(domain_id)s",
    "list.name:x",
    "system_scope:all",
    "nothing:None",
    "is_admin:True or project_id:%(project_id)s",
    "rule:nobody",
    "rule:other",
)
MORE = {
    "token": {"project": {"domain": {"id": "d1"}}},
    "list": [{"name": "w"}, {"name": "x"}],
}
TARGETS: list[dict[str, Any]] = [
    {},
    {"project_id": "p1", "user_id": "u1", "tenant_id": "p1"},
    {"project_id": "p2", "user_id": "u2", "tenant_id": "p2"},
    {"wanted": "B", "target.user.id": "u1", "enabled": True, "role.name": "Member"},
    {"wanted": "x", "number": 7, "domain_id": "d1", "enabled": "no", "project_id": None},
]


def people() -> list[dict[str, Any]]:
    roles = ("", "admin", "member reader", "reader", "service", "a", "b C")
    scopes = (
        {"project_id": "p1", "domain_id": None, "system_scope": None},
        {"project_id": None, "domain_id": "d1", "system_scope": None},
        {"project_id": None, "domain_id": None, "system_scope": "all"},
    )
    return [
        {"user_id": "u1", "roles": held.split(), **scope, "is_admin": "admin" in held, **MORE}
        for held, scope in itertools.product(roles, scopes)
    ]


def library(rules: tuple[Rule, ...]) -> Written:
    return Written(
        rules,
        policy_file=Path("/nonexistent"),
        policy_dirs=(),
        enforce_scope=True,
        enforce_new_defaults=True,
    )


def assert_same(rules: tuple[Rule, ...]) -> None:
    ours, theirs = Defaults(rules), library(rules)
    spelled = theirs.effective()
    for rule in rules:
        assert str(ours.check(rule.name)) == spelled[rule.name]
        assert ours.simple(rule.name) == theirs.simple(rule.name), rule.name
    # One of each kind: hundreds of rules share a few checks.
    kinds = {(rule.check, rule.scope_types): rule.name for rule in rules}
    for name, who, target in itertools.product(kinds.values(), people(), TARGETS):
        told = theirs.evaluate(name, target, dict(who))
        assert ours.evaluate(name, target, who) == told, (name, who, target)


@pytest.mark.parametrize("table", TABLES)
def test_default_rules_mean_what_they_mean_to_the_library(table: str) -> None:
    assert_same(TABLES[table])


def test_everything_the_language_has() -> None:
    rules = [Rule(str(number), check) for number, check in enumerate(WRITTEN)]
    assert_same((*rules, Rule("other", "role:c"), Rule("scoped", "@", scope_types=("domain",))))


def test_what_is_nowhere_allows_nothing() -> None:
    defaults = Defaults([])
    assert "a" not in defaults
    assert defaults.check("a") == Fixed(False)
    assert not defaults.evaluate("a", {}, {})


@pytest.mark.parametrize(
    "text", ["role", "(role:a", "role:a)", "role:a or", "role:a role:b", "not"]
)
def test_what_is_no_check(text: str) -> None:
    with pytest.raises(ValueError, match="policy check"):
        parse(text)
