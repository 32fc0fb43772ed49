"""A cloud for the walk through the Compute API, the walk, and the judgement of what was said."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.live.judges import suites
from tests.support import namespace, running

SEEN = suites.LISTS / "compute-api.txt"
"""Actions with the versions at which they answered with success; it only grows."""
JUDGE = running.ROOT / "tests/live/e2e/judge.py"
NOT_YET = running.ROOT / "docs/reference/not-yet.md"
OPTIONS = """
[DEFAULT]
reclaim_instance_interval = 3600
[serial_console]
enabled = true
[spice]
enabled = true
"""
"""Servers that can be had back, and consoles of every kind."""
_ROW = re.compile(r"\| (\w+) \| `([^`]+)` \| `([^`]*)` \|")


def why_not() -> str | None:
    """Why there can be no walk here."""
    if not suites.JUDGE.exists():
        return "no judges in .venv-judge: run scripts/setup"
    return namespace.possible()


def later() -> list[str]:
    """The actions whose work is not there yet, as the judge names them."""
    found = _ROW.findall(NOT_YET.read_text())
    return [f"{method} {path}" + (f" [{key}]" if key else "") for method, path, key in found]


def walk(where: Path) -> tuple[list[str], dict[str, Any]]:
    """What was not as wanted, and the judge's verdict on everything that was said."""
    state, traffic = where / "state", where / "traffic.jsonl"
    state.mkdir()
    (state / "kilonova.conf").write_text(OPTIONS)
    with running.running(state, port_base=21500) as cloud:
        cloud.up("--driver", "fake", "--hosts", "3")
        done = cloud.space.run(
            *(sys.executable, "-m", "tests.live.judges.walk", "kilonova-admin", traffic),
            env={"PYTHONPATH": str(running.ROOT), **cloud.client_env("kilonova-admin")},
            seconds=1500,
        )
    (where / "later").write_text("\n".join(later()))
    judged = subprocess.run(
        [suites.JUDGE, JUDGE, traffic, "--later", where / "later"],
        capture_output=True,
        text=True,
        check=True,
        timeout=900,
    )
    surprises: list[str] = json.loads(done.stdout)
    verdict: dict[str, Any] = json.loads(judged.stdout)
    return surprises, verdict


def figures(verdict: dict[str, Any]) -> str:
    """How much of the API was seen to answer with success."""
    seen, every = verdict["seen"], verdict["all"]
    actions = [len({_action(row) for row in rows}) for rows in (seen, every)]
    return (
        f"{verdict['judged']} exchanges, {len(verdict['failures'])} failures; seen with success:"
        f" {actions[0]} of {actions[1]} actions, at {len(seen)} of {len(every)} spans of versions;"
        f" {sum(verdict['postponed'].values())} answers of work that is not there yet"
    )


def _action(row: str) -> str:
    return row.rpartition(" ")[0]
