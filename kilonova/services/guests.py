"""The guests of an all-in-one cloud as seen from its own machine."""

from __future__ import annotations

from pathlib import Path

import msgspec

INSTANCES = "instances"


class Forwarded(msgspec.Struct, frozen=True):
    """A running guest on a user-mode network; its SSH answers at ``port`` of 127.0.0.1."""

    server_id: str
    name: str
    port: int


def forwarded(state_dir: Path) -> list[Forwarded]:
    """Every running guest whose SSH port is forwarded, by name."""
    if not any(_inside(state_dir / INSTANCES)):
        return []
    from kilonova.virt import records  # noqa: PLC0415 (slow, and often for nothing)
    from kilonova.virt.qemu import process  # noqa: PLC0415

    running = process.find(state_dir / INSTANCES)

    found = []
    for server_id in running:
        record = records.load(state_dir / INSTANCES / server_id)
        if record is not None:
            name = record.spec.metadata.name
            found += [Forwarded(server_id, name, port) for port in record.ports.values()]
    return sorted(found, key=lambda guest: guest.name)


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
