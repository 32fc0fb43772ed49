"""Running the distribution's programs, with limits and with errors that say what went wrong."""

from __future__ import annotations

import asyncio
import contextlib
import shutil

from kilonova.base.errors import Unavailable

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def find(program: str) -> str | None:
    """Where a program is, also where only root looks."""
    return shutil.which(program) or shutil.which(program, path=SBIN)


async def run(*command: str, seconds: float = 60.0, cpu_seconds: int | None = None) -> bytes:
    """Standard output of a program.

    Raises Unavailable with its last words when it fails, is missing, or takes too long.
    ``cpu_seconds`` ends it when it used that much processor time.
    """
    program = find(command[0])
    if program is None:
        raise Unavailable(f"The program {command[0]} is missing on this host; install it.")
    limit = find("prlimit") if cpu_seconds is not None else None
    prefix = (limit, f"--cpu={cpu_seconds}", "--") if limit else ()
    process = await asyncio.create_subprocess_exec(
        *prefix,
        program,
        *command[1:],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            output, complaint = await process.communicate()
    except TimeoutError:
        raise Unavailable(f"{command[0]} did not end within {seconds:g} s.") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        lines = complaint.decode(errors="replace").strip().splitlines()
        last = lines[-1] if lines else f"exit code {process.returncode}"
        raise Unavailable(f"{command[0]} failed: {last}")
    return output
