"""Routed networks: which aggregates of Placement have the hosts that reach their segments."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kilonova.domain.server import WantedNic
from kilonova.interfaces.network import NetworkService
from kilonova.interfaces.placement import PlacementService


async def aggregates(
    networks: NetworkService, placement: PlacementService, nics: Sequence[WantedNic]
) -> tuple[tuple[str, ...], ...]:
    """For each network card on a routed network the aggregates that will do, any of them.

    The network service keeps a provider in Placement for each segment, with the segment's id, in
    the aggregate of the hosts that reach it. A port with addresses is bound to the segments of
    their subnets, any other card to one of its network's. An empty item: no host reaches any.
    """
    ids = tuple(nic.port_id for nic in nics if nic.port_id)
    ports = {port.id: port for port in await networks.ports(ids=ids)} if ids else {}
    wanted: set[tuple[str, tuple[str, ...]]] = set()
    for nic in nics:
        port = ports.get(nic.port_id or "")
        network = port.network_id if port else nic.network_id
        if network:
            subnets = tuple(sorted({subnet for _, subnet in port.ips})) if port else ()
            wanted.add((network, subnets))
    found = []
    for network, subnets in sorted(wanted):
        segments = await networks.segments(network, subnets=subnets)
        if segments:
            parts = await asyncio.gather(*(placement.aggregates(one) for one in segments))
            found.append(tuple(sorted(frozenset().union(*parts))))
    return tuple(found)
