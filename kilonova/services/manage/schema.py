"""``nova-manage db …`` and ``api_db …``: schemas and data."""

from __future__ import annotations

from kilonova.config.settings import Settings
from kilonova.db import migrate
from kilonova.db.cells import CELL0
from kilonova.services.databases import API_HISTORY, CELL_HISTORY
from kilonova.services.manage.opened import Opened
from kilonova.services.manage.output import table
from kilonova.services.startup import Unconfigured

BAD_INPUT = 127


def sync(settings: Settings, *, local_cell: bool, version: str | None) -> int:
    """Bring cell0 (unless ``local_cell``) and the database of ``[database]`` to our schema.

    1 when cell0 cannot be used.
    """
    _newest(CELL_HISTORY, version)
    with Opened(settings) as there:
        if not local_cell:
            try:
                row = there.cells().get(CELL0)
                if row is None:
                    print("cell0 is not mapped: run nova-manage cell_v2 map_cell0 first.")
                    return 1
                migrate.upgrade(there.bare_cell(row), CELL_HISTORY)
            except Unconfigured as error:
                print(f"cell0 was not reached. {error}")
                return 1
        migrate.upgrade(there.main(), CELL_HISTORY)
    return 0


def api_sync(settings: Settings, *, version: str | None) -> int:
    """Bring the API database to our schema."""
    _newest(API_HISTORY, version)
    with Opened(settings) as there:
        migrate.upgrade(there.bare_api(), API_HISTORY)
    return 0


def show_version(settings: Settings) -> int:
    """Print the revision of the database of ``[database]``."""
    with Opened(settings) as there:
        print(migrate.version(there.main(), CELL_HISTORY))
    return 0


def show_api_version(settings: Settings) -> int:
    """Print the revision of the API database."""
    with Opened(settings) as there:
        print(migrate.version(there.bare_api(), API_HISTORY))
    return 0


def online(settings: Settings, max_count: int | None) -> int:
    """Data moves with ``db sync``, so there is never a row left to change."""
    if max_count is not None and max_count < 1:
        print("--max-count must be a positive number.")
        return BAD_INPUT
    with Opened(settings) as there:
        there.main()
    print(table(("Migration", "Total Needed", "Completed"), ()))
    return 0


def _newest(history: str, version: str | None) -> None:
    newest = migrate.newest(history)
    if version not in (None, "head", "heads", newest):
        raise Unconfigured(f"There is no version {version} to go to, only {newest}.")
