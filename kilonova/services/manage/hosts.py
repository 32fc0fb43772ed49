"""``nova-manage cell_v2 …``: hosts and servers of cells."""

from __future__ import annotations

import sqlalchemy as sa

from kilonova.config.settings import Settings
from kilonova.db.cells import CELL0
from kilonova.domain.resources import CellRow
from kilonova.services.manage.opened import Opened
from kilonova.services.manage.output import table
from kilonova.services.startup import Unconfigured
from kilonova.store import cell_admin, mappings

BAD_INPUT = 127


def discover_hosts(
    settings: Settings, *, cell_id: str | None, verbose: bool, strict: bool, by_service: bool
) -> int:
    """Map hosts that report and are not mapped. 1 for trouble (or, ``strict``, nothing new).

    2 when somebody else mapped one of them at the same moment.
    """
    new = 0
    with Opened(settings) as there:
        rows = there.cells()
        if cell_id is not None and cell_id not in rows:
            print(f"There is no cell {cell_id}.")
            return 1
        for row in rows.values():
            if row.uuid == CELL0 or cell_id not in (None, row.uuid):
                continue
            try:
                found = unmapped(there, row, by_service=by_service)
            except Unconfigured as error:
                print(f"The hosts of cell {row.name or row.uuid} were not read. {error}")
                return 1
            if verbose:
                print(f"Cell {row.name or ''} ({row.uuid}): {len(found)} new hosts")
            for host in found:
                try:
                    there.api.run_sync(cell_admin.map_new_host, host, row.uuid)
                except sa.exc.IntegrityError:
                    print(f"Host {host} was mapped by somebody else just now; run this again.")
                    return 2
                new += 1
                if verbose:
                    print(f"  mapped host {host}")
    return 1 if strict and not new else 0


def unmapped(there: Opened, row: CellRow, *, by_service: bool) -> list[str]:
    """The hosts that report in a cell and are mapped nowhere."""
    reporting = there.cell(row).run_sync(cell_admin.reporting, by_service=by_service)
    known = there.api.run_sync(mappings.host_cells, reporting)
    return [host for host in reporting if host not in known]


def list_hosts(settings: Settings, *, cell_id: str | None) -> int:
    """Print the mapped hosts; 1 for an unknown cell."""
    with Opened(settings) as there:
        rows = there.cells()
        if cell_id is not None and cell_id not in rows:
            print(f"There is no cell {cell_id}.")
            return 1
        found = there.api.run_sync(cell_admin.hosts, cell_id)
    names = {uuid: row.name or "" for uuid, row in rows.items()}
    print(
        table(
            ("Cell Name", "Cell UUID", "Hostname"),
            [(names.get(cell, ""), cell, host) for host, cell in found],
        )
    )
    return 0


def delete_host(settings: Settings, *, cell_id: str, host: str) -> int:
    """Unmap a host. 1 unknown cell, 2 unknown host, 3 of another cell, 4 it has servers."""
    with Opened(settings) as there:
        row = there.cells().get(cell_id)
        if row is None:
            print(f"There is no cell {cell_id}.")
            return 1
        of = there.api.run_sync(mappings.host_cell, host)
        if of is None:
            print(f"There is no host {host}.")
            return 2
        if of != cell_id:
            print(f"The host {host} is in cell {of}.")
            return 3
        count = there.cell(row).run_sync(cell_admin.servers_on, host)
        if count:
            print(f"The host {host} has {count} servers; move or delete them first.")
            return 4
        there.api.run_sync(mappings.unmap_host, host)
    return 0


def map_instances(settings: Settings, *, cell_id: str, max_count: int | None, reset: bool) -> int:
    """Map servers of a cell that the API database does not know.

    0 all are mapped, 1 some are left, 127 a bad count, 255 an unknown cell. Every call starts
    from the beginning, so ``reset`` changes nothing.
    """
    del reset
    if max_count is not None and max_count < 1:
        print("--max-count must be a positive number.")
        return BAD_INPUT
    with Opened(settings) as there:
        row = there.cells().get(cell_id)
        if row is None:
            print(f"There is no cell {cell_id}.")
            return 255
        living = there.cell(row).run_sync(cell_admin.living_servers, cell_id)
        known = there.api.run_sync(cell_admin.mapped, [s.mapping.server_id for s in living])
        left = [s for s in living if s.mapping.server_id not in known]
        there.api.run_sync(cell_admin.map_servers, left[:max_count])
    return 1 if max_count is not None and len(left) > max_count else 0


def verify_instance(settings: Settings, *, server_id: str, quiet: bool) -> int:
    """Where a server is mapped.

    1 nowhere, 2 to no cell, 3 its row is marked deleted, 4 its row is gone.
    """

    def say(text: str) -> None:
        if not quiet:
            print(text)

    with Opened(settings) as there:
        mapping = there.api.run_sync(mappings.find, server_id)
        if mapping is None:
            say(f"Server {server_id} is not mapped (see map_instances).")
            return 1
        row = there.cells().get(mapping.cell_id or "")
        if row is None:
            say(f"Server {server_id} is mapped to no cell (see map_cell_and_hosts).")
            return 2
        deleted = there.cell(row).run_sync(cell_admin.state_of, server_id)
        name = row.name or row.uuid
        if deleted is None:
            say(f"Server {server_id} is mapped to cell {name}, which has no row of it any more.")
            return 4
        if deleted:
            say(f"Server {server_id} is mapped to cell {name} and deleted there.")
            return 3
        say(f"Server {server_id} is in cell {name} ({row.uuid}).")
    return 0
