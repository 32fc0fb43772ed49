"""Which extra specs are taken."""

from __future__ import annotations

import pytest

from kilonova.base.errors import BadRequest
from kilonova.domain.extra_specs import validate

TRAITS = frozenset({"HW_CPU_X86_AVX2"})
CLASSES = frozenset({"VCPU"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hw:cpu_policy", "dedicated"),
        ("hw:cpu_realtime", "Yes"),
        ("hw:numa_cpus.3", "0-3,^2"),
        ("hw:numa_mem.0", "512"),
        ("hw:redirected_usb_ports", "15"),
        ("hw:mem_page_size", "2MB"),
        ("quota:cpu_quota", "-1"),
        ("resources:VCPU", "2"),
        ("resources_group1:CUSTOM_GPU", "1"),
        ("trait:HW_CPU_X86_AVX2", "required"),
        ("trait9:CUSTOM_GOLD", "forbidden"),
        ("capabilities:cpu_info:model", "<in> Nehalem"),
        ("aggregate_instance_extra_specs:ssd", "true"),
        ("pci_passthrough:alias", "a:1,b:2"),
        ("our:own", "anything"),
        ("plain", "anything"),
    ],
)
def test_taken(key: str, value: str) -> None:
    validate(key, value, traits=TRAITS, classes=CLASSES)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("hw:cpu_policy", "best", "is not one of dedicated, shared, mixed"),
        ("hw:cpu_realtime", "maybe", "is not a boolean"),
        ("hw:numa_nodes", "0", "less than the minimum of 1"),
        ("hw:numa_nodes", "two", "is not an integer"),
        ("hw:redirected_usb_ports", "16", "greater than the maximum of 15"),
        ("hw:numa_cpus.x", "0", "does not appear to be a valid extra spec"),
        ("hw:nothing", "1", "does not appear to be a valid extra spec"),
        ("hw:numa_cpus.0", "a", "does not match the pattern"),
        ("trait:HW_UNHEARD_OF", "required", "does not appear to be a valid extra spec"),
        ("trait:HW_CPU_X86_AVX2", "wanted", "is not one of required, forbidden"),
        ("resources2:UNHEARD_OF", "1", "does not appear to be a valid extra spec"),
    ],
)
def test_refused(key: str, value: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        validate(key, value, traits=TRAITS, classes=CLASSES)
