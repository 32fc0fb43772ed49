"""From flavors, images, zones and projects to the parameters of Placement's search."""

from __future__ import annotations

from typing import Any

import pytest

from kilonova.base.errors import BadRequest
from kilonova.config.scheduler import Scheduler
from kilonova.domain.fit.host import Wanted
from kilonova.domain.fit.shapes import DeviceRequest, DeviceSpec
from kilonova.domain.guest import ImageRef
from kilonova.domain.request import RequestSpec, ResourceGroup
from kilonova.placement import queries
from kilonova.scheduler.demand import demand
from kilonova.scheduler.request_filters import Facts, Unplaceable, narrow
from kilonova.scheduler.state import Aggregate
from tests.support.scheduling import request

A = "3a1d1f8c-5a2e-4b53-9b0a-3f2a4a9d8c11"
B = "3a1d1f8c-5a2e-4b53-9b0a-3f2a4a9d8c12"


def query(asked: RequestSpec) -> dict[str, str]:
    pairs = demand(asked).query(10)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def narrowed(asked: RequestSpec, *aggregates: Aggregate, **options: Any) -> list[tuple[str, str]]:
    facts = Facts(Scheduler(**options), aggregates)
    return narrow(asked, demand(asked), facts).query(10)


def test_a_plain_flavor() -> None:
    assert query(request()) == {"resources": "DISK_GB:10,MEMORY_MB:512,VCPU:2", "limit": "10"}
    big = {"ephemeral_gb": 5, "swap_mb": 1025}
    assert "DISK_GB:17" in query(request(flavor=big))["resources"]
    assert "DISK_GB" not in query(request(boot_from_volume=True))["resources"]


def test_extra_specs_change_resources_and_ask_for_traits() -> None:
    specs = {
        "resources:VCPU": "0",
        "resources:CUSTOM_IRON": "1",
        "trait:HW_CPU_X86_AVX": "required",
        "trait:CUSTOM_OLD": "forbidden",
        "resources_GPU:VGPU": "1",
        "trait_GPU:CUSTOM_FAST": "required",
        "resources2:CUSTOM_X": "2",
    }
    found = query(request(extra_specs=specs, properties={"trait:CUSTOM_IMG": "required"}))
    assert found["resources"] == "CUSTOM_IRON:1,DISK_GB:10,MEMORY_MB:512"
    assert found["required"] == "CUSTOM_IMG,HW_CPU_X86_AVX,!CUSTOM_OLD"
    assert found["resources_GPU"] == "VGPU:1"
    assert found["required_GPU"] == "CUSTOM_FAST"
    assert found["group_policy"] == "none"
    assert query(request(extra_specs=specs | {"group_policy": "isolate"}))["group_policy"] == (
        "isolate"
    )
    # Placement understands what we ask.
    assert len(queries.wanted({k: [v] for k, v in found.items()}, 39).groups) == 3


