"""The process of a cloud that ``kilonova up --detach`` starts."""

from __future__ import annotations

import gc
import sys


def main(wanted: str, progress_fd: str) -> None:
    """Run the cloud ``wanted`` (JSON), telling the starting process over a pipe how it goes."""
    # What a start makes stays: to look for garbage in it again and again takes a fifth of the time.
    gc.disable()
    from kilonova.services import foreground, lifecycle, progress  # noqa: PLC0415

    foreground.run(lifecycle.decoded(wanted), progress.Pipe(int(progress_fd)))


if __name__ == "__main__":
    main(*sys.argv[1:])
