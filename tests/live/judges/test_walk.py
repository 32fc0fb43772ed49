"""A walk through the whole Compute API, judged by Nova's own schemas and status codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.judges import walking

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(1800)]


def test_every_answer_is_novas(tmp_path: Path) -> None:
    why = walking.why_not()
    if why is not None:
        pytest.skip(why)
    surprises, verdict = walking.walk(tmp_path)
    print(walking.figures(verdict), *surprises, sep="\n")
    assert surprises == []
    assert verdict["failures"] == []
    assert set(walking.SEEN.read_text().splitlines()) - set(verdict["seen"]) == set()
