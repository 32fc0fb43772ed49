"""``[filter_scheduler]`` and ``[metrics]``: filters, weighers and their weights."""

from __future__ import annotations

from typing import Annotated

import msgspec

from kilonova.config.section import Opt

_WEIGHT = "Weight multiplier; negative turns the order round, 0 switches it off: "


class FilterScheduler(msgspec.Struct, frozen=True):
    """``[filter_scheduler]``."""

    host_subset_size: Annotated[int, Opt("Take one of that many best hosts by chance.", min=1)] = 1
    max_io_ops_per_host: Annotated[int, Opt("Busy servers a host may have (IoOpsFilter).")] = 8
    max_instances_per_host: Annotated[
        int, Opt("Servers a host may have (NumInstancesFilter).", min=1)
    ] = 50
    track_instance_changes: Annotated[bool, Opt("Filters may ask which servers are on a host.")] = (
        True
    )
    available_filters: Annotated[
        tuple[str, ...],
        Opt("Where filters come from: all of ours, or paths of single ones.", multi=True),
    ] = ("nova.scheduler.filters.all_filters",)
    enabled_filters: Annotated[tuple[str, ...], Opt("Filters run, in this order.")] = (
        "ComputeFilter",
        "ComputeCapabilitiesFilter",
        "ImagePropertiesFilter",
        "ServerGroupAntiAffinityFilter",
        "ServerGroupAffinityFilter",
    )
    weight_classes: Annotated[
        tuple[str, ...], Opt("Weighers used: all of ours, or their names.")
    ] = ("nova.scheduler.weights.all_weighers",)
    ram_weight_multiplier: Annotated[float, Opt(_WEIGHT + "free memory.")] = 1.0
    cpu_weight_multiplier: Annotated[float, Opt(_WEIGHT + "free vCPUs.")] = 1.0
    disk_weight_multiplier: Annotated[float, Opt(_WEIGHT + "free disk.")] = 1.0
    hypervisor_version_weight_multiplier: Annotated[float, Opt(_WEIGHT + "newer hypervisors.")] = (
        1.0
    )
    num_instances_weight_multiplier: Annotated[float, Opt(_WEIGHT + "more servers.")] = 0.0
    io_ops_weight_multiplier: Annotated[float, Opt(_WEIGHT + "busier hosts.")] = -1.0
    image_props_weight_multiplier: Annotated[float, Opt(_WEIGHT + "servers of like images.")] = 0.0
    image_props_weight_setting: Annotated[
        tuple[str, ...], Opt("name=ratio of the image properties compared; all when empty.")
    ] = ()
    pci_weight_multiplier: Annotated[float, Opt(_WEIGHT + "fewer PCI devices.", min=0)] = 1.0
    soft_affinity_weight_multiplier: Annotated[
        float, Opt(_WEIGHT + "members of a soft-affinity group.", min=0)
    ] = 1.0
    soft_anti_affinity_weight_multiplier: Annotated[
        float, Opt(_WEIGHT + "no members of a soft-anti-affinity group.", min=0)
    ] = 1.0
    build_failure_weight_multiplier: Annotated[
        float, Opt(_WEIGHT + "fewer builds failed lately.")
    ] = 1000000.0
    cross_cell_move_weight_multiplier: Annotated[
        float, Opt(_WEIGHT + "the cell the server is in.")
    ] = 1000000.0
    shuffle_best_same_weighed_hosts: Annotated[
        bool, Opt("Take by chance among the best hosts of equal weight.")
    ] = False
    image_properties_default_architecture: Annotated[
        str | None, Opt("Architecture of images that name none.")
    ] = None
    isolated_images: Annotated[tuple[str, ...], Opt("Images kept to isolated_hosts.")] = ()
    isolated_hosts: Annotated[tuple[str, ...], Opt("Hosts for isolated_images.")] = ()
    restrict_isolated_hosts_to_isolated_images: Annotated[
        bool, Opt("Keep other images off isolated_hosts.")
    ] = True
    aggregate_image_properties_isolation_namespace: Annotated[
        str | None, Opt("Start of the metadata keys compared (AggregateImagePropertiesIsolation).")
    ] = None
    aggregate_image_properties_isolation_separator: Annotated[
        str, Opt("What stands between that start and the property's name.")
    ] = "."
    pci_in_placement: Annotated[bool, Opt("PCI devices are claimed in Placement.")] = False


class Metrics(msgspec.Struct, frozen=True):
    """``[metrics]``: the metrics weigher and filter."""

    weight_multiplier: Annotated[float, Opt(_WEIGHT + "metrics.")] = 1.0
    weight_setting: Annotated[tuple[str, ...], Opt("name=ratio of the metrics weighed.")] = ()
    required: Annotated[bool, Opt("Every metric of weight_setting must be there.")] = True
    weight_of_unavailable: Annotated[float, Opt("Weight of a host without one of them.")] = -10000.0
