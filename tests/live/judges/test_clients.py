"""The official clients' own suites, and Tempest: what passed once passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.judges import suites
from tests.support.running import Running

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("suite", suites.judged_here(), ids=lambda suite: suite.name)
def test_what_passed_passes(judged: Running, suite: suites.Suite, tmp_path: Path) -> None:
    left = set(suite.listed())
    whys: dict[str, str] = {}
    # These suites count what others have in the same cloud: what failed is judged by itself too.
    for attempt in ("whole", "by themselves"):
        outcomes = _run(judged, suite, tmp_path / attempt, sorted(left)) if left else []
        left -= {each.id for each in outcomes if each.outcome == "passed"}
        whys = {each.id: each.why for each in outcomes if each.outcome != "passed"}
        print(suite.name, attempt, len(outcomes), sorted(left))
    assert left == set(), whys


def _run(cloud: Running, suite: suites.Suite, where: Path, ids: list[str]) -> list[suites.Outcome]:
    where.mkdir()
    return suites.run(cloud, suite, where, ids=ids, seconds=840)
