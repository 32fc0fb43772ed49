from __future__ import annotations

import json

import msgspec

from kilonova.domain.guest import Disk, GuestShare
from kilonova.metadata import openstack
from kilonova.metadata.network import network_data
from tests.support.described import KEY, PROJECT, SERVER, guest

EXTRAS = openstack.Extras(random=lambda n: b"r" * n)


def document(version: str) -> dict[str, object]:
    data = openstack.read(guest(), version, "meta_data.json", EXTRAS)
    assert data is not None
    read: dict[str, object] = json.loads(data)
    return read


def test_each_version_has_its_keys() -> None:
    since = {
        "random_seed": "2013-04-04",
        "project_id": "2015-10-15",
        "devices": "2016-06-30",
        "dedicated_cpus": "2020-10-14",
    }
    for version in openstack.VERSIONS:
        doc = document(version)
        assert (doc["uuid"], doc["name"], doc["hostname"]) == (SERVER, "web 1", "web-1.novalocal")
        assert doc["public_keys"] == {"mine": KEY}
        assert doc["keys"] == [{"name": "mine", "type": "ssh", "data": KEY}]
        assert doc["files"] == [{"path": "/etc/motd", "content_path": "/content/0000"}]
        assert "admin_pass" not in doc
        for key, first in since.items():
            assert (key in doc) == (version >= first), (version, key)
    assert document("2025-04-04")["project_id"] == PROJECT


def test_listings_grow_with_the_versions() -> None:
    assert openstack.listing(guest(), "2012-08-10") == ["meta_data.json", "user_data"]
    assert set(openstack.listing(guest(), "2016-10-06")) == {*openstack.FILES, "user_data"}
    assert openstack.read(guest(), "2012-08-10", "network_data.json", EXTRAS) is None


def test_network_data_tells_dhcp_from_fixed() -> None:
    doc = network_data(guest().nics)
    assert doc["links"][0] == {
        "id": "tap11111111-22",
        "vif_id": "11111111-2222-4333-8444-555555555555",
        "type": "bridge",
        "mtu": 1450,
        "ethernet_mac_address": "fa:16:3e:00:00:01",
    }
    four, six = doc["networks"]
    assert four == {
        "id": "network0",
        "type": "ipv4_dhcp",
        "link": "tap11111111-22",
        "network_id": "net1",
    }
    assert (six["type"], six["ip_address"]) == ("ipv6_slaac", "2001:db8::5")
    assert six["routes"] == [{"network": "::", "netmask": "::", "gateway": "2001:db8::1"}]
    assert doc["services"] == [{"type": "dns", "address": "10.0.0.2"}]


def test_shares_are_told_since_they_are_known() -> None:
    told = guest()
    plain = openstack.devices(told, "2025-04-04")
    told = msgspec.structs.replace(told, shares=(GuestShare("s1", "mine", "h:/e"),))
    share = {"type": "share", "bus": "none", "address": "none", "share_id": "s1", "tag": "mine"}
    assert openstack.devices(told, "2025-04-04") == [*plain, share]
    assert openstack.devices(told, "2020-10-14") == plain


def test_devices_by_version() -> None:
    card = msgspec.structs.replace(
        guest().nics[0], tag=None, vnic_type="direct", details={"vlan": "1000"}
    )
    tagged = Disk("d2", "volume", "volume", "vdb", volume_id="v1", tag="db")
    scsi = Disk("d3", "ephemeral", "blank", "sda", bus="scsi", serial="s3", tag="scratch")
    told = guest(nics=(guest().nics[0], card), disks=(tagged, scsi))
    old = openstack.devices(told, "2016-06-30")
    assert [d["type"] for d in old] == ["nic", "disk", "disk"]
    assert old[0] == {
        "type": "nic",
        "bus": "pci",
        "address": "none",
        "mac": "fa:16:3e:00:00:01",
        "tags": ["front"],
    }
    new = openstack.devices(told, "2018-08-27")
    assert [d.get("vlan") for d in new] == [None, 1000, None, None]
    assert [d.get("vf_trusted") for d in new] == [False, False, None, None]
    assert new[2] == {
        "type": "disk",
        "bus": "pci",
        "address": "none",
        "path": "/dev/vdb",
        "tags": ["db"],
        "serial": "v1",
    }
    assert (new[3]["bus"], new[3]["serial"]) == ("scsi", "s3")


def test_a_host_name_gets_the_clouds_domain_whatever_it_looks_like() -> None:
    named = guest()
    whole = msgspec.structs.replace(
        named, metadata=msgspec.structs.replace(named.metadata, hostname="web.example.org")
    )
    assert openstack.hostname(named, "") == "web-1"
    assert openstack.hostname(whole, "") == "web.example.org"
    assert openstack.hostname(whole, "novalocal") == "web.example.org.novalocal"
