"""The ordinary command line client, kept running so that its start is paid for once."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

_LOOP = """
import contextlib, io, json, sys, warnings
warnings.simplefilter("ignore")
from openstackclient import shell
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = shell.main(json.loads(line))
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]), file=sys.__stdout__, flush=True)
"""


class Refused(Exception):
    """A command ended with an error; its words."""


class CommandLine:
    """``openstack`` as one user; ``await cli("network", "list")`` gives the JSON it printed."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _LOOP,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **self._environment},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=1 << 24,
        )

    async def close(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            await self._process.wait()

    async def run(self, *words: str) -> tuple[int, str, str]:
        """One command: exit code, output, errors."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words).encode() + b"\n")
        await self._process.stdin.drain()
        async with asyncio.timeout(60):
            line = await self._process.stdout.readline()
        code, out, err = json.loads(line)
        return code, out, err

    async def __call__(self, *words: str) -> Any:
        """A command that shows something."""
        code, out, err = await self.run(*words, "-f", "json")
        if code:
            raise Refused(f"{' '.join(words)}: {out}{err}")
        return json.loads(out)

    async def do(self, *words: str) -> None:
        """A command that shows nothing."""
        code, out, err = await self.run(*words)
        if code:
            raise Refused(f"{' '.join(words)}: {out}{err}")

    async def fails(self, *words: str) -> str:
        """A command that must not work; what it says."""
        code, out, err = await self.run(*words)
        if not code:
            raise AssertionError(f"{' '.join(words)} worked: {out}")
        return out + err
