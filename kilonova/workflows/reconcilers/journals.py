"""What is remembered of finished work, forgotten after a while, in every database."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from kilonova.base.clock import Clock
from kilonova.base.errors import Unavailable
from kilonova.db.database import Database
from kilonova.workflows.engine import journal

log = logging.getLogger(__name__)

KEEP_SECONDS = 7 * 86400.0
BATCH = 500


class Journals:
    """Prunes journals: ended sagas with their steps, signals, and receipts of what has ended."""

    def __init__(
        self, databases: Mapping[str, Database], clock: Clock, *, keep: float = KEEP_SECONDS
    ) -> None:
        self._databases = databases
        self._clock = clock
        self._keep = keep

    async def reconcile(self) -> None:
        """Forget what ended longer ago than is kept; a database that is away is left for later."""
        before = self._clock.now().timestamp() - self._keep
        for place, db in self._databases.items():
            try:
                forgotten = 0
                while count := await db.run(journal.prune, before, limit=BATCH):
                    forgotten += count
                if forgotten:
                    log.info("forgot %d ended sagas of %s", forgotten, place)
            except Unavailable as fault:
                log.warning("the journal of %s was not pruned: %s", place, fault.message)
        try:
            for db in self._databases.values():
                await self._receipts(db, before)
        except Unavailable as fault:
            # A receipt may be of a saga that lives where nobody answers now.
            log.warning("receipts were not pruned: %s", fault.message)

    async def _receipts(self, db: Database, before: float) -> None:
        while old := set(await db.read(journal.old_receipts, before, limit=BATCH)):
            needed: set[str] = set()
            for other in self._databases.values():
                needed |= await other.read(journal.living, old)
            gone = old - needed
            if gone:
                await db.run(journal.drop_receipts, gone)
            if len(old) < BATCH or not gone:
                return
