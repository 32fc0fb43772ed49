"""Flavor extra specs: which keys there are, and what values they take.

Source: Nova configuration reference, "Extra Specs".
"""

from __future__ import annotations

import re
from collections.abc import Collection

import msgspec

from kilonova.base.errors import BadRequest

GROUP = r"([a-zA-Z0-9_-]{1,64})?"
CPUS = r"\^?\d+((-\d+)?(,\^?\d+(-\d+)?)?)*"
TRUE = frozenset({"1", "t", "true", "on", "y", "yes"})
FALSE = frozenset({"0", "f", "false", "off", "n", "no"})


class Value(msgspec.Struct, frozen=True):
    """What a key takes: a number between bounds, a truth, one of ``words``, or fitting text."""

    kind: str = "text"
    least: int | None = None
    most: int | None = None
    words: tuple[str, ...] = ()
    pattern: str = ""


ANY = Value()
FLAG = Value("flag")
NUMBER = Value("number")
AMOUNT = Value("number", least=0)
COUNT = Value("number", least=1)


def _one_of(*words: str) -> Value:
    return Value(words=words)


def _like(pattern: str) -> Value:
    return Value(pattern=pattern)


_LEVEL = _one_of("custom", "high", "normal", "low")
KEYS: dict[str, Value] = {
    "accel:device_profile": ANY,
    "hw:cpu_realtime": FLAG,
    "hw:cpu_realtime_mask": _like(CPUS),
    "hw:hide_hypervisor_id": FLAG,
    "hw:cpu_policy": _one_of("dedicated", "shared", "mixed"),
    "hw:cpu_thread_policy": _one_of("prefer", "isolate", "require"),
    "hw:emulator_threads_policy": _one_of("isolate", "share"),
    "hw:cpu_dedicated_mask": _like(CPUS),
    "hw:mem_page_size": _like(r"(large|small|any|\d+([kKMGT]i?)?(b|bit|B)?)"),
    "hw:locked_memory": FLAG,
    "hw:numa_nodes": COUNT,
    "hw:pci_numa_affinity_policy": _one_of("required", "preferred", "legacy", "socket"),
    **{
        f"hw:cpu_{most}{part}": COUNT
        for most in ("", "max_")
        for part in ("sockets", "cores", "threads")
    },
    "hw:boot_menu": FLAG,
    "hw:vif_multiqueue_enabled": FLAG,
    "hw:mem_encryption": FLAG,
    "hw:mem_encryption_model": _one_of("amd-sev", "amd-sev-es", "amd-sev-snp"),
    "hw:pmem": _like(r"([a-zA-Z0-9_]+(,)?)+"),
    "hw:pmu": FLAG,
    "hw:serial_port_count": AMOUNT,
    "hw:tpm_model": _one_of("tpm-tis", "tpm-crb"),
    "hw:tpm_version": _one_of("1.2", "2.0"),
    "hw:tpm_secret_security": _one_of("user", "host", "deployment"),
    "hw:watchdog_action": _one_of("none", "pause", "poweroff", "reset", "disabled"),
    "hw:viommu_model": _one_of("intel", "smmuv3", "virtio", "auto"),
    "hw:virtio_packed_ring": FLAG,
    "hw:sound_model": _one_of("sb16", "es1370", "pcspk", "ac97", "ich6", "ich9", "usb", "virtio"),
    "hw:usb_model": _one_of("none", "nec-xhci", "qemu-xhci"),
    "hw:redirected_usb_ports": Value("number", least=0, most=15),
    "hw:ephemeral_encryption": FLAG,
    "hw:ephemeral_encryption_format": _one_of("plain", "luks", "luksv2"),
    "hw_rng:allowed": FLAG,
    "hw_rng:rate_bytes": AMOUNT,
    "hw_rng:rate_period": AMOUNT,
    "hw_video:ram_max_mb": AMOUNT,
    "hide_hypervisor_id": FLAG,
    "group_policy": _one_of("isolate", "none"),
    "os:secure_boot": _one_of("disabled", "required"),
    "pci_passthrough:alias": _like(r"[^:]+:\d+(?:\s*,\s*[^:]+:\d+)*"),
    **{f"quota:{what}_limit": AMOUNT for what in ("cpu", "memory", "disk_io", "vif")},
    **{f"quota:{what}_reservation": NUMBER for what in ("cpu", "memory", "disk_io", "vif")},
    **{f"quota:{what}_shares_level": _LEVEL for what in ("cpu", "memory", "disk_io", "vif")},
    **{f"quota:{what}_shares_share": AMOUNT for what in ("cpu", "memory", "disk_io", "vif")},
    "quota:cpu_shares": AMOUNT,
    "quota:cpu_period": AMOUNT,
    "quota:cpu_quota": NUMBER,
    **{
        f"quota:disk_{way}_{what}_sec": AMOUNT
        for way in ("read", "write", "total")
        for what in ("bytes", "iops")
    },
    **{
        f"quota:vif_{way}_{what}": AMOUNT
        for way in ("inbound", "outbound")
        for what in ("average", "peak", "burst")
    },
    "vmware:hw_version": ANY,
    "vmware:storage_policy": ANY,
}
_CAPABILITIES = (
    "id", "uuid", "service_id", "host", "vcpus", "memory_mb", "local_gb", "vcpus_used",
    "memory_mb_used", "local_gb_used", "hypervisor_type", "hypervisor_version",
    "hypervisor_hostname", "free_ram_mb", "free_disk_gb", "current_workload", "running_vms",
    "disk_available_least", "host_ip", "mapped", "cpu_allocation_ratio", "ram_allocation_ratio",
    "disk_allocation_ratio", "total_usable_ram_mb", "total_usable_disk_gb", "disk_mb_used",
    "free_disk_mb", "vcpus_total", "num_instances", "num_io_ops", "failed_builds", "aggregates",
    "cell_uuid", "updated",
)  # fmt: skip
_CAPABILITY_TREES = (
    "cpu_info", "metrics", "stats", "numa_topology", "supported_hv_specs", "pci_device_pools",
    "nodename", "pci_stats", "supported_instances", "limits", "instances",
)  # fmt: skip
KEYS.update({f"capabilities:{name}": ANY for name in _CAPABILITIES})

