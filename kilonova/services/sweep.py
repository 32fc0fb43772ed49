"""Ending the guests of a cloud that is down, and taking its networks off the machine."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from kilonova.virt.qemu import process

INSTANCES = "instances"


async def guests(state_dir: Path) -> list[str]:
    """End every guest process and remove bridges, taps, rules; a line for each thing done."""
    done = []
    for server_id, pid in process.find(state_dir / INSTANCES).items():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        done.append(f"ended the guest of {server_id}")
    if os.geteuid() == 0:
        from kilonova.embedded.network import plane  # noqa: PLC0415
        from kilonova.services.planes import plane_env  # noqa: PLC0415

        report = await plane.destroy(plane_env(state_dir))
        done += report.changes
    return done
