"""What flavor and image ask for, and which words together are refused."""

from __future__ import annotations

import pytest

from kilonova.base.errors import BadRequest
from kilonova.domain.fit.shapes import ANY, LARGE, SMALL, GuestTopology
from kilonova.domain.fit.wanted import page_size, pci_policy, topology, truth
from kilonova.domain.guest import FlavorSpec

DEDICATED = {"hw:cpu_policy": "dedicated"}
REALTIME = {"hw:cpu_realtime": "yes"}
SPLIT = {"hw:numa_cpus.0": "0", "hw:numa_cpus.1": "1-3"}
SIZES = {"hw:numa_mem.0": "512", "hw:numa_mem.1": "1536"}
TWO = {"hw:numa_nodes": "2"}


def asked(specs: dict[str, str], image: dict[str, str] | None = None) -> GuestTopology | None:
    flavor = FlavorSpec(1, "f", "f", vcpus=4, memory_mb=2048, root_gb=1, extra_specs=specs)
    return topology(flavor, image or {})


def parts(found: GuestTopology | None) -> list[tuple[list[int], list[int], int]]:
    assert found is not None
    return [(sorted(c.cpus), sorted(c.pcpus), c.memory_mb) for c in found.cells]


@pytest.mark.parametrize(
    "specs",
    [
        {},
        {"hw:cpu_policy": "shared"},
        {"hw:emulator_threads_policy": "share"},
        {"hw:locked_memory": "false"},
        {"hw:cpu_sockets": "2"},
        {"hw:numa_cpus.0": "0-3", "hw:numa_mem.0": "2048"},
    ],
)
def test_any_host_will_do(specs: dict[str, str]) -> None:
    assert asked(specs) is None


