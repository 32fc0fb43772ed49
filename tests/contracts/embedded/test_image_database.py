"""The image service on every database engine: schema, lists, sharing, data."""

from __future__ import annotations

from pathlib import Path

from kilonova.db import migrate
from kilonova.db.database import Database
from kilonova.embedded.image.service import MIGRATIONS
from kilonova.embedded.image.tables import META
from tests.support.image import change, make, put, start


def test_migrations_make_exactly_the_tables(database: Database) -> None:
    assert migrate.upgrade(database, MIGRATIONS)
    assert not migrate.upgrade(database, MIGRATIONS)
    assert migrate.differences(database, META) == []


async def test_images_on_every_engine(database_url: str, tmp_path: Path) -> None:
    place = await start(tmp_path, url=database_url)
    made = [await make(place.alice, name=f"i{n}", tags=["t"], kind="x") for n in range(3)]
    again = await place.alice.post("/v2/images", json={"id": made[0]["id"]})
    assert again.status == 409
    assert (await put(place.alice, made[0]["id"], b"data")).status == 204
    operation = {"op": "replace", "path": "/kind", "value": "y"}
    assert (await change(place.alice, made[1]["id"], operation)).json()["kind"] == "y"
    member = {"member": "p-bob"}
    base = f"/v2/images/{made[2]['id']}/members"
    assert (await place.alice.post(base, json=member)).status == 200
    for client, query, wanted in (
        (place.alice, "?sort=size:desc,name:asc", ["i0", "i1", "i2"]),
        (place.alice, f"?sort=size:desc,name:asc&marker={made[0]['id']}", ["i1", "i2"]),
        (place.alice, "?kind=y&tag=t", ["i1"]),
        (place.alice, "?created_at=gte:2020-01-01T00:00:00Z&name=in:i0,i2&sort=name:asc",
         ["i0", "i2"]),
        (place.alice, "?protected=false&sort=name", ["i2", "i1", "i0"]),
        (place.bob, "?member_status=pending", ["i2"]),
    ):  # fmt: skip
        answer = await client.get(f"/v2/images{query}")
        assert [image["name"] for image in answer.json()["images"]] == wanted, query
    assert (await place.alice.delete(f"/v2/images/{made[2]['id']}")).status == 204
    place.images.close()
