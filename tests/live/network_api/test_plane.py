"""From calls of the network API to packets: the service and its agents on namespaces."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import socket
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from kilonova.embedded.network import plane
from kilonova.embedded.network.agent import PlaneAgent
from kilonova.embedded.network.open import ensure_private, ensure_public
from tests.live.network.conftest import Lab
from tests.live.network.test_routing import ask_dhcp
from tests.live.network_api.cloud import PROJECT, SECRET, World, until
from tests.support import serving

pytestmark = pytest.mark.live


async def ready(world: World) -> dict[str, Any]:
    """A public network, and the demo project's own with its router; the private network."""
    await ensure_public(world.app, project_id="a" * 32, cidr="172.24.4.0/24")
    network_id = await ensure_private(world.app, project_id=PROJECT, cidr="10.20.0.0/24")
    answer = await world.member.get(f"/v2.0/networks/{network_id}")
    found: dict[str, Any] = answer.json()["network"]
    return found


async def test_a_guest_is_connected_and_everything_goes_again(world: World, lab: Lab) -> None:
    agent = await world.agent("h1")
    net = await ready(world)
    port = await world.server_port(net["id"], "server-1")
    bound = await world.bind(port, "h1")
    assert await world.status(port) == "DOWN"
    await until(lambda: agent.plan is not None and agent.plan.ports)
    guest = world.guest(bound)
    await world.plugged(port)
    assert lab.pings(guest, "10.20.0.1"), "the router answers"
    await agrees(agent)
    ip = port["fixed_ips"][0]["ip_address"]

    public = (await world.member.get("/v2.0/networks", params={"router:external": "True"})).json()
    floating = await world.make(
        "floatingips",
        "floatingip",
        floating_network_id=public["networks"][0]["id"],
        port_id=port["id"],
    )
    address = floating["floating_ip_address"]
    lab.run(guest, "ip route add default via 10.20.0.1")
    await answers(lab, lab.host, address)
    listener = lab.listener(guest, 22)
    assert lab.connect(lab.host, address, 22) is not None
    assert lab.caller(listener) == "172.24.4.1"
    assert lab.shut(lab.host, address, 80)

    rules = (
        await world.member.get("/v2.0/security-group-rules", params={"protocol": "tcp"})
    ).json()
    await world.delete(f"security-group-rules/{rules['security_group_rules'][0]['id']}")
    await until(lambda: asyncio.to_thread(_refused, lab, address))
    await world.put(f"ports/{port['id']}", admin=False, port={"security_groups": []})
    await until(lambda: asyncio.to_thread(lab.mute, lab.host, address))

    await world.delete(f"floatingips/{floating['id']}")
    lab.run(lab.host, f"ip link del {bound['binding:vif_details']['tap_name']}")
    assert await until(lambda: _status(world, port, "DOWN"))
    await world.delete(f"ports/{port['id']}")
    assert any(e["name"] == "network-vif-deleted" for _, e in world.events) or await until(
        lambda: any(e["name"] == "network-vif-deleted" for _, e in world.events)
    )
    assert ip not in str((await world.admin.get("/v2.0/ports")).json())
    routers = (await world.member.get("/v2.0/routers")).json()["routers"]
    await world.put(
        f"routers/{routers[0]['id']}/remove_router_interface", subnet_id=net["subnets"][0]
    )
    await world.delete(f"routers/{routers[0]['id']}")
    await world.delete(f"networks/{net['id']}")
    await until(lambda: agent.plan is not None and not agent.plan.networks)
    await agrees(agent)
    await agent.stop()
    await plane.destroy(lab.env)
    assert await plane.leftovers(lab.env) == []


async def answers(lab: Lab, guest: str, address: str, *, source: str | None = None) -> None:
    """Wait until a guest gets answers from an address."""

    def look() -> bool:
        return not lab.mute(guest, address, source=source)

    await until(lambda: asyncio.to_thread(look))


async def agrees(agent: PlaneAgent) -> None:
    """Wait until the host is what the plan in force says."""

    async def look() -> bool:
        return await agent.audit() == []

    await until(look)


def _refused(lab: Lab, address: str) -> bool:
    return lab.shut(lab.host, address, 22)


async def _status(world: World, port: dict[str, Any], wanted: str) -> bool:
    return await world.status(port) == wanted


