from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kilonova.config.hypervisor import Libvirt, SerialConsole, Vnc
from kilonova.config.settings import Settings
from kilonova.domain.guest import Disk, FixedIp, GuestSpec, Nic
from kilonova.virt.accel import Accel
from kilonova.virt.devices import plan
from kilonova.virt.disks import DiskFile
from kilonova.virt.libvirt import domain_xml, xml
from tests.support.guests import SERVER, flavor, spec

TCG = Accel("tcg", "qemu64")
KVM = Accel("kvm", "host")
NIC = Nic(
    port_id="p1",
    mac="fa:16:3e:00:00:01",
    network_id="n",
    device="tap-p1",
    ips=(FixedIp(address="10.0.0.5", subnet_id="s", cidr="10.0.0.0/24"),),
)


def built(
    guest: GuestSpec | None = None,
    settings: Settings | None = None,
    accel: Accel = TCG,
    **more: Any,
) -> xml.Element:
    guest = guest or spec()
    devices = plan(guest)
    parts = domain_xml.Parts(
        directory=Path("/i") / guest.server_id,
        guest=guest,
        devices=devices,
        disks={disk.device: DiskFile(f"/i/{disk.device}", "raw") for disk in devices.disks},
        accel=accel,
        made=datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC),
        **more,
    )
    return xml.read(domain_xml.build(parts, settings or Settings()))


def libvirt(**options: Any) -> Settings:
    return Settings(libvirt=Libvirt(**options))


def found(root: xml.Element, path: str) -> dict[str, str]:
    element = root.find(path)
    assert element is not None, path
    return dict(element.attrib)


def test_name_identity_and_size() -> None:
    root = built(spec(flavor=flavor(vcpus=3, memory_mb=96)))
    assert root.get("type") == "qemu"
    assert root.findtext("name") == "instance-00000001"
    assert root.findtext("uuid") == SERVER
    assert (root.findtext("memory"), found(root, "memory")) == ("96", {"unit": "MiB"})
    assert root.findtext("vcpu") == "3"
    assert found(root, "cpu/topology") == {"sockets": "3", "cores": "1", "threads": "1"}
    assert [root.findtext(f"on_{what}") for what in ("poweroff", "reboot", "crash")] == [
        "destroy",
        "restart",
        "destroy",
    ]
    assert built(accel=KVM).get("type") == "kvm"


def test_cloud_init_recognises_the_machine() -> None:
    root = built()
    entries = {e.get("name"): e.text for e in root.iterfind("sysinfo/system/entry")}
    assert entries["manufacturer"] == "OpenStack Foundation"
    assert entries["product"] == "OpenStack Nova"
    assert entries["serial"] == entries["uuid"] == SERVER
    assert found(root, "os/smbios") == {"mode": "sysinfo"}


def test_tools_of_nova_read_whose_guest_it_is() -> None:
    root = built(spec(nics=(NIC,)))
    nova = f"metadata/{{{domain_xml.NOVA}}}instance"
    space = f"{{{domain_xml.NOVA}}}"
    assert root.findtext(f"{nova}/{space}name") == "one"
    assert root.findtext(f"{nova}/{space}creationTime") == "2026-05-04 03:02:01"
    assert root.findtext(f"{nova}/{space}flavor/{space}memory") == "64"
    assert found(root, f"{nova}/{space}owner/{space}project") == {"uuid": "p"}
    assert found(root, f"{nova}/{space}ports/{space}port/{space}ip") == {
        "type": "fixed",
        "address": "10.0.0.5",
        "ipVersion": "4",
    }
    ours = found(root, f"metadata/{{{domain_xml.OURS}}}guest")
    assert ours == {"directory": f"/i/{SERVER}"}


def test_a_name_with_what_xml_cannot_hold() -> None:
    told = msgspec.structs.replace(spec().metadata, name="a\x0b<b>&\ud800")
    root = built(spec(metadata=told))
    assert root.findtext(f".//{{{domain_xml.NOVA}}}name") == "a\ufffd<b>&\ufffd"


@pytest.mark.parametrize(
    ("accel", "options", "mode", "model"),
    [
        (TCG, {}, "custom", "qemu64"),
        (KVM, {}, "host-model", None),
        (KVM, {"cpu_mode": "host-passthrough"}, "host-passthrough", None),
        (KVM, {"cpu_mode": "maximum"}, "maximum", None),
        (KVM, {"cpu_mode": "none"}, None, None),
        (KVM, {"cpu_mode": "custom", "cpu_models": ("Nehalem", "Haswell")}, "custom", "Nehalem"),
    ],
)
def test_cpu_models(
    accel: Accel, options: dict[str, Any], mode: str | None, model: str | None
) -> None:
    root = built(accel=accel, settings=libvirt(**options))
    assert (found(root, "cpu").get("mode"), root.findtext("cpu/model")) == (mode, model)


