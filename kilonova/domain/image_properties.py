"""Image properties a guest is made by: their types, their words, and their older names.

Source: Glance administration guide, "Useful image properties".
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping

from kilonova.base.errors import BadRequest

ARCHITECTURES = (
    "alpha", "armv6", "armv7l", "armv7b", "aarch64", "cris", "i686", "ia64", "lm32", "m68k",
    "microblaze", "microblazeel", "mips", "mipsel", "mips64", "mips64el", "openrisc", "parisc",
    "parisc64", "ppc", "ppcle", "ppc64", "ppc64le", "ppcemb", "s390", "s390x", "sh4", "sh4eb",
    "sparc", "sparc64", "unicore32", "x86_64", "xtensa", "xtensaeb",
)  # fmt: skip
BUSES = ("fdc", "ide", "sata", "scsi", "usb", "virtio", "xen", "lxc", "uml")
OTHER_WORDS = {
    "amd64": "x86_64",
    "x64": "x86_64",
    "i386": "i686",
    "i486": "i686",
    "i586": "i686",
    "arm64": "aarch64",
    "powervm": "phyp",
    "xapi": "xen",
    "pv": "xen",
    "hv": "hvm",
    "baremetal": "hvm",
    "virtuale1000": "e1000",
    "virtuale1000e": "e1000e",
    "virtualpcnet32": "pcnet",
    "virtualsriovethernetcard": "sriov",
    "virtualvmxnet": "vmxnet",
    "virtualvmxnet3": "vmxnet3",
}
"""Spellings that stand for a word of the lists."""

WORDS: dict[str, tuple[str, ...]] = {
    "hw_architecture": ARCHITECTURES,
    "hw_emulation_architecture": ARCHITECTURES,
    "hw_cdrom_bus": BUSES,
    "hw_disk_bus": BUSES,
    "hw_floppy_bus": BUSES,
    "hw_rescue_bus": BUSES,
    "hw_rescue_device": ("cdrom", "disk", "floppy", "fs", "lun"),
    "hw_cpu_policy": ("dedicated", "shared", "mixed"),
    "hw_cpu_thread_policy": ("prefer", "isolate", "require"),
    "hw_firmware_type": ("uefi", "bios"),
    "hw_input_bus": ("usb", "virtio"),
    "hw_mem_encryption_model": ("amd-sev", "amd-sev-es", "amd-sev-snp"),
    "hw_pci_numa_affinity_policy": ("required", "legacy", "preferred", "socket"),
    "hw_pointer_model": ("usbtablet",),
    "hw_rng_model": ("virtio",),
    "hw_scsi_model": (
        "buslogic",
        "ibmvscsi",
        "lsilogic",
        "lsisas1068",
        "lsisas1078",
        "virtio-scsi",
        "vmpvscsi",
    ),
    "hw_video_model": (
        "cirrus",
        "qxl",
        "vga",
        "vmvga",
        "xen",
        "virtio",
        "gop",
        "none",
        "bochs",
    ),
    "hw_vif_model": (
        "virtio",
        "ne2k_pci",
        "pcnet",
        "rtl8139",
        "e1000",
        "e1000e",
        "netfront",
        "spapr-vlan",
        "lan9118",
        "igb",
        "sriov",
        "vmxnet",
        "vmxnet3",
    ),
    "hw_viommu_model": ("intel", "smmuv3", "virtio", "auto"),
    "hw_vm_mode": ("hvm", "xen", "uml", "exe"),
    "hw_watchdog_action": ("none", "pause", "poweroff", "reset", "disabled"),
    "hw_tpm_model": ("tpm-tis", "tpm-crb"),
    "hw_tpm_version": ("1.2", "2.0"),
    "hw_ephemeral_encryption_format": ("plain", "luks", "luksv2"),
    "hw_maxphysaddr_mode": ("passthrough", "emulate"),
    "hw_sound_model": ("sb16", "es1370", "pcspk", "ac97", "ich6", "ich9", "usb", "virtio"),
    "hw_usb_model": ("none", "nec-xhci", "qemu-xhci"),
    "img_hv_type": (
        "baremetal",
        "bhyve",
        "docker",
        "fake",
        "hyperv",
        "ironic",
        "kqemu",
        "kvm",
        "lxc",
        "lxd",
        "openvz",
        "parallels",
        "phyp",
        "qemu",
        "test",
        "uml",
        "vbox",
        "vz",
        "vmware",
        "xen",
        "zvm",
        "prsm",
    ),
    "img_config_drive": ("optional", "mandatory"),
    "img_signature_hash_method": ("SHA-224", "SHA-256", "SHA-384", "SHA-512"),
    "img_signature_key_type": (
        "DSA",
        "ECC_SECP384R1",
        "ECC_SECP521R1",
        "ECC_SECT409K1",
        "ECC_SECT409R1",
        "ECC_SECT571K1",
        "ECC_SECT571R1",
        "RSA-PSS",
    ),
    "os_secure_boot": ("required", "disabled", "optional"),
    "os_type": ("linux", "windows"),
}
NUMBERS = frozenset(
    {
        "hw_cpu_cores",
        "hw_cpu_sockets",
        "hw_cpu_threads",
        "hw_cpu_max_cores",
        "hw_cpu_max_sockets",
        "hw_cpu_max_threads",
        "hw_device_id",
        "hw_maxphysaddr_bits",
        "hw_numa_nodes",
        "hw_redirected_usb_ports",
        "hw_serial_port_count",
        "hw_video_ram",
        "img_compression_level",
        "img_version",
    }
)
IDS = frozenset({"hw_ephemeral_encryption_secret_uuid", "img_signature_certificate_uuid"})
OLD_NAMES = {
    "architecture": "hw_architecture",
    "auto_disk_config": "hw_auto_disk_config",
    "bdm_v2": "img_bdm_v2",
    "bittorrent": "img_bittorrent",
    "block_device_mapping": "img_block_device_mapping",
    "cache_in_nova": "img_cache_in_nova",
    "hypervisor_type": "img_hv_type",
    "hypervisor_version_requires": "img_hv_requested_version",
    "ipxe_boot": "hw_ipxe_boot",
    "mappings": "img_mappings",
    "owner_id": "img_owner_id",
    "root_device_name": "img_root_device_name",
    "vm_mode": "hw_vm_mode",
    "vmware_disktype": "hw_disk_type",
    "vmware_image_version": "img_version",
    "vmware_linked_clone": "img_linked_clone",
    "vmware_ostype": "os_distro",
    "xenapi_device_id": "hw_device_id",
    "xenapi_image_compression_level": "img_compression_level",
    "xenapi_skip_agent_inject_files_at_boot": "os_skip_agent_inject_files_at_boot",
    "xenapi_skip_agent_inject_ssh": "os_skip_agent_inject_ssh",
    "xenapi_use_agent": "img_use_agent",
}
_SIGN = r"\s*(<=|>=|==|!=|<|>)\s*"
_VERSIONS = re.compile(rf"({_SIGN})?\s*\d+(\.\d+)*(\s*,{_SIGN}\d+(\.\d+)*)*\s*")


def validate(properties: Mapping[str, str]) -> None:
    """BadRequest for a property whose value no guest can be made by.

    Truths are read leniently: what is no word for true means false.
    """
    for given, value in properties.items():
        name = OLD_NAMES.get(given, given)
        wrong = _wrong(name, value)
        if wrong:
            raise BadRequest(
                f"Invalid image metadata. Error: the value {value!r} of {given} {wrong}"
            )


def _wrong(name: str, value: str) -> str:
    words = WORDS.get(name)
    if words is not None:
        low = value.lower()
        known = {word.lower() for word in words}
        if low not in known and OTHER_WORDS.get(low, "") not in words:
            return f"is not one of {', '.join(words)}"
    elif name in NUMBERS and not re.fullmatch(r"\s*[+-]?\d{1,18}\s*", value, re.ASCII):
        return "is not an integer"
    elif name in IDS and not _is_uuid(value):
        return "is not a uuid"
    elif name == "img_hv_requested_version" and not _VERSIONS.fullmatch(value):
        return "is not a version predicate such as >=2.6"
    return ""


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
