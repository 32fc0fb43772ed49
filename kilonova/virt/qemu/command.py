"""The command line of a guest, from its devices and the things made for it."""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec

from kilonova.config.settings import Settings
from kilonova.domain.guest import Disk, GuestSpec
from kilonova.virt import consolelog
from kilonova.virt.accel import Accel
from kilonova.virt.devices import Devices, DiskDevice, Machine, NicDevice
from kilonova.virt.disks import DiskFile, name_of, shared
from kilonova.virt.qemu import fileshares, slots
from kilonova.virt.records import Asleep

MONITOR = "monitor.sock"
SERIAL = "serial.sock"
AGENT = "agent.sock"
METADATA = "metadata.sock"
PIDFILE = "pid"
AGENT_PORT = "org.qemu.guest_agent.0"
HOST_ADDRESS = "169.254.0.2"
GUEST_ADDRESS = "169.254.0.15"
METADATA_ADDRESS = "169.254.169.254"
SERIAL_LENGTH = {"virtio": 20, "sata": 20, "ide": 20}
"""What fits; Linux shows it in ``/dev/disk/by-id``."""

VIDEO = {
    "vga": "VGA",
    "cirrus": "cirrus-vga",
    "qxl": "qxl-vga",
    "virtio": "virtio-vga",
    "vmvga": "vmware-svga",
    "bochs": "bochs-display",
}
_ALONE = "elevateprivileges=deny,spawn=deny"
NETWORK = {"virtio": "virtio-net-pci"}


class Parts(msgspec.Struct, frozen=True):
    """What was made for one start. ``fds``: monitor, agent, serial or a card's id → descriptor.

    ``asleep``: it shall wait for the memory of a guest that was suspended. ``names``: of the
    devices of the guest elsewhere whose memory it shall wait for.
    """

    directory: Path
    guest: GuestSpec
    devices: Devices
    disks: dict[str, DiskFile]
    accel: Accel
    fds: dict[str, int]
    ports: dict[str, int]
    metadata: bool = False
    asleep: Asleep | None = None
    names: Collection[str] | None = None


