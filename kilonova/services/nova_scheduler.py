"""``nova-scheduler``: chooses hosts for whoever asks on the bus."""

from __future__ import annotations

from kilonova.services import buses, databases, neighbours, scheduler, signs
from kilonova.services.daemon import Daemon
from kilonova.services.figures import CloudFigures
from kilonova.services.startup import Unconfigured


async def compose(daemon: Daemon) -> None:
    """Serve ``select_destinations``."""
    settings = daemon.settings
    db, cells = await databases.open_all(settings, daemon.stack)
    databases.follow(daemon, db, cells)
    daemon.checks.update(databases.checks(db, cells))
    down_after = settings.default.service_down_time
    CloudFigures(daemon.metrics, db, cells, daemon.clock, down_after=down_after)
    outside = neighbours.connect(settings, daemon.http, daemon.clock)
    bus, daemon.checks["bus"] = await buses.connect(settings, daemon.stack)
    hosts = scheduler.host_states(settings, db=db, cells=cells, clock=daemon.clock)
    try:
        chooser = scheduler.make(
            settings, hosts=hosts, placement=outside.placement, clock=daemon.clock
        )
    except LookupError as error:
        raise Unconfigured(f"[filter_scheduler] is not understood: {error}.") from None
    serving = await chooser.serve(bus)
    daemon.stack.push_async_callback(serving.close)
    daemon.run(hosts.follow(), name="host states")
    signs.report(daemon, databases.own_cell(settings, cells).db, "nova-scheduler")
