"""Short SQLite transactions run in the event loop, heavy ones and conflicts in threads."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from kilonova.db import inline
from kilonova.db.database import Database, Tx

META = sa.MetaData()
WORDS = sa.Table("words", META, sa.Column("word", sa.String(20), primary_key=True))


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    made = Database(f"sqlite:///{tmp_path}/inline.db")
    META.create_all(made.engine)
    yield made
    made.close()


def put(tx: Tx, word: str) -> int:
    """Write a word; the thread it was done in."""
    tx.execute(WORDS.insert().values(word=word))
    return threading.get_ident()


def slow(tx: Tx) -> int:
    """Compute for longer than the event loop has patience for."""
    tx.execute(sa.select(WORDS)).all()
    end = time.thread_time() + 1.5 * inline.HEAVY_SECONDS
    while time.thread_time() < end:
        pass
    return threading.get_ident()


def words(tx: Tx) -> set[str]:
    return set(tx.execute(sa.select(WORDS.c.word)).scalars())


async def test_short_work_stays_in_the_event_loop(db: Database) -> None:
    assert await db.run(put, "a") == threading.get_ident()
    assert await db.read(words) == {"a"}


async def test_heavy_work_goes_to_a_thread_for_a_while(db: Database) -> None:
    here = threading.get_ident()
    assert await db.read(slow) == here
    places = [await db.read(slow) for _ in range(3)]
    assert here not in places
    # Other work is not taken for heavy.
    assert await db.run(put, "a") == here


async def test_after_many_calls_heavy_work_gets_another_chance(db: Database) -> None:
    lane = inline.Lane(db.engine, autocheckpoint=True)
    try:
        assert not lane.heavy(slow)
        lane.run(slow, (), {})
        assert sum(lane.heavy(slow) for _ in range(inline.HEAVY_CALLS + 5)) == inline.HEAVY_CALLS
    finally:
        lane.drop()


async def test_what_fails_leaves_nothing_and_the_next_one_works(db: Database) -> None:
    def broken(tx: Tx) -> None:
        put(tx, "gone")
        raise LookupError("no")

    with pytest.raises(LookupError):
        await db.run(broken)
    with pytest.raises(sa.exc.IntegrityError):
        await db.run(lambda tx: (put(tx, "a"), put(tx, "a")))
    assert await db.run(put, "a") == threading.get_ident()
    assert await db.read(words) == {"a"}


async def test_another_process_that_writes_is_waited_for_in_a_thread(
    db: Database, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "inline.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("INSERT INTO words VALUES ('theirs')")
    waiting = asyncio.create_task(db.run(put, "ours"))
    begun = time.monotonic()
    await asyncio.sleep(0.1)
    assert not waiting.done()
    assert time.monotonic() - begun < 1, "the event loop goes on meanwhile"
    other.execute("COMMIT")
    other.close()
    assert await waiting != threading.get_ident()
    assert await db.read(words) == {"theirs", "ours"}


async def test_a_lane_is_free_for_one_at_a_time(db: Database) -> None:
    lane = inline.Lane(db.engine, autocheckpoint=True)
    assert lane.free()
    assert not lane.free()
    lane.lock.release()
    lane.waiting = 1
    assert not lane.free(), "those who came first are not overtaken"


async def test_many_writers_at_once_lose_nothing(db: Database) -> None:
    await asyncio.gather(*(db.run(put, f"w{n}") for n in range(50)), db.read(slow))
    assert await db.read(words) == {f"w{n}" for n in range(50)}
