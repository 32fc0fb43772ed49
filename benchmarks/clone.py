"""From a fresh clone to the first server ACTIVE and reached over SSH, without downloads."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.cloud import ROOT, free_ports
from benchmarks.figures import Figure
from benchmarks.space import own_network


async def measure() -> list[Figure]:
    """Set up a clone (its downloads are not timed), then time ``scripts/up`` in it."""
    return await asyncio.to_thread(_measure)


def _measure() -> list[Figure]:
    home = Path(tempfile.mkdtemp(prefix="kilonova-bench-"))
    env = {k: v for k, v in os.environ.items() if not k.startswith(("KILONOVA_", "PYTHON"))}
    state = ["--state-dir", str(home / "state")]
    try:
        subprocess.run(["git", "clone", "-q", str(ROOT), str(home / "clone")], check=True)
        subprocess.run(["scripts/setup", "--minimal"], cwd=home / "clone", env=env, check=True)
        own_network()
        words = ["scripts/up", *state, "--port-base", str(free_ports())]
        started = time.perf_counter()
        with subprocess.Popen(
            words, cwd=home / "clone", env=env, stdout=subprocess.PIPE, text=True
        ) as up:
            active = login = 0.0
            for line in up.stdout or ():
                if line.strip() == "ACTIVE":
                    active = time.perf_counter() - started
                if re.search("logged in", line):
                    login = time.perf_counter() - started
        if up.returncode or not login:
            raise RuntimeError("scripts/up failed")
        down = [home / "clone/.venv/bin/kilonova", "down", "--guests", *state]
        subprocess.run(down, env=env, check=True, capture_output=True)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    how = "scripts/up in a clone with its environment made and the guest image's packages fetched"
    return [
        Figure("clone to ACTIVE", active, "s", how=how),
        Figure("clone to SSH", login, "s", how=how),
    ]
