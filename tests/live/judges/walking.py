"""A cloud for the walk through the Compute API, the walk, and the judgement of what was said."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Container
from pathlib import Path
from typing import Any

from kilonova.services.all_in_one import Cloud
from kilonova.services.lifecycle import Wanted, prepare
from kilonova.services.progress import Silence
from tests.live.judges import suites
from tests.live.judges.walk import outside, parts
from tests.live.judges.walk.backstage import Backstage
from tests.simulated.conftest import free_ports
from tests.support import running

SEEN = suites.LISTS / "compute-api.txt"
"""Actions with the versions at which they answered with success; it only grows."""
UNSEEN = suites.LISTS / "compute-api-failing.txt"
"""The others, with the reason."""
JUDGE = running.ROOT / "tests/live/e2e/judge.py"
OPTIONS = """
[DEFAULT]
reclaim_instance_interval = 3600
shelved_offload_time = 3600
[serial_console]
enabled = true
[spice]
enabled = true
"""
"""Servers that can be had back, shelved ones that stay on their host, consoles of every kind."""


def why_not() -> str | None:
    """Why there can be no walk here."""
    return None if suites.JUDGE.exists() else "no judges in .venv-judge: run scripts/setup"


def walk(where: Path, names: Container[str] = ()) -> tuple[list[str], dict[str, Any]]:
    """What was not as wanted, and the judge's verdict on everything that was said.

    ``where`` is an empty directory; ``names`` are the parts to walk, all without.
    """
    traffic = where / "traffic.jsonl"
    surprises = asyncio.run(_walked(where / "state", traffic, names))
    judged = subprocess.run(
        [suites.JUDGE, JUDGE, traffic],
        capture_output=True,
        text=True,
        check=True,
        timeout=900,
    )
    verdict: dict[str, Any] = json.loads(judged.stdout)
    return surprises, verdict


async def _walked(state: Path, traffic: Path, names: Container[str]) -> list[str]:
    wanted = Wanted(state_dir=state, port_base=free_ports(8), driver="fake", hosts=3)
    prepare(wanted)
    with outside.services() as where:
        (state / "kilonova.conf").write_text(OPTIONS + where)
        return await _through(wanted, traffic, names)


async def _through(wanted: Wanted, traffic: Path, names: Container[str]) -> list[str]:
    async with Cloud(wanted, Silence()) as cloud:
        return await asyncio.to_thread(parts.walk, Backstage(cloud), traffic, names)


def figures(verdict: dict[str, Any]) -> str:
    """How much of the API was seen to answer with success."""
    seen, every = verdict["seen"], verdict["all"]
    actions = [len({_action(row) for row in rows}) for rows in (seen, every)]
    return (
        f"{verdict['judged']} exchanges, {len(verdict['failures'])} failures; seen with success:"
        f" {actions[0]} of {actions[1]} actions, at {len(seen)} of {len(every)} spans of versions"
    )


def _action(row: str) -> str:
    return row.rpartition(" ")[0]
