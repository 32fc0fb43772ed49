"""Connections that QEMU opens by itself, as block nodes."""

from __future__ import annotations

from typing import Any

import pytest

from kilonova.base.errors import Unavailable
from kilonova.domain.guest import Disk
from kilonova.virt.sources import source

VOLUME = "aaaaaaaa-0000-4000-8000-000000000001"
MARK = VOLUME.replace("-", "")


def disk(kind: str, **data: Any) -> Disk:
    return Disk(
        id="d",
        role="volume",
        source="volume",
        device="vdb",
        volume_id=VOLUME,
        connection={"driver_volume_type": kind, "data": data},
    )


def test_nbd() -> None:
    plain = source(disk("nbd", host="h", port=10809, export="e"))
    assert plain is not None
    assert plain.node["server"] == {"type": "inet", "host": "h", "port": "10809"}
    assert (plain.node["export"], plain.objects, plain.files) == ("e", (), {})
    keyed = source(disk("nbd", host="h", port=1, export="e", tls_psk="ab", tls_identity="me"))
    assert keyed is not None
    [creds] = keyed.objects
    assert (creds["qom-type"], creds["username"]) == ("tls-creds-psk", "me")
    assert keyed.node["tls-creds"] == creds["id"] == f"tls-{MARK}"
    assert keyed.files == {f"tls-{MARK}/keys.psk": "me:ab\n"}
    assert "ab" not in str(keyed.objects)


def test_iscsi() -> None:
    given = {"target_portal": "10.0.0.1:3260", "target_iqn": "iqn.x:v", "target_lun": "1"}
    plain = source(disk("iscsi", **given))
    assert plain is not None
    assert (plain.node["portal"], plain.node["lun"]) == ("10.0.0.1:3260", 1)
    login = {"auth_method": "CHAP", "auth_username": "u", "auth_password": "secret"}
    found = source(disk("iscsi", **given, **login))
    assert found is not None
    assert (found.node["user"], found.node["password-secret"]) == ("u", f"chap-{MARK}")
    assert found.files == {f"chap-{MARK}": "secret"}
    assert "'secret'" not in str(found.node)


def test_rbd() -> None:
    given = {"name": "volumes/volume-1", "hosts": ["10.0.0.1", "[fd00::1]"], "ports": ["1", "2"]}
    found = source(
        disk("rbd", **given, auth_enabled=True, auth_username="cinder",
             keyring="[client.cinder]\n\tkey = AQ==\n")
    )  # fmt: skip
    assert found is not None
    assert (found.node["pool"], found.node["image"]) == ("volumes", "volume-1")
    assert found.node["server"] == [
        {"host": "10.0.0.1", "port": "1"},
        {"host": "fd00::1", "port": "2"},
    ]
    assert (found.node["user"], found.files) == ("cinder", {f"ceph-{MARK}": "AQ=="})
    assert found.objects[0]["format"] == "base64"


def test_nfs() -> None:
    found = source(disk("nfs", export="filer:/exports/a", name="volume-1", format="qcow2"))
    assert found is not None
    assert found.node["path"] == "/exports/a/volume-1"
    assert found.format == "qcow2"


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("nbd", {"host": "h"}),
        ("iscsi", {"target_portal": "p", "target_iqn": "i", "target_lun": "x"}),
        ("rbd", {"name": "p/i", "hosts": ["a"], "ports": []}),
        ("nfs", {"export": "no path", "name": "n"}),
    ],
)
def test_nonsense(kind: str, data: dict[str, Any]) -> None:
    with pytest.raises(Unavailable, match="cannot be understood"):
        source(disk(kind, **data))


def test_what_the_host_opens() -> None:
    assert source(disk("fibre_channel")) is None
    assert source(disk("local", device_path="/x")) is None
