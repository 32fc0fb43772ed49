"""The network API as its clients speak with it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kilonova.embedded.network import service
from kilonova.web.testing import Client
from tests.api.network.conftest import ONE, Cloud


async def make(client: Client, path: str, name: str, /, **values: Any) -> dict[str, Any]:
    answer = await client.post(f"/v2.0/{path}", json={name: values})
    assert answer.status == 201, answer.text
    made: dict[str, Any] = answer.json()[name]
    return made


async def world(cloud: Cloud) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A public network, a private one with subnet, and a router between."""
    public = await make(
        cloud.admin,
        "networks",
        "network",
        name="public",
        **{"router:external": True, "is_default": True},
    )
    await make(
        cloud.admin,
        "subnets",
        "subnet",
        network_id=public["id"],
        ip_version=4,
        cidr="203.0.113.0/24",
        enable_dhcp=False,
    )
    net = await make(cloud.one, "networks", "network", name="private")
    sub = await make(
        cloud.one, "subnets", "subnet", network_id=net["id"], ip_version=4, cidr="10.0.0.0/24"
    )
    router = await make(
        cloud.one, "routers", "router", name="r", external_gateway_info={"network_id": public["id"]}
    )
    path = f"/v2.0/routers/{router['id']}/add_router_interface"
    assert (await cloud.one.put(path, json={"subnet_id": sub["id"]})).status == 200
    return public, net, router


async def test_a_network_with_subnet_port_and_floating_ip(cloud: Cloud) -> None:
    public, net, router = await world(cloud)
    assert net["mtu"] == 1450
    assert net["tenant_id"] == net["project_id"] == ONE
    assert "provider:network_type" not in net
    port = await make(cloud.one, "ports", "port", network_id=net["id"], name="p")
    assert port["mac_address"].startswith("fa:16:3e")
    assert port["fixed_ips"][0]["ip_address"].startswith("10.0.0.")
    groups = (await cloud.one.get("/v2.0/security-groups")).json()["security_groups"]
    assert [g["name"] for g in groups] == ["default"]
    assert port["security_groups"] == [groups[0]["id"]]
    assert len(groups[0]["security_group_rules"]) == 4
    floating = await make(
        cloud.one,
        "floatingips",
        "floatingip",
        floating_network_id=public["id"],
        port_id=port["id"],
    )
    assert floating["floating_ip_address"].startswith("203.0.113.")
    assert (floating["router_id"], floating["status"]) == (router["id"], "ACTIVE")
    refused = await cloud.one.delete(f"/v2.0/networks/{net['id']}")
    assert refused.status == 409
    assert refused.json()["NeutronError"]["type"] == "NetworkInUse"
    assert (await cloud.one.delete(f"/v2.0/ports/{port['id']}")).status == 204
    left = (await cloud.one.get(f"/v2.0/floatingips/{floating['id']}")).json()["floatingip"]
    assert (left["port_id"], left["status"]) == (None, "DOWN")


async def test_addresses_are_given_once(cloud: Cloud) -> None:
    _, net, _ = await world(cloud)
    made = await asyncio.gather(
        *(make(cloud.one, "ports", "port", network_id=net["id"]) for _ in range(20))
    )
    ips = [p["fixed_ips"][0]["ip_address"] for p in made]
    assert len(set(ips)) == 20
    again = await cloud.one.post(
        "/v2.0/ports",
        json={"port": {"network_id": net["id"], "fixed_ips": [{"ip_address": ips[0]}]}},
    )
    assert again.status == 409
    assert again.json()["NeutronError"]["type"] == "IpAddressAlreadyAllocated"
    outside = await cloud.one.post(
        "/v2.0/ports",
        json={"port": {"network_id": net["id"], "fixed_ips": [{"ip_address": "192.0.2.1"}]}},
    )
    assert (outside.status, outside.json()["NeutronError"]["type"]) == (400, "InvalidIpForNetwork")


