"""API call to a running QEMU, against the same command line started bare, in pairs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.cloud import Cloud, median, running
from benchmarks.figures import Figure
from benchmarks.space import own_network

PAIRS = 8
POLL = 0.004
CONFIG = "[DEFAULT]\nshutdown_timeout = 1\n"


async def measure() -> list[Figure]:
    """Make a server, stop it, start its very command line ourselves; again and again."""
    own_network()
    async with running(driver="qemu", config=CONFIG) as cloud:
        body = await cloud.server_body("bench", networks="none")
        await _pair(cloud, body)
        pairs = [await _pair(cloud, body) for _ in range(PAIRS)]
    how = f"median of {PAIRS} pairs, no card, image cached"
    return [
        Figure("POST /servers to QEMU running", median(a for a, _ in pairs) * 1000, "ms", how=how),
        Figure("the same QEMU started bare", median(b for _, b in pairs) * 1000, "ms", how=how),
        Figure(
            "more than bare",
            median(a - b for a, b in pairs) * 1000,
            "ms",
            aim="≤ 50",
            how=f"{how}; until ACTIVE, against the answer to QMP's cont",
        ),
    ]


async def _pair(cloud: Cloud, body: object) -> tuple[float, float]:
    started = time.perf_counter()
    made = await cloud.ask("POST", "compute", "/servers", body=body)
    server = made["server"]["id"]
    await cloud.active(server, every=POLL)
    spent = time.perf_counter() - started
    argv = _command_line(server)
    path = f"/servers/{server}"
    # A new guest does not hear the power button yet: what it does is of no interest here.
    await cloud.ask("POST", "compute", f"{path}/action", body={"os-stop": None})
    for _ in range(300):
        if (await cloud.ask("GET", "compute", path))["server"]["status"] == "SHUTOFF":
            break
        await asyncio.sleep(0.2)
    bare = await asyncio.to_thread(_bare, argv)
    await cloud.delete([server])
    return spent, bare


def _command_line(server: str) -> list[str]:
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().decode().split("\0")[:-1]
            if words and "qemu-system" in words[0] and server in words:
                return words
    raise RuntimeError(f"no QEMU runs for {server}")


def _bare(argv: list[str]) -> float:
    """Seconds from starting QEMU until it has obeyed ``cont``."""
    with tempfile.TemporaryDirectory() as home:
        # Sockets it inherited become sockets with a path; the rest stays word by word.
        words = [re.sub(r"^(socket,id=(\w+),)fd=\d+", rf"\1path={home}/\2", w) for w in argv]
        words[words.index("-pidfile") + 1] = f"{home}/pid"
        started = time.perf_counter()
        with subprocess.Popen(words, stdin=subprocess.DEVNULL) as process:
            try:
                with _monitor(Path(home, "monitor"), process) as monitor:
                    for command in ("qmp_capabilities", "cont"):
                        monitor.write(json.dumps({"execute": command}).encode() + b"\n")
                        monitor.flush()
                        while "return" not in json.loads(monitor.readline()):
                            pass
                return time.perf_counter() - started
            finally:
                process.kill()


def _monitor(path: Path, process: subprocess.Popen[bytes]) -> Any:
    while process.poll() is None:
        with socket.socket(socket.AF_UNIX) as end, contextlib.suppress(OSError):
            end.connect(str(path))
            return end.makefile("rwb")
        time.sleep(0.001)
    raise RuntimeError("QEMU ended at once")
