"""``nova-manage cell_v2 …``: cells."""

from __future__ import annotations

import msgspec

from kilonova.base.ids import Ids
from kilonova.base.log import mask
from kilonova.config.settings import Settings
from kilonova.db.cells import CELL0
from kilonova.domain.resources import CellRow
from kilonova.services import databases
from kilonova.services.manage import hosts
from kilonova.services.manage.opened import Opened
from kilonova.services.manage.output import table
from kilonova.store import cell_admin, mappings

NO_TRANSPORT = "none:///"


def map_cell0(settings: Settings, database: str | None) -> int:
    """Map cell0, by default to the database of ``[database]`` with ``_cell0`` after its name."""
    with Opened(settings) as there:
        if CELL0 in there.cells():
            print("cell0 is mapped already.")
            return 0
        url = database or databases.cell0_url(databases.own_url(settings))
        row = CellRow(CELL0, "cell0", NO_TRANSPORT, url)
        there.api.run_sync(mappings.add_cell, row)
    return 0


def create_cell(
    settings: Settings,
    ids: Ids,
    *,
    name: str | None,
    database: str | None,
    transport: str | None,
    disabled: bool,
    verbose: bool,
) -> int:
    """Map a cell; 1 without its URLs, 2 when another cell has one of them."""
    transport = transport or settings.default.transport_url
    database = database or settings.database.connection
    if not transport:
        print("Give --transport-url or set [DEFAULT] transport_url.")
        return 1
    if not database:
        print("Give --database_connection or set [database] connection.")
        return 1
    if not _sound(transport) or not _sound(database):
        print("The transport URL or the database connection is no URL.")
        return 1
    with Opened(settings) as there:
        if _taken(there, transport, database, but=None):
            print("A cell with this transport URL or database connection is mapped already.")
            return 2
        row = CellRow(ids.uuid(), name, transport, database, disabled)
        there.api.run_sync(mappings.add_cell, row)
    if verbose:
        print(row.uuid)
    return 0


def list_cells(settings: Settings, *, verbose: bool) -> int:
    """Print all cells by name; ``verbose`` shows the passwords in their URLs."""

    def shown(url: str) -> str:
        return url if verbose else mask(url)

    with Opened(settings) as there:
        rows = sorted(there.cells().values(), key=lambda row: (row.name or "", row.uuid))
    head = ("Name", "UUID", "Transport URL", "Database Connection", "Disabled")
    print(
        table(
            head,
            [
                (r.name or "", r.uuid, shown(r.transport_url), shown(r.database), r.disabled)
                for r in rows
            ],
        )
    )
    return 0


def update_cell(
    settings: Settings,
    cell_id: str,
    *,
    name: str | None,
    transport: str | None,
    database: str | None,
    disable: bool,
    enable: bool,
) -> int:
    """Change a cell; URLs that are not given are those of the configuration.

    1 unknown cell, 2 the change could not be written, 3 another cell has the URLs, 4 both
    ``disable`` and ``enable``, 5 cell0 can be neither.
    """
    with Opened(settings) as there:
        row = there.cells().get(cell_id)
        if row is None:
            print(f"There is no cell {cell_id}.")
            return 1
        transport = transport or settings.default.transport_url or row.transport_url
        database = database or settings.database.connection or row.database
        if (transport, database) != (row.transport_url, row.database) and _taken(
            there, transport, database, but=cell_id
        ):
            print("Another cell has this transport URL or database connection.")
            return 3
        if disable and enable:
            print("A cell cannot be disabled and enabled at once.")
            return 4
        if (disable or enable) and cell_id == CELL0:
            print("cell0 cannot be disabled or enabled: it has no hosts.")
            return 5
        new = msgspec.structs.replace(
            row,
            name=name if name is not None else row.name,
            transport_url=transport,
            database=database,
            disabled=disable or (row.disabled and not enable),
        )
        try:
            there.api.run_sync(mappings.add_cell, new)
        except Exception as error:
            print(f"The cell was not changed: {error}")
            return 2
    return 0


def delete_cell(settings: Settings, cell_id: str, *, force: bool) -> int:
    """Forget a cell. 1 unknown, 2 it has hosts, 3 living servers, 4 deleted ones."""
    with Opened(settings) as there:
        if cell_id not in there.cells():
            print(f"There is no cell {cell_id}.")
            return 1
        found = there.api.run_sync(cell_admin.counts, cell_id)
        if found.hosts and not force:
            print(f"The cell has {found.hosts} hosts; --force removes them, too.")
            return 2
        if found.living:
            print(f"The cell has {found.living} servers; delete them first.")
            return 3
        if found.deleted and not force:
            print(f"The cell has {found.deleted} deleted servers; --force forgets them, too.")
            return 4
        there.api.run_sync(cell_admin.delete_cell, cell_id)
    return 0


def map_cell_and_hosts(
    settings: Settings,
    ids: Ids,
    *,
    name: str | None,
    transport: str | None,
    verbose: bool,
) -> int:
    """Map the cell of ``[database]`` if it is not yet, and the hosts that report there."""
    transport = transport or settings.default.transport_url
    if not transport or not _sound(transport):
        print("Give --transport-url or set [DEFAULT] transport_url.")
        return 1
    with Opened(settings) as there:
        row = _ensure(there, ids, name, transport)
        found = hosts.unmapped(there, row, by_service=False)
        for host in found:
            there.api.run_sync(mappings.map_host, host, row.uuid)
    if not found:
        print("No host is left to be mapped.")
    if verbose:
        print(row.uuid)
    return 0


def simple_cell_setup(settings: Settings, ids: Ids, *, transport: str | None) -> int:
    """Map cell0, one cell and its hosts; 1 without a transport URL, or while no host reports."""
    transport = transport or settings.default.transport_url
    if not transport or not _sound(transport):
        print("Give --transport-url or set [DEFAULT] transport_url.")
        return 1
    map_cell0(settings, None)
    with Opened(settings) as there:
        row = _ensure(there, ids, databases.FIRST_CELL, transport)
        reporting = there.cell(row).run_sync(cell_admin.reporting)
        for host in reporting:
            there.api.run_sync(mappings.map_host, host, row.uuid)
    if not reporting:
        print(
            "The cells are mapped, but no host reports yet: start nova-conductor and "
            "nova-compute; hosts are mapped as they report."
        )
        return 1
    print("cell0, a cell and its hosts are mapped.")
    return 0


def _ensure(there: Opened, ids: Ids, name: str | None, transport: str) -> CellRow:
    """The cell of ``[database]``, mapped if it is not."""
    database = databases.own_url(there.settings)
    for row in there.real():
        if row.database == database:
            return row
    row = CellRow(ids.uuid(), name, transport, database)
    there.api.run_sync(mappings.add_cell, row)
    return row


def _taken(there: Opened, transport: str, database: str, *, but: str | None) -> bool:
    others = [row for row in there.cells().values() if row.uuid != but]
    return any(
        row.database == database or (row.transport_url == transport and transport != NO_TRANSPORT)
        for row in others
    )


def _sound(url: str) -> bool:
    scheme, mark, rest = url.partition("://")
    return bool(scheme and mark and rest)
