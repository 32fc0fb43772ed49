"""``nova-api-metadata``: the metadata service alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kilonova.services import commandline, daemon, nova_api_metadata


def main(argv: Sequence[str] | None = None) -> int:
    """The console script."""
    asked = commandline.daemon("nova-api-metadata", "Serve guests their metadata.", argv, api=True)
    return daemon.main("nova-api-metadata", asked, nova_api_metadata.compose)


if __name__ == "__main__":
    sys.exit(main())