PATTERNS: tuple[tuple[re.Pattern[str], Value], ...] = tuple(
    (re.compile(pattern), value)
    for pattern, value in (
        (r"hw:numa_cpus\.\d+", _like(CPUS)),
        (r"hw:numa_mem\.\d+", COUNT),
        (r"aggregate_instance_extra_specs:.+", ANY),
        (rf"capabilities:({'|'.join(_CAPABILITY_TREES)})(:\w+)*", ANY),
        (rf"resources{GROUP}:CUSTOM_[A-Z0-9_]+", NUMBER),
        (rf"trait{GROUP}:CUSTOM_[A-Z0-9_]+", _one_of("required", "forbidden")),
    )
)
_RESOURCES = re.compile(rf"resources{GROUP}:([A-Z0-9_]+)")
_TRAIT = re.compile(rf"trait{GROUP}:([A-Z0-9_]+)")
_SPACES = re.compile(
    rf"accel|aggregate_instance_extra_specs|capabilities|hw|hw_rng|hw_video|os|pci_passthrough"
    rf"|quota|resources{GROUP}|trait{GROUP}|vmware"
)


def validate(key: str, value: str, *, traits: Collection[str], classes: Collection[str]) -> None:
    """BadRequest for an unknown key of a known namespace, and for a value that does not fit.

    Keys without namespace and keys of others' namespaces take anything. ``traits`` and
    ``classes``: the standard ones (those beginning with ``CUSTOM_`` are always taken).
    """
    known = _find(key, traits, classes)
    if known is not None:
        _check(key, value, known)
    elif ":" in key and _SPACES.fullmatch(key.partition(":")[0]):
        raise BadRequest(
            f"Validation failed; extra spec '{key}' does not appear to be a valid extra spec."
        )


def _find(key: str, traits: Collection[str], classes: Collection[str]) -> Value | None:
    if key in KEYS:
        return KEYS[key]
    for pattern, value in PATTERNS:
        if pattern.fullmatch(key):
            return value
    match = _RESOURCES.fullmatch(key)
    if match is not None and match[2] in classes:
        return NUMBER
    match = _TRAIT.fullmatch(key)
    if match is not None and match[2] in traits:
        return _one_of("required", "forbidden")
    return None


def _check(key: str, text: str, known: Value) -> None:
    wrong = ""
    if known.kind == "flag" and text.strip().lower() not in TRUE | FALSE:
        wrong = "is not a boolean"
    elif known.kind == "number":
        wrong = _number(text, known)
    elif known.words and text not in known.words:
        wrong = f"is not one of {', '.join(known.words)}"
    elif known.pattern and not re.fullmatch(known.pattern, text):
        wrong = f"does not match the pattern {known.pattern}"
    if wrong:
        raise BadRequest(f"Validation failed; '{text}' of extra spec '{key}' {wrong}.")


def _number(text: str, known: Value) -> str:
    if not re.fullmatch(r"\s*[+-]?\d{1,40}\s*", text, re.ASCII):
        return "is not an integer"
    if known.least is not None and int(text) < known.least:
        return f"is less than the minimum of {known.least}"
    if known.most is not None and int(text) > known.most:
        return f"is greater than the maximum of {known.most}"
    return ""
