"""What this machine can do for a cloud: real networks or not, KVM or not, which driver."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket

import msgspec

from kilonova.embedded.network import plane
from kilonova.services.lifecycle import CannotStart, Wanted
from kilonova.services.progress import Tell

DRIVERS = {"qemu": "qemu.QemuDriver", "fake": "fake.FakeDriver"}
TOOLS = {"qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils"}


class Machine(msgspec.Struct, frozen=True):
    """``network_mode``: bridge, user or none (see the network service). ``names``: the hosts."""

    name: str
    names: tuple[str, ...]
    driver: str
    compute_driver: str
    network_mode: str
    options: dict[str, dict[str, object]] = {}


async def look(wanted: Wanted, tell: Tell) -> Machine:
    """Find out; CannotStart says in one sentence what is missing, notes say what is degraded."""
    driver = DRIVERS[wanted.driver]
    if wanted.driver == "fake":
        names = tuple(f"fake-{n}" for n in range(1, wanted.hosts + 1))
        return Machine(names[0], names, "fake", driver, "none")
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if missing:
        raise CannotStart(
            f"QEMU is not installed: apt-get install {' '.join(missing)}, or run ./scripts/setup "
            "(or use --driver fake)."
        )
    name = socket.gethostname()
    why_not = await asyncio.to_thread(plane.capable)
    if why_not is not None:
        tell.note(
            f"{why_not} Guests use QEMU's user-mode network: they reach nothing but their "
            "metadata, and their SSH port is forwarded to 127.0.0.1."
        )
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        tell.note("There is no usable /dev/kvm: guests are emulated, which is slow but complete.")
    return Machine(name, (name,), "qemu", driver, "bridge" if why_not is None else "user")
