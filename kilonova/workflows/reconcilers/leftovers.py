"""Allocations, ports and attachments of deleted servers: what a skipped saga left behind."""

from __future__ import annotations

import logging

import msgspec

from kilonova.db.cells import Cells
from kilonova.db.database import Database
from kilonova.interfaces.network import NetworkService
from kilonova.interfaces.placement import PlacementService
from kilonova.interfaces.volume import VolumeService
from kilonova.store import mappings
from kilonova.workflows.audit import Finding, Sources, settled

log = logging.getLogger(__name__)

PAUSE = 5.0


class LeftoverCleaner:
    """Gives back what the audit finds of servers we know to be deleted; never anything else."""

    def __init__(
        self,
        *,
        db: Database,
        cells: Cells,
        sources: Sources,
        placement: PlacementService,
        networks: NetworkService,
        volumes: VolumeService,
    ) -> None:
        self._db = db
        self._cells = cells
        # Hosts are looked after one by one, by the reconciler of guests.
        self._sources = msgspec.structs.replace(sources, bus=None, more=())
        self._placement = placement
        self._networks = networks
        self._volumes = volumes

    async def reconcile(self) -> None:
        """Look twice, then clean."""
        report = await settled(self._sources, pause=PAUSE)
        for finding in report.findings:
            if finding.kind == "allocation.orphan" and await self._gone(finding.id):
                log.warning("allocations of deleted server %s are given back", finding.id)
                await self._placement.release(finding.id)
            elif finding.kind == "port.orphan":
                await self._port(finding)
            elif finding.kind == "volume.orphan":
                await self._attachment(finding)

    async def _port(self, finding: Finding) -> None:
        for port in await self._networks.ports(ids=(finding.id,)):
            if not await self._gone(port.device_id):
                continue
            log.warning("port %s of deleted server %s is given back", port.id, port.device_id)
            if port.mark:
                await self._networks.delete_port(port.id)
            else:
                await self._networks.unbind_port(port.id)

    async def _attachment(self, finding: Finding) -> None:
        """Of a deleted server, or of one that was never accepted."""
        for item in await self._volumes.all_attachments():
            if item.id != finding.id:
                continue
            mapping = await self._db.read(mappings.find, item.server_id)
            if mapping is None or mapping.queued_for_delete:
                log.warning("volume %s of no server is given back", item.volume_id)
                await self._volumes.release(item.id)

    async def _gone(self, server_id: str) -> bool:
        mapping = await self._db.read(mappings.find, server_id)
        return mapping is not None and mapping.queued_for_delete
