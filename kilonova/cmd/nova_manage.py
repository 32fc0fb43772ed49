"""``nova-manage``: look after compute's databases and cells."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TypeAlias

from oslo_config import cfg

from kilonova.base.errors import Unavailable
from kilonova.base.ids import RandomIds
from kilonova.config.settings import Settings
from kilonova.services import commandline, startup
from kilonova.services.manage import cells, hosts, limits, schema
from kilonova.services.startup import Unconfigured

NAME = "nova-manage"
UNEXPECTED = 255

Run = Callable[[Settings, argparse.Namespace], int]
Actions: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(argv: Sequence[str] | None = None) -> int:
    """The console script; each command's exit codes are in ``docs/admin/daemons.md``."""
    given = _parser().parse_args(argv)
    run: Run = given.run
    try:
        settings = startup.read_settings(commandline.asked(given))
        startup.log_to(settings, NAME)
        return run(settings, given)
    except (cfg.Error, Unconfigured, Unavailable) as error:
        return startup.fail(NAME, startup.text_of(error))
    except Exception as error:
        startup.fail(NAME, f"An error nobody foresaw: {error!r}")
        if given.debug:
            raise
        return UNEXPECTED


def _parser() -> argparse.ArgumentParser:
    made = commandline.parser(NAME, "Look after compute's databases and cells.")
    areas = made.add_subparsers(title="areas", metavar="AREA", required=True)
    _db(areas.add_parser("db", help="A cell's database.").add_subparsers(required=True))
    _api_db(areas.add_parser("api_db", help="The API database.").add_subparsers(required=True))
    cell_v2 = areas.add_parser("cell_v2", help="Cells, hosts, and what is mapped to them.")
    actions = cell_v2.add_subparsers(required=True)
    _cells(actions)
    _hosts(actions)
    _limits(areas.add_parser("limits", help="Quota.").add_subparsers(required=True))
    return made


def _add(actions: Actions, name: str, about: str, run: Run) -> argparse.ArgumentParser:
    made = actions.add_parser(name, help=about, description=about, allow_abbrev=False)
    made.set_defaults(run=run)
    return made


def _db(actions: Actions) -> None:
    sync = _add(
        actions,
        "sync",
        "Bring cell0 and the database of [database] to the newest schema.",
        lambda s, a: schema.sync(s, local_cell=a.local_cell, version=a.version_wanted),
    )
    sync.add_argument("--local_cell", action="store_true", help="Leave cell0 alone.")
    sync.add_argument("version_wanted", nargs="?", metavar="VERSION")
    _add(actions, "version", "Print the schema's version.", lambda s, _: schema.show_version(s))
    online = _add(
        actions,
        "online_data_migrations",
        "Bring the data to the newest form.",
        lambda s, a: schema.online(s, a.max_count),
    )
    online.add_argument("--max-count", type=int, metavar="N", help="Rows changed at most.")


def _api_db(actions: Actions) -> None:
    sync = _add(
        actions,
        "sync",
        "Bring the API database to the newest schema.",
        lambda s, a: schema.api_sync(s, version=a.version_wanted),
    )
    sync.add_argument("version_wanted", nargs="?", metavar="VERSION")
    _add(actions, "version", "Print the schema's version.", lambda s, _: schema.show_api_version(s))


def _cells(actions: Actions) -> None:
    cell0 = _add(
        actions,
        "map_cell0",
        "Map cell0, the cell of servers that found no host.",
        lambda s, a: cells.map_cell0(s, a.database_connection),
    )
    cell0.add_argument("--database_connection", metavar="URL")
    _create_and_update(actions)
    _add(
        actions,
        "list_cells",
        "Print all cells.",
        lambda s, a: cells.list_cells(s, verbose=a.verbose),
    ).add_argument("--verbose", action="store_true", help="Show passwords, too.")
    delete = _add(
        actions,
        "delete_cell",
        "Forget an empty cell.",
        lambda s, a: cells.delete_cell(s, a.cell_uuid, force=a.force),
    )
    delete.add_argument("--cell_uuid", required=True, metavar="UUID")
    delete.add_argument("--force", action="store_true", help="Forget its hosts, too.")
    both = _add(
        actions,
        "map_cell_and_hosts",
        "Map the cell of [database] and the hosts that report there.",
        lambda s, a: cells.map_cell_and_hosts(
            s, RandomIds(), name=a.name, transport=a.transport_url, verbose=a.verbose
        ),
    )
    both.add_argument("--name", metavar="NAME")
    both.add_argument("--transport-url", "--transport_url", metavar="URL")
    both.add_argument("--verbose", action="store_true", help="Print the cell's UUID.")
    simple = _add(
        actions,
        "simple_cell_setup",
        "Map cell0, one cell, and its hosts.",
        lambda s, a: cells.simple_cell_setup(s, RandomIds(), transport=a.transport_url),
    )
    simple.add_argument("--transport-url", "--transport_url", metavar="URL")


