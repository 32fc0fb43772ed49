"""Host states from the records of all cells."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from kilonova.base.clock import Clock
from kilonova.db.cells import Cells
from kilonova.db.database import Database
from kilonova.domain.fit.host import limits_of, with_guests
from kilonova.domain.request import ServerGroup
from kilonova.domain.resources import Aggregate as AggregateRow
from kilonova.scheduler.state import Aggregate, HostState
from kilonova.store import aggregates, groups, hosts
from kilonova.store.hosts import HostRow


class StoredHosts:
    """Implements ``state.HostStates`` over the API database and the cells.

    ``down_after``: seconds of silence after which a service counts as down; ``images``: image
    properties of the servers are wanted too (for ImagePropertiesWeigher).
    """

    def __init__(
        self,
        api: Database,
        cells: Cells,
        clock: Clock,
        *,
        down_after: float = 60.0,
        images: bool = False,
    ) -> None:
        self._api = api
        self._cells = cells
        self._clock = clock
        self._down_after = down_after
        self._images = images

    async def hosts(self, providers: Collection[str]) -> list[HostState]:
        cells = [cell for cell in self._cells.real if not cell.disabled]
        uuids = sorted(providers)
        answer = await self._cells.ask(cells, hosts.present, uuids, images=self._images)
        member_of = by_host(await self._api.read(aggregates.page))
        now = self._clock.now()
        return [
            assemble(
                row,
                cell_id=cell.id,
                member_of=member_of.get(row.host, ()),
                up=row.service is not None and row.service.is_up(now, self._down_after),
            )
            for cell, rows in answer.found
            for row in rows
        ]

    async def providers_of(self, host: str | None, node: str | None) -> list[str]:
        if host is None:
            return (await self._cells.ask(self._cells.real, hosts.nodes_named, node or "")).rows()
        return (await self._cells.ask(self._cells.real, hosts.nodes_of, host, node)).rows()

    async def aggregates(self) -> list[Aggregate]:
        return [plain(row) for row in await self._api.read(aggregates.page)]

    async def group(self, group_id: str, *, but: Collection[str] = ()) -> ServerGroup | None:
        """A server group with its members counted by host, the servers ``but`` left out."""
        row = await self._api.read(groups.get, group_id)
        if row is None:
            return None
        counts = await self._api.read(groups.counts, group_id, but=but)
        return ServerGroup(row.id, row.policy, dict(row.rules), counts)


def plain(row: AggregateRow) -> Aggregate:
    """An aggregate without what filters do not look at."""
    return Aggregate(row.id, row.uuid, row.name, row.metadata)


def by_host(rows: Iterable[AggregateRow]) -> dict[str, tuple[Aggregate, ...]]:
    """Host → the aggregates it is in."""
    found: dict[str, list[Aggregate]] = defaultdict(list)
    for row in rows:
        item = plain(row)
        for host in row.hosts:
            found[host].append(item)
    return {host: tuple(items) for host, items in found.items()}


def assemble(
    row: HostRow, *, cell_id: str, member_of: tuple[Aggregate, ...], up: bool
) -> HostState:
    """One host's state from its rows."""
    report, service = row.report, row.service
    return HostState(
        host=row.host,
        node=row.node,
        provider=row.uuid,
        cell_id=cell_id,
        up=up,
        disabled=service is not None and service.disabled,
        disabled_reason=(service.disabled_reason or "") if service else "",
        service_version=service.version if service else 0,
        hypervisor_type=report.hypervisor_type,
        hypervisor_version=report.hypervisor_version,
        host_ip=report.host_ip,
        vcpus=report.vcpus,
        memory_mb=report.memory_mb,
        disk_gb=report.disk_gb,
        vcpus_used=report.used_vcpus,
        memory_mb_used=report.used_memory_mb,
        disk_gb_used=report.used_disk_gb,
        io_ops=row.busy,
        servers=row.servers,
        image_properties=row.images,
        aggregates=member_of,
        supported=report.supported,
        cpu_info=report.cpu_info,
        failed_builds=report.failed_builds,
        pci_free=_free_devices(row),
        shape=report.shape,
        held=row.held,
        limits=limits_of(report.ratios, report.initial_ratios),
    )


def _free_devices(row: HostRow) -> int:
    if row.report.shape is None or not row.report.shape.devices:
        return 0
    shape = with_guests(row.report.shape, row.held)
    return sum(device.address not in shape.taken for device in shape.devices)
