"""``nova-compute``: the agent of one host, which opens no database of the cloud's."""

from __future__ import annotations

from kilonova.compute import identity
from kilonova.compute.service import NetworkAudit
from kilonova.config.settings import Settings
from kilonova.services import agents, buses, neighbours, vendor
from kilonova.services.daemon import Daemon
from kilonova.services.gauges import GuestFigures
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
    plugs, networks = await _networks(daemon, outside)
    fleet = agents.Agents(
        settings,
        bus=bus,
        images=outside.images,
        maker=outside.images,
        make_driver=load.maker(settings.default.compute_driver, world=world),
        clock=daemon.clock,
        ids=daemon.ids,
        http=daemon.http,
        vendor_data=vendor.make(settings, daemon.http, daemon.clock, daemon.stack),
        metadata_url=settings.kilonova.metadata_url,
        journal=state / "operations.db",
        vifs=plugs,
        networks=networks,
    )
    daemon.stack.callback(fleet.close)
    agent = fleet.make(settings.default.host, identity.node_uuid(state, daemon.ids))
    await agent.start()
    daemon.stack.push_async_callback(agent.stop)
    GuestFigures(daemon.metrics, lambda: agents.guests([agent]), daemon.clock)


async def _networks(
    daemon: Daemon, outside: Neighbours
) -> tuple[VifPlugger | None, NetworkAudit | None]:
    """What plugs guests' cards (None: plain bridges) and tells how the host's networks are.

    The embedded network's agent is started when it is asked for.
    """
    if not daemon.settings.embedded.network_agent:
        return None, None
    from kilonova.services import planes  # noqa: PLC0415

    agent = await planes.start(daemon, outside)
    return (planes.vifs(daemon, agent), agent.audit) if agent is not None else (None, None)


def is_fake(settings: Settings) -> bool:
    """Whether the guests of this driver exist in memory only."""
    name = settings.default.compute_driver or ""
    return name == "fake" or name in load.FAKES
