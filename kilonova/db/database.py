"""Run one transaction: the only way from asyncio to SQL."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import random
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy import event, exc, pool

from kilonova.base.errors import Unavailable
from kilonova.db.inline import Lane, turn

P = ParamSpec("P")
T = TypeVar("T")
Tx = sa.Connection

log = logging.getLogger(__name__)

CHECKPOINT_EVERY = 500
"""Writing transactions after which SQLite's log is moved into the database, in a thread."""

MAPPED = 256 << 20
"""Bytes of a SQLite database that its readers map: searches through many rows copy no pages."""

_WRITE, _READ = "BEGIN IMMEDIATE", "BEGIN"

_counter: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("sql", default=None)

# Conflicts after which the same transaction may simply be run again: SQLite busy/locked,
# PostgreSQL serialization failure and deadlock, MariaDB lock wait time-out, deadlock and
# "record has changed since last read" (snapshot isolation).
_AGAIN = re.compile(
    r"database is locked|database table is locked|40001|40P01|deadlock|\(1213,|\(1205,|\(1020,",
    re.IGNORECASE,
)


@contextlib.contextmanager
def counted() -> Iterator[list[str]]:
    """The SQL statements sent inside the block by this task, for tests that bound them."""
    statements: list[str] = []
    mark = _counter.set(statements)
    try:
        yield statements
    finally:
        _counter.reset(mark)


