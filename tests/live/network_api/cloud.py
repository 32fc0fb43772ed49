"""A network service together with data planes of hosts that are namespaces."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from kilonova.base.clock import SystemClock
from kilonova.base.ids import RandomIds
from kilonova.db.database import Database
from kilonova.embedded.network import plane, service
from kilonova.embedded.network.agent import PlaneAgent
from kilonova.embedded.network.app import NetworkApp, NetworkSettings
from kilonova.embedded.network.open import open_network
from kilonova.embedded.network.plane import names
from kilonova.embedded.network.plane.desired import Fixed, Port
from kilonova.embedded.network.plane.metadata_proxy import ProxySettings
from kilonova.web.auth import StaticAuthenticator
from kilonova.web.call import Caller
from kilonova.web.client import HttpClient
from kilonova.web.testing import Client
from tests.live.network.conftest import Lab

URL = "http://network.test"
PROJECT = "1" * 32
SECRET = "shared with the metadata service"

Event = dict[str, Any]


class World:
    """The service in this process, clients of it, and the lab its hosts live in."""

    def __init__(self, app: NetworkApp, lab: Lab, events: list[tuple[float, Event]]) -> None:
        self.app = app
        self.lab = lab
        self.events = events
        member = Caller(user_id="u", project_id=PROJECT, roles=("member", "reader"))
        admin = Caller(user_id="a", project_id="a" * 32, roles=("admin",))
        auth = StaticAuthenticator({"member": member, "admin": admin})
        self.asgi = service.build(app, auth=auth)
        self.http = HttpClient(loopback={URL: self.asgi})
        self.member = Client(self.asgi, token="member")
        self.admin = Client(self.asgi, token="admin")
        self.agents: list[PlaneAgent] = []

    def env(self, namespace: str = "") -> plane.PlaneEnv:
        """Hosts that share a machine are deployments of their own."""
        if not namespace:
            return self.lab.env
        mark = f"{self.lab.mark}-{namespace}"
        return msgspec.structs.replace(self.lab.env_of(namespace), deployment_id=mark)

    async def agent(
        self, host: str, *, namespace: str = "", vtep_ip: str | None = None, upstream: str = ""
    ) -> PlaneAgent:
        """A started agent of a host that is a namespace of the lab."""
        env = self.env(namespace)

        async def token() -> str:
            return "admin"

        made = PlaneAgent(
            host,
            url=URL,
            http=self.http,
            token=token,
            env=env,
            proxy=ProxySettings(upstream or "http://127.0.0.1:9", SECRET),
            vtep_ip=vtep_ip,
        )
        await made.start()
        self.agents.append(made)
        return made

    async def close(self) -> None:
        for agent in self.agents:
            await agent.stop()
        await self.app.close()
        await self.http.close()
        self.app.db.close()

    async def make(self, path: str, name: str, /, *, admin: bool = False, **values: Any) -> Event:
        client = self.admin if admin else self.member
        answer = await client.post(f"/v2.0/{path}", json={name: values})
        assert answer.status == 201, answer.text
        made: Event = answer.json()[name]
        return made

    async def put(self, path: str, *, admin: bool = True, **body: Any) -> Event:
        client = self.admin if admin else self.member
        answer = await client.put(f"/v2.0/{path}", json=body)
        assert answer.status == 200, answer.text
        changed: Event = answer.json()
        return changed

    async def delete(self, path: str) -> None:
        answer = await self.admin.delete(f"/v2.0/{path}")
        assert answer.status == 204, answer.text

    async def server_port(self, network_id: str, server: str, **more: Any) -> Event:
        """A port as the compute service makes it."""
        return await self.make(
            "ports",
            "port",
            admin=True,
            network_id=network_id,
            tenant_id=PROJECT,
            device_id=server,
            device_owner="compute:nova",
            **more,
        )

    async def bind(self, port: Event, host: str) -> Event:
        """Bind a port to a host; the port as it is then."""
        changed = await self.put(f"ports/{port['id']}", port={"binding:host_id": host})
        bound: Event = changed["port"]
        assert bound["binding:vif_type"] == "bridge"
        return bound

    async def status(self, port: Event) -> str:
        answer = await self.admin.get(f"/v2.0/ports/{port['id']}")
        return str(answer.json()["port"]["status"])

    async def plugged(self, port: Event, seconds: float = 10) -> float:
        """When the compute service was told that a port is open (monotonic)."""

        def at() -> float | None:
            for when, event in self.events:
                if event["name"] == "network-vif-plugged" and event["tag"] == port["id"]:
                    return when
            return None

        found = await until(at, seconds)
        assert await self.status(port) == "ACTIVE"
        return found

    def guest(self, port: Event, host: str = "", *, addresses: bool = True, mtu: int = 1450) -> str:
        """Plug a guest (a namespace) into a bound port; its namespace."""
        ips = tuple(Fixed(ip["subnet_id"], ip["ip_address"]) for ip in port["fixed_ips"])
        details = port["binding:vif_details"]
        plain = Port(
            id=port["id"],
            network_id=port["network_id"],
            tap=details["tap_name"],
            mac=port["mac_address"],
            fixed_ips=ips if addresses else (),
        )
        made = self.lab.guest(plain, details["bridge_name"], host=host, mtu=mtu)
        group = names.link_group(self.env(host).deployment_id)
        self.lab.run(host or self.lab.host, f"ip link set {plain.tap} group {group}")
        return made


async def until(look: Callable[[], Any], seconds: float = 10, pause: float = 0.002) -> Any:
    """The first true value of ``look`` (which may be asynchronous)."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(pause)


async def open_world(lab: Lab, url: str, **settings: Any) -> World:
    """A service on a database of its own."""
    events: list[tuple[float, Event]] = []

    async def notify(told: list[Event]) -> None:
        events.extend((time.monotonic(), event) for event in told)

    app = await open_network(
        Database(url),
        NetworkSettings(**settings),
        clock=SystemClock(),
        ids=RandomIds(),
        random=os.urandom,
        notify=notify,
    )
    return World(app, lab, events)
