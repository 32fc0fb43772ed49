"""The block storage service on every database engine: schema, and requests that are repeated."""

from __future__ import annotations

from pathlib import Path

from kilonova.db import migrate
from kilonova.db.database import Database
from kilonova.embedded.volume.service import MIGRATIONS
from kilonova.embedded.volume.tables import META
from tests.support.volume import good, start


def test_migrations_make_exactly_the_tables(database: Database) -> None:
    assert migrate.upgrade(database, MIGRATIONS)
    assert not migrate.upgrade(database, MIGRATIONS)
    assert migrate.differences(database, META) == []


async def test_a_repeated_request_makes_one_volume(database_url: str, tmp_path: Path) -> None:
    place = await start(tmp_path, url=database_url)
    headers = {"Idempotency-Key": "the-same"}
    body = {"volume": {"size": 1, "name": "one"}}
    answers = [
        good(await place.alice.post("/v3/volumes", json=body, headers=headers), 202)
        for _ in range(2)
    ]
    assert answers[0] == answers[1]
    other = {"volume": {"size": 2, "name": "one"}}
    refused = await place.alice.post("/v3/volumes", json=other, headers=headers)
    assert refused.status == 409
    good(await place.bob.post("/v3/volumes", json=other, headers=headers), 202)
    await place.done()
    for client in (place.alice, place.bob):
        assert len(good(await client.get("/v3/volumes"))["volumes"]) == 1
    key = answers[0]["volume"]["id"]
    snapshot = {"snapshot": {"volume_id": key}}
    headers = {"Idempotency-Key": "another"}
    made = [
        good(await place.alice.post("/v3/snapshots", json=snapshot, headers=headers), 202)
        for _ in range(2)
    ]
    assert made[0] == made[1]
    await place.volumes.close()
