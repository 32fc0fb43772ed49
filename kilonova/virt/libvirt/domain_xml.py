"""A guest as libvirt's XML, from its devices and the things made for it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import msgspec

from kilonova import __version__
from kilonova.config.settings import Settings
from kilonova.domain.guest import GuestSpec
from kilonova.virt import consolelog
from kilonova.virt.accel import Accel
from kilonova.virt.devices import Devices, Machine
from kilonova.virt.disks import DiskFile
from kilonova.virt.libvirt import device_xml, held_xml
from kilonova.virt.libvirt.xml import Element, element, group, text

NOVA = "http://openstack.org/xmlns/libvirt/nova/1.1"
OURS = "urn:kilonova:guest:1"
AGENT_PORT = "org.qemu.guest_agent.0"
EMULATED_CPU = "qemu64"
SPARE_PORTS = 8
MOST_PORTS = 28
MENU_MS = 3000


class Parts(msgspec.Struct, frozen=True):
    """What was made for one start.

    ``blocks``: names of the disks whose file is a block device. ``serial_port``: where the serial
    console listens, 0: nowhere. ``made``: when (UTC). ``cells``: CPUs that guests share, by the
    host's NUMA cell.
    """

    directory: Path
    guest: GuestSpec
    devices: Devices
    disks: dict[str, DiskFile]
    accel: Accel
    made: datetime
    blocks: frozenset[str] = frozenset()
    serial_port: int = 0
    cells: dict[int, frozenset[int]] = {}


def build(parts: Parts, settings: Settings) -> str:
    """The whole domain."""
    guest, machine = parts.guest, parts.devices.machine
    return text(
        element(
            "domain",
            element("name", guest.name),
            element("uuid", guest.server_id),
            metadata(guest, parts.made, parts.directory),
            element("memory", str(machine.memory_mb), unit="MiB"),
            element("vcpu", str(machine.vcpus)),
            *held_xml.tuning(guest, parts.cells),
            _sysinfo(machine),
            _system(machine),
            _features(machine, parts.accel),
            cpu(machine, parts.accel, settings, held_xml.numa(guest)),
            _clock(machine),
            element("on_poweroff", "destroy"),
            element("on_reboot", "restart"),
            element("on_crash", "destroy"),
            group("devices", _devices(parts, settings)),
            type_=parts.accel.virt_type,
        )
    )


def metadata(guest: GuestSpec, made: datetime, directory: Path) -> Element:
    """Whose guest it is: in the words Nova's users' tools read, and for ourselves."""
    flavor, owner = guest.flavor, guest.metadata
    amounts = {
        "memory": flavor.memory_mb,
        "disk": flavor.root_gb,
        "swap": flavor.swap_mb,
        "ephemeral": flavor.ephemeral_gb,
        "vcpus": flavor.vcpus,
    }
    ports = [
        group(
            "nova:port",
            [
                element("nova:ip", type_="fixed", address=ip.address, ipVersion=ip.version)
                for ip in nic.ips
            ],
            uuid=nic.port_id,
        )
        for nic in guest.nics
    ]
    return element(
        "metadata",
        element(
            "nova:instance",
            element("nova:package", version=__version__),
            element("nova:name", owner.name),
            element("nova:creationTime", f"{made:%Y-%m-%d %H:%M:%S}"),
            group(
                "nova:flavor",
                [element(f"nova:{name}", str(value)) for name, value in amounts.items()],
                name=flavor.name,
            ),
            element(
                "nova:owner",
                element("nova:user", owner.user_id, uuid=owner.user_id),
                element("nova:project", owner.project_id, uuid=owner.project_id),
            ),
            element("nova:root", type_="image", uuid=guest.image.id) if guest.image else None,
            group("nova:ports", ports),
            **{"xmlns:nova": NOVA},
        ),
        element("kilonova:guest", **{"xmlns:kilonova": OURS, "directory": str(directory)}),
    )


def cpu(machine: Machine, accel: Accel, settings: Settings, numa: Element | None = None) -> Element:
    """The processor by ``[libvirt] cpu_mode``, in the guest's NUMA cells."""
    wanted = settings.libvirt
    mode = wanted.cpu_mode or ("host-model" if accel.kind == "kvm" else "custom")
    topology = element("topology", sockets=machine.vcpus, cores=1, threads=1)
    if mode == "none":
        return element("cpu", topology, numa)
    model = None
    if mode == "custom":
        name = wanted.cpu_models[0] if wanted.cpu_models else EMULATED_CPU
        model = element("model", name, fallback="forbid")
    features = [
        element(
            "feature",
            policy="disable" if flag.startswith("-") else "require",
            name=flag.lstrip("+-").lower(),
        )
        for flag in wanted.cpu_model_extra_flags
    ]
    match = "exact" if mode == "custom" else None
    return element("cpu", model, topology, *features, numa, mode=mode, match=match)


