"""Every list of the network service asks its database as often for many things as for few."""

from __future__ import annotations

from typing import Any

from kilonova.db.database import Database
from kilonova.embedded.network import service
from tests.api.network.conftest import Cloud
from tests.support.counting import costs, same, unlisted

FEW, MANY = 2, 20
LISTS = (
    "/v2.0/networks",
    "/v2.0/subnets",
    "/v2.0/ports",
    "/v2.0/security-groups",
    "/v2.0/security-group-rules",
    "/v2.0/routers",
    "/v2.0/floatingips",
    "/v2.0/subnetpools",
    "/v2.0/networks/{network_id}/tags",
    "/v2.0/subnets/{subnet_id}/tags",
    "/v2.0/ports/{port_id}/tags",
    "/v2.0/security-groups/{group_id}/tags",
    "/v2.0/routers/{router_id}/tags",
    "/v2.0/quotas",
    "/v2.0/network-ip-availabilities",
)
MORE = (
    "/v2.0/ports?network_id={network_id}",
    "/v2.0/ports?fixed_ips=ip_address%3D10.0.0.1",
    "/v2.0/networks/{network_id}",
    "/v2.0/routers/{router_id}",
    "/v2.0/security-groups/{group_id}",
    "/v2.0/networks?tags=t1&limit=5",
    "/ext/hosts/h1/plan",
)
# One thing each, tables of constants, or what this service has none of.
SINGLE = {
    "/v2.0",
    "/v2.0/extensions",
    "/v2.0/availability_zones",
    "/v2.0/service-providers",
    "/v2.0/address-groups",
    "/v2.0/address-scopes",
    "/v2.0/flavors",
    "/v2.0/log/logs",
    "/v2.0/metering/metering-labels",
    "/v2.0/ndp_proxies",
    "/v2.0/network_segment_ranges",
    "/v2.0/qos/policies",
    "/v2.0/rbac-policies",
    "/v2.0/segments",
    "/v2.0/trunks",
    "/v2.0/agents",
    "/v2.0/quotas/project",
    "/v2.0/quotas/tenant",
    "/v2.0/quotas/{project_id}/default",
    "/v2.0/quotas/{project_id}/details",
    "/v2.0/quotas/{project_id}/details.json",
    "/ext/hosts/{host}/plan",
    "/v2.0/floatingips/{row_id}/tags",
    "/v2.0/subnetpools/{row_id}/tags",
    "/ext/openapi.json",
}
ROWS = ("network_id", "subnet_id", "port_id", "group_id", "router_id")


def test_no_list_is_forgotten() -> None:
    known = set()
    for path in LISTS:
        for name in ROWS:
            path = path.replace("{" + name + "}", "{row_id}")  # noqa: PLW2901
        known.add(path)
    assert unlisted(service.api(), known, SINGLE) == set()


async def _fill(cloud: Cloud, count: int) -> dict[str, str]:
    names: dict[str, str] = {}

    async def make(kind: str, key: str, /, **given: Any) -> Any:
        answer = await cloud.admin.post(f"/v2.0/{kind}s", json={kind.replace("-", "_"): given})
        assert answer.status == 201, (kind, answer.text)
        made = answer.json()[kind.replace("-", "_")]
        names.setdefault(key, made["id"])
        return made

    off = {"port": -1, "network": -1, "subnet": -1, "router": -1, "floatingip": -1}
    off |= {"security_group": -1, "security_group_rule": -1}
    answer = await cloud.admin.put(f"/v2.0/quotas/{'a' * 32}", json={"quota": off})
    assert answer.status == 200, answer.text
    out = await make("network", "outside", name="out", **{"router:external": True})
    cidr = {"network_id": out["id"], "ip_version": 4, "cidr": "172.24.0.0/16"}
    await make("subnet", "outside_subnet", **cidr)
    tags = [f"t{number}" for number in range(count)]
    for number in range(count):
        network = await make("network", "network_id", name=f"n{number}")
        base = {"network_id": network["id"], "ip_version": 4}
        subnet = await make("subnet", "subnet_id", cidr=f"10.{number}.0.0/24", **base)
        port = await make("port", "port_id", network_id=network["id"])
        group = await make("security-group", "group_id", name=f"g{number}")
        rule = {"security_group_id": names["group_id"], "direction": "ingress"}
        ports = {"protocol": "tcp", "port_range_min": number + 1, "port_range_max": number + 1}
        await make("security-group-rule", "rule_id", ethertype="IPv4", **rule, **ports)
        outside = {"external_gateway_info": {"network_id": out["id"]}}
        router = await make("router", "router_id", name=f"r{number}", **outside)
        at = f"/v2.0/routers/{router['id']}/add_router_interface"
        answer = await cloud.admin.put(at, json={"subnet_id": subnet["id"]})
        assert answer.status == 200, answer.text
        address = {"floating_network_id": out["id"], "port_id": port["id"]}
        await make("floatingip", "floating_id", **address)
        await make("subnetpool", "pool_id", name="p", prefixes=[f"10.{number}.0.0/16"])
        await cloud.admin.put(f"/v2.0/security-groups/{group['id']}/tags", json={"tags": tags})
    for kind in ("network", "subnet", "port", "router"):
        path = f"/v2.0/{kind}s/{names[f'{kind}_id']}/tags"
        answer = await cloud.admin.put(path, json={"tags": tags})
        assert answer.status == 200, answer.text
    return names


async def test_many_cost_what_few_cost() -> None:
    found = []
    for count in (FEW, MANY):
        db = Database("sqlite://")
        service.prepare(db)
        cloud = Cloud(db, "none")
        cloud.app.start()
        names = await _fill(cloud, count)
        found.append(await costs(cloud.admin, (*LISTS, *MORE), names))
        await cloud.app.close()
        db.close()
    (few, _), (many, lengths) = found
    assert same(few, many) == {}
    short = {"/v2.0/quotas", "/v2.0/network-ip-availabilities"}
    assert {path for path in LISTS if lengths[path] < MANY} <= short
