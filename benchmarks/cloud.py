"""A cloud of its own for a benchmark, spoken to over real HTTP, and what its process costs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import aiohttp
import yaml

ROOT = Path(__file__).resolve().parent.parent
PORTS = 6
TICK = os.sysconf("SC_CLK_TCK")


class Cloud:
    """A running cloud: its process id and requests as one of its users.

    ``options`` are those it was started with.
    """

    def __init__(
        self, state_dir: Path, http: aiohttp.ClientSession, options: tuple[str, ...] = ()
    ) -> None:
        self.state_dir = state_dir
        self.options = options
        self.pid = int((state_dir / "pids").read_text().split()[1])
        self._http = http
        self._urls: dict[str, str] = {}
        self._token = ""

    async def login(self, user: str = "kilonova") -> None:
        """Take a token of a cloud of ``clouds.yaml``."""
        auth = yaml.safe_load((self.state_dir / "clouds.yaml").read_text())["clouds"][user]["auth"]
        domain = {"name": "Default"}
        who = {"name": auth["username"], "password": auth["password"], "domain": domain}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": who}},
                "scope": {"project": {"name": auth["project_name"], "domain": domain}},
            }
        }
        async with self._http.post(f"{auth['auth_url']}/auth/tokens", json=body) as answer:
            answer.raise_for_status()
            self._token = answer.headers["X-Subject-Token"]
            catalog = (await answer.json())["token"]["catalog"]
        for entry in catalog:
            public = [e["url"] for e in entry["endpoints"] if e["interface"] == "public"]
            self._urls[entry["type"]] = public[0].rstrip("/")

    async def ask(
        self,
        method: str,
        service: str,
        path: str,
        *,
        body: Any = None,
        version: str = "2.96",
    ) -> Any:
        """One request; its JSON, None without a body; raises for another status than 2xx."""
        headers = {"X-Auth-Token": self._token, "OpenStack-API-Version": f"compute {version}"}
        url = f"{self._urls[service]}{path}"
        async with self._http.request(method, url, json=body, headers=headers) as answer:
            text = await answer.read()
            if answer.status >= 300:
                raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")
            return json.loads(text) if text else None

    async def server_body(self, name: str, *, networks: Any = "auto") -> dict[str, Any]:
        """A body for POST /servers: the first image and the smallest flavor."""
        image = (await self.ask("GET", "image", "/v2/images"))["images"][0]["id"]
        flavors = (await self.ask("GET", "compute", "/flavors"))["flavors"]
        flavor = next(f["id"] for f in flavors if f["name"] == "m1.nano")
        return {
            "server": {
                "name": name,
                "imageRef": image,
                "flavorRef": flavor,
                "networks": networks,
            }
        }

    async def active(self, server: str, *, every: float, within: float = 120) -> None:
        """Ask for a server until it is ACTIVE; raises RuntimeError for ERROR or too late."""
        end = time.monotonic() + within
        while True:
            seen = (await self.ask("GET", "compute", f"/servers/{server}"))["server"]
            if seen["status"] == "ACTIVE":
                return
            if seen["status"] == "ERROR" or time.monotonic() > end:
                raise RuntimeError(f"server {server}: {seen['status']} {seen.get('fault')}")
            await asyncio.sleep(every)

    async def delete(self, servers: Iterable[str], *, every: float = 0.1) -> None:
        """Delete servers and wait until they are gone."""
        gone = set(servers)
        for server in gone:
            await self.ask("DELETE", "compute", f"/servers/{server}")
        while True:
            left = (await self.ask("GET", "compute", "/servers"))["servers"]
            if not gone & {server["id"] for server in left}:
                return
            await asyncio.sleep(every)

    def cpu(self) -> float:
        """Seconds of CPU the cloud's process has used, in user and kernel."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def memory(self) -> dict[str, float]:
        """``Rss`` and ``Pss`` of the cloud's process in MiB."""
        text = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        found = re.findall(r"^(Rss|Pss):\s+(\d+) kB", text, re.MULTILINE)
        return {name: int(size) / 1024 for name, size in found}


def free_ports(count: int = PORTS) -> int:
    """The first of ``count`` ports in a row that nobody listens on."""
    for base in range(20000 + os.getpid() % 5000 * 2, 60000, count):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(base, base + count):
                    taken = stack.enter_context(socket.socket())
                    taken.bind(("127.0.0.1", port))
            except OSError:
                continue
            return base
    raise RuntimeError("no free ports")


def command(word: str, state_dir: Path, *more: str) -> None:
    """Run ``kilonova WORD --state-dir DIR …``; RuntimeError with its words when it fails."""
    argv = [sys.executable, "-m", "kilonova.cmd.kilonova", word, "--state-dir", str(state_dir)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run([*argv, *more], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"kilonova {word} failed: {done.stdout}{done.stderr}")


@contextlib.asynccontextmanager
async def running(
    *, driver: str = "fake", hosts: int = 3, config: str = ""
) -> AsyncIterator[Cloud]:
    """A fresh cloud in a temporary directory, ended at the end. ``config``: own options (INI)."""
    state_dir = Path(tempfile.mkdtemp(prefix="kilonova-bench-"))
    if config:
        (state_dir / "kilonova.conf").write_text(config)
    more = ["--port-base", str(free_ports()), "--driver", driver, "--detach"]
    if driver == "fake":
        more += ["--hosts", str(hosts)]
    try:
        await asyncio.to_thread(command, "up", state_dir, *more)
        async with aiohttp.ClientSession() as http:
            cloud = Cloud(state_dir, http, tuple(more))
            await cloud.login()
            yield cloud
    finally:
        with contextlib.suppress(RuntimeError):
            end = ["--guests"] if driver == "qemu" else []
            await asyncio.to_thread(command, "down", state_dir, *end)
        shutil.rmtree(state_dir, ignore_errors=True)


def median(values: Iterable[float]) -> float:
    """The median; 0.0 of nothing."""
    return statistics.median([*values] or [0.0])
