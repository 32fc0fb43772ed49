"""The official clients' own suites, and Tempest: what passed once passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.judges import suites
from tests.support.running import Running

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("suite", suites.SUITES, ids=lambda suite: suite.name)
def test_what_passed_passes(judged: Running, suite: suites.Suite, tmp_path: Path) -> None:
    listed = suite.listed()
    outcomes = suites.run(judged, suite, tmp_path, ids=listed, seconds=840)
    wrong = {each.id: each.why for each in outcomes if each.outcome != "passed"}
    assert wrong == {}
    assert sorted({each.id for each in outcomes}) == sorted(listed)
