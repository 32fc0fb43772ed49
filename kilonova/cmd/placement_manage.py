"""``placement-manage``: look after the Placement database."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from oslo_config import cfg

from kilonova.services import commandline, placement_tools, startup
from kilonova.services.startup import Unconfigured

NAME = "placement-manage"


def main(argv: Sequence[str] | None = None) -> int:
    """The console script; 0 if all is well."""
    given = _parser().parse_args(argv)
    try:
        settings = startup.read_settings(commandline.asked(given))
        startup.log_to(settings, NAME)
        return int(given.run(settings, given))
    except (cfg.Error, Unconfigured) as error:
        return startup.fail(NAME, str(error))


def _parser() -> argparse.ArgumentParser:
    made = commandline.parser(NAME, "Look after the Placement service.", project="placement")
    areas = made.add_subparsers(title="areas", metavar="AREA", required=True)
    db = areas.add_parser("db", help="The database.").add_subparsers(
        metavar="ACTION", required=True
    )
    sync = db.add_parser("sync", help="Bring the schema to the newest version.")
    sync.set_defaults(run=lambda settings, _: placement_tools.sync(settings))
    version = db.add_parser("version", help="Print the version of the schema.")
    version.set_defaults(run=lambda settings, _: placement_tools.version(settings))
    stamp = db.add_parser("stamp", help="Say that the schema is at a version.")
    stamp.add_argument("version", metavar="VERSION", help="A version, or head.")
    stamp.set_defaults(run=lambda settings, a: placement_tools.stamp(settings, a.version))
    online = db.add_parser("online_data_migrations", help="Bring the data to the newest form.")
    online.add_argument("--max-count", type=int, metavar="N", help="Rows changed at most.")
    online.set_defaults(run=lambda settings, a: placement_tools.online(settings, a.max_count))
    return made


if __name__ == "__main__":
    sys.exit(main())
