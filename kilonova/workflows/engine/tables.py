"""The saga tables as the engine's statements see them; every database has the same set."""

from __future__ import annotations

import sqlalchemy as sa

from kilonova.db.tables.sagas import SagaTables, tables

__all__ = ["TABLES", "SagaTables", "tables"]

TABLES = tables(sa.MetaData())
