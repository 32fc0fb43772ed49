"""Rule sets as text: what chains ports get, what revisions tell, what names and zones are."""

from __future__ import annotations

import msgspec
import pytest

from kilonova.embedded.network.plane import names
from kilonova.embedded.network.plane.desired import (
    AddressPair,
    BadPlan,
    DhcpPort,
    Fixed,
    FloatingIp,
    Group,
    HostGateway,
    HostPlan,
    Network,
    Port,
    Router,
    RouterGateway,
    RouterInterface,
    Rule,
    Vxlan,
)
from kilonova.embedded.network.plane.firewall import host_rules, link_local
from kilonova.embedded.network.plane.layout import router_rules
from kilonova.embedded.network.plane.secgroups import compile_rules

MAC = "fa:16:3e:00:00:01"


def port(name: str, *rules: Rule, **more: object) -> Port:
    return msgspec.structs.replace(
        Port(name, "net", f"tap{name}", MAC, (Fixed("s", "10.0.0.5"),), rules=rules), **more
    )


def matches(rule: Rule, *groups: Group) -> list[str]:
    """The lines a rule adds to those every port has."""
    none = compile_rules((port("a"),), ())
    some = compile_rules((port("a", rule),), groups)
    index = f"{rule.direction}"
    chain = getattr(some, index)["tapa"]
    return [
        line for line in some.chains[chain] if line not in none.chains[getattr(none, index)["tapa"]]
    ]


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        (Rule("egress"), "ether type ip return"),
        (Rule("ingress", "IPv6", "any"), "ether type ip6 return"),
        (Rule("ingress", protocol="tcp", port_min=22, port_max=22),
         "ether type ip meta l4proto 6 tcp dport 22 return"),
        (Rule("ingress", protocol="6", port_min=1, port_max=65535),
         "ether type ip meta l4proto 6 tcp dport 1-65535 return"),
        (Rule("egress", "IPv6", "udp", 53, 53, "fd00::/8"),
         "ether type ip6 ip6 daddr fd00::/8 meta l4proto 17 udp dport 53 return"),
        (Rule("ingress", remote_prefix="10.1.2.3/16"), "ether type ip ip saddr 10.1.0.0/16 return"),
        (Rule("ingress", remote_prefix="0.0.0.0/0"), "ether type ip return"),
        (Rule("ingress", protocol="icmp", port_min=8, port_max=0),
         "ether type ip meta l4proto 1 icmp type 8 icmp code 0 return"),
        (Rule("ingress", "IPv6", "icmp", 128),
         "ether type ip6 meta l4proto 58 icmpv6 type 128 return"),
        (Rule("ingress", protocol="vrrp"), "ether type ip meta l4proto 112 return"),
        (Rule("ingress", protocol="gre", port_min=1, port_max=2),
         "ether type ip meta l4proto 47 return"),
        (Rule("ingress", protocol="250"), "ether type ip meta l4proto 250 return"),
    ],
)  # fmt: skip
def test_rules_become_matches(rule: Rule, line: str) -> None:
    assert matches(rule) == [line]


def test_groups_become_sets_of_one_version() -> None:
    group = Group("g", ("10.0.0.7", "10.1.0.0/24", "10.0.0.7"))
    (line,) = matches(Rule("ingress", remote_group="g"), group)
    name = line.split("@")[1].split()[0]
    done = compile_rules((port("a", Rule("ingress", remote_group="g")),), (group,))
    assert done.sets[name].kind == "ipv4_addr"
    assert done.sets[name].members == ("10.0.0.7/32", "10.1.0.0/24")
    assert matches(Rule("ingress", "IPv6", remote_group="g"), group) == [], "nobody is in it"
    assert matches(Rule("ingress", "IPv6", remote_prefix="10.0.0.0/8")) == []


def test_unknown_protocols_are_refused() -> None:
    for protocol in ("nonsense", "256"):
        with pytest.raises(BadPlan):
            matches(Rule("ingress", protocol=protocol))


def test_equal_rule_lists_share_a_chain() -> None:
    rules = (Rule("egress"), Rule("ingress", protocol="tcp"))
    done = compile_rules((port("a", *rules), port("b", *rules), port("c")), ())
    assert done.ingress["tapa"] == done.ingress["tapb"] != done.ingress["tapc"]
    assert len(done.chains) == 4
    assert all(lines[-1] == "drop" for lines in done.chains.values())


def plan(*ports: Port, **more: object) -> HostPlan:
    return msgspec.structs.replace(HostPlan("h", (Network("net", "kvb1"),), ports), **more)


