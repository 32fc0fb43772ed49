"""The guests of an all-in-one cloud as seen from its own machine."""

from __future__ import annotations

from pathlib import Path

import msgspec

from kilonova.services.sweep import INSTANCES
from kilonova.virt.qemu import process


class Forwarded(msgspec.Struct, frozen=True):
    """A running guest on a user-mode network; its SSH answers at ``port`` of 127.0.0.1."""

    server_id: str
    name: str
    port: int


def forwarded(state_dir: Path) -> list[Forwarded]:
    """Every running guest whose SSH port is forwarded, by name."""
    running = process.find(state_dir / INSTANCES)
    if not running:
        return []
    from kilonova.virt import records  # noqa: PLC0415

    found = []
    for server_id in running:
        record = records.load(state_dir / INSTANCES / server_id)
        if record is not None:
            name = record.spec.metadata.name
            found += [Forwarded(server_id, name, port) for port in record.ports.values()]
    return sorted(found, key=lambda guest: guest.name)
