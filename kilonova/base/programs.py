"""Running the distribution's programs, with limits and with errors that say what went wrong."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from kilonova.base.errors import Unavailable

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


class Ended(NamedTuple):
    """What a program left: its exit status (negative: the signal that ended it), its words."""

    status: int
    output: bytes
    complaint: bytes


def find(program: str, path: str | None = None) -> str | None:
    """Where a program is on ``path`` (``PATH``), also where only root looks."""
    return shutil.which(program, path=path) or shutil.which(program, path=SBIN)


async def execute(
    *command: str,
    seconds: float,
    cpu_seconds: int | None = None,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    given: bytes | None = None,
) -> Ended:
    """Run a program to its end; it reads what is ``given``.

    ``cpu_seconds`` ends it when it used that much processor time. Raises FileNotFoundError when it
    is missing, TimeoutError when it was stopped after ``seconds``.
    """
    program = find(command[0], (environment or {}).get("PATH"))
    if program is None:
        raise FileNotFoundError(command[0])
    limit = find("prlimit") if cpu_seconds is not None else None
    prefix = (limit, f"--cpu={cpu_seconds}", "--") if limit else ()
    process = await asyncio.create_subprocess_exec(
        *prefix,
        program,
        *command[1:],
        cwd=cwd,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL if given is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            output, complaint = await process.communicate(given)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return Ended(process.returncode or 0, output, complaint)


async def run(
    *command: str,
    seconds: float = 60.0,
    cpu_seconds: int | None = None,
    given: bytes | None = None,
) -> bytes:
    """Standard output of a program.

    Raises Unavailable with its last words when it fails, is missing, or takes too long.
    """
    try:
        ended = await execute(*command, seconds=seconds, cpu_seconds=cpu_seconds, given=given)
    except FileNotFoundError:
        raise Unavailable(
            f"The program {command[0]} is missing on this host; install it."
        ) from None
    except TimeoutError:
        raise Unavailable(f"{command[0]} did not end within {seconds:g} s.") from None
    if ended.status != 0:
        lines = ended.complaint.decode(errors="replace").strip().splitlines()
        last = lines[-1] if lines else f"exit code {ended.status}"
        raise Unavailable(f"{command[0]} failed: {last}")
    return ended.output
