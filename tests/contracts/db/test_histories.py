"""The histories of compute make exactly the tables that the code speaks of, on every engine."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from kilonova.db import migrate
from kilonova.db.database import Database
from kilonova.db.tables import api, cell


@pytest.mark.parametrize(
    ("history", "metadata"),
    [
        ("kilonova.db.migrations.api", api.metadata),
        ("kilonova.db.migrations.cell", cell.metadata),
    ],
    ids=["api", "cell"],
)
def test_history_makes_the_tables(database: Database, history: str, metadata: sa.MetaData) -> None:
    assert migrate.upgrade(database, history)
    assert migrate.differences(database, metadata) == []
    assert not migrate.upgrade(database, history)
