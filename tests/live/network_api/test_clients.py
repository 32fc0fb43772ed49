"""The ordinary clients against the network service over a socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import openstack
import pytest

from kilonova.base.clock import SystemClock
from kilonova.base.ids import RandomIds
from kilonova.db.database import Database
from kilonova.embedded.network import service
from kilonova.embedded.network.app import NetworkApp, NetworkSettings
from kilonova.embedded.network.open import ensure_public, open_network
from tests.live.network_api.cli import CommandLine
from tests.support import identity, serving

pytestmark = [
    pytest.mark.live,
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


class Served:
    """Identity and network on ports of loopback, and two command lines."""

    def __init__(self, app: NetworkApp, auth_url: str) -> None:
        self.app = app
        self.auth_url = auth_url
        self.demo = CommandLine(self.environment("demo", "demo"))
        self.admin = CommandLine(self.environment("admin", "admin"))

    def environment(self, user: str, project: str) -> dict[str, str]:
        return {
            "OS_AUTH_URL": self.auth_url,
            "OS_USERNAME": user,
            "OS_PASSWORD": identity.PASSWORD,
            "OS_PROJECT_NAME": project,
            "OS_USER_DOMAIN_ID": "default",
            "OS_PROJECT_DOMAIN_ID": "default",
            "OS_IDENTITY_API_VERSION": "3",
            "OS_REGION_NAME": "RegionOne",
        }

    def connection(self, user: str, project: str) -> openstack.connection.Connection:
        return openstack.connect(
            load_yaml_config=False,
            load_envvars=False,
            auth_url=self.auth_url,
            username=user,
            password=identity.PASSWORD,
            project_name=project,
            user_domain_id="default",
            project_domain_id="default",
            region_name="RegionOne",
        )


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    doors = [serving.listening_socket() for _ in range(2)]
    keystone, neutron = map(serving.origin, doors)
    endpoints = [
        ("identity", "keystone", f"{keystone}/v3"),
        ("network", "neutron", neutron),
    ]
    place = await identity.start(tmp_path, base=keystone, endpoints=endpoints)
    app = await open_network(
        Database(f"sqlite:///{tmp_path}/network.db"),
        NetworkSettings(mode="none"),
        clock=SystemClock(),
        ids=RandomIds(),
        random=os.urandom,
    )
    asgi = service.build(app, auth=place.identity.tokens)
    await ensure_public(app, project_id="0" * 32, cidr="203.0.113.0/24")
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(serving.served(place.app, doors[0]))
        await stack.enter_async_context(serving.served(asgi, doors[1]))
        made = Served(app, f"{keystone}/v3")
        for line in (made.demo, made.admin):
            await line.start()
            stack.push_async_callback(line.close)
        yield made
    await app.close()
    app.db.close()
    place.identity.db.close()


async def test_networks_and_subnets(served: Served) -> None:
    cli = served.demo
    net = await cli("network", "create", "net", "--description", "d", "--mtu", "1400", "--tag", "a")
    assert (net["mtu"], net["status"], net["tags"]) == (1400, "ACTIVE", ["a"])
    await cli.do("network", "set", "net", "--name", "n2", "--tag", "b", "--disable")
    shown = await cli("network", "show", "n2")
    assert sorted(shown["tags"]) == ["a", "b"]
    assert shown["admin_state_up"] is False
    await cli.do("network", "unset", "n2", "--tag", "a")
    await cli.do("network", "set", "n2", "--enable")
    assert {n["Name"] for n in await cli("network", "list")} == {"n2", "public"}
    assert [n["Name"] for n in await cli("network", "list", "--external")] == ["public"]
    assert [n["Name"] for n in await cli("network", "list", "--tags", "b")] == ["n2"]
    await cli("network", "list", "--long")
    sub = await cli(
        "subnet", "create", "sub", "--network", "n2", "--subnet-range", "10.1.0.0/24",
        "--dns-nameserver", "9.9.9.9", "--host-route", "destination=10.9.0.0/16,gateway=10.1.0.9",
        "--allocation-pool", "start=10.1.0.10,end=10.1.0.20",
    )  # fmt: skip
    assert sub["gateway_ip"] == "10.1.0.1"
    assert sub["dns_nameservers"] == ["9.9.9.9"]
    await cli.do(
        "subnet", "set", "sub", "--dns-nameserver", "8.8.8.8", "--no-allocation-pool",
        "--allocation-pool", "start=10.1.0.10,end=10.1.0.99", "--tag", "x", "--no-dhcp",
    )  # fmt: skip
    await cli.do("subnet", "unset", "sub", "--dns-nameserver", "9.9.9.9", "--tag", "x")
    shown = await cli("subnet", "show", "sub")
    assert shown["dns_nameservers"] == ["8.8.8.8"]
    assert shown["allocation_pools"] == [{"start": "10.1.0.10", "end": "10.1.0.99"}]
    assert [s["Name"] for s in await cli("subnet", "list", "--network", "n2")] == ["sub"]
    await cli("subnet", "list", "--long")
    pool = await cli(
        "subnet", "pool", "create", "pool", "--pool-prefix", "10.64.0.0/16",
        "--default-prefix-length", "26",
    )  # fmt: skip
    assert pool["prefixes"] == ["10.64.0.0/16"]
    cut = await cli("subnet", "create", "cut", "--network", "n2", "--subnet-pool", "pool")
    assert cut["cidr"] == "10.64.0.0/26"
    await cli.do("subnet", "pool", "set", "pool", "--pool-prefix", "10.65.0.0/16")
    assert (await cli("subnet", "pool", "show", "pool"))["prefixes"] == ["10.64.0.0/15"]
    assert len(await cli("subnet", "pool", "list")) == 1
    assert "existing allocations" in await cli.fails("subnet", "pool", "delete", "pool")
    await cli.do("subnet", "delete", "cut", "sub")
    await cli.do("subnet", "pool", "delete", "pool")
    await cli.do("network", "delete", "n2")
    assert "No Network found" in await cli.fails("network", "show", "n2")
    assert "disallowed by policy" in await cli.fails("network", "create", "x", "--share")


async def test_ports_and_security_groups(served: Served) -> None:
    cli = served.demo
    await cli("network", "create", "net")
    await cli("subnet", "create", "sub", "--network", "net", "--subnet-range", "10.1.0.0/24")
    groups = await cli("security", "group", "list")
    assert [g["Name"] for g in groups] == ["default"], "it is there before anything uses it"
    await cli("security", "group", "rule", "create", "default", "--protocol", "icmp")
    await cli("security", "group", "create", "web", "--description", "w", "--tag", "t")
    rule = await cli(
        "security", "group", "rule", "create", "web", "--protocol", "tcp", "--dst-port", "80:90",
        "--remote-ip", "192.0.2.7/24", "--description", "r",
    )  # fmt: skip
    assert rule["remote_ip_prefix"] == "192.0.2.7/24"
    assert rule["normalized_cidr"] == "192.0.2.0/24"
    await cli(
        "security", "group", "rule", "create", "web", "--protocol", "udp", "--dst-port", "53",
        "--remote-group", "web", "--egress",
    )  # fmt: skip
    await cli("security", "group", "rule", "create", "web", "--ethertype", "IPv6", "--protocol",
              "ipv6-icmp")  # fmt: skip
    await cli("security", "group", "rule", "show", rule["id"])
    assert len(await cli("security", "group", "rule", "list", "web")) == 5
    assert len(await cli("security", "group", "rule", "list", "--ingress", "--long")) == 5
    await cli.do("security", "group", "set", "web", "--name", "web2", "--tag", "u")
    await cli.do("security", "group", "unset", "web2", "--tag", "u")
    await cli("security", "group", "show", "web2")

    port = await cli(
        "port", "create", "p", "--network", "net", "--fixed-ip", "subnet=sub,ip-address=10.1.0.50",
        "--security-group", "web2", "--allowed-address", "ip-address=10.1.0.99", "--tag", "x",
        "--mac-address", "fa:16:3e:11:22:33", "--dns-name", "guest",
        "--extra-dhcp-option", "name=bootfile-name,value=pxe.0",
    )  # fmt: skip
    assert port["fixed_ips"][0]["ip_address"] == "10.1.0.50"
    await cli.do("port", "set", "p", "--fixed-ip", "subnet=sub,ip-address=10.1.0.51")
    await cli.do("port", "set", "p", "--security-group", "default", "--name", "p2", "--tag", "y")
    await cli.do("port", "set", "p2", "--allowed-address", "ip-address=10.1.0.0/28", "--disable")
    shown = await cli("port", "show", "p2")
    assert [ip["ip_address"] for ip in shown["fixed_ips"]] == ["10.1.0.50", "10.1.0.51"]
    assert len(shown["security_group_ids"]) == 2
    assert len(shown["allowed_address_pairs"]) == 2
    await cli.do(
        "port", "unset", "p2", "--fixed-ip", "subnet=sub,ip-address=10.1.0.50",
        "--security-group", "web2", "--tag", "y",
        "--allowed-address", "ip-address=10.1.0.99,mac-address=fa:16:3e:11:22:33",
    )  # fmt: skip
    shown = await cli("port", "show", "p2")
    assert [ip["ip_address"] for ip in shown["fixed_ips"]] == ["10.1.0.51"]
    await cli.do("port", "set", "p2", "--no-security-group", "--no-allowed-address")
    await cli.do("port", "set", "p2", "--disable-port-security")
    by_ip = await cli("port", "list", "--fixed-ip", "ip-address=10.1.0.51")
    assert [p["Name"] for p in by_ip] == ["p2"]
    assert await cli("port", "list", "--fixed-ip", "ip-address=10.1.0.52") == []
    assert len(await cli("port", "list", "--network", "net", "--long")) == 1
    await cli("port", "list", "--mac-address", "fa:16:3e:11:22:33")
    assert "in use" in await served.demo.fails("network", "delete", "net")
    await cli.do("port", "delete", "p2")
    await cli.do("security", "group", "rule", "delete", rule["id"])
    await cli.do("security", "group", "delete", "web2")
    await cli.do("network", "delete", "net")


async def test_routers_and_floating_ips(served: Served) -> None:
    cli = served.demo
    await cli("network", "create", "net")
    await cli("subnet", "create", "sub", "--network", "net", "--subnet-range", "10.1.0.0/24")
    await cli("subnet", "create", "sub2", "--network", "net", "--subnet-range", "10.2.0.0/24")
    await cli("router", "create", "r", "--description", "d", "--tag", "t")
    await cli.do("router", "add", "subnet", "r", "sub")
    await cli("port", "create", "leg", "--network", "net", "--fixed-ip", "subnet=sub2")
    await cli.do("router", "add", "port", "r", "leg")
    await cli.do("router", "set", "r", "--external-gateway", "public", "--tag", "u", "--name", "r2")
    await cli.do("router", "set", "r2", "--route", "destination=10.8.0.0/16,gateway=10.1.0.8")
    await cli.do("router", "add", "route", "r2", "--route",
                 "destination=10.7.0.0/16,gateway=10.1.0.8")  # fmt: skip
    shown = await cli("router", "show", "r2")
    assert len(shown["routes"]) == 2
    assert len(shown["interfaces_info"]) == 2
    assert shown["external_gateway_info"]["enable_snat"] is True
    await cli.do("router", "remove", "route", "r2", "--route",
                 "destination=10.7.0.0/16,gateway=10.1.0.8")  # fmt: skip
    await cli.do("router", "unset", "r2", "--route", "destination=10.8.0.0/16,gateway=10.1.0.8",
                 "--tag", "u")  # fmt: skip
    assert len(await cli("router", "list", "--long")) == 1
    port = await cli("port", "create", "p", "--network", "net", "--fixed-ip", "subnet=sub")
    fip = await cli("floating", "ip", "create", "public", "--description", "x", "--tag", "f")
    address = fip["floating_ip_address"]
    assert fip["status"] == "DOWN"
    await cli.do("floating", "ip", "set", address, "--port", "p", "--tag", "g")
    shown = await cli("floating", "ip", "show", address)
    assert (shown["status"], shown["port_id"]) == ("ACTIVE", port["id"])
    assert shown["fixed_ip_address"] == port["fixed_ips"][0]["ip_address"]
    assert "required by one or more" in await cli.fails("router", "unset", "r2",
                                                        "--external-gateway")  # fmt: skip
    assert "required by one or more" in await cli.fails("router", "remove", "subnet", "r2", "sub")
    await cli.do("floating", "ip", "unset", address, "--port", "--tag", "g")
    assert (await cli("floating", "ip", "show", address))["status"] == "DOWN"
    second = await cli("floating", "ip", "create", "public", "--port", "p")
    listed = await cli("floating", "ip", "list", "--port", "p")
    assert [f["ID"] for f in listed] == [second["id"]]
    assert len(await cli("floating", "ip", "list", "--long", "--network", "public")) == 2
    await cli.do("floating", "ip", "delete", address, second["id"])
    await cli.do("router", "set", "r2", "--external-gateway", "public", "--disable")
    await cli.do("router", "unset", "r2", "--external-gateway")
    await cli.do("router", "remove", "subnet", "r2", "sub")
    await cli.do("router", "remove", "port", "r2", "leg")
    await cli.do("router", "delete", "r2")
    await cli("network", "auto", "allocated", "topology", "create", "--check-resources")
    made = await cli("network", "auto", "allocated", "topology", "create")
    assert made["id"] in [n["ID"] for n in await cli("network", "list")]
    await cli.do("network", "auto", "allocated", "topology", "delete")


async def test_what_administrators_see(served: Served) -> None:
    admin, cli = served.admin, served.demo
    net = await admin(
        "network", "create", "shared", "--share", "--provider-network-type", "vxlan",
        "--provider-segment", "4242",
    )  # fmt: skip
    assert net["provider:segmentation_id"] == 4242
    await admin.do("network", "set", "shared", "--no-share")
    await admin.do("network", "set", "shared", "--external", "--no-default")
    assert await admin("network", "agent", "list") == []
    limits = await cli("quota", "show", "--network")
    assert limits
    await admin.do("quota", "set", "demo", "--networks", "1", "--ports", "7")
    await cli("network", "create", "one")
    assert "Quota exceeded" in await cli.fails("network", "create", "two")
    listed = await admin("quota", "list", "--network")
    assert [q["Networks"] for q in listed] == [1]
    await cli("quota", "show", "--usage", "--network")
    await admin.do("quota", "delete", "demo", "--network")
    for words in (
        ("extension", "list", "--network"),
        ("availability", "zone", "list", "--network"),
        ("network", "service", "provider", "list"),
        ("network", "rbac", "list"),
        ("address", "scope", "list"),
        ("address", "group", "list"),
        ("network", "qos", "policy", "list"),
        ("network", "trunk", "list"),
        ("network", "segment", "list"),
        ("network", "flavor", "list"),
        ("network", "meter", "list"),
        ("port", "list"),
        ("floating", "ip", "list"),
        ("router", "list"),
        ("ip", "availability", "list"),
    ):
        await admin(*words)
    assert (await cli("extension", "show", "security-group"))["alias"] == "security-group"
    group = (await cli("security", "group", "list"))[0]["ID"]
    other = await admin("security", "group", "show", group)
    assert other["name"] == "default", "an administrator reaches everything"
    await admin.do("network", "delete", "one")


async def test_the_sdk(served: Served) -> None:
    await asyncio.to_thread(_converse, served)


def _converse(served: Served) -> None:
    with served.connection("demo", "demo") as cloud, served.connection("admin", "admin") as admin:
        net = cloud.network.create_network(name="net")
        subnet = cloud.network.create_subnet(
            network_id=net.id, ip_version=4, cidr="10.1.0.0/24", name="sub"
        )
        ports = list(
            cloud.network.create_ports([{"network_id": net.id, "name": f"p{i}"} for i in range(5)])
        )
        assert len(ports) == 5
        assert len(list(cloud.network.ports(limit=2, network_id=net.id))) == 5, "pages"
        assert cloud.network.find_port("p3").id == ports[3].id
        with pytest.raises(openstack.exceptions.ConflictException):
            cloud.network.delete_network(net)
        with pytest.raises(openstack.exceptions.PreconditionFailedException):
            cloud.network.update_network(net, name="x", if_revision=net.revision_number + 5)
        before = net.revision_number
        changed = cloud.network.update_network(net, name="x", if_revision=before)
        assert changed.revision_number == before + 1
        router = cloud.create_router(name="r", ext_gateway_net_id=_public(cloud).id)
        cloud.add_router_interface(router, subnet_id=subnet.id)
        assert [p.device_id for p in cloud.list_router_interfaces(router)] == [router.id]
        address = cloud.create_floating_ip(network="public", port=ports[0].id)
        assert address["fixed_ip_address"] == ports[0].fixed_ips[0]["ip_address"]
        assert cloud.network.find_available_ip() is None
        assert cloud.network.get_auto_allocated_topology() is not None
        assert cloud.network.set_tags(net, ["one", "two"]).tags == ["one", "two"]
        group = cloud.network.create_security_group(name="g")
        cloud.create_security_group_rule(group.id, port_range_min=1, port_range_max=9,
                                         protocol="tcp")  # fmt: skip
        assert len(cloud.network.get_security_group(group.id).security_group_rules) == 3
        assert cloud.network.get_quota(cloud.current_project_id).networks == 100
        bound = admin.network.update_port(ports[1].id, binding_host_id="h1", device_id="s",
                                          device_owner="compute:nova")  # fmt: skip
        assert (bound.binding_vif_type, bound.status) == ("tap", "ACTIVE")
        assert cloud.network.get_port(ports[1].id).binding_host_id is None
        assert {e.alias for e in cloud.network.extensions()} >= {"router", "security-group"}


def _public(cloud: openstack.connection.Connection) -> openstack.network.v2.network.Network:
    return cloud.network.find_network("public")
