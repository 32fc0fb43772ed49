"""Tempest's shortest scenario that logs in: SSH, metadata service, config drive of a real guest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.judges import suites
from tests.support.running import Running

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(400)]

SCENARIO = "tempest.scenario.test_server_basic_ops.TestServerBasicOps.test_server_basic_ops"


def test_it_logs_in(cloud: Running, tmp_path: Path) -> None:
    if not suites.JUDGE.exists():
        pytest.skip("no judges in .venv-judge: run scripts/setup")
    suite = suites.by_name()["guests"]
    suite.furnish(cloud, tmp_path)
    try:
        ids = [name for name in suite.listed() if name.startswith(SCENARIO)]
        room = tmp_path / "tempest"
        room.mkdir()
        outcomes = suites.run(cloud, suite, room, ids=ids, seconds=300)
    finally:
        shell = cloud.shell("kilonova-admin")
        shell.run("image", "delete", suites.GUEST_IMAGES[1])
        shell.run("flavor", "delete", suites.GUEST_FLAVORS[1])
        shell.run("volume", "type", "delete", suites.SHARED_TYPE)
    assert [(each.outcome, each.last) for each in outcomes] == [("passed", "")]
