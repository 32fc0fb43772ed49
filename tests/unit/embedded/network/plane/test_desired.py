"""Nothing that could break out of a rule set or configuration file passes the check."""

from __future__ import annotations

import msgspec
import pytest

from kilonova.embedded.network.plane.desired import (
    AddressPair,
    BadPlan,
    DhcpPort,
    Endpoint,
    Fixed,
    FloatingIp,
    Group,
    HostGateway,
    HostPlan,
    Network,
    Port,
    Route,
    Router,
    RouterGateway,
    RouterInterface,
    Rule,
    Subnet,
    Vxlan,
    check,
)

MAC = "fa:16:3e:00:00:01"
NET = Network("net", "kvb1", 1450, (Subnet("s", "10.0.0.0/24", "10.0.0.1", dns=("9.9.9.9",)),))
PORT = Port("p", "net", "tap1", MAC, (Fixed("s", "10.0.0.5"),))


def test_a_whole_plan_passes_and_travels_as_json() -> None:
    plan = HostPlan(
        "h",
        networks=(
            msgspec.structs.replace(
                NET,
                vxlan=Vxlan(7, ("10.9.9.2",)),
                dhcp=DhcpPort("d", MAC, (Fixed("s", "10.0.0.2"),)),
                endpoints=(Endpoint("p", MAC, PORT.fixed_ips, "dev", "proj", "web-1"),),
                host_gateway=HostGateway(("172.24.4.1/24", "fd01::1/64")),
            ),
        ),
        ports=(
            msgspec.structs.replace(
                PORT,
                rules=(Rule("ingress", "IPv6", "tcp", 1, 2, "::/0"), Rule("egress")),
                allowed_address_pairs=(AddressPair("10.0.0.0/25", MAC),),
            ),
        ),
        routers=(
            Router(
                "r",
                (RouterInterface("i", "net", MAC, ("10.0.0.1/24",)),),
                RouterGateway("g", "net", MAC, ("172.24.4.9/24",), ("172.24.4.1",)),
                (FloatingIp("172.24.4.7", "10.0.0.5"),),
                (Route("10.7.0.0/16", "10.0.0.5"),),
            ),
        ),
        groups=(Group("g", ("10.0.0.5", "fd00::/64")),),
        vtep_ip="10.9.9.1",
    )
    check(plan)
    assert msgspec.json.decode(msgspec.json.encode(plan), type=HostPlan) == plan


def net(**changes: object) -> HostPlan:
    return HostPlan("h", (msgspec.structs.replace(NET, **changes),))


def port(**changes: object) -> HostPlan:
    return HostPlan("h", (NET,), (msgspec.structs.replace(PORT, **changes),))


def rule(direction: str = "ingress", **values: object) -> HostPlan:
    return port(rules=(Rule(direction, **values),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "plan",
    [
        net(bridge='x"; drop'),
        net(bridge="sixteen-letters!"),
        net(bridge=".."),
        net(id="../../etc"),
        net(mtu=10),
        net(vxlan=Vxlan(7)),
        msgspec.structs.replace(net(vxlan=Vxlan(1 << 24)), vtep_ip="10.0.0.1"),
        net(subnets=(Subnet("s", "10.0.0.0/40"),)),
        net(subnets=(Subnet("s", "fd00::/64", ra_mode="x"),)),
        net(subnets=(Subnet("s", "10.0.0.0/24", dns=("9.9.9.9\nserver=1.1.1.1",)),)),
        net(endpoints=(Endpoint("p", MAC, (), hostname="a\nb"),)),
        net(host_gateway=HostGateway(("fe80::1%eth0/64",))),
        HostPlan("h", (NET, NET)),
        port(mac="FA:16:3E:00:00:01"),
        port(mac=f"{MAC} accept"),
        port(network_id="other"),
        port(tap="tap1\n"),
        port(fixed_ips=(Fixed("s", "10.0.0.5 }"),)),
        port(allowed_address_pairs=(AddressPair("10.0.0.5, 10.0.0.6"),)),
        HostPlan("h", (NET,), (PORT, msgspec.structs.replace(PORT, id="q"))),
        rule("sideways"),
        rule(ethertype="IPX"),
        rule(protocol="tcp; x"),
        rule(port_min=70000),
        rule(remote_group="no"),
        rule(remote_prefix="x"),
        HostPlan("h", (NET,), groups=(Group("g", ("fe80::1%lo",)),)),
        HostPlan("h", (NET,), routers=(Router("r", routes=(Route("0.0.0.0/0", "nowhere"),)),)),
        HostPlan("h", (NET,), routers=(Router("r", (RouterInterface("i", "no", MAC, ()),)),)),
    ],
)
def test_bad_values_are_refused(plan: HostPlan) -> None:
    with pytest.raises(BadPlan):
        check(plan)
