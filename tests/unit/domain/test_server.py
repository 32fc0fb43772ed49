"""Names, host ids and addresses of servers."""

from __future__ import annotations

import json

import msgspec

from kilonova.domain.server import addresses, guest_name, host_id
from tests.support import compute


def test_guest_names() -> None:
    assert guest_name(42) == "instance-0000002a"
    assert compute.server().guest_name == ""
    assert msgspec.structs.replace(compute.server(), number=1).guest_name == "instance-00000001"


def test_host_ids_tell_hosts_apart_and_projects_too() -> None:
    assert host_id("p1", None) == host_id("p1", "") == ""
    assert host_id("p1", "h1") == host_id("p1", "h1")
    assert len({host_id("p1", "h1"), host_id("p1", "h2"), host_id("p2", "h1")}) == 3
    assert len(host_id("p1", "h1")) == 56


def test_addresses_by_network() -> None:
    table = json.loads(bytes(addresses([compute.NIC])))
    assert [row["addr"] for row in table["private"]] == ["10.0.0.5", "172.24.4.9"]
    assert [row["OS-EXT-IPS:type"] for row in table["private"]] == ["fixed", "floating"]
    assert {row["OS-EXT-IPS-MAC:mac_addr"] for row in table["private"]} == {"fa:16:3e:00:00:01"}
    bare = msgspec.structs.replace(compute.NIC, ips=())
    assert json.loads(bytes(addresses([bare]))) == {"private": []}
