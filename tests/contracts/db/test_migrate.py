"""Migrations of every history bring an empty database to exactly the tables of its metadata."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from kilonova.db import migrate
from kilonova.db.database import Database

FIRST = """
import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table("thing", sa.Column("id", sa.Integer, primary_key=True))
"""
SECOND = """
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"


def upgrade() -> None:
    op.add_column("thing", sa.Column("name", sa.String(20)))
"""


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    package = tmp_path / "history_of_things"
    (package / "versions").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "versions" / "0001_first.py").write_text(FIRST)
    monkeypatch.syspath_prepend(str(tmp_path))
    return package.name


def test_upgrade_in_steps_and_once(database: Database, history: str, tmp_path: Path) -> None:
    assert migrate.upgrade(database, history)
    assert not migrate.upgrade(database, history)
    (tmp_path / history / "versions" / "0002_second.py").write_text(SECOND)
    assert migrate.newest(history) == "0002"
    assert migrate.upgrade(database, history)
    assert migrate.version(database, history) == "0002"
    meta = sa.MetaData()
    thing = sa.Table("thing", meta, sa.Column("id", sa.Integer, primary_key=True))
    assert migrate.differences(database, meta)
    thing.append_column(sa.Column("name", sa.String(20)))
    assert migrate.differences(database, meta) == []
