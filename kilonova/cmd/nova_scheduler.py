"""``nova-scheduler``: chooses hosts."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kilonova.services import commandline, daemon, nova_scheduler


def main(argv: Sequence[str] | None = None) -> int:
    """The console script."""
    asked = commandline.daemon("nova-scheduler", "Choose hosts for servers.", argv, api=False)
    return daemon.main("nova-scheduler", asked, nova_scheduler.compose)


if __name__ == "__main__":
    sys.exit(main())
