"""A script with openstacksdk; afterwards Nova's own schemas judge all that was said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.running import ROOT, Running

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(240)]

HERE = Path(__file__).parent
JUDGES = (ROOT / ".venv-judge/bin/python", Path(sys.executable))


def test_sdk_conversation(cloud: Running, recorded: Path) -> None:
    before = cloud.belongings()
    seen = cloud.script(HERE / "sdk_conversation.py", "kilonova-admin", clouds=recorded)
    assert seen == {
        "key": True,
        "status": "ACTIVE",
        "flavor": "m1.nano",
        "networks": ["auto_allocated_network"],
        "tags": ["one", "two"],
        "description": "made by a script",
        "names": ["by-sdk"],
        "filtered": ["by-sdk"],
        "empty": [],
        "changed": ["by-script", "changed", {"kind": "sdk"}, ["three", "two"]],
        "console": True,
        "actions": ["create", "reboot", "start", "stop"],
        "refusals": [400, 400, 404, 409, 400, 400, 400, 404, 404, 409, 403],
        "left": 0,
    }
    # The network of the automatic topology stays.
    cloud.gone(before, 30, ("process", "file", "rule", "link tap"))


def test_novas_schemas_accept_all_that_was_said(traffic: Path) -> None:
    """Needs an interpreter with the package ``nova``: ``.venv-judge``, or this one."""
    judges = [python for python in JUDGES if python.exists() and _has_nova(python)]
    if not judges:
        pytest.skip("no judge: python3 -m venv .venv-judge && .venv-judge/bin/pip install nova")
    assert traffic.stat().st_size > 0
    done = subprocess.run(
        [judges[0], HERE / "judge.py", traffic],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    verdict = json.loads(done.stdout)
    assert verdict["judged"] > 1000
    assert verdict["failures"] == []


def _has_nova(python: Path) -> bool:
    words = [python, "-c", "import importlib.util as u; assert u.find_spec('nova')"]
    return subprocess.run(words, capture_output=True, check=False, timeout=30).returncode == 0
