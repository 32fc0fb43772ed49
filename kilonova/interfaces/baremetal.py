"""What we need of a bare metal service."""

from __future__ import annotations

from typing import Protocol

import msgspec


class BareMetalNode(msgspec.Struct, frozen=True):
    """A machine. ``properties`` are the service's own: cpus, memory_mb, local_gb and more."""

    id: str
    state: str | None = None
    instance_id: str | None = None
    properties: dict[str, object] = {}


class BareMetalService(Protocol):
    """Asked as our service user; Unavailable where there is no such service."""

    async def nodes(self) -> list[BareMetalNode]:
        """Every machine."""

    async def node(self, node_id: str) -> BareMetalNode:
        """One machine; NotFound."""

    async def addresses(self, node_id: str) -> list[str]:
        """The MAC addresses of a machine's network ports."""
