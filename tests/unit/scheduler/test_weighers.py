"""Every weigher by which of two hosts it prefers."""

from __future__ import annotations

from typing import Any

import pytest

from kilonova.config.filter_scheduler import FilterScheduler, Metrics
from kilonova.domain.request import RequestSpec, ServerGroup
from kilonova.scheduler.filters.base import Env
from kilonova.scheduler.state import HostState
from kilonova.scheduler.weighers.base import load, weigh_all
from tests.support.scheduling import host, request

ALL = "nova.scheduler.weights.all_weighers"


def best(
    name: str, hosts: list[HostState], asked: RequestSpec | None = None, **options: Any
) -> str:
    metrics = options.pop("metrics", Metrics())
    env = Env(FilterScheduler(**options), metrics)
    weights = weigh_all(hosts, asked or request(), load([name]), env)
    return max(zip(weights, hosts, strict=True), key=lambda pair: pair[0])[1].host


@pytest.mark.parametrize(
    ("name", "option", "field", "less", "more"),
    [
        ("RAMWeigher", "ram_weight_multiplier", "memory_mb_used", 4000, 1000),
        ("CPUWeigher", "cpu_weight_multiplier", "vcpus_used", 7, 1),
        ("DiskWeigher", "disk_weight_multiplier", "disk_gb_used", 90, 10),
        ("IoOpsWeigher", "io_ops_weight_multiplier", "io_ops", 1, 5),
        ("NumInstancesWeigher", "num_instances_weight_multiplier", "pending", 1, 5),
        (
            "HypervisorVersionWeigher",
            "hypervisor_version_weight_multiplier",
            "hypervisor_version",
            1,
            2,
        ),
        ("BuildFailureWeigher", "build_failure_weight_multiplier", "failed_builds", 3, 0),
    ],
)
def test_a_multiplier_turns_the_order_round(
    name: str, option: str, field: str, less: int, more: int
) -> None:
    hosts = [host("less", **{field: less}), host("more", **{field: more})]
    assert best(name, hosts, **{option: 1.0}) == "more"
    assert best(name, hosts, **{option: -1.0}) == "less"
    weights = weigh_all(hosts, request(), load([name]), Env(FilterScheduler(**{option: 0.0})))
    assert weights == [0.0, 0.0]


def test_defaults_prefer_calm_empty_hosts_without_failures() -> None:
    calm = host("calm")
    assert best(ALL, [host("busy", io_ops=5), calm]) == "calm"
    assert best(ALL, [host("full", memory_mb_used=3000), calm]) == "calm"
    tired = host("tired", failed_builds=1, memory_mb=99999)
    assert best(ALL, [tired, calm]) == "calm"


def test_the_smallest_multiplier_of_the_aggregates_wins() -> None:
    packing = [{"ram_weight_multiplier": "-1"}, {"ram_weight_multiplier": "5"}]
    hosts = [
        host("full", memory_mb_used=3000, metadata=packing),
        host("empty", metadata=packing),
    ]
    assert best("RAMWeigher", hosts) == "full"
    assert best("RAMWeigher", [host("x", memory_mb_used=9), host("y", metadata=[{}])]) == "y"


def test_soft_group_policies() -> None:
    hosts = [host("with"), host("without")]
    counts = {"with": 2}
    near = request(group=ServerGroup("g", "soft-affinity", {}, counts))
    far = request(group=ServerGroup("g", "soft-anti-affinity", {}, counts))
    assert best("ServerGroupSoftAffinityWeigher", hosts[::-1], near) == "with"
    assert best("ServerGroupSoftAntiAffinityWeigher", hosts, far) == "without"
    assert weigh_all(hosts, near, load(["ServerGroupSoftAntiAffinityWeigher"]), Env()) == [0, 0]


def test_cells_devices_images_and_metrics() -> None:
    hosts = [host("here", cell_id="c1"), host("there", cell_id="c2")]
    asked = request(source_cell_id="c1")
    assert best("CrossCellWeigher", hosts[::-1], asked) == "here"
    assert best("CrossCellWeigher", hosts, asked, cross_cell_move_weight_multiplier=-1.0) == "there"
    assert best("PCIWeigher", [host("pci", pci_free=4), host("plain")]) == "plain"
    wanting = request(pci_devices=2)
    assert best("PCIWeigher", [host("many", pci_free=9), host("few", pci_free=2)], wanting) == "few"
    alike = host("alike", image_properties=({"os": "a"},))
    asked = request(properties={"os": "a"})
    options = {"image_props_weight_multiplier": 1.0}
    assert best("ImagePropertiesWeigher", [host("x"), alike], asked, **options) == "alike"
    wanted = Metrics(weight_setting=("idle=1", "heat=-2"))
    cool = host("cool", metrics={"idle": 5.0, "heat": 1.0})
    hot = host("hot", metrics={"idle": 5.0, "heat": 9.0})
    assert best("MetricsWeigher", [hot, cool, host("mute")], metrics=wanted) == "cool"


def test_unknown_names_and_bad_settings_are_told() -> None:
    with pytest.raises(LookupError):
        load(["NoSuchWeigher"])
    with pytest.raises(ValueError, match="name=ratio"):
        best("MetricsWeigher", [host()], metrics=Metrics(weight_setting=("idle",)))
    assert len(load([ALL])) == 13
