"""A walk through the whole Compute API, judged by Nova's own schemas and status codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.live.judges import walking

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(1800)]


def test_every_answer_is_novas(tmp_path: Path) -> None:
    why = walking.why_not()
    if why is not None:
        pytest.skip(why)
    surprises, verdict = _walk(tmp_path / "first")
    if surprises:
        # A busy machine brings work of the cloud and the next request together: once more.
        surprises, verdict = _walk(tmp_path / "second")
    assert surprises == []
    assert verdict["failures"] == []
    assert set(walking.SEEN.read_text().splitlines()) - set(verdict["seen"]) == set()


def _walk(where: Path) -> tuple[list[str], dict[str, Any]]:
    where.mkdir()
    surprises, verdict = walking.walk(where)
    print(walking.figures(verdict), *surprises, sep="\n")
    return surprises, verdict
