"""Conditions, pages, owners and values: what clients rely on beside the resources themselves."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kilonova.embedded.network.plane import desired
from kilonova.web.testing import Client
from tests.api.network.conftest import ONE, TWO, Cloud
from tests.api.network.test_conversation import make, world


async def kind_of(answer: Any) -> tuple[int, str]:
    return answer.status, answer.json()["NeutronError"]["type"]


async def test_a_change_may_be_bound_to_a_revision(cloud: Cloud) -> None:
    net = await make(cloud.one, "networks", "network", name="n")
    path = f"/v2.0/networks/{net['id']}"
    stale = {"If-Match": "revision_number=7"}
    fresh = {"If-Match": f"revision_number={net['revision_number']}"}
    body = {"network": {"name": "m"}}
    refused = await cloud.one.put(path, json=body, headers=stale)
    assert await kind_of(refused) == (412, "RevisionNumberConstraintFailed")
    assert (await cloud.one.put(path, json=body, headers={"If-Match": "x"})).status == 400
    changed = (await cloud.one.put(path, json=body, headers=fresh)).json()["network"]
    assert changed["revision_number"] == net["revision_number"] + 1
    assert (await cloud.one.delete(path, headers=fresh)).status == 412
    assert (await cloud.one.delete(path)).status == 204


async def test_many_are_made_together_or_not_at_all(cloud: Cloud) -> None:
    good: dict[str, Any] = {"networks": [{"name": "a"}, {"name": "b"}]}
    made = await cloud.one.post("/v2.0/networks", json=good)
    assert made.status == 201
    assert [n["name"] for n in made.json()["networks"]] == ["a", "b"]
    bad = {"networks": [{"name": "c"}, {"name": "d", "mtu": 9000}]}
    assert (await cloud.one.post("/v2.0/networks", json=bad)).status == 400
    names = [n["name"] for n in (await cloud.one.get("/v2.0/networks")).json()["networks"]]
    assert sorted(names) == ["a", "b"]


async def test_lists_refuse_what_they_cannot_do(cloud: Cloud) -> None:
    for query in ("limit=-1", "limit=x", "sort_key=nothing", "sort_key=tags", "marker=lost",
                  "sort_key=name&sort_dir=up", "sort_dir=asc"):  # fmt: skip
        assert (await cloud.one.get(f"/v2.0/networks?{query}")).status == 400, query
    assert (await cloud.one.get("/v2.0/ports?fixed_ips=colour%3Dred")).status == 400
    assert (await cloud.one.get("/v2.0/networks?mtu=99999999999999999999&what=x")).status == 200
    assert (await cloud.one.head("/v2.0/networks")).status == 200
    assert (await cloud.one.patch("/v2.0/networks", json={})).status == 404


async def test_nobody_pretends_to_be_the_network_service(cloud: Cloud) -> None:
    _, net, router = await world(cloud)
    mine = await make(cloud.two, "networks", "network", name="mine")
    for owner in ("network:router_interface", "network:router_gateway", "network:dhcp",
                  "network:floatingip"):  # fmt: skip
        body = {"network_id": mine["id"], "device_owner": owner, "device_id": router["id"]}
        assert (await cloud.two.post("/v2.0/ports", json={"port": body})).status == 400, owner
    port = await make(cloud.two, "ports", "port", network_id=mine["id"])
    theft = {"port": {"device_owner": "network:router_interface", "device_id": router["id"]}}
    assert (await cloud.two.put(f"/v2.0/ports/{port['id']}", json=theft)).status == 400
    legs = (await cloud.one.get("/v2.0/ports", params={"device_id": router["id"]})).json()["ports"]
    leg = next(p for p in legs if p["network_id"] == net["id"])
    moved = await cloud.one.put(f"/v2.0/ports/{leg['id']}", json={"port": {"device_id": "other"}})
    assert moved.status == 400
    gone = await cloud.one.delete(f"/v2.0/ports/{leg['id']}")
    assert await kind_of(gone) == (409, "ServicePortInUse")


@pytest.mark.parametrize("cloud", ["bridge"], indirect=True)
async def test_nothing_a_member_says_breaks_a_host(cloud: Cloud) -> None:
    """Values the data plane would refuse must not get as far: one bad plan stops a host."""
    _, net, router = await world(cloud)
    await cloud.admin.put("/ext/hosts/h1", json={"mode": "bridge"})
    group = await make(cloud.one, "security-groups", "security_group", name="g")
    subnet = (await cloud.one.get("/v2.0/subnets", params={"network_id": net["id"]})).json()
    subnet_id = subnet["subnets"][0]["id"]

    async def attempt(path: str, name: str, client: Client = cloud.one, **values: Any) -> None:
        answer = await client.post(f"/v2.0/{path}", json={name: values})
        if answer.status == 201 and name == "port":
            bind = {"port": {"binding:host_id": "h1"}}
            port_id = answer.json()["port"]["id"]
            assert (await cloud.admin.put(f"/v2.0/ports/{port_id}", json=bind)).status == 200
        else:
            assert answer.status in (201, 400, 409), answer.text

    for text in ("fe80::1%eth0", "fe80::%1/64", "a\nb", "x" * 300, "", "10.0.0.300", "::/0", "é"):
        common = {"network_id": net["id"]}
        await attempt("ports", "port", **common, dns_name=text)
        await attempt("ports", "port", **common, device_id=text, device_owner=text)
        await attempt("ports", "port", **common, mac_address=text)
        await attempt("ports", "port", **common, allowed_address_pairs=[{"ip_address": text}])
        await attempt("ports", "port", **common, fixed_ips=[{"ip_address": text}])
        option = {"opt_name": text, "opt_value": text}
        await attempt("ports", "port", **common, extra_dhcp_opts=[option])
        rule = {"security_group_id": group["id"], "direction": "ingress"}
        for ethertype in ("IPv4", "IPv6"):
            both = rule | {"ethertype": ethertype}
            await attempt("security-group-rules", "security_group_rule", **both,
                          remote_ip_prefix=text)  # fmt: skip
            await attempt("security-group-rules", "security_group_rule", **both, protocol=text)
        await attempt("subnets", "subnet", **common, cidr=text, ip_version=6)
        for key, value in (
            ("dns_nameservers", [text]),
            ("host_routes", [{"destination": text, "nexthop": "10.0.0.9"}]),
            ("gateway_ip", text),
        ):
            body = {"subnet": {key: value}}
            answer = await cloud.one.put(f"/v2.0/subnets/{subnet_id}", json=body)
            assert answer.status in (200, 400, 409), answer.text
        routes = {"router": {"routes": [{"destination": text, "nexthop": "10.0.0.9"}]}}
        answer = await cloud.one.put(f"/v2.0/routers/{router['id']}", json=routes)
        assert answer.status in (200, 400), answer.text
        vtep = {"mode": "bridge", "vtep_ip": text or None}
        assert (await cloud.admin.put("/ext/hosts/h2", json=vtep)).status in (204, 400)
    for number in (0, 1, 7, 20, 255):
        await attempt("security-group-rules", "security_group_rule", **rule, protocol=number)
    answer = (await cloud.admin.get("/ext/hosts/h1/plan")).json()
    plan = msgspec.convert(answer["plan"], desired.HostPlan)
    assert len(plan.ports) > 5
    desired.check(plan)


@pytest.mark.parametrize("cloud", ["bridge"], indirect=True)
async def test_a_full_subnet_has_no_dhcp_and_harms_nobody(cloud: Cloud) -> None:
    await cloud.admin.put("/ext/hosts/h1", json={"mode": "bridge"})
    net = await make(cloud.one, "networks", "network", name="small")
    await make(cloud.one, "subnets", "subnet", network_id=net["id"], ip_version=4,
               cidr="10.0.0.0/30", gateway_ip=None)  # fmt: skip
    ports = [await make(cloud.one, "ports", "port", network_id=net["id"]) for _ in range(2)]
    for port in ports:
        bind = {"port": {"binding:host_id": "h1"}}
        await cloud.admin.put(f"/v2.0/ports/{port['id']}", json=bind)
    plan = (await cloud.admin.get("/ext/hosts/h1/plan")).json()["plan"]
    assert [n["dhcp"] for n in plan["networks"]] == [None]
    assert len(plan["ports"]) == 2


@pytest.mark.parametrize("cloud", ["bridge"], indirect=True)
async def test_a_plan_is_waited_for_until_it_differs(cloud: Cloud) -> None:
    await cloud.admin.put("/ext/hosts/h1", json={"mode": "bridge"})
    first = (await cloud.admin.get("/ext/hosts/h1/plan")).json()
    again = await cloud.admin.get(f"/ext/hosts/h1/plan?after={first['version']}&wait=0")
    assert again.json()["version"] == first["version"]
    net = await make(cloud.one, "networks", "network", name="n")
    port = await make(cloud.one, "ports", "port", network_id=net["id"])
    same = await cloud.admin.get(f"/ext/hosts/h1/plan?after={first['version']}&wait=0")
    assert same.json()["version"] == first["version"], "nothing of this host has changed"
    bind = {"port": {"binding:host_id": "h1"}}
    await cloud.admin.put(f"/v2.0/ports/{port['id']}", json=bind)
    other = await cloud.admin.get(f"/ext/hosts/h1/plan?after={first['version']}&wait=5")
    assert other.json()["version"] != first["version"]


@pytest.mark.parametrize("cloud", ["user"], indirect=True)
async def test_user_mode_ports_are_active_when_bound(cloud: Cloud) -> None:
    net = await make(cloud.one, "networks", "network", name="n")
    port = await make(cloud.admin, "ports", "port", network_id=net["id"], tenant_id=ONE,
                      device_id="s", device_owner="compute:nova")  # fmt: skip
    bind = {"port": {"binding:host_id": "h1"}}
    path = f"/v2.0/ports/{port['id']}"
    lost = (await cloud.admin.put(path, json=bind)).json()["port"]
    assert lost["binding:vif_type"] == "binding_failed"
    await cloud.admin.put("/ext/hosts/h1", json={"mode": "user"})
    bound = (await cloud.admin.put(path, json=bind)).json()["port"]
    assert (bound["binding:vif_type"], bound["status"]) == ("user", "ACTIVE")
    assert [e["name"] for e in await cloud.told()] == ["network-vif-plugged"]
    free = {"port": {"binding:host_id": "", "device_id": "", "device_owner": ""}}
    unbound = (await cloud.admin.put(path, json=free)).json()["port"]
    assert (unbound["binding:vif_type"], unbound["status"]) == ("unbound", "DOWN")


async def test_groups_of_others_and_the_default_one(cloud: Cloud) -> None:
    mine = await make(cloud.one, "security-groups", "security_group", name="web")
    default = (await cloud.one.get("/v2.0/security-groups?name=default")).json()
    default_id = default["security_groups"][0]["id"]
    refused = await cloud.one.delete(f"/v2.0/security-groups/{default_id}")
    assert await kind_of(refused) == (409, "SecurityGroupCannotRemoveDefault")
    rename = {"security_group": {"name": "other"}}
    answer = await cloud.one.put(f"/v2.0/security-groups/{default_id}", json=rename)
    assert await kind_of(answer) == (409, "SecurityGroupCannotUpdateDefault")
    again = {"security_group": {"name": "default"}}
    answer = await cloud.one.post("/v2.0/security-groups", json=again)
    assert await kind_of(answer) == (409, "SecurityGroupDefaultAlreadyExists")
    theirs = await make(cloud.two, "security-groups", "security_group", name="web")
    for body in (
        {"security_group_id": theirs["id"], "direction": "ingress"},
        {"security_group_id": mine["id"], "direction": "ingress", "remote_group_id": theirs["id"]},
    ):
        answer = await cloud.one.post(
            "/v2.0/security-group-rules", json={"security_group_rule": body}
        )
        assert answer.status == 404, body
    # A rule an administrator puts into a project's group is that project's.
    rule = {"security_group_id": mine["id"], "direction": "ingress", "protocol": "tcp"}
    rule = await make(cloud.admin, "security-group-rules", "security_group_rule", **rule)
    assert rule["project_id"] == ONE
    assert (await cloud.one.delete(f"/v2.0/security-group-rules/{rule['id']}")).status == 204


async def test_port_security_pairs_and_groups_go_together(cloud: Cloud) -> None:
    net = await make(cloud.one, "networks", "network", name="n")
    open_port = await make(cloud.one, "ports", "port", network_id=net["id"],
                           port_security_enabled=False)  # fmt: skip
    assert open_port["security_groups"] == []
    path = f"/v2.0/ports/{open_port['id']}"
    pairs = {"port": {"allowed_address_pairs": [{"ip_address": "10.0.0.9"}]}}
    answer = await cloud.one.put(path, json=pairs)
    assert await kind_of(answer) == (409, "AddressPairAndPortSecurityRequired")
    port = await make(cloud.one, "ports", "port", network_id=net["id"])
    path = f"/v2.0/ports/{port['id']}"
    answer = await cloud.one.put(path, json={"port": {"port_security_enabled": False}})
    assert await kind_of(answer) == (409, "PortSecurityPortHasSecurityGroup")
    both = {"port": {"port_security_enabled": False, "security_groups": []}}
    assert (await cloud.one.put(path, json=both)).status == 200


async def test_moving_an_address_lets_its_floating_ip_go(cloud: Cloud) -> None:
    public, net, _ = await world(cloud)
    port = await make(cloud.one, "ports", "port", network_id=net["id"],
                      fixed_ips=[{"ip_address": "10.0.0.50"}])  # fmt: skip
    floating = await make(cloud.one, "floatingips", "floatingip",
                          floating_network_id=public["id"], port_id=port["id"])  # fmt: skip
    assert floating["port_details"]["network_id"] == net["id"]
    change = {"port": {"fixed_ips": [{"ip_address": "10.0.0.51"}]}}
    await cloud.one.put(f"/v2.0/ports/{port['id']}", json=change)
    left = (await cloud.one.get(f"/v2.0/floatingips/{floating['id']}")).json()["floatingip"]
    assert (left["port_id"], left["router_id"], left["status"]) == (None, None, "DOWN")
    found = (await cloud.one.get("/v2.0/ports?fixed_ips=ip_address%3D10.0.0.51")).json()["ports"]
    assert [p["id"] for p in found] == [port["id"]]


async def test_the_public_gateway_is_not_for_tenants(cloud: Cloud) -> None:
    public, _, router = await world(cloud)
    subnets = (await cloud.admin.get(f"/v2.0/subnets?network_id={public['id']}")).json()
    body = {"subnet_id": subnets["subnets"][0]["id"]}
    path = f"/v2.0/routers/{router['id']}/add_router_interface"
    assert (await cloud.one.put(path, json=body)).status == 404
    port = {"port": {"network_id": public["id"]}}
    assert (await cloud.one.post("/v2.0/ports", json=port)).status == 400


BODIES: dict[str, Any] = {
    "networks": {"network": {"name": "x"}},
    "subnets": {"subnet": {"network_id": "1", "cidr": "10.0.0.0/24"}},
    "ports": {"port": {"network_id": "1"}},
    "routers": {"router": {"name": "x"}},
    "floatingips": {"floatingip": {"floating_network_id": "1"}},
    "security-groups": {"security_group": {"name": "x"}},
    "security-group-rules": {
        "security_group_rule": {"security_group_id": "1", "direction": "ingress"}
    },
    "subnetpools": {"subnetpool": {"prefixes": ["10.0.0.0/8"]}},
}


async def test_readers_write_nothing(cloud: Cloud) -> None:
    reader = Client(cloud.asgi, token="reader")
    for path, body in BODIES.items():
        assert (await reader.get(f"/v2.0/{path}")).status == 200, path
        assert (await reader.post(f"/v2.0/{path}", json=body)).status == 403, path
        assert (await reader.delete(f"/v2.0/{path}/1")).status == 403, path
        name = next(iter(body))
        if name != "security_group_rule":
            change = {name: {"description": "x"}}
            assert (await reader.put(f"/v2.0/{path}/1", json=change)).status == 403, path
            tags = {"tags": ["x"]}
            if name != "security_group_rule":
                answer = await reader.put(f"/v2.0/{path}/1/tags", json=tags)
                assert answer.status == 403, path
    for action in ("add_router_interface", "remove_router_interface"):
        answer = await reader.put(f"/v2.0/routers/1/{action}", json={"subnet_id": "1"})
        assert answer.status == 403, action
    for path, body in (
        (f"/v2.0/quotas/{ONE}", {"quota": {"port": 1}}),
        ("/ext/hosts/h", {"mode": "none"}),
        ("/ext/hosts/h/ports", {"opened": []}),
    ):
        assert (await cloud.one.put(path, json=body)).status == 403, path
    assert (await cloud.one.get(f"/v2.0/quotas/{TWO}")).status == 403
    assert (await cloud.one.get(f"/v2.0/auto-allocated-topology/{TWO}")).status == 403