async def test_another_project_sees_nothing(cloud: Cloud) -> None:
    public, net, router = await world(cloud)
    port = await make(cloud.one, "ports", "port", network_id=net["id"])
    networks = (await cloud.two.get("/v2.0/networks")).json()["networks"]
    assert [n["id"] for n in networks] == [public["id"]]
    for path in (
        f"networks/{net['id']}",
        f"ports/{port['id']}",
        f"routers/{router['id']}",
        f"subnets/{net['id']}",
    ):
        assert (await cloud.two.get(f"/v2.0/{path}")).status == 404
        assert (await cloud.two.delete(f"/v2.0/{path}")).status == 404
    for collection in ("ports", "subnets", "routers", "floatingips", "security-groups"):
        found = (await cloud.two.get(f"/v2.0/{collection}")).json()
        names = {item.get("name") for item in found[collection.replace("-", "_")]}
        assert "private" not in names
    foreign = await cloud.two.post("/v2.0/ports", json={"port": {"network_id": net["id"]}})
    assert foreign.status == 404
    shared = {"network": {"name": "x", "shared": True}}
    assert (await cloud.two.post("/v2.0/networks", json=shared)).status == 403
    given = {"network": {"name": "x", "tenant_id": ONE}}
    assert (await cloud.two.post("/v2.0/networks", json=given)).status == 403


@pytest.mark.parametrize("token", ["", "wrong"])
async def test_every_route_wants_a_token(cloud: Cloud, token: str) -> None:
    for route in service.api().routes:
        if route.public:
            continue
        path = route.path.replace("{", "").replace("}", "")
        answer = await Client(cloud.asgi).request(route.method, path, token=token)
        assert answer.status == 401, (route.method, path)


async def test_writing_wants_a_role(cloud: Cloud) -> None:
    for route in service.api().routes:
        if route.policy is None:
            continue
        path = route.path.replace("{", "").replace("}", "")
        client = Client(cloud.asgi, token="nobody")
        if route.body is not None:
            continue
        assert (await client.request(route.method, path)).status == 403, (route.method, path)
    made = await Client(cloud.asgi, token="reader").post(
        "/v2.0/networks", json={"network": {"name": "x"}}
    )
    assert made.status == 403


async def test_binding_opens_the_port_and_tells_compute(cloud: Cloud) -> None:
    _, net, _ = await world(cloud)
    port = await make(
        cloud.admin,
        "ports",
        "port",
        network_id=net["id"],
        tenant_id=ONE,
        device_id="srv",
        device_owner="compute:nova",
    )
    path = f"/v2.0/ports/{port['id']}"
    answer = await cloud.admin.put(path, json={"port": {"binding:host_id": "h1"}})
    bound = answer.json()["port"]
    assert (bound["binding:vif_type"], bound["status"]) == ("tap", "ACTIVE")
    told = (await cloud.told())[-1]
    assert (told["name"], told["tag"]) == ("network-vif-plugged", port["id"])
    mine = (await cloud.one.get(path)).json()["port"]
    assert "binding:host_id" not in mine


@pytest.mark.parametrize("cloud", ["bridge"], indirect=True)
async def test_a_host_gets_its_plan_and_opens_ports(cloud: Cloud) -> None:
    _, net, _ = await world(cloud)
    port = await make(
        cloud.admin,
        "ports",
        "port",
        network_id=net["id"],
        tenant_id=ONE,
        device_id="srv",
        device_owner="compute:nova",
    )
    path = f"/v2.0/ports/{port['id']}"
    lost = await cloud.admin.put(path, json={"port": {"binding:host_id": "h9"}})
    assert lost.json()["port"]["binding:vif_type"] == "binding_failed"
    assert (await cloud.one.put("/ext/hosts/h1", json={"mode": "bridge"})).status == 403
    assert (await cloud.admin.put("/ext/hosts/h1", json={"mode": "bridge"})).status == 204
    bound = (await cloud.admin.put(path, json={"port": {"binding:host_id": "h1"}})).json()["port"]
    assert (bound["binding:vif_type"], bound["status"]) == ("bridge", "DOWN")
    answer = (await cloud.admin.get("/ext/hosts/h1/plan")).json()
    plan = answer["plan"]
    assert [p["id"] for p in plan["ports"]] == [port["id"]]
    assert len(plan["routers"]) == 1
    assert {n["id"] for n in plan["networks"]} >= {net["id"]}
    private = next(n for n in plan["networks"] if n["id"] == net["id"])
    assert private["dhcp"]["fixed_ips"]
    opened = {"opened": [port["id"]]}
    assert (await cloud.admin.put("/ext/hosts/h1/ports", json=opened)).status == 204
    assert (await cloud.one.get(path)).json()["port"]["status"] == "ACTIVE"
    assert (await cloud.told())[-1]["name"] == "network-vif-plugged"


