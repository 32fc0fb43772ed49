"""The whole cloud in one process and one event loop, on SQLite."""

from __future__ import annotations

import configparser
import contextlib
import io
import logging
import uuid
from collections.abc import Callable
from types import TracebackType

from kilonova.base.clock import SystemClock
from kilonova.base.ids import RandomIds
from kilonova.compute.service import Agent
from kilonova.config.settings import Settings, given, in_environment, load
from kilonova.embedded.network.app import NetworkApp
from kilonova.services import clouds, demo, embedded, host, neighbours, parts
from kilonova.services import layout as layouts
from kilonova.services.conductor import Conductor
from kilonova.services.lifecycle import CannotStart, Wanted
from kilonova.services.progress import Tell
from kilonova.virt.fake import FakeWorld
from kilonova.web.client import HttpClient
from kilonova.web.serve import Listener, ServeError, Servers, bind

log = logging.getLogger(__name__)

CELL = uuid.uuid5(uuid.NAMESPACE_URL, "kilonova/cell1")
GRACE = 15.0


class Cloud:
    """Everything of one cloud: ``async with Cloud(wanted, tell)`` runs it."""

    def __init__(self, wanted: Wanted, tell: Tell) -> None:
        self.wanted = wanted
        self.layout = wanted.layout()
        self.tell = tell
        self.clock = SystemClock()
        self.ids = RandomIds()
        self.http = HttpClient()
        self.stack = contextlib.AsyncExitStack()
        self.near = (self.layout.state_dir,)
        self._listeners: list[Listener] = []
        self.cell_id = CELL
        self.network: NetworkApp | None = None
        self.conductor: Conductor | None = None
        self.world: FakeWorld | None = None
        self.agents: dict[str, Agent] = {}
        self.new_agent: Callable[[str], Agent] | None = None

    async def __aenter__(self) -> Cloud:
        try:
            await self._start()
        except BaseException:
            await self.stack.aclose()
            raise
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self.stack.aclose()

    async def _start(self) -> None:
        self._check_ports()
        self.secrets = layouts.read_secrets(self.layout.state_dir)
        self.machine = await host.look(self.wanted, self.tell)
        self.settings = self.read_settings()
        self.stack.push_async_callback(self.http.close)
        self.tell.step("identity service")
        self.serve("identity", await embedded.identity(self))
        self.neighbours = neighbours.connect(self.settings, self.http, self.clock)
        await parts.start(self)
        self.tell.step("opening the ports")
        try:
            await self.stack.enter_async_context(Servers(self._listeners, grace=GRACE))
        except ServeError as error:
            raise CannotStart(f"{error}") from None
        await demo.make(self)
        clouds.write(self.layout, self.secrets)
        if self.wanted.default_place:
            clouds.merge(self.layout, self.secrets)

    def serve(self, name: str, app: object) -> None:
        """Serve an application on the service's port, and to this process without a socket."""
        self.http.attach(self.layout.url(name), app)  # type: ignore[arg-type]
        self._listeners.append(
            Listener(name, app, self.layout.address, self.layout.ports[name])  # type: ignore[arg-type]
        )

    def _check_ports(self) -> None:
        """Find a busy port before any work is done."""
        for name, port in self.layout.ports.items():
            try:
                bind(self.layout.address, port, name=name).close()
            except ServeError as error:
                raise CannotStart(f"{error} (--port-base moves every service.)") from None

    def read_settings(self) -> Settings:
        """Ours, which ``DIR/nova.conf`` tells the tools; the person's own stand over them."""
        options = self.options()
        file = self.layout.nova_conf
        layouts.write_private(file, ini(options).encode())
        own = self.layout.own_options
        if own.exists() or in_environment():
            return load([file, *([own] if own.exists() else [])])
        return given(options)

    def options(self) -> dict[str, dict[str, object]]:
        """What this cloud sets, section → option → value."""
        layout = self.layout
        return {
            "DEFAULT": {
                "host": self.machine.name,
                "my_ip": layout.address,
                "state_path": layout.state_dir,
                "instances_path": layout.state_dir / "instances",
                "compute_driver": self.machine.compute_driver,
                # One host has no other one to resize to.
                "allow_resize_to_same_host": self.wanted.hosts == 1,
            },
            "api_database": {"connection": layout.database("api")},
            "database": {"connection": layout.database("cell1")},
            "placement_database": {"connection": layout.database("placement")},
            "keystone_authtoken": {
                "auth_url": layout.url("identity", "/v3"),
                "www_authenticate_uri": layout.url("identity", "/v3"),
                "username": "nova",
                "password": self.secrets.service_password,
                "project_name": "service",
            },
            "neutron": {
                "service_metadata_proxy": True,
                "metadata_proxy_shared_secret": self.secrets.metadata_secret,
            },
            "embedded": {
                "endpoints": {name: layout.url(name) for name in layout.ports},
                "network_mode": self.machine.network_mode,
                "region": clouds.REGION,
                "admin_password": self.secrets.admin_password,
                "service_password": self.secrets.service_password,
                "demo_password": self.secrets.demo_password,
                # All hosts are this machine.
                "volume_export": "none",
            },
            "kilonova": {"metadata_url": layout.url("metadata")},
            **self.machine.options,
        }


def ini(sections: dict[str, dict[str, object]]) -> str:
    """The same as a file that oslo.config reads."""
    parser = configparser.RawConfigParser(default_section="\0")
    for name, options in sections.items():
        parser[name] = {key: _text(value) for key, value in options.items() if value is not None}
    text = io.StringIO()
    text.write("# Written at each start; put your own options into kilonova.conf beside it.\n")
    parser.write(text)
    return text.getvalue()


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ",".join(f"{name}:{one}" for name, one in value.items())
    return str(value)
