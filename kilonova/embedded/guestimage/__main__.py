"""Builds the guest image at a path and says what it is."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from .image import build, describe
from .tools import GuestImageError


def main() -> int:
    """Build; 0, or 1 with one sentence on standard error."""
    if len(sys.argv) not in (2, 3):
        sys.stderr.write("usage: python -m kilonova.embedded.guestimage TARGET [CACHE_DIR]\n")
        return 2
    target = Path(sys.argv[1])
    cache = Path(sys.argv[2]) if len(sys.argv) == 3 else Path.home() / ".cache" / "kilonova"

    def show(text: str, part: float) -> None:
        sys.stderr.write(f"{part:4.0%} {text}\n")

    try:
        image = asyncio.run(build(target, cache_dir=cache, progress=show))
    except GuestImageError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(describe(image), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
