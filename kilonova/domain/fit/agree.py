"""Whether flavor and image agree about a guest's devices, and ask for nothing impossible.

The codes of the errors are the names Nova has for them; Nova answers each of them with 400.
Sources: Nova administration guide, "CPU topologies", "Emulated TPM", "AMD SEV", "UEFI Secure
Boot"; Nova configuration guide, "Extra specs".
"""

from __future__ import annotations

from collections.abc import Mapping

from kilonova.base.errors import BadRequest
from kilonova.domain.fit.wanted import truth

Words = Mapping[str, str]

_FLAGS = ("pmu", "vif_multiqueue_enabled", "virtio_packed_ring", "ephemeral_encryption")
_NAMES = (
    "ephemeral_encryption_format", "sound_model", "tpm_model", "tpm_version", "usb_model",
    "viommu_model",
)  # fmt: skip
_PARTS = ("sockets", "cores", "threads")
# What Nova takes where a flavor sets no limit.
_MOST = 65536


def check(specs: Words, properties: Words) -> None:
    """BadRequest when the image contradicts the flavor, or goes beyond what it allows."""
    for name in _FLAGS:
        flavor, image = specs.get(f"hw:{name}"), properties.get(f"hw_{name}")
        if flavor and image and truth(flavor) != truth(image):
            raise _differ(f"hw:{name}", f"hw_{name}")
    for name in _NAMES:
        _same(specs, properties, f"hw:{name}", f"hw_{name}")
    _same(specs, properties, "os:secure_boot", "os_secure_boot")
    _check_tpm(specs, properties)
    _check_encryption(specs, properties)
    _check_serial_ports(specs, properties)
    _check_cpus(specs, properties)


def _same(specs: Words, properties: Words, flavor_key: str, image_key: str) -> None:
    flavor, image = specs.get(flavor_key), properties.get(image_key)
    if flavor and image and flavor.lower() != image.lower():
        raise _differ(flavor_key, image_key)


def _check_tpm(specs: Words, properties: Words) -> None:
    version = specs.get("hw:tpm_version") or properties.get("hw_tpm_version")
    model = specs.get("hw:tpm_model") or properties.get("hw_tpm_model")
    if version == "1.2" and model == "tpm-crb":
        raise _bad("Invalid", "The TPM model tpm-crb needs TPM version 2.0.")


def _check_encryption(specs: Words, properties: Words) -> None:
    flavor, image = specs.get("hw:mem_encryption"), properties.get("hw_mem_encryption")
    if flavor and image and truth(flavor) != truth(image):
        raise _differ("hw:mem_encryption", "hw_mem_encryption")
    if not (truth(flavor) or truth(image)):
        return
    _same(specs, properties, "hw:mem_encryption_model", "hw_mem_encryption_model")
    if properties.get("hw_firmware_type") != "uefi":
        raise _bad(
            "FlavorImageConflict", "Memory encryption needs an image with hw_firmware_type=uefi."
        )
    machine = properties.get("hw_machine_type")
    if machine and "q35" not in machine:
        raise _bad("InvalidMachineType", f"Memory encryption needs q35, not {machine}.")


def _check_serial_ports(specs: Words, properties: Words) -> None:
    flavor = _number(specs.get("hw:serial_port_count"), "ImageSerialPortNumberInvalid")
    image = _number(properties.get("hw_serial_port_count"), "ImageSerialPortNumberInvalid")
    if flavor is not None and image is not None and image > flavor:
        raise _bad(
            "ImageSerialPortNumberExceedFlavorValue",
            f"The image asks for {image} serial ports; the flavor allows {flavor}.",
        )


def _check_cpus(specs: Words, properties: Words) -> None:
    """The image may narrow the flavor's limits, and choose within them."""
    for part in _PARTS:
        allowed = _number(specs.get(f"hw:cpu_max_{part}"), "InvalidRequest")
        narrowed = _number(properties.get(f"hw_cpu_max_{part}"), "InvalidRequest")
        if allowed is not None and narrowed is not None and narrowed > allowed:
            raise _bad(
                "ImageVCPULimitsRangeExceeded",
                f"The image's limit of {narrowed} CPU {part} is beyond the flavor's {allowed}.",
            )
        most = min(allowed or _MOST, narrowed or _MOST)
        for chosen in (specs.get(f"hw:cpu_{part}"), properties.get(f"hw_cpu_{part}")):
            wanted = _number(chosen, "InvalidRequest")
            if wanted is not None and wanted > most:
                raise _bad(
                    "ImageVCPUTopologyRangeExceeded",
                    f"{wanted} CPU {part} are beyond the limit of {most}.",
                )


def _number(text: str | None, code: str) -> int | None:
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise _bad(code, f"{text!r} is no whole number.") from None


def _differ(flavor_key: str, image_key: str) -> BadRequest:
    return _bad(
        "FlavorImageConflict", f"The flavor's {flavor_key} and the image's {image_key} differ."
    )


def _bad(code: str, message: str) -> BadRequest:
    return BadRequest(message, code=code)