@pytest.mark.parametrize("world", [{"dns": ("9.9.9.9",)}], indirect=True)
async def test_dhcp_and_metadata_of_a_guest(world: World, lab: Lab, tmp_path: Path) -> None:
    seen: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(dict(request.headers))
        return web.Response(text=f"path {request.path}")

    runner = web.AppRunner(web.Application())
    runner.app.router.add_get("/{path:.*}", answer)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    address = site._server.sockets[0].getsockname()  # type: ignore[union-attr]
    await world.agent("h1", upstream=f"http://127.0.0.1:{address[1]}")
    net = await ready(world)
    port = await world.server_port(net["id"], "server-1", dns_name="guest")
    bound = await world.bind(port, "h1")
    await until(lambda: world.agents[0].plan is not None and world.agents[0].plan.ports)
    guest = world.guest(bound, addresses=False)
    await world.plugged(port)
    options = await asyncio.to_thread(ask_dhcp, lab, guest, port["mac_address"])
    ip = port["fixed_ips"][0]["ip_address"]
    assert socket.inet_ntoa(options[0]) == ip
    assert options[6] == socket.inet_aton("9.9.9.9"), "the fallback of the settings"
    assert int.from_bytes(options[26], "big") == 1450
    lab.run(guest, f"ip addr add {ip}/24 dev eth0")
    lab.run(guest, "ip route add default via 10.20.0.1")
    url = "http://169.254.169.254/openstack"
    text = await until(
        lambda: asyncio.to_thread(lab.run, guest, f"curl -s -m 2 {url}", check=False)
    )
    assert text == "path /openstack"
    assert seen[0]["X-Instance-ID"] == "server-1"
    assert seen[0]["X-Tenant-ID"] == PROJECT
    signature = hmac.new(SECRET.encode(), b"server-1", hashlib.sha256).hexdigest()
    assert seen[0]["X-Instance-ID-Signature"] == signature
    await runner.cleanup()


async def test_groups_change_while_packets_flow(world: World, lab: Lab) -> None:
    agent = await world.agent("h1")
    net = await ready(world)
    group = await world.make("security-groups", "security_group", name="peers")
    ports, guests = [], []
    for index, groups in enumerate(([group["id"]], [group["id"]], [])):
        port = await world.server_port(net["id"], f"s{index}", security_groups=groups)
        bound = await world.bind(port, "h1")
        await until(lambda i=index: agent.plan is not None and len(agent.plan.ports) == i + 1)
        guests.append(world.guest(bound))
        await world.plugged(port)
        ports.append(bound)
    target = ports[1]["fixed_ips"][0]["ip_address"]
    lab.listener(guests[1], 80)

    async def opens(guest: str, *, wanted: bool = True) -> None:
        await until(lambda: asyncio.to_thread(lambda: lab.shut(guest, target, 80) != wanted))

    await opens(guests[0], wanted=False)
    rule = await world.make(
        "security-group-rules",
        "security_group_rule",
        security_group_id=group["id"],
        direction="ingress",
        protocol="tcp",
        port_range_min=80,
        port_range_max=80,
        remote_group_id=group["id"],
    )
    await opens(guests[0])
    await opens(guests[2], wanted=False)
    # A port that joins the group is one of its members at once.
    both = {"security_groups": [group["id"]]}
    await world.put(f"ports/{ports[2]['id']}", port=both)
    await opens(guests[2])
    await world.delete(f"security-group-rules/{rule['id']}")
    await opens(guests[0], wanted=False)

    # A foreign source address is stopped until the port may use it.
    lab.run(guests[0], "ip addr add 10.20.0.200/24 dev eth0")
    await world.make(
        "security-group-rules",
        "security_group_rule",
        security_group_id=group["id"],
        direction="ingress",
        protocol="icmp",
    )
    await answers(lab, guests[0], target)
    assert lab.mute(guests[0], target, source="10.20.0.200")
    pair = {"allowed_address_pairs": [{"ip_address": "10.20.0.200"}]}
    await world.put(f"ports/{ports[0]['id']}", port=pair)
    await answers(lab, guests[0], target, source="10.20.0.200")
    await world.put(f"ports/{ports[1]['id']}", port={"admin_state_up": False})
    await until(lambda: asyncio.to_thread(lab.mute, guests[0], target))
    await agrees(agent)


