"""What we need of a shared file system service."""

from __future__ import annotations

from typing import Protocol

import msgspec

AVAILABLE = "available"


class Share(msgspec.Struct, frozen=True):
    """A file share. ``export``: where it is mounted from, None when nobody says."""

    id: str
    status: str
    protocol: str
    export: str | None = None


class ShareService(Protocol):
    """``token`` is the user's; methods without one speak as our service user.

    A share that is not there raises NotFound; Unavailable where there is no such service.
    """

    async def show(self, share_id: str, *, token: str) -> Share:
        """One share, as far as the user may see it."""

    async def grant(self, share_id: str, address: str, *, reason: str) -> bool:
        """Let a host read and write a share; made once, with locks that name the reason.

        False while the service has not put it into effect yet; Forbidden when it refuses.
        """

    async def revoke(self, share_id: str, address: str) -> None:
        """End a host's access; nothing there is success."""
