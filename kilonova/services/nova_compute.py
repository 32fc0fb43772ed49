"""``nova-compute``: the agent of one host, which opens no database of the cloud's."""

from __future__ import annotations

from pathlib import Path

from kilonova.compute import identity
from kilonova.config.settings import Settings
from kilonova.services import agents, buses, neighbours
from kilonova.services.daemon import Daemon
from kilonova.services.neighbours import Neighbours
from kilonova.services.paths import state_path
from kilonova.virt import load
from kilonova.virt.driver import VifPlugger
from kilonova.virt.fake import FakeWorld


async def compose(daemon: Daemon) -> None:
    """Start the agent; raises what its driver raises when it cannot work here."""
    settings = daemon.settings
    state = state_path(settings)
    outside = neighbours.connect(settings, daemon.http, daemon.clock)
    bus, daemon.checks["bus"] = await buses.connect(settings, daemon.stack)
    world = None
    if is_fake(settings):
        world = FakeWorld(clock=daemon.clock, file=state / "fake.db")
        daemon.stack.callback(world.close)
    fleet = agents.Agents(
        settings,
        bus=bus,
        images=outside.images,
        make_driver=load.maker(settings.default.compute_driver, world=world),
        clock=daemon.clock,
        ids=daemon.ids,
        http=daemon.http,
        metadata_url=settings.kilonova.metadata_url,
        journal=state / "operations.db",
        vifs=await vifs(daemon, outside),
    )
    daemon.stack.callback(fleet.close)
    agent = fleet.make(settings.default.host, identity.node_uuid(state, daemon.ids))
    await agent.start()
    daemon.stack.push_async_callback(agent.stop)


def is_fake(settings: Settings) -> bool:
    """Whether the guests of this driver exist in memory only."""
    name = settings.default.compute_driver or ""
    return name == "fake" or name in load.FAKES


async def vifs(daemon: Daemon, outside: Neighbours) -> VifPlugger | None:
    """What plugs guests' cards (None: plain bridges); the embedded network's agent is started."""
    options = daemon.settings.embedded
    if not options.network_agent:
        return None
    from kilonova.embedded.network.vifs import PlaneVifs  # noqa: PLC0415
    from kilonova.services import planes  # noqa: PLC0415

    await planes.start(daemon, outside.source.token)
    if options.network_mode != planes.BRIDGE:
        return None
    return PlaneVifs(planes.plane_env(Path(daemon.settings.default.state_path)))
