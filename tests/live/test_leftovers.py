"""What a test started ends with it, also when the process that runs the tests is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kilonova.virt.qemu.process import arguments
from tests.support import leftovers

pytestmark = [pytest.mark.live]
ROOT = Path(__file__).parents[2]
IDLE = "import time; time.sleep(60)"
TESTS = """
import pathlib, sys, time
from tests.support import leftovers
with leftovers.ended(pathlib.Path(sys.argv[1])):
    print("begun", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[int]:
    """A process that keeps its things in the directory as a QEMU does."""
    (tmp_path / "one").mkdir()
    command = [sys.executable, "-c", IDLE, "-pidfile", str(tmp_path / "one" / "pid")]
    with subprocess.Popen(command, start_new_session=True) as process:
        yield process.pid
        with contextlib.suppress(ProcessLookupError):
            process.kill()


async def test_the_end_of_a_test(tmp_path: Path, guest: int) -> None:
    with leftovers.ended(tmp_path / "two"):
        pass
    assert "-pidfile" in arguments(guest)
    with pytest.raises(KeyboardInterrupt), leftovers.ended(tmp_path):
        raise KeyboardInterrupt
    assert "-pidfile" not in arguments(guest)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_the_end_of_the_process(tmp_path: Path, guest: int, number: int) -> None:
    tests = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", TESTS, str(tmp_path)),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert tests.stdout is not None
    assert await asyncio.wait_for(tests.stdout.readline(), 30) == b"begun\n"
    assert "-pidfile" in arguments(guest)
    tests.send_signal(number)
    await tests.wait()
    async with asyncio.timeout(20):
        while "-pidfile" in arguments(guest):
            await asyncio.sleep(0.05)
