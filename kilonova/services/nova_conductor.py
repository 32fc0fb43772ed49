"""``nova-conductor``: runs sagas and looks after the agents of a cell."""

from __future__ import annotations

from kilonova.services import buses, databases, neighbours, notices, signs
from kilonova.services.conductor import Conductor
from kilonova.services.daemon import Daemon
from kilonova.services.figures import CloudFigures


async def compose(daemon: Daemon) -> None:
    """Start the conductor of the API level and of the cell of ``[database] connection``."""
    settings = daemon.settings
    db, cells = await databases.open_all(settings, daemon.stack)
    daemon.checks.update(databases.checks(db, cells))
    down_after = settings.default.service_down_time
    CloudFigures(daemon.metrics, db, cells, daemon.clock, down_after=down_after)
    notices.follow(daemon, db, cells, binary="nova-conductor")
    cell = databases.own_cell(settings, cells)
    outside = neighbours.connect(settings, daemon.http, daemon.clock)
    bus, daemon.checks["bus"] = await buses.connect(settings, daemon.stack)
    conductor = Conductor(
        settings,
        db=db,
        cells=cells,
        cell=cell,
        bus=bus,
        neighbours=outside,
        clock=daemon.clock,
        ids=daemon.ids,
        metrics=daemon.metrics,
    )
    daemon.stack.push_async_callback(conductor.stop)
    await conductor.start()
    signs.report(daemon, cell.db, "nova-conductor")