def _create_and_update(actions: Actions) -> None:
    create = _add(
        actions,
        "create_cell",
        "Map a cell.",
        lambda s, a: cells.create_cell(
            s,
            RandomIds(),
            name=a.name,
            database=a.database_connection,
            transport=a.transport_url,
            disabled=a.disabled,
            verbose=a.verbose,
        ),
    )
    create.add_argument("--disabled", action="store_true", help="Send no new server there.")
    create.add_argument("--verbose", action="store_true", help="Print the new cell's UUID.")
    update = _add(
        actions,
        "update_cell",
        "Change a cell.",
        lambda s, a: cells.update_cell(
            s,
            a.cell_uuid,
            name=a.name,
            transport=a.transport_url,
            database=a.database_connection,
            disable=a.disable,
            enable=a.enable,
        ),
    )
    update.add_argument("--cell_uuid", required=True, metavar="UUID")
    update.add_argument("--disable", action="store_true", help="Send no new server there.")
    update.add_argument("--enable", action="store_true", help="Send new servers there again.")
    for made in (create, update):
        made.add_argument("--name", metavar="NAME")
        made.add_argument("--transport-url", "--transport_url", metavar="URL")
        made.add_argument("--database_connection", metavar="URL")


def _hosts(actions: Actions) -> None:
    discover = _add(
        actions,
        "discover_hosts",
        "Map hosts that report and are not mapped.",
        lambda s, a: hosts.discover_hosts(
            s,
            cell_id=a.cell_uuid,
            verbose=a.verbose,
            strict=a.strict,
            by_service=a.by_service,
        ),
    )
    discover.add_argument("--cell_uuid", metavar="UUID", help="Only this cell.")
    discover.add_argument("--verbose", action="store_true", help="Say what is found.")
    discover.add_argument("--strict", action="store_true", help="Exit 1 if nothing is new.")
    discover.add_argument("--by-service", action="store_true", help="Look at services, not nodes.")
    _add(
        actions,
        "list_hosts",
        "Print the mapped hosts.",
        lambda s, a: hosts.list_hosts(s, cell_id=a.cell_uuid),
    ).add_argument("--cell_uuid", metavar="UUID", help="Only this cell.")
    delete = _add(
        actions,
        "delete_host",
        "Unmap a host without servers.",
        lambda s, a: hosts.delete_host(s, cell_id=a.cell_uuid, host=a.host),
    )
    delete.add_argument("--cell_uuid", required=True, metavar="UUID")
    delete.add_argument("--host", required=True, metavar="HOST")
    instances = _add(
        actions,
        "map_instances",
        "Map servers of a cell that the API database does not know.",
        lambda s, a: hosts.map_instances(
            s, cell_id=a.cell_uuid, max_count=a.max_count, reset=a.reset
        ),
    )
    instances.add_argument("--cell_uuid", required=True, metavar="UUID")
    instances.add_argument("--max-count", type=int, metavar="N", help="Servers mapped at most.")
    instances.add_argument("--reset", action="store_true", help="Start from the beginning.")
    verify = _add(
        actions,
        "verify_instance",
        "Say where a server is mapped.",
        lambda s, a: hosts.verify_instance(s, server_id=a.uuid, quiet=a.quiet),
    )
    verify.add_argument("--uuid", required=True, metavar="UUID")
    verify.add_argument("--quiet", action="store_true", help="Only the exit code.")


def _limits(actions: Actions) -> None:
    migrate = _add(
        actions,
        "migrate_to_unified_limits",
        "Copy limits of quota from the API database to the identity service.",
        lambda s, a: limits.migrate(
            s,
            project_id=a.project_id,
            region_id=a.region_id,
            dry_run=a.dry_run,
            verbose=a.verbose,
            quiet=a.quiet,
            scan_servers=not a.no_embedded_flavor_scan,
        ),
    )
    migrate.add_argument("--project-id", metavar="ID", help="Copy this project's limits, too.")
    migrate.add_argument("--region-id", metavar="ID", help="Make the limits in this region.")
    migrate.add_argument("--dry-run", action="store_true", help="Only say what would be done.")
    migrate.add_argument(
        "--no-embedded-flavor-scan", action="store_true", help="Do not look at servers' flavors."
    )
    talk = migrate.add_mutually_exclusive_group()
    talk.add_argument("--verbose", action="store_true", help="Say what is found and done.")
    talk.add_argument("--quiet", action="store_true", help="Say nothing about missing limits.")


if __name__ == "__main__":
    sys.exit(main())
