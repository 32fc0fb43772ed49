"""Starting the parts of an all-in-one cloud, each after what it needs."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from kilonova.compute.identity import node_uuid
from kilonova.compute.service import Agent, DriverMaker
from kilonova.db.database import Database
from kilonova.embedded.image import service as image_service
from kilonova.embedded.image.settings import Settings as ImageSettings
from kilonova.embedded.network import service as network_service
from kilonova.embedded.network.agent import Announcer, HostLink, PlaneAgent
from kilonova.embedded.network.app import NetworkSettings
from kilonova.embedded.network.nova import NovaNotifier
from kilonova.embedded.network.open import host_resolvers, open_network
from kilonova.embedded.network.plane.metadata_proxy import ProxySettings
from kilonova.embedded.network.vifs import PlaneVifs
from kilonova.embedded.volume import service as volume_service
from kilonova.embedded.volume.images import HttpImages
from kilonova.embedded.volume.settings import Settings as VolumeSettings
from kilonova.messaging.memory import MemoryBus
from kilonova.placement import policies as placement_policies
from kilonova.placement import service as placement_service
from kilonova.services import compute_api, databases, metadata, scheduler
from kilonova.services.agents import Agents
from kilonova.services.conductor import Conductor
from kilonova.services.neighbours import OwnTokens, authenticator
from kilonova.services.planes import plane_env
from kilonova.virt.fake import FakeWorld
from kilonova.virt.load import maker
from kilonova.web.auth import Authenticator

if TYPE_CHECKING:
    from kilonova.services.all_in_one import Cloud

FAKES_AT_ONCE = 50


async def start(cloud: Cloud, stack: contextlib.AsyncExitStack) -> None:
    """Start everything but identity; what must be stopped goes onto the stack."""
    auth = authenticator(
        cloud.settings,
        cloud.http,
        cloud.clock,
        strategy="keystone",
        tokens=OwnTokens(cloud.neighbours.source),
    )
    cloud.tell.step("image service")
    await _image(cloud, stack, auth)
    cloud.tell.step("network service")
    await _network(cloud, stack, auth)
    cloud.tell.step("block storage service")
    await _volume(cloud, stack, auth)
    cloud.tell.step("placement service")
    await _placement(cloud, stack, auth)
    cloud.tell.step("compute: databases")
    db, cells = await databases.prepare(cloud.settings, cell_id=str(cloud.cell_id))
    stack.callback(databases.close, db, cells)
    bus = MemoryBus()
    stack.push_async_callback(bus.close)
    api = compute_api.application(
        cloud.settings,
        db=db,
        cells=cells,
        bus=bus,
        neighbours=cloud.neighbours,
        auth=auth,
        clock=cloud.clock,
        ids=cloud.ids,
    )
    cloud.serve("compute", api)
    app = metadata.application(cloud.settings, db=db, cells=cells, clock=cloud.clock)
    cloud.serve("metadata", app)
    cloud.tell.step("compute: scheduler and conductor")
    chooser = scheduler.make(
        cloud.settings,
        db=db,
        cells=cells,
        placement=cloud.neighbours.placement,
        clock=cloud.clock,
    )
    await chooser.serve(bus)
    conductor = Conductor(
        cloud.settings,
        db=db,
        cells=cells,
        cell=cells.get(str(cloud.cell_id)),
        bus=bus,
        neighbours=cloud.neighbours,
        clock=cloud.clock,
        ids=cloud.ids,
    )
    cloud.conductor = conductor
    await conductor.start()
    stack.push_async_callback(conductor.stop)
    await _plane(cloud, stack)
    cloud.tell.step("compute: hosts")
    await _agents(cloud, stack, bus)


async def _image(cloud: Cloud, stack: contextlib.AsyncExitStack, auth: Authenticator) -> None:
    images = await image_service.open(
        ImageSettings(
            database=cloud.layout.database("image"),
            directory=cloud.layout.state_dir / "images",
            auth_uri=cloud.layout.url("identity", "/v3"),
        ),
        clock=cloud.clock,
        ids=cloud.ids,
    )
    stack.callback(images.close)
    cloud.serve("image", image_service.build(images, auth=auth))


async def _network(cloud: Cloud, stack: contextlib.AsyncExitStack, auth: Authenticator) -> None:
    db = Database(cloud.layout.database("network"), name="network")
    stack.callback(db.close)
    notifier = NovaNotifier(
        cloud.http, lambda: cloud.layout.url("compute"), cloud.neighbours.source.token
    )
    app = await open_network(
        db,
        NetworkSettings(mode=cloud.machine.network_mode, dns=host_resolvers()),
        clock=cloud.clock,
        ids=cloud.ids,
        notify=notifier,
    )
    stack.push_async_callback(app.close)
    cloud.network = app
    cloud.serve(
        "network",
        network_service.build(app, auth=auth, auth_uri=cloud.layout.url("identity", "/v3")),
    )


async def _volume(cloud: Cloud, stack: contextlib.AsyncExitStack, auth: Authenticator) -> None:
    token = cloud.neighbours.source.token
    notifier = NovaNotifier(cloud.http, lambda: cloud.layout.url("compute"), token)
    volumes = await volume_service.open(
        VolumeSettings(
            database=cloud.layout.database("volume"),
            directory=cloud.layout.state_dir / "volumes",
            host=cloud.machine.name,
            auth_uri=cloud.layout.url("identity", "/v3"),
        ),
        images=HttpImages(cloud.http, lambda: cloud.layout.url("image"), token),
        notify=notifier,
        clock=cloud.clock,
        ids=cloud.ids,
    )
    stack.push_async_callback(volumes.close)
    cloud.serve("volume", volume_service.build(volumes, auth=auth))


async def _placement(cloud: Cloud, stack: contextlib.AsyncExitStack, auth: Authenticator) -> None:
    db = Database(cloud.layout.database("placement"), name="placement")
    stack.callback(db.close)
    await asyncio.to_thread(placement_service.prepare, db, cloud.clock)
    cloud.serve(
        "placement",
        placement_service.application(
            db,
            policy=placement_policies.Enforcer(),
            clock=cloud.clock,
            ids=cloud.ids,
            auth=auth,
            options=cloud.settings.placement,
            auth_uri=cloud.layout.url("identity", "/v3"),
        ),
    )


async def _plane(cloud: Cloud, stack: contextlib.AsyncExitStack) -> None:
    """The data plane of this host, or only its name where there is none."""
    mode = cloud.machine.network_mode
    if mode == "none":
        return
    cloud.tell.step("network of this host")
    name, url, token = (
        cloud.machine.name,
        cloud.layout.url("network"),
        cloud.neighbours.source.token,
    )
    agent: PlaneAgent | Announcer
    if mode == "user":
        agent = Announcer(HostLink(name, url=url, http=cloud.http, token=token), mode)
    else:
        agent = PlaneAgent(
            name,
            url=url,
            http=cloud.http,
            token=token,
            env=plane_env(cloud.layout.state_dir),
            proxy=ProxySettings(cloud.layout.url("metadata"), cloud.secrets.metadata_secret),
        )
    await agent.start()
    stack.push_async_callback(agent.stop)


async def _agents(cloud: Cloud, stack: contextlib.AsyncExitStack, bus: MemoryBus) -> None:
    state_dir = cloud.layout.state_dir
    made: DriverMaker
    if cloud.machine.driver == "fake":
        world = FakeWorld(clock=cloud.clock, file=state_dir / "fake.db")
        cloud.world = world
        stack.callback(world.close)
        made = maker(cloud.machine.compute_driver, world=world)
    else:
        made = maker(cloud.machine.compute_driver)
    bridge = cloud.machine.network_mode == "bridge"
    agents = Agents(
        cloud.settings,
        bus=bus,
        images=cloud.neighbours.images,
        make_driver=made,
        clock=cloud.clock,
        ids=cloud.ids,
        http=cloud.http,
        metadata_url=cloud.layout.url("metadata"),
        journal=state_dir / "operations.db",
        vifs=PlaneVifs(plane_env(state_dir)) if bridge else None,
    )
    stack.callback(agents.close)

    def new_agent(name: str) -> Agent:
        own = state_dir / "hosts" / name if cloud.machine.driver == "fake" else state_dir
        return agents.make(name, node_uuid(own, cloud.ids, provisioned=()))

    async def begin(name: str) -> None:
        agent = cloud.agents[name] = new_agent(name)
        await agent.start()

    async def end() -> None:
        await asyncio.gather(*(agent.stop() for agent in cloud.agents.values()))

    cloud.new_agent = new_agent
    stack.push_async_callback(end)
    hosts = cloud.machine.names
    for first in range(0, len(hosts), FAKES_AT_ONCE):
        batch = hosts[first : first + FAKES_AT_ONCE]
        cloud.tell.step("compute: hosts", first / len(hosts))
        await asyncio.gather(*(begin(name) for name in batch))
