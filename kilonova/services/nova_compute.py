"""``nova-compute``: the agent of one host, which opens no database of the cloud's."""

from __future__ import annotations

from pathlib import Path

from kilonova.compute import identity
from kilonova.config.settings import Settings
from kilonova.services import agents, buses, neighbours
from kilonova.services.daemon import Daemon
from kilonova.services.paths import state_path
from kilonova.virt import load
from kilonova.virt.driver import VifPlugger
from kilonova.virt.fake import FakeWorld


async def compose(daemon: Daemon) -> None:
    """Start the agent; raises what its driver raises when it cannot work here."""
    settings = daemon.settings
    state = state_path(settings)
    images = neighbours.connect(settings, daemon.http, daemon.clock).images
    bus, daemon.checks["bus"] = await buses.connect(settings, daemon.stack)
    world = None
    if is_fake(settings):
        world = FakeWorld(clock=daemon.clock, file=state / "fake.db")
        daemon.stack.callback(world.close)
    fleet = agents.Agents(
        settings,
        bus=bus,
        images=images,
        make_driver=load.maker(settings.default.compute_driver, world=world),
        clock=daemon.clock,
        ids=daemon.ids,
        http=daemon.http,
        metadata_url=settings.kilonova.metadata_url,
        journal=state / "operations.db",
        vifs=vifs(settings),
    )
    daemon.stack.callback(fleet.close)
    agent = fleet.make(settings.default.host, identity.node_uuid(state, daemon.ids))
    await agent.start()
    daemon.stack.push_async_callback(agent.stop)


def is_fake(settings: Settings) -> bool:
    """Whether the guests of this driver exist in memory only."""
    name = settings.default.compute_driver or ""
    return name == "fake" or name in load.FAKES


def vifs(settings: Settings) -> VifPlugger | None:
    """What plugs guests' cards: for the embedded network's agent, or plain bridges (None)."""
    if not settings.embedded.network_agent:
        return None
    from kilonova.embedded.network.vifs import PlaneVifs  # noqa: PLC0415
    from kilonova.services.planes import plane_env  # noqa: PLC0415

    return PlaneVifs(plane_env(Path(settings.default.state_path)))
