"""The databases a command works on, closed when it ends."""

from __future__ import annotations

import contextlib

from kilonova.config.settings import Settings
from kilonova.db import migrate
from kilonova.db.cells import CELL0
from kilonova.db.database import Database
from kilonova.domain.resources import CellRow
from kilonova.services import databases
from kilonova.services.startup import Unconfigured
from kilonova.store import mappings


class Opened:
    """The API database, and any cell's; ``with Opened(settings) as there``."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._stack = contextlib.ExitStack()
        self._api: Database | None = None

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def api(self) -> Database:
        """The API database; Unconfigured when it cannot be used or has no schema yet."""
        if self._api is None:
            db = self.bare_api()
            if migrate.version(db, databases.API_HISTORY) is None:
                raise Unconfigured("The API database is empty: run nova-manage api_db sync.")
            self._api = db
        return self._api

    def bare_api(self) -> Database:
        """The API database, in whatever state its schema is."""
        return self._let_in(databases.open_api(self.settings), "[api_database] connection")

    def main(self) -> Database:
        """The database of ``[database] connection``."""
        return self._let_in(databases.open_own(self.settings), "[database] connection")

    def cell(self, row: CellRow) -> Database:
        """A mapped cell's database, with its schema."""
        db = self._let_in(
            databases.open_cell(self.settings, row).db, f"cell {row.name or row.uuid}"
        )
        if migrate.version(db, databases.CELL_HISTORY) is None:
            raise Unconfigured(f"The database {db.name} is empty: run nova-manage db sync.")
        return db

    def bare_cell(self, row: CellRow) -> Database:
        """A mapped cell's database, in whatever state its schema is."""
        what = f"cell {row.name or row.uuid}"
        return self._let_in(databases.open_cell(self.settings, row).db, what)

    def cells(self) -> dict[str, CellRow]:
        """Id → cell, cell0 first."""
        return {row.uuid: row for row in self.api.run_sync(mappings.cells)}

    def real(self) -> list[CellRow]:
        """The cells that have hosts."""
        return [row for row in self.cells().values() if row.uuid != CELL0]

    def _let_in(self, db: Database, what: str) -> Database:
        self._stack.callback(db.close)
        databases.let_in(db, what)
        return db
