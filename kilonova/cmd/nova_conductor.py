"""``nova-conductor``: runs the work."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kilonova.services import commandline, daemon, nova_conductor


def main(argv: Sequence[str] | None = None) -> int:
    """The console script."""
    asked = commandline.daemon("nova-conductor", "Carry out accepted work.", argv, api=False)
    return daemon.main("nova-conductor", asked, nova_conductor.compose)


if __name__ == "__main__":
    sys.exit(main())
