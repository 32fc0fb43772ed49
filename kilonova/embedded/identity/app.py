"""What the handlers of the identity service are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from kilonova.base.clock import Clock
from kilonova.base.ids import Ids
from kilonova.db.database import Database, Tx
from kilonova.embedded.identity.keys import KeyRing
from kilonova.embedded.identity.passwords import Passwords
from kilonova.embedded.identity.settings import Settings
from kilonova.embedded.identity.store import rows
from kilonova.embedded.identity.tokens import Tokens, micros

P = ParamSpec("P")
T = TypeVar("T")


class Identity:
    """An open identity service."""

    def __init__(self, settings: Settings, db: Database, *, clock: Clock, ids: Ids) -> None:
        self.settings = settings
        self.db = db
        self.clock = clock
        self.ids = ids
        self.keys = KeyRing(settings.key_dir)
        self.credential_keys = KeyRing(settings.key_dir / "credentials")
        self.passwords = Passwords(settings.cost)
        self.tokens = Tokens(db, self.keys, clock, ids, window=settings.expired_window_seconds)

    def now(self) -> int:
        """Microseconds since 1970."""
        return micros(self.clock.now())

    async def change(
        self, work: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`Database.run` for changes tokens may depend on: remembered answers end with it."""

        def bumped(tx: Tx) -> T:
            rows.bump(tx)
            return work(tx, *args, **kwargs)

        return await self.db.run(bumped)

    def close(self) -> None:
        """Close the database."""
        self.db.close()
