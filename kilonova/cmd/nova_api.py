"""``nova-api``: the Compute API."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kilonova.services import commandline, daemon, nova_api


def main(argv: Sequence[str] | None = None) -> int:
    """The console script."""
    asked = commandline.daemon("nova-api", "Serve the Compute API.", argv, api=True)
    return daemon.main("nova-api", asked, nova_api.compose)


if __name__ == "__main__":
    sys.exit(main())
