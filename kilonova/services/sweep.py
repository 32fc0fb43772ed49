"""Ending the guests of a cloud that is down, and taking its networks off the machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from kilonova.services.guests import INSTANCES
from kilonova.services.layout import Layout
from kilonova.virt.qemu import process

LIBVIRT = "libvirt.LibvirtDriver"


async def guests(state_dir: Path) -> list[str]:
    """End every guest process and remove bridges, taps, rules; a line for each thing done."""
    done = []
    for server_id, pid in process.find(state_dir / INSTANCES).items():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        done.append(f"ended the guest of {server_id}")
    done += await asyncio.to_thread(_domains, state_dir)
    if os.geteuid() == 0:
        from kilonova.embedded.network import plane  # noqa: PLC0415
        from kilonova.services.planes import plane_env  # noqa: PLC0415

        report = await plane.destroy(plane_env(state_dir))
        done += report.changes
    return done


def _domains(state_dir: Path) -> list[str]:
    """End the guests libvirt has of this cloud, where it has any."""
    layout = Layout(state_dir, {})
    written = layout.nova_conf
    if not written.exists() or LIBVIRT not in written.read_text():
        return []
    from kilonova.base.errors import Fault  # noqa: PLC0415
    from kilonova.config.settings import load  # noqa: PLC0415 (slow to import)
    from kilonova.virt.libvirt import outside  # noqa: PLC0415 (needs the binding)

    own = layout.own_options
    settings = load([written, *([own] if own.exists() else [])])
    directory = Path(settings.default.instances_path or state_dir / INSTANCES)
    try:
        ended = outside.end_guests(settings.libvirt.connection_uri, directory.resolve())
    except Fault as fault:
        return [f"no guest was ended: {fault.message}"]
    return [f"ended the guest of {server_id}" for server_id in ended]