def _sysinfo(machine: Machine) -> Element:
    entries = msgspec.structs.asdict(machine.smbios)
    system = [element("entry", value, name=name) for name, value in entries.items()]
    return element("sysinfo", group("system", system), type_="smbios")


def _system(machine: Machine) -> Element:
    menu = element("bootmenu", enable="yes", timeout=MENU_MS) if machine.boot_menu else None
    return element(
        "os",
        element("type", "hvm", arch=machine.arch, machine=machine.type),
        menu,
        element("smbios", mode="sysinfo"),
    )


def _features(machine: Machine, accel: Accel) -> Element:
    tcg = None
    if accel.kind == "tcg":
        size = accel.cache_mb(machine.memory_mb)
        tcg = element("tcg", element("tb-cache", str(size), unit="MiB"))
    vmport = element("vmport", state="off")
    return element("features", element("acpi"), element("apic"), vmport, tcg)


def _clock(machine: Machine) -> Element:
    return element(
        "clock",
        element("timer", name="pit", tickpolicy="delay"),
        element("timer", name="rtc", tickpolicy="catchup"),
        element("timer", name="hpet", present="no"),
        offset="localtime" if machine.localtime else "utc",
    )


def _devices(parts: Parts, settings: Settings) -> list[Element]:
    machine = parts.devices.machine
    made = _controllers(parts, settings)
    made += [
        device_xml.disk(disk, parts.disks[disk.device], block=disk.device in parts.blocks)
        for disk in parts.devices.disks
    ]
    made += [device_xml.card(nic) for nic in parts.devices.nics]
    made += held_xml.devices(parts.guest)
    made += [_serial(parts, settings)]
    if machine.guest_agent:
        target = element("target", type_="virtio", name=AGENT_PORT)
        made.append(element("channel", target, type_="unix"))
    if machine.usb_tablet:
        made.append(element("input", type_="tablet", bus="usb"))
    made += _screen(machine, settings)
    if machine.rng is not None:
        made.append(_rng(machine, settings))
    period = settings.libvirt.mem_stats_period_seconds
    stats = element("stats", period=period) if period > 0 else None
    made.append(element("memballoon", stats, model="virtio"))
    return made


def _controllers(parts: Parts, settings: Settings) -> list[Element]:
    machine, buses = parts.devices.machine, {disk.bus for disk in parts.devices.disks}
    usb = machine.usb_tablet or "usb" in buses
    made = [element("controller", type_="usb", model="qemu-xhci" if usb else "none")]
    if "scsi" in buses:
        made.append(element("controller", type_="scsi", index=0, model="virtio-scsi"))
    if machine.q35:
        made.append(element("controller", type_="pci", index=0, model="pcie-root"))
        count = settings.libvirt.num_pcie_ports or min(MOST_PORTS, _slots(parts) + SPARE_PORTS)
        made += [element("controller", type_="pci", model="pcie-root-port") for _ in range(count)]
    return made


def _slots(parts: Parts) -> int:
    """How many slots the guest's own devices take: disks, cards, and four of every guest."""
    virtio = sum(1 for disk in parts.devices.disks if disk.bus == "virtio")
    return virtio + len(parts.devices.nics) + 4


def _serial(parts: Parts, settings: Settings) -> Element:
    log = element("log", file=str(parts.directory / consolelog.FILE), append="on")
    target = element("target", type_="isa-serial", port=0)
    if not parts.serial_port:
        return element("serial", target, log, type_="pty")
    address = settings.serial_console.proxyclient_address
    return element(
        "serial",
        element("source", mode="bind", host=address, service=parts.serial_port),
        element("protocol", type_="raw"),
        target,
        log,
        type_="tcp",
    )


def _screen(machine: Machine, settings: Settings) -> list[Element]:
    made = []
    if settings.vnc.enabled and machine.video != "none":
        listen = element("listen", type_="address", address=settings.vnc.server_listen)
        made.append(element("graphics", listen, type_="vnc", port=-1, autoport="yes"))
        made.append(element("audio", id=1, type_="none"))
    made.append(element("video", element("model", type_=machine.video)))
    return made


def _rng(machine: Machine, settings: Settings) -> Element:
    assert machine.rng is not None
    rate = None
    if machine.rng.bytes:
        rate = element("rate", bytes=machine.rng.bytes, period=machine.rng.period)
    backend = element("backend", settings.libvirt.rng_dev_path, model="random")
    return element("rng", rate, backend, model="virtio")
