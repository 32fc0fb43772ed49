"""Starting the parts of an all-in-one cloud, each after what it needs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kilonova.compute.identity import node_uuid
from kilonova.compute.service import Agent, DriverMaker
from kilonova.db.cells import Cell, Cells
from kilonova.db.database import Database
from kilonova.embedded.network.agent import PlaneAgent
from kilonova.messaging.memory import MemoryBus
from kilonova.metadata.lookup import StoredGuests
from kilonova.services import (
    compute_api,
    databases,
    embedded,
    metadata,
    notices,
    placement,
    planes,
    scheduler,
    signs,
    vendor,
)
from kilonova.services.agents import Agents, guests
from kilonova.services.conductor import Conductor
from kilonova.services.gauges import GuestFigures
from kilonova.services.neighbours import OwnTokens, authenticator
from kilonova.virt.fake import FakeWorld
from kilonova.virt.load import maker
from kilonova.web.health import Metrics

if TYPE_CHECKING:
    from kilonova.services.all_in_one import Cloud

FAKES_AT_ONCE = 50


async def start(cloud: Cloud) -> None:
    """Start everything but identity; what must be stopped goes onto the cloud's stack."""
    outside = cloud.neighbours
    auth = authenticator(
        cloud.settings,
        cloud.http,
        cloud.clock,
        strategy="keystone",
        tokens=OwnTokens(outside.source),
    )
    cloud.tell.step("image service")
    cloud.serve("image", await embedded.image(cloud, auth))
    cloud.tell.step("network service")
    cloud.network, app = await embedded.network(cloud, outside, auth)
    cloud.serve("network", app)
    cloud.tell.step("block storage service")
    cloud.serve("volume", await embedded.volume(cloud, outside, auth))
    cloud.tell.step("placement service")
    cloud.serve("placement", await placement.build(cloud, lambda: auth))
    cloud.tell.step("compute: databases")
    db, cells = await databases.prepare(cloud.settings, cell_id=str(cloud.cell_id))
    cloud.stack.callback(databases.close, db, cells)
    notices.write(
        cloud.settings, db, cells, binary="nova-conductor", clock=cloud.clock, ids=cloud.ids
    )
    bus = MemoryBus()
    cloud.stack.push_async_callback(bus.close)
    metrics = Metrics()
    GuestFigures(metrics, lambda: guests(list(cloud.agents.values())), cloud.clock)
    api = compute_api.application(
        cloud.settings,
        db=db,
        cells=cells,
        bus=bus,
        neighbours=outside,
        auth=auth,
        clock=cloud.clock,
        ids=cloud.ids,
        near=cloud.near,
        metrics=metrics,
    )
    cloud.serve("compute", api)
    meta = metadata.application(
        cloud.settings,
        guests=StoredGuests(db, cells, cloud.clock),
        http=cloud.http,
        clock=cloud.clock,
        stack=cloud.stack,
    )
    cloud.serve("metadata", meta)
    cloud.tell.step("compute: scheduler and conductor")
    await _work(cloud, bus, db, cells, cells.get(str(cloud.cell_id)), metrics)
    plane = None
    if cloud.machine.network_mode != "none":
        cloud.tell.step("network of this host")
        plane = await planes.start(cloud, outside)
    cloud.tell.step("compute: hosts")
    await _agents(cloud, bus, plane)


async def _work(
    cloud: Cloud, bus: MemoryBus, db: Database, cells: Cells, cell: Cell, metrics: Metrics
) -> None:
    """Scheduler and conductor, both in the list of services."""
    hosts = scheduler.host_states(cloud.settings, db=db, cells=cells, clock=cloud.clock)
    chooser = scheduler.make(
        cloud.settings, hosts=hosts, placement=cloud.neighbours.placement, clock=cloud.clock
    )
    await chooser.serve(bus)
    following = asyncio.create_task(hosts.follow(), name="host states")
    cloud.stack.callback(following.cancel)
    signs.report(cloud, cell.db, "nova-scheduler")
    conductor = Conductor(
        cloud.settings,
        db=db,
        cells=cells,
        cell=cell,
        bus=bus,
        neighbours=cloud.neighbours,
        clock=cloud.clock,
        ids=cloud.ids,
        metrics=metrics,
    )
    cloud.conductor = conductor
    await conductor.start()
    cloud.stack.push_async_callback(conductor.stop)
    signs.report(cloud, cell.db, "nova-conductor")


async def _agents(cloud: Cloud, bus: MemoryBus, plane: PlaneAgent | None) -> None:
    state_dir = cloud.layout.state_dir
    made: DriverMaker
    if cloud.machine.driver == "fake":
        world = FakeWorld(clock=cloud.clock, file=state_dir / "fake.db")
        cloud.world = world
        cloud.stack.callback(world.close)
        made = maker(cloud.machine.compute_driver, world=world)
    else:
        made = maker(cloud.machine.compute_driver)
    agents = Agents(
        cloud.settings,
        bus=bus,
        images=cloud.neighbours.images,
        maker=cloud.neighbours.images,
        make_driver=made,
        clock=cloud.clock,
        ids=cloud.ids,
        http=cloud.http,
        vendor_data=vendor.make(cloud.settings, cloud.http, cloud.clock, cloud.stack),
        metadata_url=cloud.settings.kilonova.metadata_url,
        journal=state_dir / "operations.db",
        vifs=planes.vifs(cloud, plane),
        networks=plane.audit if plane is not None else None,
    )
    cloud.stack.callback(agents.close)

    def new_agent(name: str) -> Agent:
        own = state_dir / "hosts" / name if cloud.machine.driver == "fake" else state_dir
        return agents.make(name, node_uuid(own, cloud.ids, provisioned=()))

    async def begin(name: str) -> None:
        agent = cloud.agents[name] = new_agent(name)
        await agent.start()

    async def end() -> None:
        await asyncio.gather(*(agent.stop() for agent in cloud.agents.values()))

    cloud.new_agent = new_agent
    cloud.stack.push_async_callback(end)
    hosts = cloud.machine.names
    for first in range(0, len(hosts), FAKES_AT_ONCE):
        batch = hosts[first : first + FAKES_AT_ONCE]
        cloud.tell.step("compute: hosts", first / len(hosts))
        await asyncio.gather(*(begin(name) for name in batch))
