"""An operator's rules over the defaults, as oslo.policy reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kilonova.policy.library import Written
from kilonova.policy.rule import PolicyError, Rule

RULES = (Rule("admin", "role:admin"), Rule("show", "rule:admin"))


def written(file: Path) -> Written:
    return Written(
        RULES, policy_file=file, policy_dirs=(), enforce_scope=True, enforce_new_defaults=True
    )


def test_what_is_written_wins_over_the_default(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text('"show": "role:reader or rule:admin"\n"extra": "token:%(mine)s"\n')
    rules = written(file)
    assert rules.effective()["show"] == "(role:reader or rule:admin)"
    assert rules.evaluate("show", {}, {"roles": ["reader"]})
    assert not rules.evaluate("admin", {}, {"roles": ["reader"]})
    assert "extra" in rules
    assert rules.simple("show")
    assert not rules.simple("extra")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("{{{")
    with pytest.raises(PolicyError, match=r"policy\.yaml"):
        written(file)