def test_dedicated_and_mixed_cpus_and_encryption() -> None:
    pinned = query(request(extra_specs={"hw:cpu_policy": "dedicated"}))["resources"]
    assert "PCPU:2" in pinned
    assert "VCPU" not in pinned
    mixed = {"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "1"}
    assert "PCPU:1,VCPU:1" in query(request(extra_specs=mixed))["resources"]
    realtime = {"hw:cpu_realtime": "true", "hw:cpu_realtime_mask": "^0"}
    mixed = {"hw:cpu_policy": "mixed"} | realtime
    assert "PCPU:1,VCPU:1" in query(request(extra_specs=mixed))["resources"]
    emulator = {"hw:cpu_policy": "dedicated", "hw:emulator_threads_policy": "isolate"}
    assert "PCPU:3" in query(request(extra_specs=emulator))["resources"]
    assert "VCPU:2" in query(request(extra_specs={"hw:numa_nodes": "2"}))["resources"]
    secret = query(request(properties={"hw_mem_encryption": "true"}))
    assert "MEM_ENCRYPTION_CONTEXT:1" in secret["resources"]


@pytest.mark.parametrize(
    ("policy", "trait"),
    [("require", "HW_CPU_HYPERTHREADING"), ("isolate", "!HW_CPU_HYPERTHREADING"), ("prefer", None)],
)
def test_thread_policies(policy: str, trait: str | None) -> None:
    specs = {"hw:cpu_policy": "dedicated", "hw:cpu_thread_policy": policy}
    assert query(request(extra_specs=specs)).get("required") == trait


def test_devices_are_asked_for_where_placement_has_them() -> None:
    kind = DeviceSpec("8086", "1515", traits=("CUSTOM_FAST", "HW_NIC_SRIOV", "blue"))
    asked = request(shape=Wanted(None, (DeviceRequest("pci0", 2, (kind,)),)))
    assert "resources_pci0-0" not in query(asked)
    found = dict(demand(asked, devices=True).query(10))
    for group in ("_pci0-0", "_pci0-1"):
        assert found[f"resources{group}"] == "CUSTOM_PCI_8086_1515:1"
        assert found[f"required{group}"] == "CUSTOM_BLUE,CUSTOM_FAST,HW_NIC_SRIOV"
    assert len(queries.wanted({k: [v] for k, v in found.items()}, 39).groups) == 3
    near = request(extra_specs={"hw:pci_numa_affinity_policy": "socket"})
    assert "COMPUTE_SOCKET_PCI_NUMA_AFFINITY" in dict(narrowed(near))["root_required"]


def test_a_baremetal_flavor_without_plain_resources() -> None:
    specs = {
        "resources:VCPU": "0",
        "resources:MEMORY_MB": "0",
        "resources:DISK_GB": "0",
        "resources1:CUSTOM_IRON": "1",
        "trait:CUSTOM_RACK": "required",
    }
    zone = Aggregate(1, A, "z", {"availability_zone": "z"})
    found = dict(narrowed(request(extra_specs=specs, availability_zone="z"), zone))
    assert "resources" not in found
    assert found["resources1"] == "CUSTOM_IRON:1"
    assert found["member_of1"] == f"in:{A}"
    assert found["root_required"] == "CUSTOM_RACK,OWNER_NOVA,!COMPUTE_STATUS_DISABLED"


def test_ports_bring_their_groups() -> None:
    port = ResourceGroup("_port1", {"NET_BW_EGR_KILOBIT_PER_SEC": 1000}, ("CUSTOM_PHYSNET",))
    found = query(request(networks=(port,)))
    assert found["resources_port1"] == "NET_BW_EGR_KILOBIT_PER_SEC:1000"
    assert found["required_port1"] == "CUSTOM_PHYSNET"


def test_extra_specs_that_contradict() -> None:
    for specs, properties in (
        ({"resources:VCPU": "x"}, {}),
        ({"trait:A": "maybe"}, {}),
        ({"trait:A": "forbidden"}, {"trait:A": "required"}),
        ({"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "a"}, {}),
    ):
        with pytest.raises(BadRequest):
            demand(request(extra_specs=specs, properties=properties))


def test_zones_become_aggregates() -> None:
    east = Aggregate(1, A, "east", {"availability_zone": "east"})
    west = Aggregate(2, B, "west", {"availability_zone": "west"})
    assert ("member_of", f"in:{A}") in narrowed(request(availability_zone="east"), east, west)
    default = narrowed(request(availability_zone="nova"), east, west)
    assert ("member_of", f"!in:{A},{B}") in default
    assert not [p for p in narrowed(request(), east) if p[0] == "member_of"]
    with pytest.raises(Unplaceable, match="moon"):
        narrowed(request(availability_zone="moon"), east)


def test_disabled_hosts_are_left_out() -> None:
    assert ("root_required", "OWNER_NOVA,!COMPUTE_STATUS_DISABLED") in narrowed(request())


def test_projects_keep_to_their_aggregates() -> None:
    mine = Aggregate(1, A, "mine", {"filter_tenant_id3": "p1"})
    on = {"limit_tenants_to_placement_aggregate": True}
    assert ("member_of", f"in:{A}") in narrowed(request(), mine, **on)
    assert not [p for p in narrowed(request(), mine) if p[0] == "member_of"]
    assert not [p for p in narrowed(request(), **on) if p[0] == "member_of"]
    with pytest.raises(Unplaceable):
        narrowed(request(), **on, placement_aggregate_required_for_tenants=True)


def test_isolated_aggregates() -> None:
    closed = Aggregate(1, A, "gpu", {"trait:CUSTOM_GPU": "required"})
    on = {"enable_isolated_aggregate_filtering": True}
    assert ("member_of", f"!in:{A}") in narrowed(request(), closed, **on)
    asked = request(extra_specs={"trait:CUSTOM_GPU": "required"})
    assert not [p for p in narrowed(asked, closed, **on) if p[0] == "member_of"]


def test_images_and_devices_become_traits() -> None:
    image = ImageRef("i", disk_format="qcow2", properties={"hw_disk_bus": "virtio"})
    asked = request(
        image=image,
        extra_specs={"hw:ephemeral_encryption": "true", "hw:sound_model": "ich9"},
        vnic_types=("remote-managed",),
    )
    found = dict(
        narrowed(asked, query_placement_for_image_type_support=True, image_metadata_prefilter=True)
    )["root_required"].split(",")
    assert set(found) == {
        "COMPUTE_IMAGE_TYPE_QCOW2",
        "COMPUTE_STORAGE_BUS_VIRTIO",
        "COMPUTE_EPHEMERAL_ENCRYPTION",
        "COMPUTE_SOUND_MODEL_ICH9",
        "COMPUTE_REMOTE_MANAGED_PORTS",
        "OWNER_NOVA",
        "!COMPUTE_STATUS_DISABLED",
    }


@pytest.mark.parametrize(
    ("specs", "properties", "traits"),
    [
        ({"hw:tpm_version": "2.0"}, {}, {"COMPUTE_SECURITY_TPM_2_0"}),
        (
            {"hw:tpm_version": "1.2", "hw:tpm_model": "tpm-tis"},
            {},
            {"COMPUTE_SECURITY_TPM_1_2", "COMPUTE_SECURITY_TPM_TIS"},
        ),
        (
            {"hw:tpm_version": "2.0", "hw:tpm_secret_security": "host"},
            {"hw_tpm_model": "tpm-crb"},
            {
                "COMPUTE_SECURITY_TPM_2_0",
                "COMPUTE_SECURITY_TPM_CRB",
                "COMPUTE_SECURITY_TPM_SECRET_SECURITY_HOST",
            },
        ),
        ({"os:secure_boot": "required"}, {}, {"COMPUTE_SECURITY_UEFI_SECURE_BOOT"}),
        ({}, {"os_secure_boot": "required"}, {"COMPUTE_SECURITY_UEFI_SECURE_BOOT"}),
        ({}, {"os_secure_boot": "optional"}, set()),
        ({"os:secure_boot": "disabled"}, {}, set()),
        ({}, {"hw_firmware_stateless": "true"}, {"COMPUTE_SECURITY_STATELESS_FIRMWARE"}),
        ({"hw:maxphysaddr_mode": "passthrough"}, {}, {"COMPUTE_ADDRESS_SPACE_PASSTHROUGH"}),
        ({}, {"hw_maxphysaddr_mode": "emulate"}, {"COMPUTE_ADDRESS_SPACE_EMULATED"}),
        ({"hw:usb_model": "qemu-xhci"}, {}, {"COMPUTE_USB_MODEL_QEMU_XHCI"}),
        ({"hw:usb_model": "none"}, {}, set()),
        ({"hw:sound_model": "virtio"}, {}, {"COMPUTE_SOUND_MODEL_VIRTIO"}),
    ],
)
def test_hosts_that_cannot_are_never_chosen(
    specs: dict[str, str], properties: dict[str, str], traits: set[str]
) -> None:
    asked = request(extra_specs=specs, properties=properties)
    required = set(dict(narrowed(asked))["root_required"].split(","))
    assert required - {"OWNER_NOVA", "!COMPUTE_STATUS_DISABLED"} == traits


def test_several_groups_of_a_flavor_want_a_policy() -> None:
    one = {"resources1:VGPU": "1"}
    two = {**one, "resources_X:CUSTOM_X": "1"}
    with pytest.raises(Unplaceable, match="group_policy"):
        narrowed(request(extra_specs=two))
    assert dict(narrowed(request(extra_specs={**two, "group_policy": "none"})))["group_policy"] == (
        "none"
    )
    assert "group_policy" not in dict(narrowed(request(extra_specs=one)))


def test_routed_networks_keep_to_the_hosts_that_reach_them() -> None:
    both = request(routed=((B, A), (B,)))
    assert not [p for p in narrowed(both) if p[0] == "member_of"]
    on = {"query_placement_for_routed_network_aggregates": True}
    found = [value for name, value in narrowed(both, **on) if name == "member_of"]
    assert found == [f"in:{A},{B}", f"in:{B}"]
    assert narrowed(request(), **on) == narrowed(request())
    with pytest.raises(Unplaceable):
        narrowed(request(routed=((A,), ())), **on)