async def test_rules_are_checked_and_unique(cloud: Cloud) -> None:
    group = await make(cloud.one, "security-groups", "security_group", name="web")
    rule = {
        "security_group_id": group["id"],
        "direction": "ingress",
        "protocol": "tcp",
        "port_range_min": 22,
        "port_range_max": 22,
        "remote_ip_prefix": "0.0.0.0/0",
    }
    made = await make(cloud.one, "security-group-rules", "security_group_rule", **rule)
    assert made["ethertype"] == "IPv4"
    loose = rule | {"remote_ip_prefix": "10.2.3.124/24"}
    kept = await make(cloud.one, "security-group-rules", "security_group_rule", **loose)
    assert (kept["remote_ip_prefix"], kept["normalized_cidr"]) == ("10.2.3.124/24", "10.2.3.0/24")
    again = await cloud.one.post("/v2.0/security-group-rules", json={"security_group_rule": rule})
    assert (again.status, again.json()["NeutronError"]["type"]) == (409, "SecurityGroupRuleExists")
    for bad in (
        {"port_range_min": 30},
        {"protocol": "nonsense"},
        {"protocol": None},
        {"remote_ip_prefix": "2001:db8::/64"},
    ):
        answer = await cloud.one.post(
            "/v2.0/security-group-rules", json={"security_group_rule": rule | bad}
        )
        assert answer.status == 400, bad


async def test_auto_topology(cloud: Cloud) -> None:
    path = f"/v2.0/auto-allocated-topology/{ONE}"
    assert (await cloud.one.get(path)).status == 409
    await world(cloud)
    dry = (await cloud.one.get(path, params={"fields": "dry-run"})).json()
    assert dry["auto_allocated_topology"]["id"] == "dry-run=pass"
    first = (await cloud.one.get(path)).json()["auto_allocated_topology"]["id"]
    assert (await cloud.one.get(path)).json()["auto_allocated_topology"]["id"] == first
    assert (await cloud.one.delete(path)).status == 204


async def test_quota(cloud: Cloud) -> None:
    path = f"/v2.0/quotas/{ONE}"
    assert (await cloud.one.put(path, json={"quota": {"network": 1}})).status == 403
    assert (await cloud.admin.put(path, json={"quota": {"network": 1}})).status == 200
    results = await asyncio.gather(
        *(cloud.one.post("/v2.0/networks", json={"network": {"name": "n"}}) for _ in range(6))
    )
    assert sorted(r.status for r in results) == [201, 409, 409, 409, 409, 409]
    details = (await cloud.one.get(f"{path}/details")).json()["quota"]["network"]
    assert details == {"limit": 1, "used": 1, "reserved": 0}


async def test_lists_page_filter_and_choose_fields(cloud: Cloud) -> None:
    for index in range(5):
        await make(cloud.one, "networks", "network", name=f"n{index}")
    first = await cloud.one.get("/v2.0/networks", params={"limit": "2", "sort_key": "name"})
    names = [n["name"] for n in first.json()["networks"]]
    assert names == ["n0", "n1"]
    href = first.json()["networks_links"][0]["href"]
    second = await cloud.one.get(href[href.index("/v2.0") :])
    assert [n["name"] for n in second.json()["networks"]] == ["n2", "n3"]
    found = await cloud.one.get("/v2.0/networks", params={"name": "n3", "fields": "name"})
    assert found.json()["networks"] == [{"name": "n3"}]


async def test_tags(cloud: Cloud) -> None:
    net = await make(cloud.one, "networks", "network", name="n")
    path = f"/v2.0/networks/{net['id']}/tags"
    assert (await cloud.one.put(f"{path}/red")).status == 201
    assert (await cloud.one.put(path, json={"tags": ["red", "blue"]})).status == 200
    assert (await cloud.one.get(f"{path}/blue")).status == 204
    assert (await cloud.one.get(f"{path}/green")).status == 404
    found = await cloud.one.get("/v2.0/networks", params={"tags": "red,blue"})
    assert len(found.json()["networks"]) == 1
    found = await cloud.one.get("/v2.0/networks", params={"not-tags": "red"})
    assert found.json()["networks"] == []
    assert (await cloud.one.delete(path)).status == 204