class Database:
    """One database by its SQLAlchemy URL.

    ``run`` gives ``work`` a transaction (a SQLAlchemy Core connection) and commits when it returns;
    on any exception everything is rolled back. A conflict with another transaction runs ``work``
    again, so ``work`` must have no effect outside the transaction. Database servers are asked in
    worker threads. SQLite has one writing connection (``BEGIN IMMEDIATE``) beside several reading
    ones; its short transactions run in the event loop, long ones and conflicts in threads.
    """

    def __init__(
        self, url: str, *, name: str = "", size: int = 5, retries: int = 10, recycle: int = 3600
    ) -> None:
        self.url = sa.make_url(url)
        self.name = name or (self.url.database or "memory")
        self.dialect = self.url.get_backend_name()
        self._retries = retries
        in_memory = self.dialect == "sqlite" and self.url.database in (None, "", ":memory:")
        if self.dialect == "sqlite":
            self._writer = _sqlite(self.url, begin=_WRITE, static=in_memory)
            self._reader = self._writer if in_memory else _sqlite(self.url, begin=_READ)
            self._write_threads = ThreadPoolExecutor(1, f"db-{self.name}-w")
            self._read_threads = (
                self._write_threads if in_memory else ThreadPoolExecutor(size, f"db-{self.name}-r")
            )
            self._write_lane: Lane | None = Lane(
                self._writer, begin=_WRITE, autocheckpoint=in_memory
            )
            self._read_lane: Lane | None = (
                self._write_lane
                if in_memory
                else Lane(self._reader, begin=_READ, autocheckpoint=True)
            )
        else:
            self._writer = self._reader = _server(self.url, size=size, recycle=recycle)
            self._write_threads = ThreadPoolExecutor(size, f"db-{self.name}")
            self._read_threads = self._write_threads
            self._write_lane = self._read_lane = None
        self._in_memory = in_memory
        for engine in {self._writer, self._reader}:
            event.listen(engine, "before_cursor_execute", _count)

    @property
    def engine(self) -> sa.Engine:
        """The writing engine, for migrations."""
        return self._writer

    def attach(self, key: str, thing: object) -> None:
        """Let every writing transaction find ``thing`` by ``attached``; before the first of them.

        It is how what must be written with a change reaches those who make the change.
        """
        self._writer.update_execution_options(**{key: thing})
        if self._write_lane is not None:
            self._write_lane.drop()

    def attachment(self, key: str) -> Any:
        """What was attached under ``key``; None if nothing was."""
        return self._writer.get_execution_options().get(key)

    async def run(
        self, work: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run ``work(tx, *args, **kwargs)`` as one writing transaction; its result.

        Raises whatever ``work`` raises, and Unavailable when the database cannot be reached or
        the conflict does not end after the retries.
        """
        lane = self._write_lane
        if lane is None:
            return await self._hop(self._write_threads, self._writer, work, args, kwargs)
        done, result = await self._inline(lane, work, args, kwargs)
        if done:
            if lane.writes >= CHECKPOINT_EVERY and not self._in_memory:
                lane.writes = 0
                self._write_threads.submit(self._checkpoint)
            return cast("T", result)
        lane.waiting += 1
        try:
            return await self._hop(self._write_threads, self._writer, work, args, kwargs)
        finally:
            lane.waiting -= 1

    async def read(
        self, work: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The same for work that only reads; on SQLite it does not wait for writers."""
        lane = self._read_lane
        if lane is None:
            return await self._hop(self._read_threads, self._reader, work, args, kwargs)
        done, result = await self._inline(lane, work, args, kwargs)
        if done:
            return cast("T", result)
        return await self._hop(self._read_threads, self._reader, work, args, kwargs)

    async def check(self) -> str | None:
        """A health check: None when the database answers; raises what `read` raises."""
        await self.read(ping)
        return None

    def run_sync(
        self, work: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """``run`` for command-line tools that have no event loop."""
        return self._transact(self._writer, work, args, kwargs)

    def close(self) -> None:
        """Close all connections; transactions under way are finished first."""
        for threads in {self._write_threads, self._read_threads}:
            threads.shutdown(wait=True)
        for lane in (self._write_lane, self._read_lane):
            if lane is not None:
                lane.drop()
        for engine in {self._writer, self._reader}:
            engine.dispose()

    async def _inline(
        self, lane: Lane, work: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[bool, Any]:
        """(True, result) of work done in the event loop; (False, None) when it must hop."""
        # Others get their turn here, before anything is done that a cancel would leave unknown.
        await turn.others()
        if lane.heavy(work) or not lane.free():
            return False, None
        try:
            return True, lane.run(work, args, kwargs)
        except exc.DBAPIError as error:
            if _AGAIN.search(str(error.orig)) or error.connection_invalidated:
                return False, None
            raise
        finally:
            lane.lock.release()

    def _checkpoint(self) -> None:
        with contextlib.suppress(exc.DBAPIError), self._reader.connect() as connection:
            dbapi: Any = connection.connection.dbapi_connection
            dbapi.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    async def _hop(
        self,
        threads: ThreadPoolExecutor,
        engine: sa.Engine,
        work: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> T:
        context = contextvars.copy_context()
        job = asyncio.get_running_loop().run_in_executor(
            threads, context.run, self._transact, engine, work, args, kwargs
        )
        # A cancelled caller must not leave a transaction running behind its back: wait for it.
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):
                await asyncio.wait([job])
            raise

    def _transact(
        self,
        engine: sa.Engine,
        work: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> T:
        lane = self._write_lane
        alone: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        if lane is not None and engine is self._writer:
            alone = lane.lock
        for attempt in range(self._retries + 1):
            try:
                with alone, engine.begin() as tx:
                    return work(tx, *args, **kwargs)
            except exc.DBAPIError as error:
                last = attempt == self._retries
                if _AGAIN.search(str(error.orig)) or getattr(error.orig, "sqlstate", "") in (
                    "40001",
                    "40P01",
                ):
                    if last:
                        raise Unavailable(f"The database {self.name} is too busy.") from error
                elif error.connection_invalidated or _unreachable(error):
                    if last or attempt >= 2:
                        raise Unavailable(f"The database {self.name} is not reachable.") from error
                else:
                    raise
                time.sleep(min(0.01 * 2**attempt, 1.0) * (0.5 + random.random()))
        raise AssertionError("unreachable")


def ping(tx: Tx) -> None:
    """Ask for nothing, to hear whether there is an answer."""
    tx.exec_driver_sql("SELECT 1")


def attached(tx: Tx, key: str) -> Any:
    """What was attached to the transaction's database under ``key``; None if nothing was."""
    return tx.get_execution_options().get(key)


def _unreachable(error: exc.DBAPIError) -> bool:
    return isinstance(error, (exc.OperationalError, exc.InterfaceError)) and bool(
        re.search(r"connect|gone away|closed|terminat|shutting down", str(error.orig), re.I)
    )


def _sqlite(url: sa.URL, *, begin: str, static: bool = False) -> sa.Engine:
    engine = sa.create_engine(
        url,
        poolclass=pool.StaticPool if static else pool.QueuePool,
        connect_args={"check_same_thread": False, "timeout": 30, "cached_statements": 512},
    )

    @event.listens_for(engine, "connect")
    def _on_connect(dbapi: Any, _record: Any) -> None:
        dbapi.isolation_level = None
        cursor = dbapi.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "foreign_keys=ON",
            "busy_timeout=30000",
            "cache_size=-16000",
            *((f"mmap_size={MAPPED}",) if begin == _READ else ()),
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _on_begin(connection: sa.Connection) -> None:
        dbapi: Any = connection.connection.dbapi_connection
        if dbapi.in_transaction:
            return
        try:
            dbapi.execute(begin)
        except sqlite3.Error as error:
            raise exc.OperationalError(begin, None, error) from error

    return engine


def _server(url: sa.URL, *, size: int, recycle: int) -> sa.Engine:
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    elif url.drivername in ("mysql", "mariadb"):
        url = url.set(drivername=f"{url.drivername}+pymysql")
    return sa.create_engine(
        url,
        pool_size=size,
        max_overflow=0,
        pool_recycle=recycle,
        pool_pre_ping=True,
        isolation_level="READ COMMITTED",
    )


def _count(
    _connection: Any, _cursor: Any, statement: str, _parameters: Any, _context: Any, _many: bool
) -> None:
    counting(statement)


def counting(statement: str) -> None:
    """Note a statement for ``counted``."""
    statements = _counter.get()
    if statements is not None:
        statements.append(statement)
