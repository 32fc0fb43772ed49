"""``placement-api``: the Placement service."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kilonova.services import commandline, daemon, placement_api


def main(argv: Sequence[str] | None = None) -> int:
    """The console script."""
    asked = commandline.daemon("placement-api", "Serve the Placement API.", argv, api=True)
    return daemon.main("placement-api", asked, placement_api.compose)


if __name__ == "__main__":
    sys.exit(main())
