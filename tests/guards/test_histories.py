"""Every migration history of the package makes the tables of its metadata (here on SQLite)."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from kilonova.db import migrate
from kilonova.db.database import Database
from kilonova.db.tables import api, cell
from kilonova.embedded.identity import tables as identity
from kilonova.embedded.image import tables as image
from kilonova.embedded.network import tables as network
from kilonova.embedded.volume import tables as volume
from kilonova.placement.store import tables as placement
from tests.guards import source

HISTORIES = {
    "kilonova.db.migrations.api": api.metadata,
    "kilonova.db.migrations.cell": cell.metadata,
    "kilonova.embedded.identity.migrations": identity.META,
    "kilonova.embedded.image.migrations": image.META,
    "kilonova.embedded.network.migrations": network.METADATA,
    "kilonova.embedded.volume.migrations": volume.META,
    "kilonova.placement.migrations": placement.metadata,
}


def test_all_histories_are_known() -> None:
    found = {
        source.name(path.parent).replace("/", ".")
        for path in source.PACKAGE.rglob("versions")
        if path.is_dir() and any(path.glob("0*.py"))
    }
    assert found == set(HISTORIES)


@pytest.mark.parametrize("history", sorted(HISTORIES))
def test_history_makes_the_tables(history: str, tmp_path: Path) -> None:
    metadata: sa.MetaData = HISTORIES[history]
    db = Database(f"sqlite:///{tmp_path}/{history}.db")
    try:
        assert migrate.upgrade(db, history)
        assert migrate.differences(db, metadata) == []
        assert not migrate.upgrade(db, history)
    finally:
        db.close()
