"""PCI Express slots: how many a guest gets, what is in them, and where a new device goes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, cast

import pytest

from kilonova.base.errors import Unavailable
from kilonova.config.hypervisor import Libvirt, Qemu
from kilonova.config.settings import Settings
from kilonova.domain.guest import Disk, GuestSpec, Nic
from kilonova.virt.accel import Accel
from kilonova.virt.devices import plan
from kilonova.virt.disks import DiskFile
from kilonova.virt.qemu import command, slots
from kilonova.virt.qemu.running import Running
from tests.support.guests import spec

NIC = Nic(port_id="p1", mac="fa:16:3e:00:00:01", network_id="n", vif_type="user")


class Monitor:
    """Refuses slots in use as QEMU 7.2 does; ``broken``: refuses for another reason."""

    def __init__(self, ports: int, used: set[str], *, broken: bool = False) -> None:
        self.names = ["balloon0", *(f"spare{port}" for port in range(ports))]
        self.used = used
        self.broken = broken
        self.added: list[dict[str, Any]] = []

    async def execute(self, word: str, arguments: dict[str, Any] | None = None) -> Any:
        if word == "qom-list":
            return [{"name": name} for name in sorted(self.names)]
        assert word == "device_add" and arguments is not None
        bus = arguments.get("bus")
        why = ""
        if bus in self.used:
            why = "PCI: slot 0 function 0 not available for virtio-blk-pci, in use by x,id=y"
            assert arguments["addr"] == "0x0"
        elif self.broken:
            why = 'Failed to get "write" lock'
        if why:
            raise Unavailable("The guest's monitor did not do device_add.") from OSError(why)
        self.added.append(arguments)
        return {}


async def plugged(monitor: Monitor) -> dict[str, Any]:
    """What QEMU is asked to add, but for the driver."""
    await slots.plug(cast(Running, monitor), {"driver": "virtio-blk-pci"})
    [added] = monitor.added
    assert added.pop("driver") == "virtio-blk-pci"
    return added


async def test_a_device_gets_a_slot_that_is_free() -> None:
    used = {f"spare{port}" for port in range(11)}
    assert await plugged(Monitor(12, set())) == {"bus": "spare0", "addr": "0x0"}
    assert await plugged(Monitor(12, {"spare0"})) == {"bus": "spare1", "addr": "0x0"}
    assert await plugged(Monitor(12, used)) == {"bus": "spare11", "addr": "0x0"}
    assert await plugged(Monitor(0, set())) == {}


async def test_a_refusal_says_why() -> None:
    with pytest.raises(Unavailable, match="no free slot"):
        await plugged(Monitor(2, {"spare0", "spare1"}))
    with pytest.raises(Unavailable, match="did not do device_add"):
        await plugged(Monitor(2, {"spare0"}, broken=True))


def guest(**more: Any) -> GuestSpec:
    return spec(properties={"hw_machine_type": "q35", **more}, nics=(NIC,))


def options(made: GuestSpec, ports: int = 0, names: list[str] | None = None) -> dict[str, str]:
    """Id → the value of each ``-device``."""
    devices = plan(made)
    parts = command.Parts(
        directory=Path("/d"),
        guest=made,
        devices=devices,
        disks={disk.device: DiskFile(f"/d/{disk.device}", "raw") for disk in devices.disks},
        accel=Accel("tcg", "max"),
        fds={"monitor": 3, "serial": 4},
        ports={NIC.port_id: 2222},
        names=names,
    )
    settings = Settings(qemu=Qemu(sandbox=False), libvirt=Libvirt(num_pcie_ports=ports))
    words = command.build(parts, settings)
    values = [word for flag, word in itertools.pairwise(words) if flag == "-device"]
    return {value.partition("id=")[2].partition(",")[0]: value for value in values}


def ports_of(made: GuestSpec, ports: int = 0, names: list[str] | None = None) -> list[str]:
    """The root ports."""
    return [name for name in options(made, ports, names) if name.startswith("spare")]


def test_as_many_slots_as_wanted() -> None:
    own = len(slots.taken(plan(guest())))
    assert own >= 2
    assert len(ports_of(guest())) == own + 8
    assert len(ports_of(guest(), 20)) == 20
    assert len(ports_of(guest(), 1)) == own
    elsewhere = ["balloon0", *(f"spare{port}" for port in range(17)), "spared"]
    assert len(ports_of(guest(), 1, elsewhere)) == 17
    assert ports_of(spec(nics=(NIC,)), 20) == []


def test_a_guest_of_many_disks_has_a_slot_for_each() -> None:
    volumes = tuple(
        Disk(id=f"d{n}", role="volume", source="volume", device=f"vd{letter}", volume_id=letter)
        for n, letter in enumerate("bcdefghijklmnopqrstuvwxyz")
    )
    made = guest()
    many = options(spec(properties=made.properties, nics=(NIC,), disks=(*made.disks[:1], *volumes)))
    buses = [value.partition("bus=spare")[2].partition(",")[0] for value in many.values()]
    used = [bus for bus in buses if bus]
    assert len(used) == len(set(used)) == 27
    assert [name for name in many if name.startswith("spare")][-1] == "spare27"
    addresses = [value.partition("addr=")[2] for name, value in many.items() if "spare" in name]
    assert len(set(addresses)) == 28
    assert addresses[7:9] == ["0x10.0x7", "0x11.0x0"]


def test_old_cards_stay_on_the_root_complex() -> None:
    assert "bus=spare" in options(guest(hw_vif_model="e1000e"))["net0"]
    assert "bus=" not in options(guest(hw_vif_model="rtl8139"))["net0"]
