"""A shared file system service in memory, as compute sees one."""

from __future__ import annotations

from kilonova.base.errors import Forbidden, NotFound
from kilonova.interfaces.shares import Share


class Shares:
    """Tables of shares and of the addresses that may use them.

    ``slow``: looks until a new rule is in effect; ``refuses``: there are none.
    """

    def __init__(self) -> None:
        self.table: dict[str, Share] = {}
        self.rules: dict[tuple[str, str], int] = {}
        self.slow = 1
        self.refuses = False

    def add(self, share_id: str, **values: str | None) -> Share:
        """A share that is there."""
        given = {"status": "available", "protocol": "NFS", "export": "10.0.0.50:/foo", **values}
        self.table[share_id] = Share(share_id, **given)  # type: ignore[arg-type]
        return self.table[share_id]

    async def show(self, share_id: str, *, token: str) -> Share:
        return self._get(share_id)

    async def grant(self, share_id: str, address: str, *, reason: str) -> bool:
        self._get(share_id)
        if self.refuses:
            raise Forbidden(f"Share access could not be granted to share id {share_id}: no.")
        looks = self.rules[share_id, address] = self.rules.get((share_id, address), -1) + 1
        return looks >= self.slow

    async def revoke(self, share_id: str, address: str) -> None:
        self.rules.pop((share_id, address), None)

    def _get(self, share_id: str) -> Share:
        if share_id not in self.table:
            raise NotFound(f"Share {share_id} could not be found.")
        return self.table[share_id]
