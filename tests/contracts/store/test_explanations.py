"""Why servers found no host is kept whole, on every engine."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from kilonova.db.database import Database
from kilonova.db.tables import api
from kilonova.domain.explain import Change, Why
from kilonova.domain.explanation import Explanation, Failure
from kilonova.domain.request import Cut
from kilonova.store import explanations

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


@pytest.fixture
def db(database: Database) -> Iterator[Database]:
    api.metadata.create_all(database.engine)
    yield database


def told(**values: Any) -> Explanation:
    plain = Explanation(
        "req-1",
        "s1",
        "p1",
        "u1",
        NOON,
        cuts=(Cut("ComputeFilter", 2, 0, {"h1": "it is down – wirklich ☃", "h2": "it is down"}),),
        why=Why("Hosts are down.", ("down",), changes=(Change("up", "Up.", host="h1"),)),
        failures=(Failure("h3", "no room"),),
    )
    return msgspec.structs.replace(plain, **values)


async def test_what_was_put_is_found_by_request_and_by_server(db: Database) -> None:
    await db.run(explanations.put, told())
    later = told(server_id="s2", at=NOON + dt.timedelta(seconds=1), why=None)
    await db.run(explanations.put, later)
    assert await db.read(explanations.find, "req-1") == [later, told()]
    assert await db.read(explanations.find, "s1") == [told()]
    assert await db.read(explanations.find, "req-1", limit=1) == [later]
    assert await db.read(explanations.find, "nobody") == []


async def test_failures_that_were_noted_stay(db: Database) -> None:
    await db.run(explanations.note, told(failures=(), why=None, cuts=()), Failure("h1", "lost"))
    await db.run(explanations.put, told(at=NOON + dt.timedelta(minutes=1)))
    (found,) = await db.read(explanations.find, "s1")
    assert found.failures == (Failure("h1", "lost"), Failure("h3", "no room"))
    assert found.why == told().why
    assert found.at == NOON + dt.timedelta(minutes=1)


async def test_notes_at_the_same_time_are_all_kept_once(db: Database) -> None:
    await db.run(explanations.put, told(failures=()))
    async with asyncio.TaskGroup() as group:
        for number in [*range(12), *range(12)]:
            failure = Failure(f"h{number}", "lost")
            group.create_task(db.run(explanations.note, told(), failure))
    (found,) = await db.read(explanations.find, "s1")
    assert sorted(one.host for one in found.failures) == sorted(f"h{n}" for n in range(12))


async def test_a_server_does_not_fill_the_table_with_failures(db: Database) -> None:
    for number in range(60):
        await db.run(explanations.note, told(failures=()), Failure(f"h{number}", "lost"))
    (found,) = await db.read(explanations.find, "s1")
    assert len(found.failures) == 50


async def test_what_is_old_goes(db: Database) -> None:
    for number in range(4):
        at = NOON + dt.timedelta(hours=number)
        await db.run(explanations.put, told(server_id=f"s{number}", at=at))
    assert await db.run(explanations.prune, before=NOON + dt.timedelta(hours=2)) == 2
    left = await db.read(explanations.find, "req-1")
    assert [one.server_id for one in left] == ["s3", "s2"]
    assert await db.run(explanations.prune, before=NOON) == 0
