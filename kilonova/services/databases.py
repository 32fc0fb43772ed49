"""Opening and migrating compute's databases, and knowing the cells."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from kilonova.base.errors import Unavailable
from kilonova.config.database import Database as Section
from kilonova.config.settings import Settings
from kilonova.db import migrate
from kilonova.db.cells import CELL0, Cell, Cells
from kilonova.db.database import Database, ping
from kilonova.domain.resources import CellRow
from kilonova.services.startup import Unconfigured
from kilonova.store import mappings

if TYPE_CHECKING:  # tools work on databases without the machinery of daemons
    from kilonova.services.daemon import Daemon
    from kilonova.web.health import Check

API_HISTORY = "kilonova.db.migrations.api"
CELL_HISTORY = "kilonova.db.migrations.cell"
FIRST_CELL = "cell1"


def open_api(settings: Settings) -> Database:
    """The database all cells share (``[api_database] connection``)."""
    return _open(settings.api_database, "[api_database]", name="api")


def open_placement(settings: Settings) -> Database:
    """The Placement service's database (``[placement_database] connection``)."""
    retries = settings.placement.allocation_conflict_retry_count
    section = settings.placement_database
    return _open(section, "[placement_database]", name="placement", retries=retries)


def open_cell(settings: Settings, row: CellRow) -> Cell:
    """A cell by its mapping; templates (``{...}``) are filled from ``[database] connection``."""
    section = settings.database
    url = fill(row.database, section.connection)
    name = row.name or row.uuid[:8]
    db = _open(section, f"The mapping of cell {name}:", name=name, url=url)
    transport = fill(row.transport_url, settings.default.transport_url)
    return Cell(row.uuid, row.name or "", db, transport, row.disabled)


def _open(
    section: Section,
    what: str,
    *,
    name: str,
    url: str | None = None,
    retries: int | None = None,
) -> Database:
    """Unconfigured when the URL is missing, makes no sense, or its driver is not installed."""
    url = url or section.connection
    if not url:
        raise Unconfigured(f"{what} connection is not set; give the database's URL.")
    try:
        return Database(
            url,
            name=name,
            size=section.max_pool_size,
            retries=section.max_retries if retries is None else retries,
            recycle=section.connection_recycle_time,
        )
    except sa.exc.ArgumentError:
        raise Unconfigured(
            f"{what} connection is no database URL such as "
            "postgresql://user:password@host/name or mysql+pymysql://user:password@host/name."
        ) from None
    except ImportError as error:
        raise Unconfigured(
            f"{what} connection needs the library {error.name}: install kilonova[postgres] "
            "or kilonova[mysql]."
        ) from None


def open_own(settings: Settings) -> Database:
    """The database of ``[database] connection``: this cell's."""
    return _open(settings.database, "[database]", name="cell", url=own_url(settings))


def own_url(settings: Settings) -> str:
    """``[database] connection``; Unconfigured when it is not set."""
    connection = settings.database.connection
    if not connection:
        raise Unconfigured("[database] connection is not set; give the cell database's URL.")
    return connection


async def reach(db: Database, what: str) -> None:
    """Unconfigured with the reason when the database does not let us in."""
    await asyncio.to_thread(let_in, db, what)


def let_in(db: Database, what: str) -> None:
    """The same for tools without an event loop."""
    try:
        db.run_sync(ping)
    except (Unavailable, sa.exc.DBAPIError) as error:
        cause = error.__cause__ if isinstance(error, Unavailable) else error
        reason = _reason(getattr(cause, "orig", None) or cause)
        raise Unconfigured(
            f"The database of {what} ({db.url.render_as_string()}) cannot be used: {reason}."
        ) from None


def _reason(error: BaseException | None) -> str:
    """The first line of a driver's message."""
    if error is None:
        return "no reason given"
    args = error.args
    text = str(args[1]) if len(args) == 2 else str(error)
    lines = text.strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(" .")


def check(db: Database) -> Check:
    """The health check of one database."""

    return db.check


def checks(api: Database, cells: Cells) -> dict[str, Check]:
    """Health checks: the API database, and whether any cell with hosts answers."""

    async def some_cell() -> str | None:
        answer = await cells.ask(cells.real, ping)
        if answer.down and not answer.found:
            return f"no answer from {', '.join(cell.name for cell in answer.down)}"
        return None

    return {"api_database": check(api), "cells": some_cell}


async def open_all(settings: Settings, stack: contextlib.AsyncExitStack) -> tuple[Database, Cells]:
    """API database and mapped cells of a daemon, closed with ``stack``.

    Unconfigured when the API database or cell0 cannot be used or is not at our schema; any other
    cell may be down.
    """
    api = open_api(settings)
    stack.callback(api.close)
    await reach(api, "[api_database] connection")
    await need(api, API_HISTORY, "nova-manage api_db sync")
    cells = await load_cells(settings, api)
    for cell in cells.all:
        stack.callback(cell.db.close)
    await reach(cells.cell0.db, "cell0")
    await need(cells.cell0.db, CELL_HISTORY, "nova-manage db sync")
    return api, cells


def follow(daemon: Daemon, db: Database, cells: Cells) -> None:
    """Let the daemon read the mapped cells again on SIGHUP."""

    async def read(settings: Settings) -> None:
        await refresh_cells(settings, db, cells, daemon.stack)

    daemon.on_reload(read)


def same(db: Database, url: str) -> bool:
    """Whether ``url`` names that database, in whatever spelling of the driver."""
    other = sa.make_url(url)
    mine = db.url
    return (mine.get_backend_name(), mine.host, mine.port, mine.database) == (
        other.get_backend_name(),
        other.host,
        other.port,
        other.database,
    )


def own_cell(settings: Settings, cells: Cells) -> Cell:
    """The cell with the database of ``[database] connection``, or the only one there is.

    Unconfigured when that cannot be told.
    """
    if not cells.real:
        raise Unconfigured("There is no cell besides cell0: run nova-manage cell_v2 create_cell.")
    connection = settings.database.connection
    if connection:
        for cell in cells.real:
            if same(cell.db, connection):
                return cell
        raise Unconfigured(
            "No cell is mapped with the database of [database] connection: "
            "run nova-manage cell_v2 create_cell."
        )
    if len(cells.real) == 1:
        return cells.real[0]
    raise Unconfigured("[database] connection is not set; it says whose conductor this is.")


async def need(db: Database, history: str, command: str) -> None:
    """Unconfigured when the database is not at the newest version of a history."""
    if await asyncio.to_thread(migrate.version, db, history) != migrate.newest(history):
        raise Unconfigured(
            f"The database {db.name} is not at this version's schema: run {command}."
        )


async def refresh_cells(
    settings: Settings, api: Database, cells: Cells, stack: contextlib.AsyncExitStack
) -> None:
    """Take cells up that were mapped since, and forget those that are gone."""
    rows = await api.read(mappings.cells)
    known = {cell.id: cell for cell in cells.all}
    taken = []
    for row in rows:
        cell = known.get(row.uuid)
        if cell is None:
            cell = open_cell(settings, row)
            stack.callback(cell.db.close)
        taken.append(msgspec.structs.replace(cell, name=row.name or "", disabled=row.disabled))
    cells.replace(taken)


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
    connection = own_url(settings)
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
