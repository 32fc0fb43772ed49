"""Whose limits count, and the words of refusals."""

from __future__ import annotations

import pytest

from kilonova.domain import quotas
from kilonova.domain.quotas import DB, NOOP, UNIFIED, UNLIMITED, Over, OverQuota, Rules

DEFAULTS = {"instances": 10, "cores": 20, "ram": 512, "key_pairs": 100}


def test_drivers() -> None:
    assert Rules(DB, DEFAULTS).stored
    assert not Rules(NOOP, DEFAULTS).stored
    assert Rules(UNIFIED, DEFAULTS).unified
    assert set(Rules(NOOP, DEFAULTS).elsewhere().values()) == {UNLIMITED}


def test_a_projects_own_limit_comes_before_the_registered_one() -> None:
    rules = Rules(
        UNIFIED, DEFAULTS, registered={"servers": 5, "class:VCPU": -7}, own={"servers": 2}
    )
    assert rules.limit("servers") == 2
    assert rules.limit("class:VCPU") == UNLIMITED
    assert rules.elsewhere()["instances"] == 2


@pytest.mark.parametrize(
    ("strategy", "servers", "others"), [("require", 0, UNLIMITED), ("ignore", UNLIMITED, 0)]
)
def test_limits_that_are_not_set(strategy: str, servers: int, others: int) -> None:
    rules = Rules(UNIFIED, DEFAULTS, strategy=strategy)
    assert rules.limit("servers") == servers
    assert rules.limit("class:VGPU") == others
    assert rules.elsewhere(shown=True)["instances"] == 0


def test_limits_of_single_things_are_those_of_everybody() -> None:
    key = quotas.LOCAL["key_pairs"]
    rules = Rules(UNIFIED, DEFAULTS, registered={key: 3}, own={key: 9})
    assert rules.elsewhere()["key_pairs"] == 3


def test_refusals() -> None:
    said = quotas.exceeded({"ram": (100, 512), "cores": (20, 20)}, {"cores": 1, "ram": 1024})
    assert said.message == (
        "Quota exceeded for cores, ram: Requested 1, 1024, but already used 20, 100 of 20, 512 "
        "cores, ram"
    )
    unified = quotas.unified_exceeded("p", [Over("servers", 1, 1, 2)])
    assert "servers is over limit of 1 due to current usage 1 and delta 2" in unified.message
    assert "Project p " in unified.message


def test_checks() -> None:
    quotas.check({"key_pairs": UNLIMITED}, "key_pairs", 10**6, unified=False)
    quotas.check({"key_pairs": 2}, "key_pairs", 2, unified=False)
    with pytest.raises(OverQuota, match="too many key pairs"):
        quotas.check({"key_pairs": 2}, "key_pairs", 3, unified=False)
    with pytest.raises(OverQuota, match="server_key_pairs is over limit of 2"):
        quotas.check({"key_pairs": 2}, "key_pairs", 3, unified=True)
