"""Running programs: their words, their limits, and what is told when they fail."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kilonova.base import programs
from kilonova.base.errors import Unavailable

PYTHON = sys.executable


async def test_output_directory_and_environment(tmp_path: Path) -> None:
    assert await programs.run(PYTHON, "-c", "print('good')") == b"good\n"
    said = "import os; print(os.getcwd(), os.environ['WORD'])"
    ended = await programs.execute(
        *(PYTHON, "-c", said), seconds=30, cwd=tmp_path, environment={"WORD": "yes", "PATH": "/bin"}
    )
    assert (ended.status, ended.output.decode().split()) == (0, [str(tmp_path), "yes"])


async def test_failures_have_the_last_words() -> None:
    with pytest.raises(Unavailable, match="failed: the reason"):
        await programs.run(PYTHON, "-c", "import sys; sys.exit('noise\\nthe reason')")
    with pytest.raises(Unavailable, match="exit code 3"):
        await programs.run(PYTHON, "-c", "raise SystemExit(3)")
    with pytest.raises(Unavailable, match="is missing on this host"):
        await programs.run("no-such-program-at-all")


async def test_time_and_processor_time_are_bounded() -> None:
    with pytest.raises(Unavailable, match="did not end within"):
        await programs.run(PYTHON, "-c", "import time; time.sleep(60)", seconds=0.2)
    if programs.find("prlimit") is None:
        pytest.skip("needs util-linux")
    with pytest.raises(Unavailable, match="failed"):
        await programs.run(PYTHON, "-c", "while True: pass", cpu_seconds=1)


def test_programs_of_root_are_found() -> None:
    assert programs.find("sh", path="/nowhere") is None or programs.find("sh")
    assert programs.find("no-such-program-at-all") is None
