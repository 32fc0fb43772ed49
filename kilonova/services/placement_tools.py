"""What ``placement-manage`` and ``placement-status`` do."""

from __future__ import annotations

import asyncio

from kilonova.base.clock import SystemClock
from kilonova.config.settings import Settings
from kilonova.db import migrate
from kilonova.db.database import Database
from kilonova.placement import service
from kilonova.services import databases
from kilonova.services.daemon import Daemon
from kilonova.services.manage.output import table
from kilonova.services.upgrade_checks import Check, Code, Result

BAD_COUNT = 127


def sync(settings: Settings) -> int:
    """Bring schema and standard names to the newest version."""
    db = _open(settings)
    try:
        service.prepare(db, SystemClock())
    finally:
        db.close()
    return 0


def version(settings: Settings) -> int:
    """Print the revision the database is at (``None`` for an empty one)."""
    db = _open(settings)
    try:
        print(migrate.version(db, service.HISTORY))
    finally:
        db.close()
    return 0


def online(settings: Settings, max_count: int | None) -> int:
    """Data is brought to the newest form by ``db sync``: there is never anything left to do."""
    if max_count is not None and max_count < 1:
        print("--max-count must be a positive number.")
        return BAD_COUNT
    _open(settings).close()
    print(table(("Migration", "Total Needed", "Completed"), ()))
    return 0


def _open(settings: Settings) -> Database:
    db = databases.open_placement(settings)
    try:
        databases.let_in(db, "[placement_database] connection")
    except BaseException:
        db.close()
        raise
    return db


async def _schema(context: Daemon) -> Result:
    """Whether ``db sync`` was run."""
    db = databases.open_placement(context.settings)
    context.stack.callback(db.close)
    await databases.reach(db, "[placement_database] connection")
    there = await asyncio.to_thread(migrate.version, db, service.HISTORY)
    newest = migrate.newest(service.HISTORY)
    if there != newest:
        return Result(
            Code.FAILURE,
            f"The database is at {there or 'no version'}, this version needs {newest}: "
            "run placement-manage db sync.",
        )
    return Result(Code.SUCCESS)


CHECKS: list[Check] = [("Database Schema", _schema)]
