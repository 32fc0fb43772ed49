"""Rules as oslo.policy registers them."""

from __future__ import annotations

import pytest
from oslo_policy import policy

from kilonova.policy.rule import Deprecated, Rule


def test_a_rule_with_operations_is_documented() -> None:
    made = Rule("a:b", "role:reader", operations=("GET /a/{id}", "POST /a (do)")).default()
    assert isinstance(made, policy.DocumentedRuleDefault)
    assert made.operations == [
        {"method": "GET", "path": "/a/{id}"},
        {"method": "POST", "path": "/a (do)"},
    ]
    assert made.description == "Guards GET /a/{id}; POST /a (do)"
    assert made.scope_types is None


def test_a_rule_that_is_only_referred_to() -> None:
    made = Rule("admin", "role:admin", scope_types=("project",)).default()
    assert type(made) is policy.RuleDefault
    assert (made.check_str, made.scope_types) == ("role:admin", ["project"])


def test_what_a_rule_was_before() -> None:
    made = Rule("new", "role:a", deprecated=Deprecated("old", "role:b", "why", "21.0.0")).default()
    assert made.deprecated_rule is not None
    assert made.deprecated_rule.name == "old"


def test_a_check_that_is_none_is_refused() -> None:
    with pytest.raises((TypeError, ValueError)):
        Rule("x", 7).default()  # type: ignore[arg-type]
