"""What obstacles say."""

from __future__ import annotations

from kilonova.domain.whynot import Constraint, Obstacle


def test_dropping_a_constraint_helps_where_a_tree_is_named() -> None:
    assert Obstacle(Constraint.IN_TREE, roots=("r",)).would_help
    assert not Obstacle(Constraint.IN_TREE, removed=3).would_help
