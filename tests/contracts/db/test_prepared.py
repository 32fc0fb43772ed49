"""A prepared statement gives on every engine what SQLAlchemy gives for the same statement."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from kilonova.db.database import Database, Tx, counted
from kilonova.db.prepared import Prepared
from kilonova.db.types import Instant, Json, blob

META = sa.MetaData()
THINGS = sa.Table(
    "things",
    META,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(50), nullable=False, unique=True),
    sa.Column("size", sa.Integer, default=7),
    sa.Column("words", Json(list[str]), default=lambda: ["made"]),
    sa.Column("good", sa.Boolean, nullable=False, default=True),
    sa.Column("at", Instant),
    sa.Column("raw", blob()),
)
C = THINGS.c
WHEN = dt.datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
ALL: dict[str, Any] = {
    "name": "a",
    "size": 1,
    "words": ["x", "y"],
    "good": False,
    "at": WHEN,
    "raw": b"\0\1",
}

INSERT = Prepared(THINGS.insert())
ONE = Prepared(sa.select(THINGS).where(C.name == sa.bindparam("named")))
NAMED = Prepared(
    sa.select(C.name, C.size)
    .where(C.name.in_(sa.bindparam("names", expanding=True)), C.good == sa.true())
    .order_by(C.name)
)
WITHIN = Prepared(
    sa.select(C.name)
    .where(C.at.in_(sa.bindparam("times", expanding=True)), C.size > sa.bindparam("least"))
    .limit(sa.bindparam("most"))
)
CHANGE = Prepared(THINGS.update().where(C.name == sa.bindparam("named")))
GROW = Prepared(
    THINGS.update().where(C.name == sa.bindparam("named")).values(size=C.size + 1, at=None)
)
DROP = Prepared(THINGS.delete().where(C.name.in_(sa.bindparam("names", expanding=True))))


@pytest.fixture
def ready(database: Database) -> Database:
    database.run_sync(META.create_all)
    return database


def names(tx: Tx) -> list[str]:
    return sorted(tx.execute(sa.select(C.name)).scalars())


def test_every_type_comes_back_as_it_went(ready: Database) -> None:
    def work(tx: Tx) -> None:
        number = INSERT.insert(tx, ALL)
        expected = tuple(tx.execute(sa.select(THINGS)).one())
        assert ONE.first(tx, {"named": "a"}) == expected == (number, *ALL.values())
        assert ONE.all(tx, {"named": "a"}) == [expected]
        assert ONE.dicts(tx, {"named": "a"}) == [{"id": number, **ALL}]
        assert ONE.scalar(tx, {"named": "a"}) == number
        assert ONE.scalars(tx, {"named": "a"}) == [number]
        assert (ONE.first(tx, {"named": "z"}), ONE.scalar(tx, {"named": "z"})) == (None, None)

    ready.run_sync(work)


def test_an_insert_fills_in_the_defaults_of_columns(ready: Database) -> None:
    def work(tx: Tx) -> list[dict[str, Any]]:
        first = INSERT.insert(tx, {"name": "a", "good": False})
        second = INSERT.insert(tx, {"name": "b", "size": None})
        assert second > first
        return ONE.dicts(tx, {"named": "a"}) + ONE.dicts(tx, {"named": "b"})

    a, b = ready.run_sync(work)
    assert (a["size"], a["words"], a["good"], a["at"]) == (7, ["made"], False, None)
    assert (b["size"], b["words"], b["good"]) == (None, ["made"], True)


def test_lists_of_any_length(ready: Database) -> None:
    rows = [{"name": f"n{n:03}", "size": n, "at": WHEN} for n in range(200)]

    def work(tx: Tx) -> None:
        INSERT.many(tx, rows)
        INSERT.many(tx, [])
        for wanted in ([], ["n003"], ["n001", "no", "n002"], [f"n{n:03}" for n in range(150)]):
            found = NAMED.all(tx, {"names": wanted})
            assert found == [(name, int(name[1:])) for name in wanted if name != "no"]
        assert NAMED.scalars(tx, {"names": {"n001"}}) == ["n001"]
        some = WITHIN.all(tx, {"times": (WHEN, WHEN), "least": 100, "most": 5})
        assert len(some) == 5
        assert DROP.run(tx, {"names": ["n000", "n001", "no"]}) == 2

    ready.run_sync(work)
    assert len(ready.run_sync(names)) == 198


def test_an_update_writes_what_it_is_given(ready: Database) -> None:
    def work(tx: Tx) -> None:
        INSERT.run(tx, ALL)
        assert CHANGE.run(tx, {"named": "a", "size": 5, "words": ["z"]}) == 1
        assert CHANGE.run(tx, {"named": "a", "good": True}) == 1
        assert CHANGE.run(tx, {"named": "z", "good": True}) == 0
        assert GROW.run(tx, {"named": "a"}) == 1
        (row,) = ONE.dicts(tx, {"named": "a"})
        assert (row["size"], row["words"], row["good"], row["at"]) == (6, ["z"], True, None)
        assert row["raw"] == ALL["raw"]

    ready.run_sync(work)


def test_errors_are_those_of_sqlalchemy(ready: Database) -> None:
    ready.run_sync(lambda tx: INSERT.run(tx, ALL))

    def again(tx: Tx) -> None:
        INSERT.run(tx, {**ALL, "name": "b"})
        INSERT.run(tx, ALL)

    def list_again(tx: Tx) -> None:
        INSERT.many(tx, [{**ALL, "name": "b"}, ALL])

    for work in (again, list_again):
        with pytest.raises(exc.IntegrityError):
            ready.run_sync(work)
        assert ready.run_sync(names) == ["a"]


def test_it_is_part_of_the_transaction_and_of_its_savepoints(ready: Database) -> None:
    def work(tx: Tx) -> None:
        INSERT.run(tx, ALL)
        with pytest.raises(ValueError, match="inner"), tx.begin_nested():
            INSERT.run(tx, {**ALL, "name": "b"})
            raise ValueError("inner")
        INSERT.run(tx, {**ALL, "name": "c"})

    ready.run_sync(work)
    assert ready.run_sync(names) == ["a", "c"]

    def broken(tx: Tx) -> None:
        INSERT.run(tx, {**ALL, "name": "d"})
        raise ValueError("outer")

    with pytest.raises(ValueError, match="outer"):
        ready.run_sync(broken)
    assert ready.run_sync(names) == ["a", "c"]


async def test_it_is_counted(ready: Database) -> None:
    with counted() as statements:
        await ready.run(lambda tx: INSERT.run(tx, ALL))
        await ready.read(lambda tx: ONE.first(tx, {"named": "a"}))
    assert len(statements) == 2


def test_what_cannot_be_prepared_says_so(ready: Database) -> None:
    numbered = sa.Table(
        "numbered",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("changed", sa.Integer, onupdate=lambda: 1),
        sa.Column("n", sa.Integer),
    )
    if ready.dialect != "sqlite":
        pytest.skip("SQLAlchemy runs it there")
    change = Prepared(numbered.update().where(numbered.c.id == sa.bindparam("b_id")))
    with pytest.raises(TypeError, match="cannot be prepared"):
        ready.run_sync(lambda tx: change.run(tx, {"b_id": 1, "n": 2}))
