"""One compute agent: a driver, its operations on the bus, and its signs of life."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from kilonova.base import aio
from kilonova.base.clock import Clock
from kilonova.base.errors import Fault
from kilonova.base.ids import Ids
from kilonova.compute import inventory
from kilonova.compute.heartbeat import Heart
from kilonova.compute.journal import Journal
from kilonova.compute.monitors import Monitors
from kilonova.compute.operations.handlers import At, builds_gate
from kilonova.compute.worker import Worker
from kilonova.config.settings import Settings
from kilonova.domain.agent import (
    CONDUCTOR,
    GuestAsk,
    GuestEvent,
    GuestList,
    Known,
    Leftovers,
    WantedImage,
    topic,
)
from kilonova.domain.guest import GuestSpec, GuestStatus, HostReport
from kilonova.domain.operations import SPAWN, OperationReply, OperationRequest
from kilonova.messaging.bus import Bus, Subscription
from kilonova.virt.driver import (
    CachesImages,
    Content,
    Host,
    ImageSink,
    ImageSource,
    MetadataServer,
    RemembersGuests,
    VifPlugger,
    VirtDriver,
    no_content,
)

DriverMaker = Callable[[Host], VirtDriver]
NetworkAudit = Callable[[], Awaitable[list[str]]]

log = logging.getLogger(__name__)


class Agent:
    """The agent of one host; a process may hold thousands of them (with the fake driver).

    ``journal`` is shared by all agents of a process. ``state_dir`` is the driver's
    (``instances_path``). ``node_uuid`` comes from ``compute.identity.node_uuid``. ``networks``
    tells where the host's network differs from what is wanted (where somebody here knows). ``sink``
    takes the images that are made of its guests.
    """

    def __init__(
        self,
        *,
        host: str,
        node_uuid: str,
        make_driver: DriverMaker,
        bus: Bus,
        journal: Journal,
        images: ImageSource,
        vifs: VifPlugger,
        clock: Clock,
        ids: Ids,
        settings: Settings,
        state_dir: Path,
        config_drive: Content = no_content,
        metadata: MetadataServer | None = None,
        networks: NetworkAudit | None = None,
        sink: ImageSink | None = None,
    ) -> None:
        self.host = host
        self._node_uuid = node_uuid
        self._networks = networks
        self._bus = bus
        self._clock = clock
        self._settings = settings
        self._journal = journal
        self.driver = make_driver(
            Host(
                name=host,
                state_dir=state_dir,
                images=images,
                vifs=vifs,
                clock=clock,
                on_event=self._on_event,
                settings=settings,
                config_drive=config_drive,
                metadata=metadata,
                sink=sink,
            )
        )
        builds = builds_gate(settings.default.max_concurrent_builds)
        self._worker = Worker(At(host, self.driver, settings, clock, builds), journal)
        self._heart = Heart(
            bus=bus,
            clock=clock,
            settings=settings,
            host=host,
            node_uuid=node_uuid,
            boot=ids.uuid(),
            look=self._look,
        )
        self._serving: Subscription | None = None
        self._failed_builds = 0
        self._monitors = Monitors(settings.default.compute_monitors)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Take up the guests, introduce the host, and serve.

        Raises what the driver raises when it cannot work here, and Conflict when the conductor
        knows this host as another node. No conductor on the bus is fine: the agent keeps trying.
        """
        guests = await self.driver.start()
        try:
            await self._heart.introduce()
            methods: dict[str, Any] = {
                "operate": self.operate,
                "guests": self.guests,
                "status": self.status,
                "leftovers": self.leftovers,
                "cache_image": self.cache_image,
            }
            self._serving = await self._bus.serve(topic(self.host), methods)
        except BaseException:
            await self.driver.stop()
            raise
        if guests:
            log.info("Host %s has %d guests", self.host, len(guests))
        self._spawn(self._heart.run())
        self._spawn(self._look_after_guests())

    async def stop(self) -> None:
        """Take no new work, let work under way finish in time, leave the guests as they are."""
        await self._worker.stop(self._settings.default.graceful_shutdown_timeout)
        if self._serving is not None:
            await self._serving.close()
            self._serving = None
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._heart.farewell()
        await self.driver.stop()

    async def operate(self, request: OperationRequest) -> OperationReply:
        """Bus method: see domain.operations."""
        reply = await self._worker.operate(request)
        if request.name == SPAWN.name and reply.state in ("done", "failed"):
            self._failed_builds = self._failed_builds + 1 if reply.state == "failed" else 0
        return reply

    async def guests(self) -> GuestList:
        """Bus method: every guest of ours on the host."""
        return GuestList(self.host, tuple(await self.driver.guests()))

    async def status(self, ask: GuestAsk) -> GuestStatus:
        """Bus method: one guest; NOSTATE when there is none."""
        return await self.driver.status(ask.server_id)

    async def leftovers(self, known: Known) -> Leftovers:
        """Bus method: what is on the host that belongs to none of these servers.

        Unavailable when the network service does not say what it wants here.
        """
        lines = await self.driver.leftovers(frozenset(known.servers))
        networks = await self._networks() if self._networks is not None else []
        return Leftovers(self.host, tuple(lines), tuple(networks))

    async def cache_image(self, wanted: WantedImage) -> bool:
        """Bus method: have the base of an image here before a guest needs it; whether it is."""
        if not isinstance(self.driver, CachesImages):
            return False
        try:
            fresh = await self.driver.cache_image(wanted.image)
        except (Fault, OSError) as error:
            log.warning("Image %s was not cached: %s", wanted.image.id, error)
            return False
        log.info("Image %s is %s", wanted.image.id, "cached now" if fresh else "cached already")
        return True

    async def _on_event(self, status: GuestStatus) -> None:
        try:
            await self._bus.cast(CONDUCTOR, "guest_event", GuestEvent(self.host, status))
        except Fault as fault:
            log.warning("An event of %s was not told: %s", status.name, fault.message)

    async def _look_after_guests(self) -> None:
        """Start what the host's restart ended, then now and then remove unused images."""
        if isinstance(self.driver, RemembersGuests):
            lost = await self.driver.interrupted()
            if lost:
                # Only the conductor knows which of them were made anew elsewhere meanwhile.
                gone = await self._heart.evacuated()
                lost = [spec for spec in lost if spec.server_id not in gone]
            if self._settings.default.resume_guests_state_on_host_boot:
                await aio.gather_bounded(self._power_on, lost, limit=4)
        cache = self._settings.image_cache
        if not isinstance(self.driver, CachesImages) or cache.manager_interval < 0:
            return
        while cache.remove_unused_base_images:
            await self._clock.sleep(cache.manager_interval or 2400)
            try:
                removed = await self.driver.prune_images(
                    unused_seconds=cache.remove_unused_original_minimum_age_seconds
                )
            except (Fault, OSError) as error:
                log.warning("Unused images could not be removed: %s", error)
                continue
            if removed:
                log.info("Removed unused images: %s", ", ".join(removed))

    async def _power_on(self, guest: GuestSpec) -> None:
        try:
            await self._on_event(await self.driver.power_on(guest))
        except Fault as fault:
            log.error("Guest %s could not be started again: %s", guest.name, fault.message)

    async def _look(self) -> HostReport:
        self._journal.prune()
        report = await inventory.look(self.driver, self._settings, self._node_uuid)
        told = self._settings.compute.consecutive_build_service_disable_threshold
        return msgspec.structs.replace(
            report,
            failed_builds=self._failed_builds if told else 0,
            metrics=self._monitors.look(),
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
