"""``nova-compute``: the agent of one host, which opens no database."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kilonova.services import commandline, daemon, nova_compute


def main(argv: Sequence[str] | None = None) -> int:
    """The console script."""
    asked = commandline.daemon("nova-compute", "Run guests on this host.", argv, api=False)
    return daemon.main("nova-compute", asked, nova_compute.compose)


if __name__ == "__main__":
    sys.exit(main())
