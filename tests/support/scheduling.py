"""Hosts and requests for the scheduler's tests."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.domain.guest import FlavorSpec, ImageRef
from kilonova.domain.request import RequestSpec
from kilonova.scheduler.state import Aggregate, HostState

FLAVOR = FlavorSpec(1, "m1", "m1.small", vcpus=2, memory_mb=512, root_gb=10)


def host(name: str = "h1", /, **more: Any) -> HostState:
    metadata = more.pop("metadata", None)
    if metadata is not None:
        more["aggregates"] = tuple(
            Aggregate(n, f"agg{n}", f"agg{n}", one) for n, one in enumerate(metadata)
        )
    plain = HostState(
        host=name,
        node=name,
        provider=f"uuid-{name}",
        cell_id="c1",
        vcpus=8,
        memory_mb=4096,
        disk_gb=100,
        hypervisor_type="QEMU",
        hypervisor_version=8_002_000,
        host_ip="10.0.1.5",
        supported=(("x86_64", "kvm", "hvm"), ("i686", "qemu", "hvm")),
    )
    return msgspec.structs.replace(plain, **more)


def request(**more: Any) -> RequestSpec:
    specs = more.pop("extra_specs", {})
    properties = more.pop("properties", None)
    flavor = msgspec.structs.replace(FLAVOR, extra_specs=specs, **more.pop("flavor", {}))
    if properties is not None:
        more.setdefault("image", ImageRef(id="img", properties=properties))
    more.setdefault("servers", ("s1",))
    return RequestSpec(project_id="p1", user_id="u1", flavor=flavor, **more)
