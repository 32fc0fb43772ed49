"""A guest that comes is made with every device in its place."""

from __future__ import annotations

import json

from kilonova.domain.guest import Disk, Nic
from kilonova.domain.live import LiveDisk, LiveShape
from kilonova.virt.devices import plan
from kilonova.virt.qemu import arrival
from tests.support.guests import spec

ROOT = Disk(id="r", role="root", source="blank", device="vda", size_mb=16, boot_index=0)
NIC = Nic(port_id="p1", mac="fa:16:3e:00:00:01", network_id="n", vif_type="user")


def test_devices_are_where_they_were() -> None:
    guest = spec(disks=(ROOT,), nics=(NIC,), config_drive=True)
    shape = LiveShape(
        machine="pc-i440fx-7.2",
        cpu="Nehalem",
        disks={"vda": LiveDisk(1 << 24), "vdb": LiveDisk(1 << 20)},
        places={"disk-vda": ("pci.0", "0x5.0x0"), "net-p1": ("pci.0", "0x9.0x0")},
        cards={"p1": "net-p1"},
    )
    planned = arrival.devices(plan(guest), shape)
    assert planned.machine.type == "pc-i440fx-7.2"
    config = {
        "node-name": "node-vdb",
        "driver": "raw",
        "read-only": True,
        "file": {"driver": "file"},
    }
    argv = [
        *("qemu", "-cpu", "qemu64", "-device", "virtio-blk-pci,id=disk-vda,serial=a,,b"),
        *("-device", "virtio-net-pci,id=net0,netdev=net0-host", "-blockdev", json.dumps(config)),
    ]
    made = arrival.fit(argv, planned, shape)
    assert made[2] == "Nehalem"
    assert made[4] == "virtio-blk-pci,id=disk-vda,serial=a,,b,bus=pci.0,addr=0x5.0x0"
    assert made[6] == "virtio-net-pci,id=net0,netdev=net0-host,bus=pci.0,addr=0x9.0x0"
    written = {"driver": "file", "node-name": "live-vdb", "read-only": False}
    assert json.loads(made[8]) == config | {"file": written}
    assert made[-2:] == ["-incoming", "defer"]