def build(parts: Parts, settings: Settings) -> list[str]:
    """The whole command line; the guest is made stopped and waits for ``cont``."""
    machine = parts.devices.machine
    if parts.asleep is not None and parts.asleep.machine:
        machine = msgspec.structs.replace(machine, type=parts.asleep.machine)
    names = parts.names if parts.asleep is None else parts.asleep.places
    words = [
        settings.qemu.binary,
        *("-name", f"guest={parts.guest.name},debug-threads=on"),
        *("-uuid", parts.guest.server_id),
        *("-pidfile", str(parts.directory / PIDFILE)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-S", "-no-shutdown"),
        *_machine(machine, parts.accel),
        *slots.words(slots.count(parts.devices, settings.libvirt, names)),
        *_monitor(parts),
        *_serial(parts, settings),
        *_agent(parts, machine),
        *_common(machine, settings),
        *_video(machine, settings),
        *_disks(parts),
        *(word for nic in parts.devices.nics for word in _nic(parts, nic)),
        *fileshares.words(parts.guest, parts.fds, machine.memory_mb),
        *_sandbox(parts, settings),
    ]
    if parts.asleep is not None:
        cards = {nic.id: nic.nic.mac for nic in parts.devices.nics}
        words = [*_placed(words, parts.asleep.places, cards), "-incoming", "defer"]
    return words


def _placed(
    words: list[str], places: dict[str, dict[str, str]], cards: dict[str, str]
) -> Iterator[str]:
    """The words with each device where it was; of two values of a property the last one counts."""
    for number, word in enumerate(words):
        place: dict[str, str] = {}
        if words[number - 1] == "-device":
            name = next((part[3:] for part in word.split(",") if part.startswith("id=")), "")
            place = places.get(cards.get(name, name), {})
        yield ",".join([word, *(f"{key}={value}" for key, value in place.items())])


def _machine(machine: Machine, accel: Accel) -> list[str]:
    smbios = machine.smbios
    return [
        *("-machine", f"{machine.type},usb=off,vmport=off,dump-guest-core=off"),
        *("-accel", accel.argument(machine.memory_mb)),
        *("-cpu", accel.cpu),
        *("-m", f"{machine.memory_mb}M"),
        *("-smp", f"{machine.vcpus},sockets={machine.vcpus},cores=1,threads=1"),
        *("-rtc", f"base={'localtime' if machine.localtime else 'utc'},driftfix=slew"),
        *("-boot", "strict=on" + (",menu=on,splash-time=3000" if machine.boot_menu else "")),
        "-smbios",
        f"type=1,manufacturer={smbios.manufacturer},product={smbios.product},"
        f"version={smbios.version},serial={smbios.serial},uuid={smbios.uuid},"
        f"family={smbios.family}",
    ]


def _monitor(parts: Parts) -> list[str]:
    return [
        *("-chardev", f"socket,id=monitor,fd={parts.fds['monitor']},server=on,wait=off"),
        *("-mon", "chardev=monitor,mode=control"),
    ]


def _serial(parts: Parts, settings: Settings) -> list[str]:
    log = f"logfile={_escaped(parts.directory / consolelog.FILE)},logappend=on"
    if "serial" in parts.fds:
        where = f"fd={parts.fds['serial']}"
    else:
        first, _, last = settings.serial_console.port_range.partition(":")
        address = settings.serial_console.proxyclient_address
        where = f"host={address},port={first},to={last or first}"
    return [
        *("-chardev", f"socket,id=serial0,{where},server=on,wait=off,{log}"),
        *("-device", "isa-serial,chardev=serial0,id=serial"),
    ]


def _agent(parts: Parts, machine: Machine) -> list[str]:
    if not machine.guest_agent:
        return []
    return [
        *("-device", "virtio-serial-pci,id=virtio-serial0"),
        *("-chardev", f"socket,id=agent,fd={parts.fds['agent']},server=on,wait=off"),
        *("-device", f"virtserialport,chardev=agent,id=agent0,name={AGENT_PORT}"),
    ]


def _common(machine: Machine, settings: Settings) -> list[str]:
    words = ["-device", "virtio-balloon-pci,id=balloon0"]
    if machine.rng is not None:
        source = _escaped(settings.libvirt.rng_dev_path)
        limit = (
            f",max-bytes={machine.rng.bytes},period={machine.rng.period}"
            if machine.rng.bytes
            else ""
        )
        words += ["-object", f"rng-random,id=rng0-source,filename={source}"]
        words += ["-device", f"virtio-rng-pci,id=rng0,rng=rng0-source{limit}"]
    if machine.usb_tablet:
        words += ["-device", "piix3-usb-uhci,id=usb0", "-device", "usb-tablet,id=input0"]
    return words


def _video(machine: Machine, settings: Settings) -> list[str]:
    if machine.video == "none":
        return []
    words = ["-device", f"{VIDEO[machine.video]},id=video0"]
    if settings.vnc.enabled:
        # QEMU itself looks for a free port, so that two starts never meet.
        words += ["-vnc", f"{_bracketed(settings.vnc.server_listen)}:0,to=9999"]
    return words


def _disks(parts: Parts) -> list[str]:
    words: list[str] = []
    buses = {disk.bus for disk in parts.devices.disks}
    if "scsi" in buses:
        words += ["-device", "virtio-scsi-pci,id=scsi0"]
    if "sata" in buses:
        words += ["-device", "ahci,id=sata0"]
    if "usb" in buses:
        words += ["-device", "qemu-xhci,id=xhci0"]
    units: Counter[str] = Counter()
    ports = slots.taken(parts.devices)
    for disk in parts.devices.disks:
        for named in parts.disks[disk.device].objects:
            words += ["-object", msgspec.json.encode(named).decode()]
        block = block_node(disk, parts.disks[disk.device])
        words += ["-blockdev", msgspec.json.encode(block).decode()]
        front = front_device(disk, units[disk.bus])
        if disk.id in ports:
            front |= slots.place(ports.index(disk.id))
        words += ["-device", _joined(front)]
        units[disk.bus] += 1
    return words


def node_name(disk: Disk, device: str) -> str:
    """QEMU's name (31 characters at most) of what is behind a disk: the same for a volume for ever,
    so that one volume can be exchanged for another under the same device."""
    if disk.source == "volume" and disk.volume_id:
        return f"v-{hashlib.blake2b(disk.volume_id.encode(), digest_size=14).hexdigest()}"
    return f"node-{device}"


def link_name(disk: Disk, file: str) -> str:
    """QEMU's name of a file below the volume's own, or of one it goes on in."""
    volume = node_name(disk, disk.device)[2:16]
    return f"o-{volume}-{hashlib.blake2b(file.encode(), digest_size=6).hexdigest()}"


def block_node(disk: DiskDevice, file: DiskFile) -> dict[str, Any]:
    """The arguments of ``blockdev-add``."""
    block: dict[str, Any] = {
        "node-name": node_name(disk.disk, disk.device),
        "driver": file.format,
        "read-only": disk.read_only,
        "discard": "unmap",
        "file": file.remote or {"driver": "file", "filename": file.path, "discard": "unmap"},
    }
    if shared(disk.disk) and not file.remote:
        block["file"]["locking"] = "off"
    if file.base:
        # Named here, so that nothing written inside the image decides what is opened.
        block["backing"] = {
            "driver": file.base_format,
            "read-only": True,
            "file": {"driver": "file", "filename": file.base, "locking": "off"},
        }
    elif file.format == "qcow2":
        block["backing"] = _below(disk.disk, file)
    return block


def _below(disk: Disk, file: DiskFile) -> dict[str, Any] | None:
    node: dict[str, Any] | None = None
    for link in reversed(file.chain):
        name = link_name(disk, name_of(link["file"]))
        backing = {"backing": node} if link["driver"] == "qcow2" else {}
        node = {"node-name": name, "read-only": True, **link, **backing}
    return node


def front_device(disk: DiskDevice, unit: int) -> dict[str, Any]:
    """The arguments of ``device_add``; ``unit`` counts the disks of a bus."""
    kind = "cd" if disk.cdrom else "hd"
    fronts: dict[str, dict[str, Any]] = {
        "virtio": {"driver": "virtio-blk-pci"},
        "scsi": {"driver": f"scsi-{kind}", "bus": "scsi0.0", "scsi-id": unit},
        "sata": {"driver": f"ide-{kind}", "bus": f"sata0.{unit}"},
        "ide": {"driver": f"ide-{kind}", "bus": f"ide.{unit // 2}", "unit": unit % 2},
        "usb": {"driver": "usb-storage", "bus": "xhci0.0"},
    }
    front = {**fronts[disk.bus], "drive": node_name(disk.disk, disk.device), "id": disk.id}
    if disk.boot_order is not None:
        front["bootindex"] = disk.boot_order
    if disk.disk.serial:
        front["serial"] = disk.disk.serial[: SERIAL_LENGTH.get(disk.bus, 36)]
    if shared(disk.disk):
        front["share-rw"] = True
    return front


def _joined(front: dict[str, Any]) -> str:
    """As the value of ``-device``."""
    words = [str(front["driver"])]
    for name, value in front.items():
        if name != "driver":
            text = ("on" if value else "off") if isinstance(value, bool) else _escaped(str(value))
            words.append(f"{name}={text}")
    return ",".join(words)


def _nic(parts: Parts, nic: NicDevice) -> list[str]:
    if nic.nic.vif_type == "user":
        backend = _user_network(parts, nic)
    else:
        backend = f"tap,id={nic.id}-host,fd={parts.fds[nic.id]}"
    model = NETWORK.get(nic.model, nic.model)
    front = f"{model},id={nic.id},netdev={nic.id}-host,mac={nic.nic.mac}"
    ports = slots.taken(parts.devices)
    if nic.id in ports:
        where = slots.place(ports.index(nic.id))
        front += f",bus={where['bus']},addr={where['addr']}"
    if nic.model in ("virtio", "e1000", "e1000e", "rtl8139", "ne2k_pci", "pcnet", "vmxnet3"):
        front += ",romfile="  # strict boot order: no guest boots from the network
    if nic.model == "virtio" and nic.nic.mtu and nic.nic.vif_type != "user":
        front += f",host_mtu={nic.nic.mtu}"
    return ["-netdev", backend, "-device", front]


def _user_network(parts: Parts, nic: NicDevice) -> str:
    """User-mode networking: the guest reaches nothing but its metadata, we reach its port 22.

    Without ``restrict`` a guest reaches the services on the host's own 127.0.0.1.
    """
    words = [
        f"user,id={nic.id}-host,ipv6=off,restrict=on,net=169.254.0.0/16,host={HOST_ADDRESS}",
        f"dhcpstart={GUEST_ADDRESS}",
        f"hostfwd=tcp:127.0.0.1:{parts.ports[nic.nic.port_id]}-:22",
    ]
    if parts.metadata:
        helper = Path(__file__).with_name("relay.py")
        command = shlex.join(
            [sys.executable, "-I", "-S", str(helper), str(parts.directory / METADATA)]
        )
        words.append(f"guestfwd=tcp:{METADATA_ADDRESS}:80-cmd:{_escaped(command)}")
    return ",".join(words)


def _sandbox(parts: Parts, settings: Settings) -> list[str]:
    if not settings.qemu.sandbox:
        return []
    helper = parts.metadata and any(nic.nic.vif_type == "user" for nic in parts.devices.nics)
    # QEMU forks the relay and calls setsid in it, which "deny" and "children" both forbid.
    rights = "elevateprivileges=allow,spawn=allow" if helper else _ALONE
    return ["-sandbox", f"on,obsolete=deny,resourcecontrol=deny,{rights}"]


def _escaped(value: str | Path) -> str:
    """A value inside QEMU's comma-separated options."""
    return str(value).replace(",", ",,")


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