def test_cpu_flags() -> None:
    root = built(settings=libvirt(cpu_model_extra_flags=("+PCID", "-svm", "ssbd")))
    flags = {f.get("name"): f.get("policy") for f in root.iterfind("cpu/feature")}
    assert flags == {"pcid": "require", "svm": "disable", "ssbd": "require"}


def test_emulated_guests_keep_little_translated_code() -> None:
    assert built().findtext("features/tcg/tb-cache") == "32"
    assert built(accel=Accel("tcg", "", 77)).findtext("features/tcg/tb-cache") == "77"
    assert built(accel=KVM).find("features/tcg") is None


def test_the_serial_console_is_logged() -> None:
    root = built()
    assert found(root, "devices/serial") == {"type": "pty"}
    log = {"file": f"/i/{SERVER}/console.log", "append": "on"}
    assert found(root, "devices/serial/log") == log
    listening = Settings(serial_console=SerialConsole(enabled=True))
    root = built(settings=listening, serial_port=10007)
    assert found(root, "devices/serial/source") == {
        "mode": "bind",
        "host": "127.0.0.1",
        "service": "10007",
    }
    assert found(root, "devices/serial/log") == log


def test_the_graphical_console() -> None:
    root = built(settings=Settings(vnc=Vnc(server_listen="::")))
    assert found(root, "devices/graphics")["autoport"] == "yes"
    assert found(root, "devices/graphics/listen")["address"] == "::"
    assert found(root, "devices/video/model") == {"type": "vga"}
    assert built(settings=Settings(vnc=Vnc(enabled=False))).find("devices/graphics") is None
    blind = built(spec(properties={"hw_video_model": "none"}))
    assert blind.find("devices/graphics") is None
    assert found(blind, "devices/video/model") == {"type": "none"}


def test_what_every_guest_has_and_what_images_ask() -> None:
    root = built()
    assert found(root, "devices/memballoon/stats") == {"period": "10"}
    assert root.findtext("devices/rng/backend") == "/dev/urandom"
    assert root.find("devices/channel") is None
    assert found(root, "devices/controller[@type='usb']")["model"] == "none"
    assert found(root, "clock")["offset"] == "utc"
    asked = {
        "hw_qemu_guest_agent": "yes",
        "hw_pointer_model": "usbtablet",
        "os_type": "windows",
        "hw_boot_menu": "true",
    }
    slow = flavor(extra_specs={"hw_rng:rate_bytes": "64", "hw_rng:rate_period": "500"})
    root = built(spec(properties=asked, flavor=slow), libvirt(mem_stats_period_seconds=0))
    assert found(root, "devices/channel/target")["name"] == "org.qemu.guest_agent.0"
    assert found(root, "devices/input") == {"type": "tablet", "bus": "usb"}
    assert found(root, "devices/controller[@type='usb']")["model"] == "qemu-xhci"
    assert found(root, "clock")["offset"] == "localtime"
    assert found(root, "os/bootmenu")["enable"] == "yes"
    assert found(root, "devices/rng/rate") == {"bytes": "64", "period": "500"}
    assert root.find("devices/memballoon/stats") is None


def test_pci_express_guests_have_room_for_more() -> None:
    q35 = spec(properties={"hw_machine_type": "q35"}, nics=(NIC,))
    ports = built(q35).findall("devices/controller[@model='pcie-root-port']")
    assert len(ports) == 1 + 1 + 4 + 8
    ports = built(q35, libvirt(num_pcie_ports=20)).findall(
        "devices/controller[@model='pcie-root-port']"
    )
    assert len(ports) == 20
    assert built().find("devices/controller[@type='pci']") is None


def test_disks_on_all_buses() -> None:
    disks = (
        Disk(id="r", role="root", source="blank", device="vda", boot_index=0),
        Disk(id="s", role="volume", source="blank", device="sdi", bus="scsi"),
        Disk(id="b", role="volume", source="blank", device="vdb", bus="virtio"),
    )
    root = built(spec(disks=disks), blocks=frozenset({"vdb"}))
    kinds = {
        disk.find("target").attrib["dev"]: disk.get("type")  # type: ignore[union-attr]
        for disk in root.iterfind("devices/disk")
    }
    assert kinds == {"vda": "file", "sdi": "file", "vdb": "block"}
    assert found(root, "devices/controller[@type='scsi']")["model"] == "virtio-scsi"
    assert found(root, "devices/disk/address[@type='drive']")["unit"] == "8"