@pytest.mark.parametrize(
    ("specs", "image", "cells"),
    [
        (DEDICATED, {}, [([], [0, 1, 2, 3], 2048)]),
        ({}, {"hw_cpu_policy": "dedicated"}, [([], [0, 1, 2, 3], 2048)]),
        (DEDICATED, {"hw_cpu_policy": "shared"}, [([], [0, 1, 2, 3], 2048)]),
        (TWO, {}, [([0, 1], [], 1024), ([2, 3], [], 1024)]),
        ({}, {"hw_numa_nodes": "2"}, [([0, 1], [], 1024), ([2, 3], [], 1024)]),
        (TWO | SPLIT | SIZES, {}, [([0], [], 512), ([1, 2, 3], [], 1536)]),
        (
            {"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "0-1"} | TWO,
            {},
            [([], [0, 1], 1024), ([2, 3], [], 1024)],
        ),
        ({"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "^0"}, {}, [([0], [1, 2, 3], 2048)]),
        (
            {"hw:cpu_policy": "mixed", "hw:cpu_realtime_mask": "^0"} | REALTIME,
            {"hw_cpu_realtime_mask": "^1"},
            [([1], [0, 2, 3], 2048)],
        ),
        ({"hw:mem_page_size": "2MB"}, {}, [([0, 1, 2, 3], [], 2048)]),
    ],
)
def test_cells(
    specs: dict[str, str], image: dict[str, str], cells: list[tuple[list[int], list[int], int]]
) -> None:
    assert parts(asked(specs, image)) == cells


@pytest.mark.parametrize(
    ("specs", "image", "code"),
    [
        ({"hw:cpu_policy": "x"}, {}, "InvalidCPUAllocationPolicy"),
        ({"hw:cpu_policy": "shared"}, {"hw_cpu_policy": "dedicated"}, "ImageCPUPinningForbidden"),
        (
            {"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "0"},
            {"hw_cpu_policy": "dedicated"},
            "ImageCPUPinningForbidden",
        ),
        ({"hw:cpu_thread_policy": "prefer"}, {}, "CPUThreadPolicyConfigurationInvalid"),
        (DEDICATED | {"hw:cpu_thread_policy": "x"}, {}, "InvalidCPUThreadAllocationPolicy"),
        (
            DEDICATED | {"hw:cpu_thread_policy": "isolate"},
            {"hw_cpu_thread_policy": "prefer"},
            "ImageCPUThreadPolicyForbidden",
        ),
        ({"hw:cpu_dedicated_mask": "0"}, {}, "RequiredMixedInstancePolicy"),
        ({"hw:cpu_policy": "mixed"}, {}, "RequiredMixedOrRealtimeCPUMask"),
        (
            {"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "0-3"},
            {},
            "InvalidMixedInstanceDedicatedMask",
        ),
        ({"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "x"}, {}, "Invalid"),
        (REALTIME, {}, "RealtimeMaskNotFoundOrInvalid"),
        (REALTIME | {"hw:cpu_realtime_mask": "^0"}, {}, "RealtimeConfigurationInvalid"),
        (
            DEDICATED | REALTIME | {"hw:cpu_realtime_mask": "^0-3"},
            {},
            "RealtimeMaskNotFoundOrInvalid",
        ),
        ({"hw:emulator_threads_policy": "x"}, {}, "InvalidEmulatorThreadsPolicy"),
        ({"hw:emulator_threads_policy": "isolate"}, {}, "BadRequirementEmulatorThreadsPolicy"),
        ({"hw:numa_nodes": "0"}, {}, "InvalidNUMANodesNumber"),
        ({"hw:numa_nodes": "3"}, {}, "ImageNUMATopologyAsymmetric"),
        (TWO, {"hw_numa_nodes": "2"}, "ImageNUMATopologyForbidden"),
        (TWO | SPLIT, {"hw_numa_cpus.0": "0"}, "ImageNUMATopologyForbidden"),
        (TWO | SPLIT, {}, "ImageNUMATopologyIncomplete"),
        (TWO | SPLIT | {"hw:numa_mem.0": "2048"}, {}, "ImageNUMATopologyIncomplete"),
        (TWO | SPLIT | SIZES | {"hw:numa_mem.1": "1"}, {}, "ImageNUMATopologyMemoryOutOfRange"),
        (TWO | SPLIT | SIZES | {"hw:numa_mem.1": "x"}, {}, "InvalidRequest"),
        (TWO | SPLIT | SIZES | {"hw:numa_cpus.1": "0-3"}, {}, "ImageNUMATopologyCPUDuplicates"),
        (TWO | SPLIT | SIZES | {"hw:numa_cpus.1": "3"}, {}, "ImageNUMATopologyCPUsUnassigned"),
        (TWO | SPLIT | SIZES | {"hw:numa_cpus.1": "1-4"}, {}, "ImageNUMATopologyCPUOutOfRange"),
        ({"hw:mem_page_size": "1G"}, {}, "MemoryPageSizeInvalid"),
        ({}, {"hw_mem_page_size": "large"}, "MemoryPageSizeForbidden"),
        ({"hw:mem_page_size": "small"}, {"hw_mem_page_size": "small"}, "MemoryPageSizeForbidden"),
        ({"hw:locked_memory": "yes"}, {}, "LockMemoryForbidden"),
        (
            {"hw:locked_memory": "no", "hw:mem_page_size": "small"},
            {"hw_locked_memory": "true"},
            "FlavorImageLockedMemoryConflict",
        ),
    ],
)
def test_refused(specs: dict[str, str], image: dict[str, str], code: str) -> None:
    with pytest.raises(BadRequest) as caught:
        asked(specs, image)
    assert caught.value.code == code
    assert caught.value.message.endswith(".")


@pytest.mark.parametrize(
    ("flavor", "image", "size"),
    [
        (None, None, None),
        ("small", None, SMALL),
        ("large", None, LARGE),
        ("large", "2048", 2048),
        ("any", "1GiB", 1048576),
        ("any", "any", ANY),
        ("2MB", None, 2048),
        ("16Mbit", None, 2048),
        ("0", None, None),
    ],
)
def test_page_sizes(flavor: str | None, image: str | None, size: int | None) -> None:
    specs = {"hw:mem_page_size": flavor} if flavor else {}
    assert page_size(specs, {"hw_mem_page_size": image} if image else {}) == size


def test_rules_are_kept_with_the_cells() -> None:
    found = asked(
        DEDICATED
        | REALTIME
        | {
            "hw:cpu_realtime_mask": "^0",
            "hw:emulator_threads_policy": "isolate",
            "hw:cpu_thread_policy": "require",
        }
    )
    assert found is not None
    assert (found.policy, found.threads, found.emulator) == ("dedicated", "require", "isolate")
    assert found.realtime == {1, 2, 3}


def test_where_devices_must_be() -> None:
    key, image = "hw:pci_numa_affinity_policy", "hw_pci_numa_affinity_policy"
    assert pci_policy({}, {}) is None
    assert pci_policy({key: "socket"}, {}) == "socket"
    assert pci_policy({}, {image: "required"}) == "required"
    assert pci_policy({key: "required"}, {image: "required"}) == "required"
    for specs, properties, code in (
        ({key: "legacy"}, {image: "required"}, "ImagePCINUMAPolicyForbidden"),
        ({key: "x"}, {}, "InvalidPCINUMAAffinity"),
    ):
        with pytest.raises(BadRequest) as caught:
            pci_policy(specs, properties)
        assert caught.value.code == code


def test_yes_and_no() -> None:
    assert truth("Yes")
    assert not truth(None)
    assert not truth("off")
