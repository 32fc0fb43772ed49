"""Fuzzing from our own documents, when minutes for it are given; see `tests.live.fuzz`."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from tests.live.fuzz import fuzz, told
from tests.support import namespace

MINUTES = float(os.environ.get("KILONOVA_TEST_FUZZ_MINUTES") or 0)

pytestmark = [pytest.mark.live, pytest.mark.timeout(int(MINUTES * 180) + 900)]


def test_no_answer_is_outside_the_document(tmp_path: Path) -> None:
    if not MINUTES:
        pytest.skip("by chance, so not in every run: KILONOVA_TEST_FUZZ_MINUTES is not set")
    why = namespace.possible()
    if why is not None or importlib.util.find_spec("schemathesis") is None:
        pytest.skip(why or "schemathesis is not installed")
    services = () if MINUTES >= 5 else ("compute-104",)
    runs = fuzz(tmp_path / "fuzz", int(MINUTES * 60), services, port_base=22400)
    assert all(run["requests"] for run in runs)
    assert not any(run["failures"] for run in runs), told(runs)
