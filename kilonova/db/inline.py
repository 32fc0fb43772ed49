"""Short SQLite transactions run where they are asked for, without a hop to a thread."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa

T = TypeVar("T")

HEAVY_SECONDS = 0.02
HEAVY_CALLS = 50
DRIVER = "kilonova_driver"
"""The name under which a connection of the event loop carries the driver's connection."""
BREATH = 0.002
"""Seconds after which others get their turn between two transactions of the event loop."""


class Turn:
    """When the event loop last went round; ``lanes`` of all databases share it."""

    def __init__(self) -> None:
        self._since = 0.0

    async def others(self) -> None:
        """Let others have their turn, unless they had it a moment ago.

        Going round costs as much as a small transaction does; who waits for something else goes
        round anyway.
        """
        now = time.perf_counter()
        if now - self._since > BREATH:
            self._since = now
            await asyncio.sleep(0)


turn = Turn()


class Lane:
    """One connection that the event loop uses itself.

    A local SQLite transaction is mostly Python and takes well under a millisecond; handing it to a
    thread costs more than that, and under load each of its statements waits for the interpreter's
    lock. ``free`` tells whether the connection may be used now; work that was found to be ``heavy``
    belongs into a thread. ``lock`` is held by whoever writes, also by threads.
    """

    def __init__(self, engine: sa.Engine, *, autocheckpoint: bool, begin: str = "BEGIN") -> None:
        self.lock = threading.Lock()
        self.waiting = 0
        self.writes = 0
        self._engine = engine
        self._begin = begin
        self._autocheckpoint = autocheckpoint
        self._connection: sa.Connection | None = None
        self._heavy: dict[str, int] = {}

    def free(self) -> bool:
        """Whether nobody uses the connection's place or waits for it; takes ``lock`` if so."""
        return not self.waiting and self.lock.acquire(blocking=False)

    def heavy(self, work: Callable[..., Any]) -> bool:
        """Whether this work took long when it was run here lately."""
        if not self._heavy:
            return False
        name = _name(work)
        left = self._heavy.get(name, 0)
        if not left:
            return False
        if left == 1:
            del self._heavy[name]
        else:
            self._heavy[name] = left - 1
        return True

    def run(self, work: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        """One transaction, now; the caller holds ``lock``."""
        connection = self._connection
        if connection is None:
            connection = self._connection = self._connect()
        begun = time.thread_time()
        try:
            result = self._transact(connection, work, args, kwargs)
        except (sa.exc.OperationalError, sa.exc.InterfaceError):
            # A connection that broke must not be met again; a new one costs little.
            self.drop()
            raise
        finally:
            if time.thread_time() - begun > HEAVY_SECONDS:
                self._heavy[_name(work)] = HEAVY_CALLS
        self.writes += 1
        return result

    def _transact(
        self,
        connection: sa.Connection,
        work: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> T:
        """The transaction is the driver's; SQLAlchemy joins it with its first statement.

        Work that is all of prepared statements never pays for SQLAlchemy's own.
        """
        dbapi: Any = connection.__dict__[DRIVER]
        try:
            dbapi.execute(self._begin)
        except sqlite3.Error as error:
            raise sa.exc.OperationalError(self._begin, None, error) from error
        try:
            result = work(connection, *args, **kwargs)
            if connection.in_transaction():
                connection.commit()
            else:
                _commit(dbapi)
        except BaseException:
            if connection.in_transaction():
                connection.rollback()
            if dbapi.in_transaction:
                dbapi.rollback()
            raise
        return result

    def drop(self) -> None:
        """Close the connection; the next use makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sa.exc.DBAPIError):
                connection.close()

    def _connect(self) -> sa.Connection:
        connection = self._engine.connect()
        dbapi: Any = connection.connection.dbapi_connection
        # Waiting for another process's lock is for threads, and so is the fsync of a checkpoint.
        dbapi.execute("PRAGMA busy_timeout=0")
        if not self._autocheckpoint:
            dbapi.execute("PRAGMA wal_autocheckpoint=0")
        connection.__dict__[DRIVER] = dbapi
        return connection


def _commit(dbapi: Any) -> None:
    try:
        dbapi.commit()
    except sqlite3.Error as error:
        raise sa.exc.OperationalError("COMMIT", None, error) from error


def known_as(work: Callable[..., Any], inner: Callable[..., Any]) -> None:
    """Let ``work`` count as ``inner``, which it only wraps, where long transactions are known."""
    work.__dict__["__wrapped__"] = inner


def _name(work: Callable[..., Any]) -> str:
    work = getattr(work, "__wrapped__", work)
    return f"{getattr(work, '__module__', '')}.{getattr(work, '__qualname__', repr(type(work)))}"
