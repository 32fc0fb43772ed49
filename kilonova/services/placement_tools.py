"""What ``placement-manage`` and ``placement-status`` do."""

from __future__ import annotations

import asyncio
import sys

from kilonova.base.clock import SystemClock
from kilonova.config.settings import Settings
from kilonova.db import migrate
from kilonova.db.database import Database
from kilonova.placement import service
from kilonova.placement.store import allocations, providers
from kilonova.services import databases, policies
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


def stamp(settings: Settings, revision: str) -> int:
    """Write which revision the database is at; 1 for one that does not exist."""
    db = _open(settings)
    try:
        migrate.stamp(db, service.HISTORY, revision)
    except LookupError as error:
        print(error.args[0], file=sys.stderr)
        return 1
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


async def _database(context: Daemon) -> Database | Result:
    """The database, or that ``db sync`` was not run."""
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
    return db


async def _roots(context: Daemon) -> Result:
    """Whether every provider knows the root of its tree."""
    db = await _database(context)
    if isinstance(db, Result):
        return db
    lost = await db.read(providers.without_root)
    if lost:
        return Result(
            Code.FAILURE,
            f"{lost} resource providers have no root: give each its parent again with PUT "
            "/resource_providers/{uuid}.",
        )
    return Result(Code.SUCCESS)


async def _consumers(context: Daemon) -> Result:
    """Whether every allocation is held by somebody."""
    db = await _database(context)
    if isinstance(db, Result):
        return db
    lost = await db.read(allocations.without_consumer)
    if lost:
        return Result(
            Code.WARNING,
            f"{lost} allocations are held by no consumer: look for them in the database.",
        )
    return Result(Code.SUCCESS)


async def _policy(context: Daemon) -> Result:
    """Whether the policy file is YAML and can be used."""
    name = context.settings.oslo_policy.policy_file
    places = (*context.near, *policies.USUAL_PLACEMENT)
    file = policies.find(name, places)
    old = policies.find("policy.json", places)
    unread = old is not None and old.exists() and (file is None or not file.exists())
    if name.endswith(".json") or unread:
        return Result(
            Code.FAILURE,
            "JSON policy files are not read: oslopolicy-convert-json-to-yaml makes a YAML file; "
            "name it in [oslo_policy] policy_file.",
        )
    policies.placement_enforcer(context.settings, near=context.near)
    return Result(Code.SUCCESS)


CHECKS: list[Check] = [
    ("Missing Root Provider IDs", _roots),
    ("Incomplete Consumers", _consumers),
    ("Policy File JSON to YAML Migration", _policy),
]
