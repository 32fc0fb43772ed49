"""Whose limits count, and the words of refusals."""

from __future__ import annotations

import pytest

from kilonova.domain import quotas
from kilonova.domain.quotas import DB, NOOP, UNIFIED, Over, OverQuota, Rules

DEFAULTS = {"instances": 10, "cores": 20, "key_pairs": 100, "fixed_ips": -1}


def test_a_projects_own_limit_comes_first() -> None:
    rules = Rules(UNIFIED, DEFAULTS, {"servers": 5, "class:VCPU": 8}, {"servers": -1})
    assert (rules.limit("servers"), rules.limit("class:VCPU")) == (-1, 8)


@pytest.mark.parametrize(
    ("strategy", "listed", "unlisted"), [("require", 0, -1), ("ignore", -1, 0)]
)
def test_resources_without_any_limit(strategy: str, listed: int, unlisted: int) -> None:
    rules = Rules(UNIFIED, DEFAULTS, listed=frozenset({"servers"}), strategy=strategy)
    assert (rules.limit("servers"), rules.limit("class:VGPU")) == (listed, unlisted)


def test_names_of_the_api() -> None:
    own = {"servers": 2, "server_key_pairs": 7}
    rules = Rules(UNIFIED, DEFAULTS, {"server_key_pairs": 3}, own)
    assert (rules.unified, rules.stored) == (True, False)
    shown = rules.elsewhere(shown=True)
    assert (shown["instances"], shown["cores"]) == (2, 0)
    assert (shown["key_pairs"], shown["fixed_ips"]) == (3, -1)
    assert rules.elsewhere()["cores"] == -1
    assert set(Rules(NOOP, DEFAULTS).elsewhere().values()) == {-1}
    assert Rules(DB, DEFAULTS).stored


def test_words() -> None:
    said = quotas.exceeded({"ram": (1, 2), "cores": (3, 4)}, {"ram": 5, "cores": 6})
    assert said.message == (
        "Quota exceeded for cores, ram: Requested 6, 5, but already used 3, 1 of 4, 2 cores, ram"
    )
    said = quotas.unified_exceeded("p", [Over("servers", 1, 1, 1)])
    assert said.message == (
        "Project p is over a limit for [Resource servers is over limit of 1 due to current "
        "usage 1 and delta 1]"
    )
    assert "server_groups is over" in quotas.refusal("server_groups", 0, unified=True).message


def test_small_limits() -> None:
    quotas.check({"metadata_items": -1}, "metadata_items", 999, unified=False)
    quotas.check({"metadata_items": 3}, "metadata_items", 3, unified=False)
    with pytest.raises(OverQuota, match="exceeds 3"):
        quotas.check({"metadata_items": 3}, "metadata_items", 4, unified=False)
