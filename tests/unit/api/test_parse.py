"""From bodies and queries to requests and filters, without a cloud."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kilonova.api import crypto
from kilonova.api.servers import filters, schema
from kilonova.api.servers.parse import ServerRequest, hostname_of, parse, with_image
from kilonova.base.errors import BadRequest, Forbidden
from kilonova.domain import disks
from kilonova.domain.disks import BlankDisk, RootDisk, letters
from kilonova.web.call import Query
from tests.support.cloud import IMAGE, NETWORK
from tests.support.compute import FLAVOR
from tests.support.compute import IMAGE as IMAGE_REF


def request(version: int = 104, **values: Any) -> ServerRequest:
    server = {"name": "web", "imageRef": IMAGE, "flavorRef": "1", **values}
    return with_image(parse({"server": server}, version), {})


def test_addresses_have_one_spelling() -> None:
    asked = request(accessIPv4="", accessIPv6="0000:0000:0000:0000:0000:babe:220.12.22.2")
    assert (asked.access_ip_v4, asked.access_ip_v6) == (None, "::babe:dc0c:1602")


def test_spellings() -> None:
    asked = request(
        flavorRef="http://host/flavors/7",
        min_count="2",
        availability_zone="z:h:n",
        networks=[{"uuid": NETWORK, "tag": "t"}],
        security_groups=[{"name": "a"}, {"name": "a"}, {"name": "b"}],
        config_drive="yes",
    )
    assert (asked.flavor_id, asked.least, asked.most) == ("7", 2, 2)
    assert (asked.zone, asked.host, asked.node) == ("z", "h", "n")
    assert asked.security_groups == ("a", "b")
    assert asked.config_drive
    assert isinstance(asked.networks, tuple)
    assert (asked.networks[0].network_id, asked.networks[0].tag) == (NETWORK, "t")
    assert request(version=18).description == "web"
    assert request(version=19).description is None
    assert request(networks=[]).networks is None
    assert request(availability_zone="z").host is None


@pytest.mark.parametrize(
    "values",
    [
        {"availability_zone": "a:b:c:d"},
        {"host": "h", "availability_zone": "z:h"},
        {"hostname": "h", "max_count": 2},
        {"networks": [{"port": NETWORK}, {"port": NETWORK}]},
        {"networks": [{"uuid": "short"}]},
        {"block_device_mapping_v2": [{"source_type": "image", "uuid": IMAGE, "boot_index": 1}]},
        {"block_device_mapping_v2": [{"source_type": "blank", "boot_index": 0}]},
        {"block_device_mapping_v2": [{"source_type": "blank", "boot_index": -1}]},
    ],
)
def test_refused(values: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        request(**values)


def test_host_names() -> None:
    assert hostname_of("My Server_1.example", "id") == "my-server-1-example"
    assert hostname_of("Ünïcode", "id") == "ncode"
    assert hostname_of("☃", "id") == "server-id"
    assert len(hostname_of("x" * 100, "id")) == 63


def test_schema_by_version() -> None:
    body = {"server": {"name": "a", "flavorRef": "1", "networks": "auto"}}
    old, new = schema.CREATE.at(36), schema.CREATE.at(37)
    assert old is not None and new is not None
    assert (old.is_valid(body), new.is_valid(body)) == (False, True)
    del body["server"]["networks"]
    assert (old.is_valid(body), new.is_valid(body)) == (True, False)


def test_filters() -> None:
    def read(text: str, version: int = 104, **more: Any) -> Any:
        known = {"project_id": "p", "everything": False, "admin": False, **more}
        return filters.filters(Query(text), version, **known)

    assert read("host=h").equal == {}
    assert read("host=h", everything=True).equal == {"host": ("h",)}
    assert read("user_id=u", 82).equal == {}
    assert read("user_id=u", 83).equal == {"user_id": ("u",)}
    assert read("changes-since=2026-01-01").deleted is None
    assert read("status=nothing", 37) is None
    with pytest.raises(Forbidden):
        read("status=deleted")
    for wrong in ("status=nothing", "ip=[", "locked=perhaps", "changes-since=x", "power_state=x"):
        with pytest.raises(BadRequest):
            read(wrong)
    assert [o.key for o in filters.order(Query("sort_key=display_name&sort_dir=asc"))] == [
        "name",
        "created_at",
        "uuid",
    ]


def test_disks() -> None:
    flavor = msgspec.structs.replace(FLAVOR, ephemeral_gb=3, swap_mb=64)
    names = iter("abcdefgh")

    def plan(*blanks: BlankDisk, **more: Any) -> list[tuple[str, str, int]]:
        made = disks.plan(
            flavor, IMAGE_REF, blanks, root=RootDisk(**more), new_id=lambda: next(names)
        )
        return [(disk.role, disk.device, disk.size_mb) for disk in made]

    assert plan() == [("root", "vda", 1024), ("ephemeral", "vdb", 3072), ("swap", "vdc", 64)]
    split = plan(BlankDisk(size_gb=1), BlankDisk(size_gb=2), bus="scsi", device="/dev/sdx")
    assert [row[1] for row in split] == ["sdx", "vda", "vdb", "vdc"]
    with pytest.raises(BadRequest):
        plan(BlankDisk(size_gb=4))
    with pytest.raises(BadRequest):
        plan(BlankDisk(swap=True), BlankDisk(swap=True))
    assert [letters(n) for n in (0, 25, 26, 701, 702)] == ["a", "z", "aa", "zz", "aaa"]


def test_keys() -> None:
    made = crypto.generate_ssh()
    assert crypto.ssh_fingerprint(made.public_key) == made.fingerprint
    assert made.fingerprint.count(":") == 15
    for wrong in ("", "ssh-rsa", "ssh-rsa !!!", "ssh-rsa AAAA", "☃ ☃"):
        with pytest.raises(BadRequest):
            crypto.ssh_fingerprint(wrong)
    with pytest.raises(BadRequest):
        crypto.x509_fingerprint("no certificate")