@pytest.mark.parametrize("world", [{"tunnels": True}], indirect=True)
async def test_two_hosts_are_one_network(world: World, lab: Lab) -> None:
    other = lab.namespace("host2")
    lab.run(lab.host, f"ip link add under0 type veth peer name under0 netns {other}")
    for ns, number in ((lab.host, 1), (other, 2)):
        lab.run(ns, f"ip addr add 192.0.2.{number}/24 dev under0")
        lab.run(ns, "ip link set under0 up")
    first = await world.agent("h1", vtep_ip="192.0.2.1")
    second = await world.agent("h2", namespace=other, vtep_ip="192.0.2.2")
    net = await ready(world)
    guests = []
    for host, agent, ns in (("h1", first, ""), ("h2", second, other)):
        port = await world.server_port(net["id"], f"on-{host}")
        bound = await world.bind(port, host)
        await until(lambda a=agent: a.plan is not None and a.plan.ports)
        guests.append(world.guest(bound, ns))
        await world.plugged(port)
    lab.run(guests[1], "ip route add default via 10.20.0.1")
    await answers(lab, guests[1], "10.20.0.1")
    await answers(lab, guests[1], "172.24.4.1")
    options = await asyncio.to_thread(ask_dhcp, lab, guests[1], bound["mac_address"])
    assert socket.inet_ntoa(options[0]) == bound["fixed_ips"][0]["ip_address"]
    ip = bound["fixed_ips"][0]["ip_address"]
    await answers(lab, guests[0], ip)
    await agrees(first)
    await agrees(second)
    agents = (await world.admin.get("/v2.0/agents")).json()["agents"]
    assert {a["host"]: a["alive"] for a in agents} == {"h1": True, "h2": True}
    for agent, env in ((first, world.env()), (second, world.env(other))):
        await agent.stop()
        await plane.destroy(env)
        assert await plane.leftovers(env) == []


async def test_an_agent_killed_in_the_middle_comes_back(
    world: World, lab: Lab, tmp_path: Path
) -> None:
    """An agent in a process of its own, over a socket, killed while the plan keeps changing."""
    door = serving.listening_socket()
    async with serving.served(world.asgi, door) as origin:
        config = {"origin": origin, "mark": lab.mark, "dir": str(lab.dir), "host": lab.host}
        net = await ready(world)
        ports = [await world.server_port(net["id"], f"s{i}") for i in range(6)]
        process = await run_agent(config)
        await until(lambda: _alive(world), 20)
        for round_ in range(3):
            for port in ports[2 * round_ : 2 * round_ + 2]:
                bound = await world.bind(port, "h1")
                await asyncio.sleep(0.03 * round_)
                details = bound["binding:vif_details"]
                await plane.plug_tap(
                    details["tap_name"], details["bridge_name"], net["mtu"], graceful(lab.env)
                )
            process.kill()
            await process.wait()
            process = await run_agent(config)
        try:
            for port in ports:
                await world.plugged(port, 20)
            await world.delete(f"ports/{ports[0]['id']}")
        finally:
            process.kill()
            await process.wait()
    agent = await world.agent("h1")
    await until(lambda: agent.plan is not None and len(agent.plan.ports) == 5)
    await agrees(agent)
    await agent.stop()
    await plane.destroy(lab.env)
    assert await plane.leftovers(lab.env) == []


async def _alive(world: World) -> bool:
    agents = (await world.admin.get("/v2.0/agents")).json()["agents"]
    return bool(agents and agents[0]["alive"])


async def run_agent(config: dict[str, str]) -> asyncio.subprocess.Process:
    """The agent of host h1 as a program."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.live.network_api.agent", json.dumps(config)
    )


def graceful(env: plane.PlaneEnv) -> plane.PlaneEnv:
    """As on a real host: a tap may be newer than the plan."""
    return msgspec.structs.replace(env, tap_grace=60.0)


async def test_a_port_is_open_soon(world: World, lab: Lab) -> None:
    """From the binding to the rules in force, and from the card to the word to compute."""
    lab.env = graceful(lab.env)
    agent = await world.agent("h1")
    net = await ready(world)
    await until(lambda: agent.plan is not None and agent.plan.networks)
    took: list[float] = []
    for index in range(7):
        port = await world.server_port(net["id"], f"server-{index}")
        await asyncio.sleep(0.4)
        begun = time.monotonic()
        bound = await world.bind(port, "h1")
        details = bound["binding:vif_details"]
        # As a hypervisor does: the tap comes at once, before the plan that names it.
        await plane.plug_tap(details["tap_name"], details["bridge_name"], net["mtu"], lab.env)
        took.append(await world.plugged(port) - begun)
    assert statistics.median(took) < 1.0, "generous: other work may share the machine"
