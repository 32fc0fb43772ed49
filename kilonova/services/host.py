"""What this machine can do for a cloud: real networks or not, KVM or not, which driver."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket

import msgspec

from kilonova.config.settings import load
from kilonova.embedded.network import plane
from kilonova.services.lifecycle import CannotStart, Wanted
from kilonova.services.progress import Tell
from kilonova.services.sweep import LIBVIRT

DRIVERS = {
    "qemu": "qemu.QemuDriver",
    "libvirt": LIBVIRT,
    "fake": "fake.FakeDriver",
}
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
    if wanted.driver == "libvirt":
        await asyncio.to_thread(_check_libvirt, wanted, why_not)
    if why_not is not None:
        tell.note(
            f"{why_not} Guests use QEMU's user-mode network: they reach nothing but their "
            "metadata, and their SSH port is forwarded to 127.0.0.1."
        )
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        tell.note("There is no usable /dev/kvm: guests are emulated, which is slow but complete.")
    return Machine(name, (name,), wanted.driver, driver, "bridge" if why_not is None else "user")


def _check_libvirt(wanted: Wanted, no_networks: str | None) -> None:
    """CannotStart when guests cannot be made by libvirt; ``no_networks``: why there are none."""
    if no_networks is not None:
        raise CannotStart(
            f"{no_networks} The libvirt driver has no user-mode networks: use --driver qemu."
        )
    try:
        from kilonova.virt.libvirt import outside  # noqa: PLC0415 (needs the binding)
    except ImportError:
        raise CannotStart(
            "libvirt's Python binding is missing: install the extra libvirt, or run "
            "./scripts/setup (or use --driver qemu)."
        ) from None
    own = wanted.layout().own_options
    uri = load([own] if own.exists() else []).libvirt.connection_uri
    reason = outside.why_not(uri)
    if reason is not None:
        raise CannotStart(
            f"libvirt does not answer at {uri or outside.SYSTEM} ({reason}): start libvirtd "
            "(package libvirt-daemon-system), or use --driver qemu."
        )
