"""The checks of ``nova-status upgrade check``."""

from __future__ import annotations

import asyncio

from kilonova.base.errors import Fault
from kilonova.compute.heartbeat import BINARY, VERSION
from kilonova.db import migrate
from kilonova.db.cells import CELL0
from kilonova.db.database import Database
from kilonova.domain.resources import CellRow
from kilonova.services import databases, neighbours, policies
from kilonova.services.daemon import Daemon
from kilonova.services.upgrade_checks import Check, Code, Result
from kilonova.store import cell_admin, mappings, services

PLACEMENT_MINIMUM = (1, 36)


async def schema(context: Daemon) -> Result:
    """Whether every database is at this version's schema."""
    behind = []
    api = await _api(context)
    if await _version(api, databases.API_HISTORY) != migrate.newest(databases.API_HISTORY):
        behind.append("the API database (nova-manage api_db sync)")
        return Result(Code.FAILURE, f"Not at this version's schema: {behind[0]}.")
    for row in await api.read(mappings.cells):
        db = await _cell(context, row)
        if await _version(db, databases.CELL_HISTORY) != migrate.newest(databases.CELL_HISTORY):
            behind.append(f"cell {row.name or row.uuid} (nova-manage db sync)")
    if behind:
        return Result(Code.FAILURE, f"Not at this version's schema: {', '.join(behind)}.")
    return Result(Code.SUCCESS)


async def cells(context: Daemon) -> Result:
    """Whether cell0, another cell, and every host that reports are mapped."""
    api = await _api(context)
    if await _version(api, databases.API_HISTORY) is None:
        return Result(Code.FAILURE, "The API database is empty: run nova-manage api_db sync.")
    rows = await api.read(mappings.cells)
    if CELL0 not in {row.uuid for row in rows}:
        return Result(Code.FAILURE, "cell0 is not mapped: run nova-manage cell_v2 map_cell0.")
    if len(rows) == 1:
        return Result(
            Code.FAILURE,
            "No cell besides cell0 is mapped: run nova-manage cell_v2 create_cell.",
        )
    known = await api.read(mappings.host_cells)
    left = []
    for row in rows:
        if row.uuid == CELL0:
            continue
        db = await _cell(context, row)
        if await _version(db, databases.CELL_HISTORY) is not None:
            left += [h for h in await db.read(cell_admin.reporting) if h not in known]
    if left:
        return Result(
            Code.FAILURE,
            f"Hosts report that are not mapped ({', '.join(left)}): "
            "run nova-manage cell_v2 discover_hosts.",
        )
    if not known:
        return Result(Code.WARNING, "No host reports yet; that is right for a new deployment only.")
    return Result(Code.SUCCESS)


async def placement(context: Daemon) -> Result:
    """Whether the Placement of the catalog answers and is new enough."""
    outside = neighbours.connect(context.settings, context.http, context.clock)
    options = context.settings.placement
    try:
        url = options.endpoint_override or await outside.source.endpoint(
            "placement", interface=options.valid_interfaces[0], region=options.region_name
        )
        answer = await context.http.request("GET", f"{url.rstrip('/')}/", timeout=20)
        found = answer.json()["versions"][0]["max_version"]
        most = tuple(int(part) for part in found.split("."))
    except Fault as fault:
        return Result(Code.FAILURE, f"Placement was not reached: {fault.message}")
    except (KeyError, IndexError, ValueError, AttributeError, TypeError):
        return Result(Code.FAILURE, f"What answers at {url} is no Placement service.")
    if most < PLACEMENT_MINIMUM:
        return Result(
            Code.FAILURE,
            f"Placement speaks up to {found}, {PLACEMENT_MINIMUM[0]}.{PLACEMENT_MINIMUM[1]} is "
            "needed: upgrade it first.",
        )
    return Result(Code.SUCCESS)


async def policy_file(context: Daemon) -> Result:
    """Whether the policy file is YAML and can be used."""
    name = context.settings.oslo_policy.policy_file
    places = (*context.near, *policies.USUAL)
    file = policies.find(name, places)
    old = policies.find("policy.json", places)
    if name.endswith(".json") or (
        old is not None and old.exists() and (file is None or not file.exists())
    ):
        return Result(
            Code.FAILURE,
            "JSON policy files are not read: oslopolicy-convert-json-to-yaml makes a YAML file; "
            "name it in [oslo_policy] policy_file.",
        )
    policies.compute_enforcer(context.settings, context.clock, near=context.near)
    return Result(Code.SUCCESS)


async def old_computes(context: Daemon) -> Result:
    """Whether any nova-compute is more than one version behind."""
    api = await _api(context)
    if await _version(api, databases.API_HISTORY) is None:
        return Result(Code.SUCCESS)
    old = []
    for row in await api.read(mappings.cells):
        db = await _cell(context, row)
        if await _version(db, databases.CELL_HISTORY) is None:
            continue
        for service in await db.read(services.page, binary=BINARY):
            if service.version < VERSION - 1:
                old.append(service.host)
    if old:
        return Result(
            Code.WARNING, f"nova-compute is too old on {', '.join(old)}: upgrade these first."
        )
    return Result(Code.SUCCESS)


async def _api(context: Daemon) -> Database:
    db = databases.open_api(context.settings)
    context.stack.callback(db.close)
    await databases.reach(db, "[api_database] connection")
    return db


async def _cell(context: Daemon, row: CellRow) -> Database:
    db = databases.open_cell(context.settings, row).db
    context.stack.callback(db.close)
    await databases.reach(db, f"cell {row.name or row.uuid}")
    return db


async def _version(db: Database, history: str) -> str | None:
    return await asyncio.to_thread(migrate.version, db, history)


CHECKS: list[Check] = [
    ("Database Schemas", schema),
    ("Cells v2", cells),
    ("Placement API", placement),
    ("Policy File JSON to YAML Migration", policy_file),
    ("Older than N-1 computes", old_computes),
]
