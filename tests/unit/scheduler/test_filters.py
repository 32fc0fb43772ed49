"""Every filter by what operators are told of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kilonova.config.filter_scheduler import FilterScheduler, Metrics
from kilonova.domain.fit.host import Wanted, fit
from kilonova.domain.fit.numa import Limits
from kilonova.domain.fit.shapes import Device, DeviceRequest, DeviceSpec, Held, HostCell, HostShape
from kilonova.domain.fit.wanted import topology
from kilonova.domain.request import RequestSpec, ServerGroup
from kilonova.scheduler.filters.base import FILTERS, Env, HostFilter, load
from kilonova.scheduler.operators import match
from kilonova.scheduler.state import HostState
from tests.support.scheduling import host, request

NAMES = [
    "AllHostsFilter",
    "ComputeFilter",
    "ComputeCapabilitiesFilter",
    "ImagePropertiesFilter",
    "ServerGroupAntiAffinityFilter",
    "ServerGroupAffinityFilter",
    "DifferentHostFilter",
    "SameHostFilter",
    "SimpleCIDRAffinityFilter",
    "JsonFilter",
    "NumInstancesFilter",
    "AggregateNumInstancesFilter",
    "IoOpsFilter",
    "AggregateIoOpsFilter",
    "AggregateInstanceExtraSpecsFilter",
    "AggregateImagePropertiesIsolation",
    "AggregateMultiTenancyIsolation",
    "AggregateTypeAffinityFilter",
    "IsolatedHostsFilter",
    "MetricsFilter",
    "NUMATopologyFilter",
    "PciPassthroughFilter",
]


def passes(name: str, on: Any, asked: Any, **options: Any) -> bool:
    metrics = options.pop("metrics", Metrics())
    (item,) = load([name])
    why = item.check(on, asked, Env(FilterScheduler(**options), metrics))
    assert why is None or why.strip()
    return why is None


def test_all_are_found_by_their_names_and_paths() -> None:
    assert [item.name for item in load(NAMES)] == NAMES
    assert load(["nova.scheduler.filters.compute_filter.ComputeFilter"])[0].name == "ComputeFilter"
    with pytest.raises(LookupError, match="NoSuchFilter"):
        load(["NoSuchFilter"])
    assert isinstance(FILTERS.get("ComputeFilter"), HostFilter)


class ThirdParty:
    """A filter as others write them."""

    RUN_ON_REBUILD = True

    def host_passes(self, host: HostState, request: RequestSpec) -> bool:
        return host.host != request.project_id


def third_party(host: HostState, _request: RequestSpec, _env: Env) -> str | None:
    return "it is not ours" if host.host == "h1" else None


def test_what_is_available() -> None:
    own = [f"{__name__}.ThirdParty", f"{__name__}.third_party"]
    found = load(["third_party", "ThirdParty", "ComputeFilter"], ["x.all_filters", *own])
    assert [item.on_rebuild for item in found] == [False, True, False]
    assert found[0].check(host("h1"), request(), Env()) == "it is not ours"
    assert found[1].check(host("p1"), request(), Env())
    assert found[1].check(host("h1"), request(), Env()) is None
    one = ["nova.scheduler.filters.compute_filter.ComputeFilter"]
    assert load(["ComputeFilter"], one)[0].name == "ComputeFilter"
    with pytest.raises(LookupError, match="AllHostsFilter"):
        load(["AllHostsFilter"], one)
    for path in ("no.such.Filter", f"{__name__}.Missing", "Filter"):
        with pytest.raises(LookupError, match="imported"):
            load([], [path])


def shaped(**more: Any) -> HostState:
    cells = tuple(
        HostCell(n, 1024, frozenset({n * 4}), frozenset(range(n * 4 + 1, n * 4 + 4)), socket=n)
        for n in range(2)
    )
    return host(shape=HostShape(cells, (Device("0000:00:01.0", "8086", "1", numa_node=1),)), **more)


def wanting(specs: dict[str, str], devices: int = 0, policy: str = "legacy") -> RequestSpec:
    plain = request(extra_specs=specs)
    asked = (DeviceRequest("pci0", devices, (DeviceSpec("8086", "1"),), policy),)
    shape = Wanted(topology(plain.flavor, {}), asked if devices else ())
    return msgspec.structs.replace(plain, shape=shape)


def test_numa_nodes_and_pinned_cpus() -> None:
    name = "NUMATopologyFilter"
    pinned = wanting({"hw:cpu_policy": "dedicated"})
    assert passes(name, shaped(), pinned)
    assert passes(name, host(), request())
    assert not passes(name, host(), pinned)
    assert passes(name, shaped(), wanting({"hw:numa_nodes": "2"}))
    assert not passes(name, shaped(), wanting({"hw:mem_page_size": "large"}))
    near = wanting({"hw:cpu_policy": "dedicated"}, 1, "required")
    assert passes(name, shaped(), near)
    there = fit(shaped().free_shape, pinned.shape, Limits())
    assert isinstance(there, Held)
    assert passes(name, shaped(held=(there,)), pinned)
    both = (there, held_elsewhere(there))
    assert not passes(name, shaped(held=both), pinned)


def held_elsewhere(first: Held) -> Held:
    """The same on the other cell."""
    found = fit(
        shaped(held=(first,)).free_shape,
        wanting({"hw:cpu_policy": "dedicated"}).shape,
        Limits(),
    )
    assert isinstance(found, Held)
    return found


def test_pci_devices() -> None:
    name = "PciPassthroughFilter"
    assert passes(name, host(), request())
    assert passes(name, shaped(), wanting({}, 1))
    assert not passes(name, shaped(), wanting({}, 2))
    assert not passes(name, host(), wanting({}, 1))
    taken = Held(None, {"pci0": ("0000:00:01.0",)})
    assert not passes(name, shaped(held=(taken,)), wanting({}, 1))


def test_those_that_run_on_rebuild() -> None:
    assert {item.name for item in load(NAMES) if item.on_rebuild} == {
        "ImagePropertiesFilter",
        "AggregateImagePropertiesIsolation",
        "IsolatedHostsFilter",
    }


def test_compute_filter() -> None:
    assert passes("ComputeFilter", host(), request())
    assert not passes("ComputeFilter", host(up=False), request())
    assert not passes("ComputeFilter", host(disabled=True, disabled_reason="mend"), request())
    assert passes("AllHostsFilter", host(up=False), request())


@pytest.mark.parametrize(
    ("value", "wanted", "met"),
    [
        (4, "= 4", True),
        (5, "= 4", True),
        (3, "= 4", False),
        (4, "== 4.0", True),
        (4, "!= 4", False),
        (4, ">= 5", False),
        (4, "<= 5", True),
        ("b", "s== b", True),
        ("b", "s!= b", False),
        ("b", "s>= a", True),
        ("b", "s> b", False),
        ("b", "s<= b", True),
        ("b", "s< b", False),
        ("some text", "<in> text", True),
        (["avx", "sse"], "<in> avx", True),
        (["avx", "sse"], "<all-in> avx sse", True),
        (["avx", "sse"], "<all-in> avx mmx", False),
        ("12", "<or> 11 <or> 12", True),
        ("13", "<or> 11 <or> 12", False),
        ("x y", "x y", True),
        ("x", ">= 4", False),
        ("", "", True),
    ],
)
def test_operators(value: object, wanted: str, met: bool) -> None:
    assert match(value, wanted) is met


def test_compute_capabilities() -> None:
    on = host(cpu_info={"features": ["avx", "sse"], "topology": {"cores": 4}}, stats={"gpu": "1"})

    def ok(specs: dict[str, str]) -> bool:
        return passes("ComputeCapabilitiesFilter", on, request(extra_specs=specs))

    assert ok({})
    assert ok({"capabilities:vcpus": ">= 8", "hypervisor_type": "QEMU"})
    assert not ok({"hypervisor_type": "xen"})
    assert ok({"capabilities:cpu_info:features": "<in> avx"})
    assert ok({"capabilities:cpu_info:topology:cores": "= 4"})
    assert not ok({"capabilities:cpu_info:vendor": "Intel"})
    assert ok({"gpu": "1"})
    assert ok({"hw:cpu_policy": "shared", "group_policy": "none"})
    assert not ok({"capabilities:nothing": "1"})
    assert ok({"nothing": "1"})


def test_image_properties() -> None:
    def ok(properties: dict[str, str], **options: Any) -> bool:
        asked = request(properties=properties)
        return passes("ImagePropertiesFilter", host(), asked, **options)

    assert ok({})
    assert ok({"hw_architecture": "x86_64", "img_hv_type": "kvm", "hw_vm_mode": "hvm"})
    assert ok({"hw_architecture": "amd64"})
    assert not ok({"hw_architecture": "x86_64", "img_hv_type": "qemu"})
    assert not ok({"hw_architecture": "aarch64"})
    assert not ok({}, image_properties_default_architecture="ppc64")
    assert ok({"img_hv_requested_version": ">=6.0,<9"})
    assert not ok({"img_hv_requested_version": "<8.2"})
    assert not ok({"img_hv_requested_version": "new"})
    assert passes("ImagePropertiesFilter", host(), request())


def test_server_groups() -> None:
    def group(policy: str, counts: dict[str, int], **rules: int) -> Any:
        return request(group=ServerGroup("g", policy, rules, counts))

    apart, together = "ServerGroupAntiAffinityFilter", "ServerGroupAffinityFilter"
    assert passes(apart, host("h1"), group("anti-affinity", {"h2": 1}))
    assert not passes(apart, host("h1"), group("anti-affinity", {"h1": 1}))
    two = {"max_server_per_host": 2}
    assert passes(apart, host("h1"), group("anti-affinity", {"h1": 1}, **two))
    assert not passes(apart, host("h1"), group("anti-affinity", {"h1": 2}, **two))
    assert passes(apart, host("h1"), group("affinity", {"h1": 1}))
    assert passes(together, host("h1"), group("affinity", {}))
    assert passes(together, host("h1"), group("affinity", {"h1": 3}))
    assert not passes(together, host("h1"), group("affinity", {"h2": 1}))
    assert passes(together, host("h1"), request())


def test_hints_of_place() -> None:
    on = host(servers=frozenset({"a"}))
    assert not passes("DifferentHostFilter", on, request(hints={"different_host": "a"}))
    assert passes("DifferentHostFilter", on, request(hints={"different_host": ["b", "c"]}))
    assert passes("SameHostFilter", on, request(hints={"same_host": ["a", "b"]}))
    assert not passes("SameHostFilter", on, request(hints={"same_host": "b"}))
    assert passes("SameHostFilter", on, request())
    near = {"build_near_host_ip": "10.0.1.200"}
    assert passes("SimpleCIDRAffinityFilter", host(), request(hints=near))
    assert not passes("SimpleCIDRAffinityFilter", host(), request(hints=near | {"cidr": "/28"}))
    assert passes("SimpleCIDRAffinityFilter", host(), request(hints=near | {"cidr": "16"}))
    assert not passes("SimpleCIDRAffinityFilter", host(), request(hints={**near, "cidr": "x"}))


@pytest.mark.parametrize(
    ("query", "met"),
    [
        ('[">=", "$free_ram_mb", 1024]', True),
        ('[">", "$free_ram_mb", 4096]', False),
        ('["and", [">=", "$free_ram_mb", 10], ["=", "$host", "h1"]]', True),
        ('["or", ["<", "$vcpus", 2], ["in", "$host", "h0", "h1"]]', True),
        ('["not", ["=", "$host", "h1"]]', False),
        ('["=", "$nothing", 1]', False),
        ('["??", 1]', False),
        ('["<", "$host", 4]', False),
        ("{", False),
        ("", True),
    ],
)
def test_json_query(query: str, met: bool) -> None:
    assert passes("JsonFilter", host(), request(hints={"query": query})) is met


def test_json_query_bounds_its_depth() -> None:
    deep: list[Any] = ["and", True]
    for _ in range(100):
        deep = ["and", deep]
    assert not passes("JsonFilter", host(), request(hints={"query": deep}))


def test_full_and_busy_hosts() -> None:
    full = host(servers=frozenset({"a", "b"}), io_ops=3)
    assert passes("NumInstancesFilter", full, request(), max_instances_per_host=3)
    assert not passes("NumInstancesFilter", full, request(), max_instances_per_host=2)
    assert passes("IoOpsFilter", full, request(), max_io_ops_per_host=4)
    assert not passes("IoOpsFilter", full, request(), max_io_ops_per_host=3)
    tight = host(
        servers=frozenset({"a", "b"}),
        io_ops=3,
        metadata=[
            {"max_instances_per_host": "9", "max_io_ops_per_host": "9"},
            {"max_instances_per_host": "2", "max_io_ops_per_host": "3"},
        ],
    )
    assert not passes("AggregateNumInstancesFilter", tight, request())
    assert not passes("AggregateIoOpsFilter", tight, request())
    assert passes("AggregateNumInstancesFilter", full, request())


def test_aggregate_extra_specs() -> None:
    on = host(metadata=[{"ssd": "true"}, {"cores": "8"}])

    def ok(specs: dict[str, str]) -> bool:
        return passes("AggregateInstanceExtraSpecsFilter", on, request(extra_specs=specs))

    assert ok({"aggregate_instance_extra_specs:ssd": "true"})
    assert ok({"ssd": "true", "hw:cpu_policy": "shared"})
    assert ok({"aggregate_instance_extra_specs:cores": ">= 4"})
    assert not ok({"aggregate_instance_extra_specs:ssd": "false"})
    assert not ok({"aggregate_instance_extra_specs:gpu": "true"})


def test_aggregates_keep_images_projects_and_flavors() -> None:
    isolation = "AggregateImagePropertiesIsolation"
    on = host(metadata=[{"os_distro": "windows, dos"}])
    assert passes(isolation, on, request(properties={"os_distro": "dos"}))
    assert passes(isolation, on, request(properties={"os_type": "x"}))
    assert not passes(isolation, on, request(properties={"os_distro": "linux"}))
    named = {"aggregate_image_properties_isolation_namespace": "img"}
    assert passes(isolation, on, request(properties={"os_distro": "linux"}), **named)
    tenancy = "AggregateMultiTenancyIsolation"
    assert passes(tenancy, host(metadata=[{"filter_tenant_id": "p0,p1"}]), request())
    assert passes(
        tenancy, host(metadata=[{"filter_tenant_id": "p0", "filter_tenant_id2": "p1"}]), request()
    )
    assert not passes(tenancy, host(metadata=[{"filter_tenant_id": "p0"}]), request())
    flavors = "AggregateTypeAffinityFilter"
    assert passes(flavors, host(metadata=[{"instance_type": "m1.big, m1.small"}]), request())
    assert not passes(flavors, host(metadata=[{"instance_type": "m1.big"}]), request())
    assert passes(flavors, host(), request())


def test_isolated_hosts() -> None:
    options = {"isolated_images": ("img",), "isolated_hosts": ("h1",)}
    name = "IsolatedHostsFilter"
    mine = request(properties={})
    assert passes(name, host("h1"), mine, **options)
    assert not passes(name, host("h2"), mine, **options)
    assert not passes(name, host("h1"), request(), **options)
    free = {**options, "restrict_isolated_hosts_to_isolated_images": False}
    assert passes(name, host("h1"), request(), **free)


def test_metrics() -> None:
    wanted = Metrics(weight_setting=("cpu.idle=1.0", "fan=-2"))
    full = host(metrics={"cpu.idle": 3.0, "fan": 1.0})
    assert passes("MetricsFilter", full, request(), metrics=wanted)
    assert not passes("MetricsFilter", host(metrics={"fan": 1.0}), request(), metrics=wanted)
