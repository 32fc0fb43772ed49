"""Topics of agents."""

from __future__ import annotations

from kilonova.domain.agent import CONDUCTOR, topic


def test_each_host_has_a_topic_of_its_own() -> None:
    assert topic("h1") == "compute.h1"
    assert len({topic("h1"), topic("h2"), CONDUCTOR}) == 3
