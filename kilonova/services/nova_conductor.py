"""``nova-conductor``: runs sagas and looks after the agents of a cell."""

from __future__ import annotations

from kilonova.config.settings import Settings
from kilonova.db.cells import Cell, Cells
from kilonova.services import buses, databases, neighbours
from kilonova.services.conductor import Conductor
from kilonova.services.daemon import Daemon
from kilonova.services.neighbours import Unconfigured


async def compose(daemon: Daemon) -> None:
    """Start the conductor of the API level and of the cell of ``[database] connection``."""
    settings = daemon.settings
    db, cells = await databases.open_all(settings, daemon.stack)
    daemon.checks.update(databases.checks(db, cells))
    cell = own_cell(settings, cells)
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
    )
    daemon.stack.push_async_callback(conductor.stop)
    await conductor.start()


def own_cell(settings: Settings, cells: Cells) -> Cell:
    """The cell with the database of ``[database] connection``, or the only one there is.

    Unconfigured when that cannot be told.
    """
    if not cells.real:
        raise Unconfigured("There is no cell besides cell0: run nova-manage cell_v2 create_cell.")
    connection = settings.database.connection
    if connection:
        for cell in cells.real:
            if databases.same(cell.db, connection):
                return cell
        raise Unconfigured(
            "No cell is mapped with the database of [database] connection: "
            "run nova-manage cell_v2 create_cell."
        )
    if len(cells.real) == 1:
        return cells.real[0]
    raise Unconfigured("[database] connection is not set; it says whose conductor this is.")
