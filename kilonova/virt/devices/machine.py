"""The machine itself: chipset, CPUs, memory, firmware tables, and devices every guest may have."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from kilonova import __version__
from kilonova.base.errors import BadRequest
from kilonova.domain.guest import GuestSpec
from kilonova.virt.devices import properties as props

ARCHITECTURES = frozenset({"x86_64", "i686"})
VIDEO_MODELS = frozenset({"vga", "cirrus", "qxl", "virtio", "vmvga", "bochs", "none"})
POINTERS = frozenset({"usbtablet", "ps2mouse"})
IMPOSSIBLE = {
    "kernel_id": "direct kernel boot",
    "ramdisk_id": "direct kernel boot",
    "hw_tpm_model": "a virtual TPM",
    "hw_mem_encryption": "memory encryption",
}


class Smbios(msgspec.Struct, frozen=True):
    """SMBIOS type 1. cloud-init knows an OpenStack guest by the product name."""

    serial: str
    uuid: str
    version: str
    manufacturer: str = "OpenStack Foundation"
    product: str = "OpenStack Nova"
    family: str = "Virtual Machine"


class Rng(msgspec.Struct, frozen=True):
    """A random number device; 0 ``bytes`` per ``period`` milliseconds means no limit."""

    bytes: int = 0
    period: int = 1000


class Machine(msgspec.Struct, frozen=True):
    """``type`` is the hypervisor's name (pc, q35, or with a version). memory: MiB."""

    type: str
    arch: str
    vcpus: int
    memory_mb: int
    smbios: Smbios
    video: str = "vga"
    rng: Rng | None = Rng()
    guest_agent: bool = False
    localtime: bool = False
    usb_tablet: bool = False
    boot_menu: bool = False

    @property
    def q35(self) -> bool:
        """Whether it is a PCI Express machine (which has no IDE)."""
        return self.type == "q35" or self.type.startswith("pc-q35-")


def machine(guest: GuestSpec, *, default_type: str = "pc") -> Machine:
    """The machine for a guest; BadRequest for what its image asks and cannot be."""
    properties = props.of(guest)
    for name, what in IMPOSSIBLE.items():
        if properties.get(name):
            raise BadRequest(f"The image asks for {what} ({name}), which this hypervisor has not.")
    props.choice(properties, "hw_firmware_type", {"bios"}, "bios")
    extra = guest.flavor.extra_specs
    _check_video_memory(properties, extra)
    return Machine(
        type=_type(properties, default_type),
        arch=props.choice(properties, "hw_architecture", ARCHITECTURES, "x86_64"),
        vcpus=guest.flavor.vcpus,
        memory_mb=guest.flavor.memory_mb,
        smbios=Smbios(serial=guest.server_id, uuid=guest.server_id, version=__version__),
        video=props.choice(properties, "hw_video_model", VIDEO_MODELS, "vga"),
        rng=_rng(properties, extra),
        guest_agent=props.flag(properties, "hw_qemu_guest_agent"),
        localtime=properties.get("os_type") == "windows",
        usb_tablet=_pointer(properties) == "usbtablet",
        boot_menu=_boot_menu(properties, extra),
    )


def _check_video_memory(properties: Mapping[str, str], extra: Mapping[str, str]) -> None:
    """BadRequest for more video memory (MiB) than the flavor allows; without a word that is 0."""
    asked = int(properties.get("hw_video_ram") or 0)
    most = int(extra.get("hw_video:ram_max_mb") or 0)
    if asked > most:
        raise BadRequest(
            f"The image asks for {asked} MB of video memory (hw_video_ram); the flavor's "
            f"hw_video:ram_max_mb allows {most}."
        )


def _type(properties: Mapping[str, str], default: str) -> str:
    wanted = properties.get("hw_machine_type") or default
    if wanted in ("pc", "q35") or wanted.startswith(("pc-i440fx-", "pc-q35-")):
        return wanted
    raise BadRequest(
        f"The image property hw_machine_type={wanted} is not possible on this hypervisor; "
        "it offers pc and q35."
    )


def _rng(properties: Mapping[str, str], extra: Mapping[str, str]) -> Rng | None:
    props.choice(properties, "hw_rng_model", {"virtio"}, "virtio")
    if extra.get("hw_rng:allowed", "true").lower() == "false":
        return None
    rate = extra.get("hw_rng:rate_bytes", "0")
    period = extra.get("hw_rng:rate_period", "1000")
    if not rate.isdecimal() or not period.isdecimal() or int(period) < 1:
        raise BadRequest("The flavor's hw_rng:rate_bytes and hw_rng:rate_period must be numbers.")
    return Rng(int(rate), int(period))


def _pointer(properties: Mapping[str, str]) -> str:
    if properties.get("hw_input_bus", "usb") == "usb" and "hw_input_bus" in properties:
        return "usbtablet"
    return props.choice(properties, "hw_pointer_model", POINTERS, "ps2mouse")


def _boot_menu(properties: Mapping[str, str], extra: Mapping[str, str]) -> bool:
    wish = extra.get("hw:boot_menu")
    return wish.lower() == "true" if wish else props.flag(properties, "hw_boot_menu")
