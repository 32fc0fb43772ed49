"""The guest image's building blocks: archives, partition tables, module files, scripts."""

from __future__ import annotations

import json
import shutil
import stat
import struct
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

from kilonova.embedded.guestimage import cpio, disk, image, tools, tree

ROOTFS = Path(str(files("kilonova.embedded.guestimage"))) / "rootfs"


def _members(data: bytes) -> list[tuple[str, int, bytes]]:
    found = []
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        field = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = field[1], field[6], field[11]
        name = data[at + 110 : at + 109 + name_size].decode()
        start = at + (110 + name_size + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found.append((name, mode, data[start : start + size]))
        at = start + (size + 3) // 4 * 4


def test_archive_round_trip_in_sorted_order() -> None:
    data = cpio.archive(
        [
            cpio.file("etc/b", b"12345", 0o600),
            cpio.link("bin/sh", "busybox"),
            cpio.directory("etc"),
            cpio.character_device("dev/console", 5, 1),
        ]
    )
    assert len(data) % 512 == 0
    assert _members(data) == [
        ("bin/sh", stat.S_IFLNK | 0o777, b"busybox"),
        ("dev/console", stat.S_IFCHR | 0o600, b""),
        ("etc", stat.S_IFDIR | 0o755, b""),
        ("etc/b", stat.S_IFREG | 0o600, b"12345"),
    ]


def test_boot_record_has_one_active_partition_and_the_state_after_it() -> None:
    record = disk.boot_record(b"\x90" * 440)
    assert len(record) == 512
    assert record[510:] == b"\x55\xaa"
    rows = [struct.unpack("<B3sB3sII", record[446 + 16 * n : 462 + 16 * n]) for n in range(4)]
    assert [(row[0], row[2]) for row in rows] == [(0x80, 0x0E), (0, 0x83), (0, 0), (0, 0)]
    assert rows[0][4] + rows[0][5] == rows[1][4]
    assert (rows[1][4] + rows[1][5]) * 512 == disk.DISK_SIZE_MIB * disk.MIB


def test_signature_is_cut_off_a_module() -> None:
    signed = (
        b"\x7fELF code"
        + b"S" * 300
        + struct.pack(">BBBBB3xI", 0, 0, 2, 0, 0, 300)
        + b"~Module signature appended~\n"
    )
    assert tree.without_signature(signed) == b"\x7fELF code"
    assert tree.without_signature(b"\x7fELF code") == b"\x7fELF code"


def test_fingerprint_is_stable() -> None:
    assert image.fingerprint() == image.fingerprint()
    assert len(image.fingerprint()) == 20


def test_missing_tools_are_named_by_package(tmp_path: Path) -> None:
    for tool in set(tools.PACKAGES) - {"syslinux", "mkfs.vfat"}:
        (tmp_path / tool).write_text("")
        (tmp_path / tool).chmod(0o755)
    assert tools.missing_packages(str(tmp_path), tmp_path / "absent") == {
        "dosfstools",
        "syslinux",
        "syslinux-common",
    }


@pytest.mark.parametrize(
    "script",
    [path for path in ROOTFS.rglob("*") if path.is_file() and path.read_bytes()[:9] == b"#!/bin/sh"]
    + [ROOTFS / "lib/guest/functions"],
    ids=lambda path: str(path.relative_to(ROOTFS)),
)
def test_scripts_parse(script: Path) -> None:
    subprocess.run(["sh", "-n", script], check=True)


needs_awk = pytest.mark.skipif(shutil.which("awk") is None, reason="no awk on this machine")


@needs_awk
def test_json_is_flattened(tmp_path: Path) -> None:
    source = tmp_path / "in.json"
    value = {
        "a": {"b.c": [1, True, None, {"d": 'say "hi"\\ \t'}], "empty": [], "none": {}},
        "key": "ssh-ed25519 AAAA me@x\n",
        "z": -1.5e3,
    }
    source.write_text(json.dumps(value, indent=1))
    out = subprocess.run(
        ["awk", "-f", ROOTFS / "bin/json", source], check=True, capture_output=True, text=True
    ).stdout
    assert out.splitlines() == [
        "a.b.c.0\t1",
        "a.b.c.1\ttrue",
        "a.b.c.2\tnull",
        'a.b.c.3.d\tsay "hi"\\  ',
        "key\tssh-ed25519 AAAA me@x ",
        "z\t-1500.0",
    ]


@needs_awk
def test_network_data_becomes_a_plan(tmp_path: Path) -> None:
    links = [{"id": "tap1", "ethernet_mac_address": "FA:16:3E:00:00:01", "mtu": 1450}]
    fixed = {
        "type": "ipv4",
        "link": "tap1",
        "ip_address": "10.0.5.11",
        "netmask": "255.255.254.0",
        "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.4.1"}],
    }
    six = {"type": "ipv6", "link": "tap1", "ip_address": "fd00::9", "netmask": "ffff:ff80::"}
    leased = {"type": "ipv4_dhcp", "link": "tap1"}
    flat = tmp_path / "flat.json"
    flat.write_text(
        json.dumps(
            {
                "links": links,
                "networks": [fixed, six, leased, {"type": "ipv4", "link": "unknown"}],
                "services": [{"type": "dns", "address": "9.9.9.9"}],
            }
        )
    )
    lines = subprocess.run(
        ["awk", "-f", ROOTFS / "bin/json", flat], check=True, capture_output=True
    ).stdout
    plan = subprocess.run(
        ["awk", "-f", ROOTFS / "lib/guest/netplan.awk"],
        input=lines,
        check=True,
        capture_output=True,
    ).stdout.decode()
    mac = "fa:16:3e:00:00:01"
    assert plan.splitlines() == [
        "dns 9.9.9.9",
        f"mtu {mac} 1450",
        f"addr {mac} 10.0.5.11/23",
        f"route {mac} 0.0.0.0/0 10.0.4.1",
        f"addr {mac} fd00::9/25",
        f"dhcp {mac}",
    ]
