"""Rules of server groups."""

from __future__ import annotations

import pytest

from kilonova.domain.group import broken_rule, most_per_host


@pytest.mark.parametrize(
    ("policy", "rules", "counts", "free"),
    [
        ("anti-affinity", {}, {}, True),
        ("anti-affinity", {}, {"h1": 1}, False),
        ("anti-affinity", {}, {"h2": 3}, True),
        ("anti-affinity", {"max_server_per_host": 2}, {"h1": 1}, True),
        ("anti-affinity", {"max_server_per_host": 2}, {"h1": 2}, False),
        ("anti-affinity", {"max_server_per_host": "3"}, {"h1": 2}, True),
        ("affinity", {}, {}, True),
        ("affinity", {}, {"h2": 0}, True),
        ("affinity", {}, {"h2": 1}, False),
        ("affinity", {}, {"h1": 1}, True),
        ("soft-anti-affinity", {}, {"h1": 9}, True),
        ("soft-affinity", {}, {"h2": 9}, True),
    ],
)
def test_one_more_member(
    policy: str, rules: dict[str, object], counts: dict[str, int], free: bool
) -> None:
    assert (broken_rule(policy, rules, counts, "h1") is None) is free


def test_reasons() -> None:
    assert most_per_host({}) == 1
    assert broken_rule("affinity", {}, {"h3": 1, "h2": 1}, "h1") == "the group is on h2, h3"
    assert "1 may be" in (broken_rule("anti-affinity", {}, {"h1": 1}, "h1") or "")
