"""A cloud of separate daemons: real processes on INI files, a broker and a database server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tests.support.servers import free_port

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
PASSWORD = "long-enough"
ENV = {
    "PATH": os.environ["PATH"],
    "PYTHONPATH": str(ROOT),
    "HOME": "/nonexistent",
    "PYTHONWARNINGS": "error::RuntimeWarning",
}
NEIGHBOURS = ("identity", "image", "network")


def module(name: str) -> list[str]:
    """How a console script is run from the source tree."""
    if name.startswith("kilonova-"):
        return [sys.executable, "-m", "kilonova.cmd.kilonova", "serve", name[len("kilonova-") :]]
    return [sys.executable, "-m", f"kilonova.cmd.{name.replace('-', '_')}"]


def run(name: str, *argv: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end."""
    return subprocess.run(
        [*module(name), *argv],
        env=ENV,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


class Process:
    """A daemon that was started; its log is beside its configuration."""

    def __init__(self, name: str, argv: list[str], log: Path, url: str) -> None:
        self.name = name
        self.url = url
        self._argv = argv
        self._log = log
        self.popen = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as out:
            return subprocess.Popen(
                [*module(self.name), *self._argv],
                env=ENV,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        """Everything it printed."""
        return self._log.read_text(errors="replace")

    def health(self) -> str:
        """What ``/healthcheck`` says, or why it says nothing."""
        try:
            with urllib.request.urlopen(f"{self.url}/healthcheck", timeout=8) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return str(error.read().decode())
        except OSError as error:
            return str(error)

    def wait_healthy(self, seconds: float = 60) -> None:
        """Return when ``/healthcheck`` says OK; AssertionError with the log if it never does."""
        end = time.monotonic() + seconds
        while (said := self.health()) != "OK":
            assert self.popen.poll() is None, f"{self.name} ended:\n{self.log[-3000:]}"
            late = f"{self.name} is not well ({said}):\n{self.log[-3000:]}"
            assert time.monotonic() < end, late
            time.sleep(0.1)

    def stop(self, seconds: float = 20) -> float:
        """SIGTERM; how long it took to end. AssertionError if it did not end well."""
        begun = time.monotonic()
        self.popen.send_signal(signal.SIGTERM)
        code = self.popen.wait(seconds)
        assert code == 0, f"{self.name} ended with {code}:\n{self.log[-3000:]}"
        return time.monotonic() - begun

    def kill(self) -> None:
        """``kill -9``."""
        with contextlib.suppress(ProcessLookupError):
            self.popen.kill()
        self.popen.wait()

    def restart(self) -> None:
        """Start it again as before."""
        self.popen = self._start()


class Deployment:
    """The files and processes of one cloud.

    ``databases``: name → URL. ``more``: further sections of the controllers' file.
    """

    def __init__(
        self,
        where: Path,
        transport: str,
        databases: dict[str, str],
        more: dict[str, dict[str, object]] | None = None,
    ) -> None:
        self.more = more or {}
        self.where = where
        self.transport = transport
        self.databases = databases
        self.processes: dict[str, Process] = {}
        self.ports = {
            name: free_port() for name in (*NEIGHBOURS, "placement", "compute", "metadata")
        }

    def url(self, service: str, path: str = "") -> str:
        """A service's endpoint."""
        return f"http://127.0.0.1:{self.ports[service]}{path}"

    def file(self, name: str, **sections: dict[str, object]) -> Path:
        """Write an INI file."""
        path = self.where / f"{name}.conf"
        lines: list[str] = []
        for section, options in sections.items():
            lines += [f"[{section}]", *(f"{key} = {value}" for key, value in options.items())]
        path.write_text("\n".join(lines) + "\n")
        return path

    def common(self) -> dict[str, dict[str, object]]:
        """What every file has: who we are at the identity service."""
        return {
            "keystone_authtoken": {
                "auth_url": self.url("identity", "/v3"),
                "www_authenticate_uri": self.url("identity", "/v3"),
                "username": "nova",
                "password": PASSWORD,
                "project_name": "service",
            },
            "neutron": {
                "service_metadata_proxy": True,
                "metadata_proxy_shared_secret": "a-secret",
            },
        }

    def neighbours_file(self) -> Path:
        """The file of identity, image and network."""
        ports = ",".join(f"{kind}:{self.url(kind)}" for kind in self.ports if kind != "metadata")
        return self.file(
            "neighbours",
            DEFAULT={"state_path": self.where / "neighbours"},
            embedded={
                "listen": "127.0.0.1",
                "admin_password": PASSWORD,
                "endpoints": ports,
                "network_mode": "user",
            },
            **self.common(),
        )

    def placement_file(self) -> Path:
        """The file of placement-api."""
        return self.file(
            "placement",
            placement_database={"connection": self.databases["placement"]},
            kilonova={"placement_listen": "127.0.0.1"},
            **self.common(),
        )

    def controller_file(self, health: int) -> Path:
        """The file of nova-api, nova-conductor, nova-scheduler and nova-manage."""
        return self.file(
            f"nova-{health}",
            DEFAULT={
                "host": "controller",
                "transport_url": self.transport,
                "osapi_compute_listen": "127.0.0.1",
                "metadata_listen": "127.0.0.1",
                "osapi_compute_listen_port": self.ports["compute"],
                "metadata_listen_port": self.ports["metadata"],
            },
            api_database={"connection": self.databases["api"]},
            database={"connection": self.databases["cell1"]},
            kilonova={"health_port": health},
            **self.more,
            **self.common(),
        )

    def compute_file(self, host: str, health: int, driver: str) -> Path:
        """The file of one nova-compute: no database anywhere in it."""
        mode = "none" if driver.startswith("fake") else "user"
        return self.file(
            host,
            DEFAULT={
                "host": host,
                "transport_url": self.transport,
                "state_path": self.where / host,
                "compute_driver": driver,
                "report_interval": 1,
            },
            embedded={
                "network_agent": True,
                "network_mode": mode,
                "endpoints": f"network:{self.url('network')}",
            },
            kilonova={
                "health_port": health,
                "metadata_url": self.url("metadata"),
            },
            **self.common(),
        )

    def clouds_yaml(self) -> Path:
        """A file for the ordinary clients: the clouds ``demo`` and ``admin``."""
        path = self.where / "clouds.yaml"
        lines = ["clouds:"]
        for name in ("demo", "admin"):
            lines += [
                f"  {name}:",
                f"    auth: {{auth_url: '{self.url('identity', '/v3')}', username: {name},",
                f"      password: {PASSWORD}, project_name: {name},",
                "      user_domain_name: Default, project_domain_name: Default}",
                "    region_name: RegionOne",
            ]
        path.write_text("\n".join(lines) + "\n")
        return path

    def start(self, name: str, *argv: str, label: str = "", url: str) -> Process:
        """Start a daemon."""
        label = label or name
        process = Process(name, list(argv), self.where / f"{label}.log", url)
        self.processes[label] = process
        return process

    def start_neighbours(self) -> None:
        """Start identity, image and network."""
        file = str(self.neighbours_file())
        for kind in NEIGHBOURS:
            port = str(self.ports[kind])
            argv = ("--config-file", file, "--port", port)
            self.start(f"kilonova-{kind}", *argv, url=self.url(kind))
            if kind == "identity":
                self.processes["kilonova-identity"].wait_healthy()

    def prepare(self) -> None:
        """Make the schemas and map the cells, as the admin guide says."""
        placement = str(self.placement_file())
        manage = str(self.controller_file(0))
        done = run("placement-manage", "--config-file", placement, "db", "sync")
        assert done.returncode == 0, done.stderr
        cell0 = ("--database_connection", self.databases["cell0"])
        for command in (
            ("api_db", "sync"),
            ("cell_v2", "map_cell0", *cell0),
            ("cell_v2", "create_cell", "--name", "cell1"),
            ("db", "sync"),
        ):
            done = run("nova-manage", "--config-file", manage, *command)
            assert done.returncode == 0, (command, done.stdout, done.stderr)

    def start_controllers(self) -> None:
        """Start placement-api, nova-conductor, nova-scheduler and nova-api."""
        port = str(self.ports["placement"])
        file = str(self.placement_file())
        self.start(
            "placement-api", "--config-file", file, "--port", port, url=self.url("placement")
        )
        for name in ("nova-conductor", "nova-scheduler"):
            health = free_port()
            file = str(self.controller_file(health))
            self.start(name, "--config-file", file, url=f"http://127.0.0.1:{health}")
        file = str(self.controller_file(0))
        self.start("nova-api", "--config-file", file, url=self.url("compute"))

    def start_compute(self, host: str, driver: str = "fake.FakeDriver") -> Process:
        """Start one nova-compute."""
        health = free_port()
        file = str(self.compute_file(host, health, driver))
        url = f"http://127.0.0.1:{health}"
        return self.start("nova-compute", "--config-file", file, label=host, url=url)

    def wait_healthy(self) -> None:
        """Return when every daemon is well."""
        for process in self.processes.values():
            process.wait_healthy()

    def stop(self) -> None:
        """End whatever still runs."""
        for process in reversed(self.processes.values()):
            if process.popen.poll() is None:
                process.popen.terminate()
        for process in self.processes.values():
            try:
                process.popen.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def deployment(
    where: Path,
    transport: str,
    databases: dict[str, str],
    hosts: tuple[str, ...],
    more: dict[str, dict[str, object]] | None = None,
) -> Iterator[Deployment]:
    """A whole cloud, every daemon of it well."""
    where.mkdir(parents=True, exist_ok=True)
    made = Deployment(where, transport, databases, more)
    try:
        made.start_neighbours()
        made.prepare()
        made.start_controllers()
        made.wait_healthy()
        for host in hosts:
            made.start_compute(host)
        made.wait_healthy()
        yield made
    finally:
        made.stop()


def until(seconds: float, look: Callable[[], T]) -> T:
    """What ``look`` gives as soon as it is true; AssertionError with what it gave at last."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds} s: {found!r}"
        time.sleep(0.1)


class User:
    """Requests with a token of one user."""

    def __init__(self, cloud: Deployment, name: str = "admin", project: str = "admin") -> None:
        self._cloud = cloud
        domain = {"name": "Default"}
        user = {"name": name, "password": PASSWORD, "domain": domain}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": {"name": project, "domain": domain}},
            }
        }
        _, headers, _ = self.ask("POST", "identity", "/v3/auth/tokens", body)
        self.token = headers["X-Subject-Token"]

    def ask(
        self, method: str, service: str, path: str, body: Any = None, version: str = "2.90"
    ) -> tuple[int, Any, Any]:
        """Status, headers and decoded body."""
        headers = {
            "Content-Type": "application/json",
            "OpenStack-API-Version": f"compute {version}",
        }
        if hasattr(self, "token"):
            headers["X-Auth-Token"] = self.token
        data: bytes | None = None
        if isinstance(body, bytes):
            data = body
            headers["Content-Type"] = "application/octet-stream"
        elif body is not None:
            data = json.dumps(body).encode()
        request = urllib.request.Request(
            self._cloud.url(service, path), data=data, headers=headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers, _decoded(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, _decoded(error.read())


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data) if data else None
    except ValueError:
        return data


class Tenant:
    """What a test of a running cloud does over and over: a flavor, an image, servers."""

    def __init__(self, cloud: Deployment) -> None:
        self.admin = User(cloud)
        self.demo = User(cloud, "demo", "demo")
        document = {"name": "i", "disk_format": "raw", "container_format": "bare"}
        document |= {"visibility": "public", "img_hv_type": "fake"}
        _, _, image = self.admin.ask("POST", "image", "/v2/images", document)
        self.image = image["id"]
        path = f"/v2/images/{self.image}/file"
        assert self.admin.ask("PUT", "image", path, b"\0" * 1024)[0] == 204
        flavor = {"flavor": {"name": "f", "vcpus": 1, "ram": 64, "disk": 1}}
        _, _, made = self.admin.ask("POST", "compute", "/v2.1/flavors", flavor)
        self.flavor = made["flavor"]["id"]

    def hosts_up(self) -> int:
        """How many nova-compute are up."""
        _, _, found = self.admin.ask("GET", "compute", "/v2.1/os-services?binary=nova-compute")
        return sum(service["state"] == "up" for service in found["services"])

    def create(self, name: str) -> tuple[int, str]:
        """Ask for a server: status, and its id (the answer's text unless it was accepted)."""
        body = {"name": name, "imageRef": self.image, "flavorRef": self.flavor, "networks": "none"}
        status, _, made = self.demo.ask("POST", "compute", "/v2.1/servers", {"server": body})
        return status, made["server"]["id"] if status == 202 else str(made)

    def show(self, server_id: str) -> dict[str, Any] | None:
        """The server as its owner sees it; None when it is gone."""
        status, _, found = self.demo.ask("GET", "compute", f"/v2.1/servers/{server_id}")
        if status == 404:
            return None
        assert status == 200, found
        server: dict[str, Any] = found["server"]
        return server

    def active(self, server_id: str) -> bool:
        """Whether it runs; AssertionError with the fault if it has failed."""
        server = self.show(server_id)
        assert server is not None
        assert server["status"] != "ERROR", server.get("fault")
        return bool(server["status"] == "ACTIVE")

    def delete(self, server_id: str) -> int:
        """Ask for its end: the status."""
        return self.demo.ask("DELETE", "compute", f"/v2.1/servers/{server_id}")[0]
