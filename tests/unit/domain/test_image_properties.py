"""Which image properties are taken."""

from __future__ import annotations

import pytest

from kilonova.base.errors import BadRequest
from kilonova.domain.image_properties import validate


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hw_disk_bus", "virtio"),
        ("hw_architecture", "AMD64"),
        ("architecture", "x86_64"),
        ("hw_vif_model", "VirtualE1000"),
        ("hw_cpu_cores", "4"),
        ("hw_qemu_guest_agent", "whatever"),
        ("img_hv_requested_version", ">=2.6,<8"),
        ("img_signature_certificate_uuid", "70a599e0-31e7-49b7-b260-868f441e862b"),
        ("os_type", "Linux"),
        ("somebodys_own", "anything"),
    ],
)
def test_taken(name: str, value: str) -> None:
    validate({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hw_disk_bus", "scuzzy"),
        ("architecture", "pdp11"),
        ("hw_cpu_cores", "many"),
        ("img_hv_requested_version", "new"),
        ("img_signature_certificate_uuid", "mine"),
        ("os_type", "plan9"),
    ],
)
def test_refused(name: str, value: str) -> None:
    with pytest.raises(BadRequest, match=f"Invalid image metadata.*{name}"):
        validate({name: value})
