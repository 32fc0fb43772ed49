"""``nova-status``: is the deployment ready for this version?"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kilonova.services import commandline, compute_checks, upgrade_checks

NAME = "nova-status"


def main(argv: Sequence[str] | None = None) -> int:
    """The console script: 0 all is well, 1 warnings, 2 failures, 255 an unexpected error."""
    made = commandline.parser(NAME, "Check a deployment of compute.")
    upgrade = made.add_subparsers(title="areas", metavar="AREA", required=True).add_parser(
        "upgrade", help="Upgrades."
    )
    check = upgrade.add_subparsers(metavar="ACTION", required=True).add_parser(
        "check", help="Check whether this version can run on what is there."
    )
    check.add_argument("--json", action="store_true", help="Print JSON instead of a table.")
    given = made.parse_args(argv)
    return upgrade_checks.run(
        NAME, commandline.asked(given), compute_checks.CHECKS, as_json=given.json
    )


if __name__ == "__main__":
    sys.exit(main())
