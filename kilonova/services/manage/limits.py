"""``nova-manage limits …``: from quota in the API database to unified limits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from kilonova.api.quota_rules import amounts
from kilonova.base.clock import SystemClock
from kilonova.base.errors import Fault
from kilonova.clients.identity import Identity, Place
from kilonova.config.settings import Settings
from kilonova.db.database import Database
from kilonova.domain.guest import FlavorSpec
from kilonova.domain.quotas import LOCAL, PLACED
from kilonova.services import neighbours
from kilonova.services.manage.opened import Opened
from kilonova.services.manage.output import table
from kilonova.services.startup import Unconfigured
from kilonova.store import flavors, lists
from kilonova.store import quotas as store
from kilonova.web.client import HttpClient

FAILED, NO_DATABASE, MISSING = 1, 2, 3
_NAMES = {**PLACED, **LOCAL}
_PAGE = 500


def migrate(
    settings: Settings,
    *,
    project_id: str | None,
    region_id: str | None,
    dry_run: bool,
    verbose: bool,
    quiet: bool,
    scan_servers: bool,
) -> int:
    """Make the limits that are missing, then look for resources that have none.

    1 when the identity service refuses or cannot be asked, 2 when a database cannot be used, 3
    when resource classes of flavors have no registered limit.
    """

    def detail(text: str) -> None:
        if verbose:
            print(text)

    with Opened(settings) as there:
        try:
            defaults = there.api.run_sync(store.class_limits, settings.quota.limits())
            own = there.api.run_sync(store.own_limits, project_id) if project_id else {}
        except Unconfigured as error:
            print(f"The databases cannot be used. {error}")
            return NO_DATABASE
        wanted = _unified(defaults)
        projects = _unified(own)
        detail(f"Default limits of the API database: {_told(wanted)}")
        if project_id:
            detail(f"Limits of project {project_id}: {_told(projects)}")
        try:
            registered, made = asyncio.run(
                _copy(
                    settings,
                    wanted,
                    projects,
                    project_id=project_id,
                    region_id=region_id,
                    dry_run=dry_run,
                )
            )
        except Fault as error:
            print(f"The identity service did not take the limits. {error.message}")
            return FAILED
        for line in made:
            detail(line)
        classes, silent = _classes(there, project_id, scan_servers=scan_servers)
    return _report(classes, silent, registered, verbose=verbose, quiet=quiet)


def _unified(limits: dict[str, int]) -> dict[str, int]:
    found = {_NAMES[name]: value for name, value in limits.items() if name in _NAMES}
    # Old quota counts dedicated CPUs as cores; each class has a limit of its own now.
    if "class:VCPU" in found:
        found["class:PCPU"] = found["class:VCPU"]
    return found


def _told(limits: dict[str, int]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in sorted(limits.items())) or "none"


async def _copy(
    settings: Settings,
    wanted: dict[str, int],
    projects: dict[str, int],
    *,
    project_id: str | None,
    region_id: str | None,
    dry_run: bool,
) -> tuple[dict[str, int], list[str]]:
    """The registered limits there are then, and what was done."""
    said: list[str] = []
    section = settings.oslo_limit
    async with HttpClient() as http:
        clock = SystemClock()
        found = neighbours.connect(settings, http, clock)
        identity = Identity(
            found.identity,
            clock,
            Place(
                section.endpoint_id,
                section.endpoint_service_type,
                section.endpoint_service_name,
                region_id or section.endpoint_region_name,
            ),
        )
        registered = await identity.registered()
        for name, value in sorted(wanted.items()):
            if name in registered:
                said.append(f"Default limit {name} = {registered[name]} is there.")
                continue
            said.append(f"Default limit {name} = {value} is made.")
            if not dry_run:
                await identity.register(name, value)
                registered[name] = value
        own = await identity.of_project(project_id) if project_id else {}
        for name, value in sorted(projects.items()):
            if name in own:
                said.append(f"Limit {name} = {own[name]} of project {project_id} is there.")
                continue
            said.append(f"Limit {name} = {value} of project {project_id} is made.")
            if not dry_run and project_id:
                await identity.set_limit(project_id, name, value)
    return registered, said


def _classes(
    there: Opened, project_id: str | None, *, scan_servers: bool
) -> tuple[set[str], list[str]]:
    """The resource classes that flavors ask for, and the cells that could not be read."""
    found = {"class:DISK_GB"} | _of_flavors(_flavors(there.api))
    silent: list[str] = []
    for row in there.real() if scan_servers else ():
        try:
            found |= _of_flavors(_flavors_of_servers(there.cell(row), project_id))
        except Unconfigured:
            silent.append(row.uuid)
    return found, silent


def _of_flavors(found: Iterable[FlavorSpec]) -> set[str]:
    classes: set[str] = set()
    for flavor in found:
        try:
            classes |= {f"class:{name}" for name in amounts(flavor, None)}
        except Fault as error:
            print(f"Flavor {flavor.flavorid} is left out. {error.message}")
    return classes


def _flavors(db: Database) -> Iterator[FlavorSpec]:
    marker = None
    while True:
        page = db.run_sync(
            flavors.page, project_id=None, is_public=None, admin=True, limit=_PAGE, marker=marker
        )
        if not page:
            return
        yield from page
        marker = page[-1].flavorid


def _flavors_of_servers(db: Database, project_id: str | None) -> Iterator[FlavorSpec]:
    wanted = lists.ServerFilter(project_id=project_id)
    marker = None
    while True:
        page = db.run_sync(lists.page, wanted, limit=_PAGE, marker=marker)
        if not page:
            return
        yield from (server.flavor for server in page)
        marker = page[-1]


def _report(
    classes: set[str],
    silent: list[str],
    registered: dict[str, int],
    *,
    verbose: bool,
    quiet: bool,
) -> int:
    missing = classes - set(registered)
    shown = sorted(classes if verbose else missing)
    if shown and not quiet:
        rows = [(name, registered.get(name, "missing")) for name in shown]
        print(table(("Resource", "Registered Limit"), rows))
        if silent:
            print(f"These cells did not answer and are not in the table: {', '.join(silent)}.")
    if not quiet:
        print(
            "Some resource classes have no registered limit: make one for each before you go on."
            if missing
            else "All resource classes have registered limits."
        )
    return MISSING if missing else 0
