"""What we need of an identity service beside tokens: projects, and the limits it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec


class UnifiedLimits(msgspec.Struct, frozen=True):
    """Limits by name (``servers``, ``class:VCPU``, …). ``remembered``: perhaps changed since."""

    registered: Mapping[str, int]
    own: Mapping[str, int] = {}
    remembered: bool = False


class IdentityService(Protocol):
    """Questions to the identity service; Unavailable when it cannot be asked."""

    async def exists(self, project_id: str) -> bool | None:
        """Whether there is such a project; None when nobody can tell."""

    async def limits(self, project_id: str | None, *, fresh: bool = False) -> UnifiedLimits:
        """Compute's limits, those of the project among them; ``fresh`` passes the memory by."""
