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
from kilonova.config.settings import Settings, load
from kilonova.embedded.identity import bootstrap
from kilonova.embedded.identity import service as identity_service
from kilonova.embedded.identity.settings import Settings as IdentitySettings
from kilonova.embedded.network.app import NetworkApp
from kilonova.services import clouds, demo, host, neighbours, parts
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
CATALOG = (
    ("identity", "keystone", "identity", "/v3"),
    ("image", "glance", "image", ""),
    ("network", "neutron", "network", ""),
    ("placement", "placement", "placement", ""),
    ("compute", "nova", "compute", "/v2.1"),
    ("block-storage", "cinder", "volume", "/v3"),
    ("volumev3", "cinderv3", "volume", "/v3"),
)


class Cloud:
    """Everything of one cloud: ``async with Cloud(wanted, tell)`` runs it."""

    def __init__(self, wanted: Wanted, tell: Tell) -> None:
        self.wanted = wanted
        self.layout = wanted.layout()
        self.tell = tell
        self.clock = SystemClock()
        self.ids = RandomIds()
        self.http = HttpClient()
        self._stack = contextlib.AsyncExitStack()
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
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        self._check_ports()
        self.secrets = layouts.read_secrets(self.layout.state_dir)
        self.machine = await host.look(self.wanted, self.tell)
        self.settings = self._settings()
        self._stack.push_async_callback(self.http.close)
        self.tell.step("identity service")
        await self._identity()
        await parts.start(self, self._stack)
        self.tell.step("opening the ports")
        try:
            await self._stack.enter_async_context(Servers(self._listeners, grace=GRACE))
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

    async def _identity(self) -> None:
        identity = await identity_service.open(
            IdentitySettings(
                database=self.layout.database("identity"),
                key_dir=self.layout.state_dir / "keys",
            ),
            clock=self.clock,
            ids=self.ids,
        )
        self._stack.callback(identity.close)
        await bootstrap.bootstrap(
            identity,
            self.secrets.admin_password,
            clouds.REGION,
            [(kind, name, self.layout.url(port, path)) for kind, name, port, path in CATALOG],
            service_password=self.secrets.service_password,
            demo_password=self.secrets.demo_password,
        )
        self.serve("identity", identity_service.build(identity))
        self.neighbours = neighbours.connect(self.settings, self.http, self.clock)

    def _settings(self) -> Settings:
        """Ours from ``DIR/nova.conf`` (written at each start), then the person's own over them."""
        file = self.layout.state_dir / "nova.conf"
        layouts.write_private(file, _ini(self._options()).encode())
        own = self.layout.state_dir / "kilonova.conf"
        return load([file, *([own] if own.exists() else [])])

    def _options(self) -> dict[str, dict[str, object]]:
        layout = self.layout
        return {
            "DEFAULT": {
                "host": self.machine.name,
                "my_ip": layout.address,
                "state_path": layout.state_dir,
                "instances_path": layout.state_dir / "instances",
                "compute_driver": self.machine.compute_driver,
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
            **self.machine.options,
        }


def _ini(sections: dict[str, dict[str, object]]) -> str:
    parser = configparser.RawConfigParser(default_section="\0")
    for name, options in sections.items():
        parser[name] = {key: str(value) for key, value in options.items() if value is not None}
    text = io.StringIO()
    text.write("# Written at each start; put your own options into kilonova.conf beside it.\n")
    parser.write(text)
    return text.getvalue()
