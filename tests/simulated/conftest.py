"""A whole cloud in this process, with ten simulated hosts."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
import yaml

from kilonova.services.all_in_one import Cloud
from kilonova.services.lifecycle import Wanted, prepare
from kilonova.services.progress import Silence
from kilonova.virt.fake.world import Capacity
from kilonova.web.client import Answer
from kilonova.workflows.audit import AuditReport, audit

OWN = """
[DEFAULT]
service_down_time = 4
report_interval = 1
graceful_shutdown_timeout = 0
sync_power_state_interval = 5
[quota]
instances = -1
cores = -1
ram = -1
server_group_members = -1
[scheduler]
enable_isolated_aggregate_filtering = true
limit_tenants_to_placement_aggregate = true
[filter_scheduler]
enabled_filters = ComputeFilter,ImagePropertiesFilter,ServerGroupAntiAffinityFilter,
  ServerGroupAffinityFilter,DifferentHostFilter,SameHostFilter,
  NUMATopologyFilter,PciPassthroughFilter,AggregateInstanceExtraSpecsFilter
[pci]
alias = {"name": "gpu", "vendor_id": "10de", "product_id": "1db6"}
"""


class Simulated:
    """The cloud, and what its users and operators do."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        assert cloud.world is not None and cloud.conductor is not None
        self.world = cloud.world
        self.conductor = cloud.conductor
        self.tokens: dict[str, str] = {}
        self.image = ""

    async def login(self) -> None:
        clouds = yaml.safe_load(self.cloud.layout.clouds_yaml.read_text())["clouds"]
        for name in ("kilonova", "kilonova-admin"):
            auth = clouds[name]["auth"]
            domain = {"name": "Default"}
            user = {"name": auth["username"], "password": auth["password"], "domain": domain}
            body = {
                "auth": {
                    "identity": {"methods": ["password"], "password": {"user": user}},
                    "scope": {"project": {"name": auth["project_name"], "domain": domain}},
                }
            }
            url = self.cloud.layout.url("identity", "/v3/auth/tokens")
            answer = await self.cloud.http.request("POST", url, json=body)
            self.tokens[name] = answer.headers["x-subject-token"]
        found = await self.ask("GET", "/v2/images", service="image")
        self.image = found.json()["images"][0]["id"]

    async def ask(
        self,
        method: str,
        path: str,
        *,
        admin: bool = False,
        service: str = "compute",
        version: str = "2.90",
        **more: Any,
    ) -> Answer:
        token = self.tokens["kilonova-admin" if admin else "kilonova"]
        headers = {"X-Auth-Token": token, "OpenStack-API-Version": f"compute {version}"}
        url = self.cloud.layout.url(service, path)
        return await self.cloud.http.request(method, url, headers=headers, **more)

    async def create(self, name: str = "one", networks: str = "auto", **more: Any) -> str:
        body = {"name": name, "imageRef": self.image, "flavorRef": "42", "networks": networks}
        answer = await self.ask("POST", "/v2.1/servers", json={"server": body | more})
        assert answer.status == 202, answer.text
        return str(answer.json()["server"]["id"])

    async def hinted(self, name: str, hints: dict[str, Any], **more: Any) -> str:
        """A new server with scheduler hints."""
        server = {"name": name, "imageRef": self.image, "flavorRef": "42"} | more
        body = {"server": server, "os:scheduler_hints": hints}
        answer = await self.ask("POST", "/v2.1/servers", json=body)
        assert answer.status == 202, answer.text
        return str(answer.json()["server"]["id"])

    async def admin(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """What an administrator's request answers."""
        answer = await self.ask(method, path, admin=True, json=body, **more)
        assert answer.status < 300, answer.text
        return answer.json() if answer.body else None

    async def flavor(self, name: str, specs: dict[str, str], vcpus: int = 1) -> str:
        """A small flavor with extra specs."""
        size = {"name": name, "ram": 64, "vcpus": vcpus, "disk": 1}
        made = await self.admin("POST", "/v2.1/flavors", {"flavor": size})
        path = f"/v2.1/flavors/{made['flavor']['id']}/os-extra_specs"
        await self.admin("POST", path, {"extra_specs": specs})
        return str(made["flavor"]["id"])

    async def aggregate(self, name: str, metadata: dict[str, str], *hosts: str) -> int:
        """A new aggregate with hosts."""
        body = {"aggregate": {"name": name}}
        number = (await self.admin("POST", "/v2.1/os-aggregates", body))["aggregate"]["id"]
        path = f"/v2.1/os-aggregates/{number}/action"
        await self.admin("POST", path, {"set_metadata": {"metadata": metadata}})
        for host in hosts:
            await self.admin("POST", path, {"add_host": {"host": host}})
        return int(number)

    async def dissolve(self, number: int, *hosts: str) -> None:
        """Take an aggregate away again."""
        path = f"/v2.1/os-aggregates/{number}"
        for host in hosts:
            await self.admin("POST", f"{path}/action", {"remove_host": {"host": host}})
        await self.admin("DELETE", path)

    async def offer(self, host: str, capacity: Capacity) -> None:
        """Another machine goes by the name of a host."""
        self.world.offers(capacity, on=host)
        await self.stop_agent(host)
        await self.start_agent(host)

    async def mark(self, host: str, trait: str) -> None:
        """Give a host a trait of the operator's own."""
        shown = await self.admin("GET", f"/v2.1/os-hypervisors?hypervisor_hostname_pattern={host}")
        (uuid,) = [h["id"] for h in shown["hypervisors"] if h["hypervisor_hostname"] == host]
        placement = self.conductor.sources.placement
        assert placement is not None
        await placement.set_traits(uuid, {trait}, owned={trait})

    async def end(self, *server_ids: str) -> None:
        """Delete servers; the cloud is clean before and after."""
        await self.clean()
        await self.delete(*server_ids)
        for server_id in server_ids:
            await self.becomes(server_id, "GONE")
        await self.clean()

    async def show(self, server_id: str) -> dict[str, Any] | None:
        answer = await self.ask("GET", f"/v2.1/servers/{server_id}", admin=True)
        if answer.status == 404:
            return None
        server: dict[str, Any] = answer.json()["server"]
        return server

    async def delete(self, *server_ids: str) -> None:
        for server_id in server_ids:
            answer = await self.ask("DELETE", f"/v2.1/servers/{server_id}")
            assert answer.status == 204, answer.text

    async def becomes(self, server_id: str, *statuses: str, within: float = 60) -> dict[str, Any]:
        """The server once it has one of these statuses and no task; GONE is one."""

        async def look() -> dict[str, Any] | None:
            shown = await self.show(server_id)
            if shown is None:
                return {"status": "GONE"} if "GONE" in statuses else None
            done = shown["status"] in statuses and shown["OS-EXT-STS:task_state"] is None
            return shown if done else None

        return await until(look, within=within, what=f"{server_id} {statuses}")

    async def stop_agent(self, host: str) -> None:
        await self.cloud.agents.pop(host).stop()

    async def start_agent(self, host: str) -> None:
        assert self.cloud.new_agent is not None
        agent = self.cloud.agents[host] = self.cloud.new_agent(host)
        await agent.start()

    async def clean(self, within: float = 30) -> None:
        """The audit finds nothing any more."""
        report = AuditReport()

        async def look() -> bool:
            nonlocal report
            report = await audit(self.conductor.sources)
            return not report.findings

        try:
            await until(look, within=within, what="audit", pause=0.5)
        except AssertionError:
            raise AssertionError(report.findings) from None


async def until(
    look: Callable[[], Awaitable[Any]], *, within: float, what: str, pause: float = 0.05
) -> Any:
    """What ``look`` gives once it is true."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within
    while True:
        found = await look()
        if found:
            return found
        assert loop.time() < end, f"not in {within} s: {what}"
        await asyncio.sleep(pause)


def free_ports(count: int) -> int:
    """The first of so many ports nobody listens on."""
    # Others look for ports at the same time.
    for first in range(21000 + os.getpid() % 2000 * 17, 60000, 17):
        taken = []
        try:
            for port in range(first, first + count):
                taken.append(socket.socket())
                taken[-1].bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for one in taken:
                one.close()
    raise AssertionError("no ports")


@pytest.fixture(scope="module")
def own() -> dict[str, str]:
    """The operator's own files; a module may have others."""
    return {"kilonova.conf": OWN}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def simulated(
    tmp_path_factory: pytest.TempPathFactory, own: dict[str, str]
) -> AsyncIterator[Simulated]:
    """One cloud for all tests of a module; each leaves it clean."""
    wanted = Wanted(
        state_dir=tmp_path_factory.mktemp("cloud"),
        port_base=free_ports(8),
        driver="fake",
        hosts=10,
    )
    prepare(wanted)
    for name, text in own.items():
        (wanted.state_dir / name).write_text(text)
    async with Cloud(wanted, Silence()) as cloud:
        made = Simulated(cloud)
        await made.login()
        yield made
