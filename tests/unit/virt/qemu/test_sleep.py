"""Where the devices of a suspended guest are: read from QEMU, written into a command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from kilonova.base.errors import Unavailable
from kilonova.config.hypervisor import Qemu
from kilonova.config.settings import Settings
from kilonova.domain.guest import Nic
from kilonova.virt.accel import Accel
from kilonova.virt.devices import plan
from kilonova.virt.disks import DiskFile
from kilonova.virt.qemu import command, sleep
from kilonova.virt.qemu.running import Running
from kilonova.virt.records import Asleep
from tests.support.guests import spec

NIC = Nic(port_id="p1", mac="fa:16:3e:00:00:01", network_id="n", vif_type="user")
PERIPHERALS = {"balloon0": "", "net-p1": NIC.mac, "spare0": "", "disk-vdb": "", "disk-sda": ""}
BUSES = [
    {
        "devices": [
            {"slot": 0, "function": 0, "qdev_id": ""},
            {"slot": 17, "function": 0, "qdev_id": "balloon0"},
            {
                "slot": 2,
                "function": 1,
                "qdev_id": "spare0",
                "pci_bridge": {"devices": [{"slot": 0, "function": 0, "qdev_id": "disk-vdb"}]},
            },
            {"slot": 9, "function": 0, "qdev_id": "net-p1"},
        ]
    }
]


class Monitor:
    """Answers like QEMU; ``states`` of a migration, one for each look."""

    def __init__(self, *states: str) -> None:
        self.states = list(states)
        self.said: list[str] = []
        self.run = "running"

    async def execute(self, word: str, arguments: dict[str, Any] | None = None) -> Any:
        self.said.append(word)
        if word == "qom-list":
            return [{"name": name} for name in PERIPHERALS]
        if word == "qom-get":
            return self._property(**(arguments or {}))
        if word == "query-migrate":
            return {"status": self.states.pop(0)} if self.states else {}
        answers = {"query-pci": BUSES, "query-status": {"status": self.run}}
        return answers.get(word, {})

    def _property(self, path: str, property: str) -> Any:
        name = path.rpartition("/")[2]
        if property == "type":
            return "pc-q35-7.2-machine"
        if property == "mac" and PERIPHERALS[name]:
            return PERIPHERALS[name].upper()
        if property == "scsi-id" and name == "disk-sda":
            return 3
        raise Unavailable("There is no such property.")

    async def give(self, fd: int, name: str) -> None:
        self.said.append(f"give {name}")


async def test_what_is_kept_with_the_memory(tmp_path: Path) -> None:
    qemu = Monitor("none", "setup", "active", "completed")
    made = await sleep.save(cast(Running, qemu), tmp_path, [NIC])
    assert made.machine == "pc-q35-7.2"
    assert made.places == {
        "balloon0": {"bus": "pcie.0", "addr": "11.0"},
        "spare0": {"bus": "pcie.0", "addr": "2.1"},
        "disk-vdb": {"bus": "spare0", "addr": "0.0"},
        "disk-sda": {"scsi-id": "3"},
        NIC.mac: {"bus": "pcie.0", "addr": "9.0"},
    }
    assert qemu.said.index("stop") < qemu.said.index("give memory") < qemu.said.index("migrate")
    assert [each.name for each in tmp_path.iterdir()] == ["memory"]
    sleep.forget(tmp_path)
    sleep.forget(tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_a_memory_that_is_not_whole_is_none(tmp_path: Path) -> None:
    qemu = Monitor("none", "active", "failed")
    with pytest.raises(Unavailable):
        await sleep.save(cast(Running, qemu), tmp_path, [])
    assert list(tmp_path.iterdir()) == []


async def test_an_earlier_try_is_ended_first(tmp_path: Path) -> None:
    """QEMU writes the memory of a guest that has not run since only once."""
    qemu = Monitor("active", "cancelling", "cancelled", "setup", "completed")
    qemu.run = "postmigrate"
    await sleep.save(cast(Running, qemu), tmp_path, [])
    said = [word for word in qemu.said if not word.startswith("q")]
    assert said[:3] == ["migrate_cancel", "cont", "stop"]


def line(asleep: Asleep | None) -> list[str]:
    """A guest's command line."""
    guest = spec(nics=(NIC,))
    devices = plan(guest)
    parts = command.Parts(
        directory=Path("/d"),
        guest=guest,
        devices=devices,
        disks={disk.device: DiskFile(f"/d/{disk.device}", "raw") for disk in devices.disks},
        accel=Accel("tcg", "max"),
        fds={"monitor": 3, "serial": 4},
        ports={NIC.port_id: 2222},
        asleep=asleep,
    )
    return command.build(parts, Settings(qemu=Qemu(sandbox=False)))


def test_everything_sits_where_it_was() -> None:
    places = {
        "balloon0": {"bus": "pci.0", "addr": "7.0"},
        NIC.mac: {"bus": "pci.0", "addr": "5.0"},
        "gone": {"bus": "pci.0", "addr": "6.0"},
    }
    fresh, woken = line(None), line(Asleep("pc-i440fx-7.2", places))
    assert "-incoming" not in fresh
    assert woken[-2:] == ["-incoming", "defer"]
    assert woken[woken.index("-machine") + 1].startswith("pc-i440fx-7.2,")
    changed = {new for old, new in zip(fresh, woken, strict=False) if old != new}
    tails = sorted(word.partition(",bus=")[2] for word in changed if ",bus=" in word)
    assert tails == ["pci.0,addr=5.0", "pci.0,addr=7.0"]
