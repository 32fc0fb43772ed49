"""Opening and migrating compute's databases, and knowing the cells."""

from __future__ import annotations

import asyncio

import sqlalchemy as sa

from kilonova.config.settings import Settings
from kilonova.db import migrate
from kilonova.db.cells import CELL0, Cell, Cells
from kilonova.db.database import Database
from kilonova.domain.resources import CellRow
from kilonova.services.neighbours import Unconfigured
from kilonova.store import mappings

API_HISTORY = "kilonova.db.migrations.api"
CELL_HISTORY = "kilonova.db.migrations.cell"
FIRST_CELL = "cell1"


def open_api(settings: Settings) -> Database:
    """The database all cells share (``[api_database] connection``)."""
    section = settings.api_database
    if not section.connection:
        raise Unconfigured("[api_database] connection is not set; give the database's URL.")
    return Database(
        section.connection,
        name="api",
        size=section.max_pool_size,
        retries=section.max_retries,
        recycle=section.connection_recycle_time,
    )


def open_cell(settings: Settings, row: CellRow) -> Cell:
    """A cell by its mapping; templates (``{...}``) are filled from ``[database] connection``."""
    section = settings.database
    url = fill(row.database, section.connection)
    db = Database(
        url,
        name=row.name or row.uuid[:8],
        size=section.max_pool_size,
        retries=section.max_retries,
        recycle=section.connection_recycle_time,
    )
    return Cell(row.uuid, row.name or "", db, row.transport_url, row.disabled)


def fill(template: str, connection: str | None) -> str:
    """A mapping's URL with the parts of the configured one put into its ``{placeholders}``."""
    if "{" not in template or not connection:
        return template
    url = sa.make_url(connection)
    parts = {
        "username": url.username or "",
        "password": str(url.password or ""),
        "hostname": url.host or "",
        "port": str(url.port or ""),
        "path": url.database or "",
        "scheme": url.drivername,
        "query": "&".join(f"{k}={v}" for k, v in url.query.items()),
    }
    return template.format(**parts)


def cell0_url(connection: str) -> str:
    """Where cell0 is kept by default: the database's name with ``_cell0``."""
    url = sa.make_url(connection)
    name = url.database or ""
    if url.get_backend_name() == "sqlite":
        stem, dot, end = name.rpartition(".")
        name = f"{stem}_cell0{dot}{end}" if dot else f"{name}_cell0"
    else:
        name += "_cell0"
    return url.set(database=name).render_as_string(hide_password=False)


async def load_cells(settings: Settings, api: Database) -> Cells:
    """All mapped cells with their databases opened; Unconfigured when none are mapped yet."""
    rows = await api.read(mappings.cells)
    if not any(row.uuid == CELL0 for row in rows):
        raise Unconfigured(
            "No cells are mapped: run nova-manage cell_v2 map_cell0 and "
            "nova-manage cell_v2 create_cell (or simple_cell_setup)."
        )
    return Cells(open_cell(settings, row) for row in rows)


async def prepare(settings: Settings, *, cell_id: str) -> tuple[Database, Cells]:
    """Bring API database, cell0 and one cell to the newest schema and map them, all in one."""
    api = open_api(settings)
    await asyncio.to_thread(migrate.upgrade, api, API_HISTORY)
    connection = settings.database.connection
    if not connection:
        raise Unconfigured("[database] connection is not set; give the cell database's URL.")
    transport = settings.default.transport_url or "none:///"
    for row in (
        CellRow(CELL0, "cell0", "none:///", cell0_url(connection), disabled=False),
        CellRow(cell_id, FIRST_CELL, transport, connection, disabled=False),
    ):
        present = {r.uuid: r for r in await api.read(mappings.cells)}
        if present.get(row.uuid) != row:
            await api.run(mappings.add_cell, row)
    cells = await load_cells(settings, api)
    await asyncio.gather(
        *(asyncio.to_thread(migrate.upgrade, cell.db, CELL_HISTORY) for cell in cells.all)
    )
    return api, cells


def close(api: Database, cells: Cells) -> None:
    """Close every database."""
    api.close()
    for cell in cells.all:
        cell.db.close()
