"""The guest image built from packages boots, finds its instance data, and lets its owner in."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kilonova.embedded.guestimage import GuestImage, build
from tests.live import guest as kit

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(240)]

UUID = "5a3c2f0e-1f44-4d0c-8f5e-0d8f6c1b9a77"
OTHER_UUID = "8c1f8f0c-5d8e-4d55-9c39-3a3c1f6be012"


def _cache() -> Path:
    given = os.environ.get("KILONOVA_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "kilonova"


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuestImage]:
    target = tmp_path_factory.mktemp("image") / "guest.qcow2"
    steps: list[float] = []
    yield asyncio.run(
        build(target, cache_dir=_cache(), progress=lambda _text, part: steps.append(part))
    )
    assert steps[-1] == 1.0


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "id"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", 'it\'s "me"', "-f", path], check=True
    )
    return path


@pytest.fixture
def disk(tmp_path: Path, image: GuestImage) -> Path:
    path = tmp_path / "disk.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", image.path, "-F", "qcow2", path, "1G"],
        check=True,
    )
    return path


def _documents(key: Path, uuid: str, **more: bytes) -> dict[str, bytes]:
    meta = {
        "availability_zone": "nova",
        "random_seed": "qk/" * 200,
        "public_keys": {"my.key": key.with_suffix(".pub").read_text()},
        "hostname": "first-server.novalocal",
        "name": 'first "server" \u00e9',
        "meta": {"uuid": "not this one", "nested": [1, {"a": None}]},
        "uuid": uuid,
    }
    return {"meta_data.json": json.dumps(meta).encode(), **more}


async def test_image_is_described(image: GuestImage) -> None:
    said = json.loads(
        subprocess.run(
            ["qemu-img", "info", "--output=json", image.path], check=True, capture_output=True
        ).stdout
    )
    assert said["format"] == "qcow2"
    assert said["virtual-size"] == 48 * 1024 * 1024
    assert "backing-filename" not in said
    assert image.size == image.path.stat().st_size < 32 * 1024 * 1024
    assert len(image.sha512) == 128


async def test_two_builders_share_a_cache(tmp_path: Path, image: GuestImage) -> None:
    first, second = await asyncio.gather(
        *(
            build(tmp_path / name, cache_dir=_cache(), progress=lambda _text, _part: None)
            for name in ("a", "b")
        )
    )
    assert first.sha512 == second.sha512 == image.sha512
    assert first.path.read_bytes() == second.path.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


async def test_http_metadata_ssh_reboot_and_power_button(
    tmp_path: Path, disk: Path, key: Path
) -> None:
    tree = tmp_path / "metadata"
    tree.mkdir()
    script = b"#!/bin/sh\necho said by user data\nhostname >~/made\nexit 3\n"
    for name, content in _documents(key, UUID, user_data=script).items():
        (tree / name).write_bytes(content)
    port = kit.free_port()
    network = kit.user_network(tmp_path, port=port, metadata=tree)
    async with kit.running(tmp_path / "run", disk, *network, key=key, port=port) as guest:
        await guest.wait_for("guest: ready")
        lines = guest.lines()
        assert "guest: disk vda size=1024MiB serial=root" in lines
        assert "guest: boot=1" in lines
        assert "guest: nic eth0 mac=52:54:00:aa:bb:01" in lines
        assert any(line.startswith("guest: net eth0 dhcp ip=169.254.0.15/16") for line in lines)
        assert f"guest: metadata=http uuid={UUID} hostname=first-server.novalocal" in lines
        assert "guest: hostname=first-server" in lines
        assert "guest: keys=1" in lines
        assert "guest: sshd up" in lines
        assert "userdata: said by user data" in lines
        assert "guest: userdata exit=3" in lines
        assert await guest.ssh("cat ~/made; hostname; id -u") == ("first-server\nfirst-server\n0\n")
        assert await guest.ssh("id -un", user="cloud") == "cloud\n"
        host_key = await guest.ssh("dropbearkey -y -f /data/hostkey")
        await guest.ssh("reboot")
        await guest.wait_for("guest: ready", count=2)
        assert "guest: boot=2" in guest.lines()
        assert "guest: userdata already run" in guest.lines()
        assert await guest.ssh("cat ~/made") == "first-server\n"
        assert await guest.ssh("dropbearkey -y -f /data/hostkey") == host_key
        await guest.qmp("system_powerdown")
        await guest.wait_for("guest: power button")
        await guest.ended()


async def test_config_drive_wins_and_static_addresses(
    tmp_path: Path, disk: Path, key: Path
) -> None:
    """Both sources are there, each with a UUID of its own; then devices come and go."""
    tree = tmp_path / "metadata"
    tree.mkdir()
    for name, content in _documents(key, OTHER_UUID).items():
        (tree / name).write_bytes(content)
    network_data = {
        "links": [
            {"id": "tap0", "ethernet_mac_address": "52:54:00:AA:BB:01", "mtu": 1400, "type": "ovs"}
        ],
        "networks": [
            {
                "id": "network0", "type": "ipv4", "link": "tap0",
                "ip_address": "169.254.0.77", "netmask": "255.255.0.0",
                "routes": [
                    {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "169.254.0.2"},
                    {"network": "10.9.0.0", "netmask": "255.255.128.0", "gateway": "169.254.0.9"},
                ],
            },
            {
                "id": "network1", "type": "ipv6", "link": "tap0", "routes": [],
                "ip_address": "fd00:77::5", "netmask": "ffff:ffff:ffff:ffff::",
            },
        ],
        "services": [{"type": "dns", "address": "169.254.0.3"}],
    }  # fmt: skip
    drive = tmp_path / "config.iso"
    more = {"network_data.json": json.dumps(network_data).encode(), "vendor_data.json": b"{}"}
    kit.iso_config_drive(drive, _documents(key, UUID, **more))
    spare = tmp_path / "spare.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", spare, "7M"], check=True)
    port = kit.free_port()
    devices = [
        *kit.user_network(tmp_path, port=port, guest_address="169.254.0.77", metadata=tree),
        "-drive", f"file={drive},if=none,id=config,format=raw,readonly=on",
        "-device", "virtio-blk-pci,drive=config",
        "-chardev", f"socket,id=agent0,path={tmp_path}/agent,server=on,wait=off",
        "-device", "virtio-serial-pci",
        "-device", "virtserialport,chardev=agent0,name=org.qemu.guest_agent.0",
        "-device", "pcie-root-port,id=slot0,slot=20,chassis=20",
        "-device", "pcie-root-port,id=slot1,slot=21,chassis=21",
        "-netdev", "user,id=net1,restrict=on",
    ]  # fmt: skip
    async with kit.running(
        tmp_path / "run", disk, *devices, key=key, port=port, machine="q35"
    ) as guest:
        await guest.wait_for("guest: ready")
        lines = guest.lines()
        assert "guest: configdrive /dev/vdb iso9660" in lines
        assert f"guest: metadata=configdrive uuid={UUID} hostname=first-server.novalocal" in lines
        assert f"guest: metadata=http uuid={OTHER_UUID} hostname=first-server.novalocal" in lines
        assert "guest: net eth0 static ip=169.254.0.77/16" in lines
        assert "guest: net eth0 static ip=fd00:77::5/64" in lines
        assert "guest: agent up" in lines
        routes = await guest.ssh("ip route; cat /sys/class/net/eth0/mtu /etc/resolv.conf")
        assert "default via 169.254.0.2 dev eth0" in routes
        assert "10.9.0.0/17 via 169.254.0.9 dev eth0" in routes
        assert routes.endswith("1400\nnameserver 169.254.0.3\n")
        assert await _agent_answers(tmp_path / "agent")
        await guest.qmp("device_add", driver="virtio-net-pci", id="nic1", netdev="net1",
                        mac="52:54:00:aa:bb:02", bus="slot0", romfile="")  # fmt: skip
        await guest.wait_for("guest: hotplug nic eth1 mac=52:54:00:aa:bb:02")
        await guest.wait_for("guest: net eth1 dhcp ip=10.0.2.15/24")
        await guest.qmp("blockdev-add", driver="qcow2", **{"node-name": "spare"},
                        file={"driver": "file", "filename": str(spare)})  # fmt: skip
        await guest.qmp("device_add", driver="virtio-blk-pci", id="disk1", drive="spare",
                        bus="slot1", serial="volume-1")  # fmt: skip
        await guest.wait_for("guest: hotplug disk vdc size=7MiB serial=volume-1")
        await guest.qmp("block_resize", **{"node-name": "spare"}, size=9 * 1024 * 1024)
        await guest.wait_for("guest: resize disk vdc size=9MiB")
        await guest.qmp("device_del", id="disk1")
        await guest.wait_for("guest: unplug disk vdc")
        await guest.qmp("device_del", id="nic1")
        await guest.wait_for("guest: unplug nic eth1")


async def _agent_answers(path: Path) -> bool:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(b'{"execute": "guest-ping"}\n')
        return json.loads(await asyncio.wait_for(reader.readline(), 30)) == {"return": {}}
    finally:
        writer.close()
        await writer.wait_closed()


async def test_vfat_config_drive_without_a_network(tmp_path: Path, disk: Path, key: Path) -> None:
    drive = tmp_path / "config.img"
    kit.vfat_config_drive(drive, _documents(key, UUID, user_data=b"#cloud-config\n{}\n"))
    devices = [
        "-drive", f"file={drive},if=none,id=config,format=raw,readonly=on",
        "-device", "virtio-blk-pci,drive=config",
    ]  # fmt: skip
    async with kit.running(tmp_path / "run", disk, *devices, key=key, port=0, ram=96) as guest:
        await guest.wait_for("guest: ready")
        lines = guest.lines()
        assert "guest: configdrive /dev/vdb vfat" in lines
        assert f"guest: metadata=configdrive uuid={UUID} hostname=first-server.novalocal" in lines
        assert "guest: metadata=http none" in lines
        assert "guest: userdata ignored" in lines
        assert "guest: keys=1" in lines


async def test_config_drive_on_an_ide_cdrom(tmp_path: Path, disk: Path, key: Path) -> None:
    drive = tmp_path / "config.iso"
    kit.iso_config_drive(drive, _documents(key, UUID))
    devices = [
        "-drive", f"file={drive},if=none,id=config,format=raw,readonly=on,media=cdrom",
        "-device", "ide-cd,drive=config",
    ]  # fmt: skip
    async with kit.running(tmp_path / "run", disk, *devices, key=key, port=0) as guest:
        await guest.wait_for("guest: ready")
        assert "guest: configdrive /dev/sr0 iso9660" in guest.lines()
        assert "guest: keys=1" in guest.lines()
