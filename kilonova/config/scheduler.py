"""``[scheduler]``: how hosts are looked for."""

from __future__ import annotations

from typing import Annotated

import msgspec

from kilonova.config.section import Opt


class Scheduler(msgspec.Struct, frozen=True):
    """``[scheduler]``."""

    max_attempts: Annotated[
        int, Opt("Hosts a server is tried on before it fails: the first and alternates.", min=1)
    ] = 3
    discover_hosts_in_cells_interval: Annotated[
        int, Opt("Seconds between looks for new hosts in the cells; -1 never.", min=-1)
    ] = -1
    max_placement_results: Annotated[int, Opt("Candidates asked of Placement at most.", min=1)] = (
        1000
    )
    workers: Annotated[int | None, Opt("Scheduler processes; one per CPU when unset.", min=0)] = (
        None
    )
    query_placement_for_routed_network_aggregates: Annotated[
        bool, Opt("Keep to hosts that reach the segments of routed networks.")
    ] = False
    limit_tenants_to_placement_aggregate: Annotated[
        bool, Opt("Keep projects to aggregates with their id as filter_tenant_id metadata.")
    ] = False
    placement_aggregate_required_for_tenants: Annotated[
        bool, Opt("Give no host to a project without such an aggregate.")
    ] = False
    query_placement_for_image_type_support: Annotated[
        bool, Opt("Keep to hosts that read the image's disk format.")
    ] = False
    enable_isolated_aggregate_filtering: Annotated[
        bool, Opt("Keep others out of aggregates with trait:X=required metadata.")
    ] = False
    image_metadata_prefilter: Annotated[
        bool, Opt("Keep to hosts with the devices the image's properties name.")
    ] = False