def test_revision_follows_the_content() -> None:
    a, b = port("a", Rule("egress")), port("b")
    text, revision = host_rules(plan(a, b), "dep")
    assert host_rules(plan(a, b), "dep") == (text, revision)
    assert text.count(f"chain {revision} {{") == 2
    assert host_rules(plan(a), "dep")[1] != revision
    assert host_rules(plan(a, b), "other")[0] != text
    assert text.index("delete table bridge") < text.index("set known")


def test_ports_are_sorted_into_known_open_and_guarded() -> None:
    a = port(
        "a",
        allowed_address_pairs=(
            AddressPair("10.9.0.0/16"),
            AddressPair("10.8.0.1", "fa:16:3e:00:00:09"),
        ),
    )
    text, _ = host_rules(plan(a, port("b", port_security=False), port("c", admin_up=False)), "dep")
    sets = {
        line.split()[1]: following
        for line, following in zip(
            text.splitlines(), [x.strip() for x in text.splitlines()[2:]], strict=False
        )
        if line.strip().startswith("set ")
    }
    assert sets["opened"] == 'elements = { "tapb" }'
    assert sets["known"] == 'elements = { "tapb", "tapa" }'
    assert sets["macs"] == f'elements = {{ "tapa" . {MAC}, "tapa" . fa:16:3e:00:00:09 }}'
    assert f'"tapa" . {MAC} . 10.0.0.5' in sets["src4"]
    assert '"tapa" . fa:16:3e:00:00:09 . 10.8.0.1' in sets["src4"]
    assert "10.9." not in sets["src4"]
    assert f'iifname "tapa" ether saddr {MAC} ip saddr 10.9.0.0/16 return' in text
    assert "tapc" not in text


def test_legs_of_ours_are_trusted() -> None:
    net = Network(
        "net", "kvb1", vxlan=Vxlan(7), dhcp=DhcpPort("d", MAC, ()),
        host_gateway=HostGateway(("172.24.4.1/24", "fd01::1/64")),
    )  # fmt: skip
    router = Router(
        "r",
        (RouterInterface("i", "net", MAC, ()),),
        RouterGateway("g", "net", MAC, ("172.24.4.5/24",)),
    )
    text, _ = host_rules(HostPlan("h", (net,), (), (router,), vtep_ip="10.9.9.9"), "dep")
    for name in (
        names.vxlan("net"), names.dhcp_leg("net"), names.gateway_legs("net")[0],
        names.router_leg("i"), names.router_leg("g"),
    ):  # fmt: skip
        assert text.count(f'"{name}"') == 2
    assert "ip saddr { 172.24.4.0/24 } masquerade" in text
    quiet = msgspec.structs.replace(
        net, host_gateway=HostGateway(("172.24.4.1/24",), masquerade=False)
    )
    assert "masquerade" not in host_rules(HostPlan("h", (quiet,)), "dep")[0]


def test_router_rules() -> None:
    gateway = RouterGateway("g", "ext", MAC, ("172.24.4.5/24",))
    router = Router("r", (), gateway, (FloatingIp("172.24.4.7", "10.0.0.5"),))
    text, revision = router_rules(router, "t")
    assert "dnat ip to ip daddr map { 172.24.4.7 : 10.0.0.5 }" in text
    assert text.count("snat ip to ip saddr map { 10.0.0.5 : 172.24.4.7 }") == 2
    assert text.count("snat ip to 172.24.4.5") == 2
    routed, other = router_rules(
        msgspec.structs.replace(
            router, gateway=msgspec.structs.replace(gateway, enable_snat=False)
        ),
        "t",
    )
    assert routed.count("snat ip to 172.24.4.5") == 1, "only for hairpins"
    assert other != revision
    assert "postrouting" not in router_rules(Router("r"), "t")[0]


def test_link_local_address_of_a_mac() -> None:
    assert link_local("fa:16:3e:00:00:01") == "fe80::f816:3eff:fe00:1"


def test_names_fit_and_tell_deployments_apart() -> None:
    network = "3f0a1b2c-4d5e-6f70-8192-a3b4c5d6e7f8"
    assert names.tap(network) == "tap3f0a1b2c-4d"
    made = [names.bridge(network), names.vxlan(network), names.dhcp_leg(network),
            names.router_leg(network), names.inner_leg(network), names.outer_leg(network),
            *names.gateway_legs(network), names.bridge("not-a-uuid")]  # fmt: skip
    assert len(set(made)) == len(made)
    assert all(len(name) <= 15 for name in made)
    assert names.link_group("a") != names.link_group("b")
    assert names.router_namespace("a", network) != names.router_namespace("b", network)


def test_zones_are_distinct_and_stable() -> None:
    many = [f"network-{number}" for number in range(2000)]
    zones = names.zones(many)
    assert len(set(zones.values())) == len(many)
    assert all(1 <= zone <= 65535 for zone in zones.values())
    fewer = names.zones(many[:-1])
    assert sum(zones[name] != zone for name, zone in fewer.items()) <= 1
