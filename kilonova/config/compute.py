"""``[compute]`` and ``[image_cache]``: how a compute agent works."""

from __future__ import annotations

from typing import Annotated

import msgspec

from kilonova.config.section import Opt


class Compute(msgspec.Struct, frozen=True):
    """``[compute]``."""

    vmdk_allowed_types: Annotated[
        tuple[str, ...], Opt("VMDK sub-formats taken as images; none when empty.")
    ] = ("streamOptimized", "monolithicSparse")
    max_disk_devices_to_attach: Annotated[
        int, Opt("Most disks a server may have by attaching volumes; -1 for any number.", min=-1)
    ] = -1
    cpu_shared_set: Annotated[
        str | None, Opt("Host CPUs that shared vCPUs run on (0-3,^2); all when unset.")
    ] = None
    cpu_dedicated_set: Annotated[
        str | None, Opt("Host CPUs that are given to single vCPUs; none when unset.")
    ] = None
    packing_host_numa_cells_allocation_strategy: Annotated[
        bool, Opt("Fill the NUMA nodes of a host one by one instead of evenly.")
    ] = False
    image_type_exclude_list: Annotated[tuple[str, ...], Opt("Disk formats this host refuses.")] = ()


class ImageCache(msgspec.Struct, frozen=True):
    """``[image_cache]``."""

    manager_interval: Annotated[
        int, Opt("Seconds between looks for unused images; -1 never looks.", min=-1)
    ] = 2400
    subdirectory_name: Annotated[str, Opt("Directory of cached images in instances_path.")] = (
        "_base"
    )
    remove_unused_base_images: Annotated[bool, Opt("Remove images no guest uses.")] = True
    remove_unused_original_minimum_age_seconds: Annotated[
        int, Opt("How long an image stays after its last use.", min=0)
    ] = 86400
