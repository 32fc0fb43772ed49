"""The tables a database needs to hold sagas (they are declared beside all others)."""

from __future__ import annotations

from kilonova.db.tables.sagas import TABLES, SagaTables, tables

__all__ = ["TABLES", "SagaTables", "tables"]
