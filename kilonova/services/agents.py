"""Compute agents from the settings: one in nova-compute, many fake ones in the all-in-one."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from kilonova.base import aio
from kilonova.base.clock import Clock
from kilonova.base.errors import Unavailable
from kilonova.base.ids import Ids
from kilonova.compute import identity
from kilonova.compute.images import ServiceImages
from kilonova.compute.journal import Journal
from kilonova.compute.metadata import MetadataProxy
from kilonova.compute.service import Agent
from kilonova.config.settings import Settings
from kilonova.domain.guest import GuestSpec, ImageRef
from kilonova.messaging.bus import Bus
from kilonova.metadata import drive
from kilonova.metadata.openstack import Extras
from kilonova.services import buses, neighbours, vendor
from kilonova.services.daemon import Daemon
from kilonova.services.neighbours import Unconfigured
from kilonova.virt import load
from kilonova.virt.driver import Content, ImageSource, MetadataServer
from kilonova.virt.fake import FakeWorld
from kilonova.virt.vifs import LinuxBridgeVifs, NoVifs

AT_ONCE = 64


class NoImages:
    """An ImageSource for hosts whose guests need no image's bytes."""

    def download(self, image: ImageRef) -> AsyncIterator[bytes]:
        """Nothing can be had."""
        raise Unavailable(f"This host has no image service to get {image.id} from.")


async def start(
    settings: Settings,
    *,
    bus: Bus,
    images: ImageSource,
    clock: Clock,
    ids: Ids,
    stack: contextlib.AsyncExitStack,
    hosts: Sequence[str] = (),
    world: FakeWorld | None = None,
    metadata: MetadataServer | None = None,
) -> list[Agent]:
    """Start the agents of ``hosts`` (default: ``[DEFAULT] host``); stopped with ``stack``.

    Several hosts are for fake drivers; ``world`` is then where their guests live (by default in a
    file under ``state_path``, so that they outlive the process). Raises Faults and Unconfigured
    with what is wrong.
    """
    state = state_path(settings)
    own = settings.default.host
    fake = is_fake(settings)
    if fake and world is None:
        world = FakeWorld(clock=clock, file=state / "fake.db")
        stack.callback(world.close)
    make_driver = load.maker(settings.default.compute_driver, world=world)
    journal = Journal(state / "operations.db", clock=clock)
    stack.callback(journal.close)
    node = identity.node_uuid(state, ids)
    agents = [
        Agent(
            host=host,
            node_uuid=node if host == own else str(uuid.uuid5(uuid.UUID(node), host)),
            make_driver=make_driver,
            bus=bus,
            journal=journal,
            images=images,
            vifs=NoVifs() if fake else LinuxBridgeVifs(),
            clock=clock,
            ids=ids,
            settings=settings,
            state_dir=Path(settings.default.instances_path or state / "instances"),
            config_drive=config_drive(settings),
            metadata=metadata or metadata_proxy(settings),
        )
        for host in hosts or (own,)
    ]

    async def stop() -> None:
        await aio.gather_bounded(Agent.stop, started, limit=AT_ONCE)

    started: list[Agent] = []

    async def begin(agent: Agent) -> None:
        await agent.start()
        started.append(agent)

    stack.push_async_callback(stop)
    await aio.gather_bounded(begin, agents, limit=AT_ONCE)
    return agents


def is_fake(settings: Settings) -> bool:
    """Whether the guests of this driver exist in memory only."""
    name = settings.default.compute_driver or ""
    return name == "fake" or name in load.FAKES


def state_path(settings: Settings) -> Path:
    """``[DEFAULT] state_path``, made if it is not there; Unconfigured when it cannot be used."""
    path = Path(settings.default.state_path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unconfigured(f"[DEFAULT] state_path {path}: {error.strerror}.") from None
    if not os.access(path, os.W_OK):
        raise Unconfigured(f"[DEFAULT] state_path {path} is not writable for this user.")
    return path


def config_drive(settings: Settings) -> Content:
    """What fills the config drives."""
    extras = Extras(
        random=os.urandom,
        dhcp_domain=settings.api.dhcp_domain,
        vendor_data=vendor.data(settings),
    )
    skip = frozenset(settings.default.config_drive_skip_versions.split())

    def content(guest: GuestSpec) -> dict[str, bytes]:
        return drive.content(guest, extras, skip=skip)

    return content


def metadata_proxy(settings: Settings) -> MetadataServer | None:
    """What answers guests on user-mode networks; None without a shared secret."""
    secret = settings.neutron.metadata_proxy_shared_secret
    if not secret:
        return None
    try:
        return MetadataProxy(url=settings.kilonova.metadata_url, secret=secret)
    except ValueError as error:
        raise Unconfigured(f"[kilonova] metadata_url: {error}.") from None


async def compose(daemon: Daemon) -> None:
    """``nova-compute``; opens no database."""
    settings = daemon.settings
    images: ImageSource = NoImages()
    if not is_fake(settings) or settings.keystone_authtoken.username:
        images = ServiceImages(neighbours.connect(settings, daemon.http, daemon.clock).images)
    bus, daemon.checks["bus"] = await buses.connect(settings, daemon.stack)
    await start(
        settings,
        bus=bus,
        images=images,
        clock=daemon.clock,
        ids=daemon.ids,
        stack=daemon.stack,
    )
