"""An all-in-one cloud is killed again and again while servers are made and deleted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from kilonova.base.errors import Fault
from kilonova.embedded.network.plane import names, netns
from kilonova.services.planes import plane_env
from kilonova.web.client import Answer, HttpClient
from tests.support import libvirtd, namespace, running

ROOT = Path(__file__).parents[2]
KILLS = os.environ.get("KILONOVA_TEST_KILLS")
MOST_SECONDS = 600.0 if KILLS else 150.0
SETTLE_SECONDS = 60.0

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(1200 if KILLS else 400)]


class Plan(msgspec.Struct, frozen=True):
    """What a test does: so many servers and kills; ``spread`` is when servers are made (seconds).

    ``quiet``: the longest time between a start and a kill. ``alone``: every so many-th server has
    no network (0: none).
    """

    driver: tuple[str, ...]
    servers: int
    kills: int
    spread: float
    quiet: float
    alone: int = 3


FAKE = Plan(("--driver", "fake", "--hosts", "3"), 30, int(KILLS or "30"), spread=25.0, quiet=2.0)
REAL = Plan(("--driver", "qemu"), 8, int(KILLS or "10"), spread=25.0, quiet=4.0, alone=0)
LIBVIRT = Plan(("--driver", "libvirt"), 8, int(KILLS or "8"), spread=20.0, quiet=5.0, alone=0)


class Cloud:
    """A cloud in a process of its own, and its API."""

    def __init__(self, state_dir: Path, http: HttpClient, plan: Plan) -> None:
        self.plan = plan
        self.state_dir = state_dir
        self.base = free_ports(8)
        self.http = http
        self.process: subprocess.Popen[bytes] | None = None
        self.chance = random.Random(7)
        self.starts = 0

    def run(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "kilonova.cmd.kilonova", *words]

    @property
    def env(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(ROOT)}

    def start(self) -> None:
        command = self.run("up", *self.plan.driver, "--state-dir")
        with (self.state_dir / "out.log").open("ab") as out:
            self.process = subprocess.Popen(
                [*command, str(self.state_dir), "--port-base", str(self.base)],
                env=self.env,
                stdout=out,
                stderr=out,
                cwd="/",
            )
        self.starts += 1

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)

    async def ready(self, within: float = 90.0) -> None:
        end = time.monotonic() + within
        while time.monotonic() < end:
            assert self.process is not None
            assert self.process.poll() is None, (self.state_dir / "out.log").read_text()[-2000:]
            with contextlib.suppress(Fault):
                answer = await self.http.request(
                    "GET", f"http://127.0.0.1:{self.base + 4}/healthcheck", timeout=5
                )
                if answer.status == 200:
                    return
            await asyncio.sleep(0.05)
        raise AssertionError("the cloud did not start")

    async def token(self) -> str:
        clouds = yaml.safe_load((self.state_dir / "clouds.yaml").read_text())["clouds"]
        auth = clouds["kilonova"]["auth"]
        body = {
            "auth": {
                "identity": {
                    "methods": ["password"],
                    "password": {
                        "user": {
                            "name": auth["username"],
                            "password": auth["password"],
                            "domain": {"name": auth.get("user_domain_name", "Default")},
                        }
                    },
                },
                "scope": {
                    "project": {
                        "name": auth["project_name"],
                        "domain": {"name": auth.get("project_domain_name", "Default")},
                    }
                },
            }
        }
        answer = await self.http.request(
            "POST", f"http://127.0.0.1:{self.base}/v3/auth/tokens", json=body
        )
        assert answer.status == 201, answer.text
        return answer.headers["x-subject-token"]

    async def ask(self, method: str, path: str, **more: Any) -> Answer:
        """A request to the Compute API, repeated until somebody answers it."""
        while True:
            with contextlib.suppress(Fault, OSError):
                answer = await self.once(method, path, **more)
                if answer.status < 500:
                    return answer
            await asyncio.sleep(0.2)

    async def once(self, method: str, path: str, *, port: int = 0, **more: Any) -> Answer:
        """One request."""
        url = f"http://127.0.0.1:{port or self.base + 4}{path}"
        sent = {"X-Auth-Token": self.known, "OpenStack-API-Version": "compute 2.90"}
        return await self.http.request(method, url, headers=sent, timeout=20, **more)

    async def login(self) -> None:
        self.known = await self.token()

    async def audit(self) -> dict[str, Any]:
        done = await asyncio.to_thread(
            subprocess.run,
            self.run("audit", "--json", "--state-dir", str(self.state_dir)),
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        assert bool(report["findings"]) == (done.returncode == 1)
        return report


def free_ports(count: int) -> int:
    """The first of so many ports nobody listens on."""
    chance = random.Random()
    while True:
        first = chance.randrange(20000, 60000)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first


async def create(cloud: Cloud, body: dict[str, Any]) -> str:
    """Make one server by its name, whatever happens to the answers; its id."""
    while True:
        path = f"/v2.1/servers?name=^{body['server']['name']}$"
        there = (await cloud.ask("GET", path)).json()["servers"]
        if there:
            return str(there[0]["id"])
        with contextlib.suppress(Fault, OSError):
            answer = await cloud.once("POST", "/v2.1/servers", json=body)
            assert answer.status in (202, 500, 503), answer.text
        await asyncio.sleep(0.2)


async def work(cloud: Cloud, number: int, image: str) -> str:
    """Make a server, and perhaps delete it after a while; its id."""
    await asyncio.sleep(cloud.chance.uniform(0, cloud.plan.spread))
    alone = cloud.plan.alone and number % cloud.plan.alone == 0
    body = {
        "server": {
            "name": f"s{number}",
            "imageRef": image,
            "flavorRef": "42",
            "networks": "none" if alone else "auto",
        }
    }
    server_id = await create(cloud, body)
    if number % 2:
        await asyncio.sleep(cloud.chance.uniform(0, 10))
        answer = await cloud.ask("DELETE", f"/v2.1/servers/{server_id}")
        assert answer.status in (204, 404), answer.text
    return server_id


async def kill_often(cloud: Cloud) -> int:
    """Kill and start the cloud at random moments; how often."""
    end = time.monotonic() + MOST_SECONDS
    kills = 0
    while kills < cloud.plan.kills and time.monotonic() < end:
        if cloud.chance.random() < 0.8:
            await cloud.ready()
            await asyncio.sleep(cloud.chance.uniform(0.0, cloud.plan.quiet))
        else:
            await asyncio.sleep(cloud.chance.uniform(0.2, 3.0))
        cloud.kill()
        kills += 1
        cloud.start()
    return kills


async def settled(cloud: Cloud, server_id: str, end: float) -> str:
    """ACTIVE, ERROR or GONE, within the time."""
    shown: dict[str, Any] = {}
    while time.monotonic() < end:
        answer = await cloud.ask("GET", f"/v2.1/servers/{server_id}")
        if answer.status == 404:
            return "GONE"
        shown = answer.json()["server"]
        if shown["OS-EXT-STS:task_state"] is None and shown["status"] in ("ACTIVE", "ERROR"):
            assert shown["status"] == "ACTIVE" or shown["fault"]["message"]
            return str(shown["status"])
        await asyncio.sleep(0.3)
    raise AssertionError(f"{server_id} is {shown['status']}, {shown['OS-EXT-STS:task_state']}")


async def test_a_cloud_that_is_killed_thirty_times_leaves_nothing_half_done(
    tmp_path: Path,
) -> None:
    await survives(tmp_path, FAKE)


def test_a_cloud_with_real_guests_that_is_killed_leaves_nothing_half_done(tmp_path: Path) -> None:
    with own_namespace(tmp_path) as space:
        netns.run_in(space.path, lambda: asyncio.run(survives(tmp_path, REAL)))
        left = [line for line in space.processes().values() if "qemu-system" in line]
        assert left == []


def test_a_cloud_with_libvirt_that_is_killed_leaves_nothing_half_done(tmp_path: Path) -> None:
    why = libvirtd.why_not()
    if why is not None:
        pytest.skip(why)
    with own_namespace(tmp_path) as space, libvirtd.libvirtd(space.inside([])) as daemon:
        uri = f"[libvirt]\nconnection_uri = {daemon.uri}\n"
        netns.run_in(space.path, lambda: asyncio.run(survives(tmp_path, LIBVIRT, options=uri)))
        assert daemon.guests() == {}
        assert daemon.domains() == []


@contextlib.contextmanager
def own_namespace(state_dir: Path) -> Iterator[namespace.Namespace]:
    """A network namespace for a cloud with networks; what is left of the cloud is ended."""
    why = namespace.possible() or running.why_not()
    if why is not None:
        pytest.skip(why)
    prefix = names.namespace_prefix(plane_env(state_dir).deployment_id)
    with namespace.namespace() as space:
        try:
            yield space
        finally:
            words = ("down", "--guests", "--state-dir", state_dir)
            environment = {"PYTHONPATH": str(ROOT)}
            command = (sys.executable, "-m", "kilonova.cmd.kilonova", *words)
            space.run(*command, env=environment, check=False)
            for name in netns.names_with(prefix):
                netns.delete(name)


async def survives(tmp_path: Path, plan: Plan, *, options: str = "") -> None:
    """Kill a cloud again and again while servers are made and deleted; all ends in order."""
    unlimited = "[quota]\ninstances = -1\ncores = -1\nram = -1\n"
    (tmp_path / "kilonova.conf").write_text(unlimited + options)
    async with HttpClient() as http:
        cloud = Cloud(tmp_path, http, plan)
        cloud.start()
        try:
            await cloud.ready()
            while not (tmp_path / "clouds.yaml").exists():
                await asyncio.sleep(0.1)
            await cloud.login()
            images: list[dict[str, Any]] = []
            while not any(one["status"] == "active" for one in images):
                await asyncio.sleep(0.1)
                answer = await cloud.ask("GET", "/v2/images", port=cloud.base + 1)
                images = answer.json()["images"]
            image = str(images[0]["id"])
            async with asyncio.TaskGroup() as group:
                killing = group.create_task(kill_often(cloud))
                working = [group.create_task(work(cloud, n, image)) for n in range(plan.servers)]
            assert killing.result() >= min(plan.kills, 10)
            await cloud.ready()
            end = time.monotonic() + SETTLE_SECONDS
            ends = [await settled(cloud, task.result(), end) for task in working]
            assert len(ends) == plan.servers
            assert ends.count("GONE") >= plan.servers // 2
            assert ends.count("ACTIVE") >= plan.servers // 4
            await clean(cloud, end)
            for task in working:
                await cloud.ask("DELETE", f"/v2.1/servers/{task.result()}")
            gone = time.monotonic() + SETTLE_SECONDS
            for task in working:
                while await settled(cloud, task.result(), gone) != "GONE":
                    await asyncio.sleep(0.3)
            await clean(cloud, gone)
        finally:
            cloud.stop()


async def clean(cloud: Cloud, end: float) -> None:
    """The audit finds nothing, in time."""
    report = await cloud.audit()
    while report["findings"] and time.monotonic() < end:
        await asyncio.sleep(1)
        report = await cloud.audit()
    assert report["findings"] == []
