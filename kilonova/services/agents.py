"""Compute agents with everything they need."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from kilonova.base.clock import Clock
from kilonova.base.ids import Ids
from kilonova.compute.images import MadeImages, ServiceImages
from kilonova.compute.journal import Journal
from kilonova.compute.service import Agent, DriverMaker, NetworkAudit
from kilonova.config.settings import Settings
from kilonova.domain.guest import GuestSpec
from kilonova.interfaces.image import ImageMaker, ImageService
from kilonova.messaging.bus import Bus
from kilonova.metadata import drive, openstack
from kilonova.metadata.door import door
from kilonova.metadata.vendordata import Rules, VendorData
from kilonova.services import vendor
from kilonova.virt.driver import VifPlugger
from kilonova.virt.vifs import LinuxBridgeVifs
from kilonova.web.client import HttpClient


async def guests(agents: Iterable[Agent]) -> dict[str, int]:
    """How many guests are on those hosts, by power state."""
    counted: Counter[str] = Counter()
    for agent in agents:
        counted.update(guest.power.name.lower() for guest in await agent.driver.guests())
    return {"running": 0, **counted}


class Agents:
    """Makes the agents of one process; they share a journal."""

    def __init__(
        self,
        settings: Settings,
        *,
        bus: Bus,
        images: ImageService,
        make_driver: DriverMaker,
        clock: Clock,
        ids: Ids,
        http: HttpClient | None = None,
        vendor_data: VendorData | None = None,
        metadata_url: str = "",
        journal: Path | None = None,
        vifs: VifPlugger | None = None,
        networks: NetworkAudit | None = None,
        maker: ImageMaker | None = None,
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._images = ServiceImages(images)
        self._sink = MadeImages(maker, clock) if maker is not None else None
        self._make_driver = make_driver
        self._clock = clock
        self._ids = ids
        self._journal = Journal(journal, clock=clock)
        self._vifs = vifs or LinuxBridgeVifs()
        self._networks = networks
        secret = settings.neutron.metadata_proxy_shared_secret
        self._door = door(http, metadata_url, secret) if http and metadata_url and secret else None
        self._vendor = vendor_data or VendorData(Rules(static=vendor.data(settings)))
        self._skip = frozenset(settings.default.config_drive_skip_versions.split())

    def make(self, host: str, node_uuid: str) -> Agent:
        """The agent of one host; start it yourself."""
        default = self._settings.default
        directory = default.instances_path or f"{default.state_path}/instances"
        return Agent(
            host=host,
            node_uuid=node_uuid,
            make_driver=self._make_driver,
            bus=self._bus,
            journal=self._journal,
            images=self._images,
            vifs=self._vifs,
            clock=self._clock,
            ids=self._ids,
            settings=self._settings,
            state_dir=Path(directory),
            config_drive=self._content,
            metadata=self._door,
            networks=self._networks,
            sink=self._sink,
        )

    def close(self) -> None:
        """Close the journal; the agents are stopped before."""
        self._journal.close()

    async def _content(self, guest: GuestSpec) -> dict[str, bytes]:
        extras = openstack.Extras(
            random=os.urandom,
            dhcp_domain=self._settings.api.dhcp_domain,
            vendor_data=self._vendor.first,
            vendor_data2=await self._vendor.second(guest),
        )
        return drive.content(guest, extras, skip=self._skip)
