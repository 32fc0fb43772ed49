"""What flavor and image may not say together."""

from __future__ import annotations

import pytest

from kilonova.base.errors import BadRequest
from kilonova.domain.fit.agree import check

ENCRYPTED = {"hw:mem_encryption": "true"}
UEFI = {"hw_firmware_type": "uefi"}


@pytest.mark.parametrize(
    ("specs", "image"),
    [
        ({}, {}),
        ({"hw:pmu": "true"}, {"hw_pmu": "yes"}),
        ({"hw:tpm_version": "2.0"}, {"hw_tpm_version": "2.0", "hw_tpm_model": "tpm-crb"}),
        ({"os:secure_boot": "required"}, {"os_secure_boot": "required"}),
        (ENCRYPTED, UEFI),
        (ENCRYPTED, {**UEFI, "hw_machine_type": "pc-q35-7.2", "hw_mem_encryption": "1"}),
        ({"hw:mem_encryption": "false"}, {}),
        ({"hw:serial_port_count": "2"}, {"hw_serial_port_count": "2"}),
        ({}, {"hw_serial_port_count": "4"}),
        ({"hw:cpu_max_sockets": "4"}, {"hw_cpu_max_sockets": "2", "hw_cpu_sockets": "2"}),
        ({"hw:cpu_sockets": "2"}, {"hw_cpu_sockets": "4"}),
    ],
)
def test_agreed(specs: dict[str, str], image: dict[str, str]) -> None:
    check(specs, image)


@pytest.mark.parametrize(
    ("specs", "image", "code"),
    [
        ({"hw:pmu": "true"}, {"hw_pmu": "false"}, "FlavorImageConflict"),
        (
            {"hw:vif_multiqueue_enabled": "no"},
            {"hw_vif_multiqueue_enabled": "yes"},
            "FlavorImageConflict",
        ),
        ({"hw:virtio_packed_ring": "1"}, {"hw_virtio_packed_ring": "0"}, "FlavorImageConflict"),
        ({"hw:ephemeral_encryption": "1"}, {"hw_ephemeral_encryption": "0"}, "FlavorImageConflict"),
        (
            {"hw:ephemeral_encryption_format": "luks"},
            {"hw_ephemeral_encryption_format": "plain"},
            "FlavorImageConflict",
        ),
        ({"hw:sound_model": "ich6"}, {"hw_sound_model": "ich9"}, "FlavorImageConflict"),
        ({"hw:usb_model": "none"}, {"hw_usb_model": "qemu-xhci"}, "FlavorImageConflict"),
        ({"hw:viommu_model": "intel"}, {"hw_viommu_model": "virtio"}, "FlavorImageConflict"),
        ({"hw:tpm_version": "1.2"}, {"hw_tpm_version": "2.0"}, "FlavorImageConflict"),
        ({"hw:tpm_model": "tpm-tis"}, {"hw_tpm_model": "tpm-crb"}, "FlavorImageConflict"),
        ({"hw:tpm_version": "1.2"}, {"hw_tpm_model": "tpm-crb"}, "Invalid"),
        ({"os:secure_boot": "required"}, {"os_secure_boot": "disabled"}, "FlavorImageConflict"),
        (ENCRYPTED, {"hw_mem_encryption": "no", **UEFI}, "FlavorImageConflict"),
        (ENCRYPTED, {}, "FlavorImageConflict"),
        ({}, {"hw_mem_encryption": "yes"}, "FlavorImageConflict"),
        (
            {**ENCRYPTED, "hw:mem_encryption_model": "amd-sev"},
            {**UEFI, "hw_mem_encryption_model": "amd-sev-es"},
            "FlavorImageConflict",
        ),
        (ENCRYPTED, {**UEFI, "hw_machine_type": "pc"}, "InvalidMachineType"),
        ({"hw:serial_port_count": "x"}, {}, "ImageSerialPortNumberInvalid"),
        (
            {"hw:serial_port_count": "1"},
            {"hw_serial_port_count": "2"},
            "ImageSerialPortNumberExceedFlavorValue",
        ),
        ({"hw:cpu_max_cores": "2"}, {"hw_cpu_max_cores": "4"}, "ImageVCPULimitsRangeExceeded"),
        ({"hw:cpu_max_cores": "2"}, {"hw_cpu_cores": "4"}, "ImageVCPUTopologyRangeExceeded"),
        ({"hw:cpu_threads": "4"}, {"hw_cpu_max_threads": "2"}, "ImageVCPUTopologyRangeExceeded"),
        ({"hw:cpu_sockets": "many"}, {}, "InvalidRequest"),
    ],
)
def test_refused(specs: dict[str, str], image: dict[str, str], code: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check(specs, image)
    assert caught.value.code == code
