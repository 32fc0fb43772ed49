"""What a first start reads from the host, and the arithmetic of prefixes."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from kilonova.base.errors import BadRequest, Conflict
from kilonova.embedded.network import rules
from kilonova.embedded.network.api import subnetpools
from kilonova.embedded.network.open import _free, host_prefixes, host_resolvers

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
kvh0\t000418AC\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""


def test_prefixes_of_the_host(tmp_path: Path) -> None:
    table = tmp_path / "route"
    table.write_text(ROUTES)
    assert host_prefixes(table) == ["192.168.1.0/24", "172.24.4.0/24"]
    assert host_prefixes(tmp_path / "none") == []


def test_a_free_prefix() -> None:
    assert str(_free([])) == "172.24.4.0/24"
    assert str(_free(["172.24.4.0/24", "fd00::/8"])) == "172.24.5.0/24"
    assert str(_free(["172.16.0.0/12"])) == "10.224.0.0/24"
    with pytest.raises(Conflict):
        _free(["0.0.0.0/0"])


def test_name_servers_guests_can_reach(tmp_path: Path) -> None:
    stub, real = tmp_path / "stub", tmp_path / "real"
    stub.write_text("# x\nnameserver 127.0.0.53\noptions edns0\n")
    real.write_text("nameserver 9.9.9.9\nnameserver fe80::1%eth0\nnameserver\nnameserver x\n"
                    "nameserver 2620:fe::fe\nnameserver 9.9.9.9\n")  # fmt: skip
    assert host_resolvers([stub, real]) == ("9.9.9.9", "2620:fe::fe")
    assert host_resolvers([stub]) == ()
    assert host_resolvers([tmp_path / "none"]) == ()


def test_pools_leave_the_gateway_out() -> None:
    net = rules.network("10.0.0.0/29")
    assert rules.default_pools(net, "10.0.0.1") == [{"start": "10.0.0.2", "end": "10.0.0.6"}]
    assert rules.default_pools(net, "10.0.0.4") == [
        {"start": "10.0.0.1", "end": "10.0.0.3"},
        {"start": "10.0.0.5", "end": "10.0.0.6"},
    ]
    assert rules.default_pools(rules.network("10.0.0.8/31"), None) == [
        {"start": "10.0.0.8", "end": "10.0.0.9"}
    ]


def test_host_bits_of_a_prefix_are_struck_out() -> None:
    assert str(rules.network("10.99.99.0/16")) == "10.99.0.0/16"


@pytest.mark.parametrize("text", ["10.0.0.1.2/24", "x", "fe80::%1/64", "10.0.0.0/33"])
def test_what_is_no_prefix(text: str) -> None:
    with pytest.raises(BadRequest):
        rules.network(text)


def test_candidates_go_round_and_end() -> None:
    pools = [{"start": "10.0.0.2", "end": "10.0.0.4"}, {"start": "10.0.0.8", "end": "10.0.0.8"}]
    found = list(rules.candidates(pools, {"10.0.0.3"}, 3))
    assert found == ["10.0.0.8", "10.0.0.2", "10.0.0.4"]
    assert list(rules.candidates(pools, {"10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.8"}, 7)) == []


def test_the_first_free_piece_of_a_pool() -> None:
    big = ipaddress.ip_network("10.0.0.0/8")
    taken = [ipaddress.ip_network(t) for t in ("10.0.0.0/26", "10.0.0.64/26", "10.0.1.0/24")]
    assert str(subnetpools._first_free(big, 24, taken)) == "10.0.2.0/24"
    assert str(subnetpools._first_free(big, 26, taken)) == "10.0.0.128/26"
    assert subnetpools._first_free(rules.network("10.0.0.0/26"), 26, taken) is None


def test_addresses_made_from_macs() -> None:
    net = rules.network("fd00::/64")
    assert rules.eui64(net, "fa:16:3e:00:00:01") == "fd00::f816:3eff:fe00:1"
    for bad in ("01:00:5e:00:00:01", "00:00:00:00:00:00", "fa:16:3e", "zz:16:3e:00:00:01"):
        with pytest.raises(BadRequest):
            rules.check_mac(bad)
    assert rules.check_mac("FA-16-3E-00-00-01") == "fa:16:3e:00:00:01"
