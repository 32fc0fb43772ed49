"""The identity service on every database engine: schema, restart, changes, filters."""

from __future__ import annotations

from pathlib import Path

from kilonova.db import migrate
from kilonova.db.database import Database
from kilonova.embedded.identity.service import MIGRATIONS
from kilonova.embedded.identity.tables import META
from tests.support.identity import PASSWORD, start


def test_migrations_make_exactly_the_tables(database: Database) -> None:
    assert migrate.upgrade(database, MIGRATIONS)
    assert not migrate.upgrade(database, MIGRATIONS)
    assert migrate.differences(database, META) == []


async def test_tokens_survive_a_restart_and_end_with_their_grounds(
    database_url: str, tmp_path: Path
) -> None:
    place = await start(tmp_path, url=database_url)
    token = await place.token("demo", "demo")
    place.identity.close()

    place = await start(tmp_path, url=database_url)
    demo = place.anonymous.with_(token=token)
    assert (await demo.get("/v3/auth/projects")).json()["projects"][0]["name"] == "demo"
    admin = await place.client("admin", "admin")
    found = (await admin.get("/v3/users", params={"name__istartswith": "DE"})).json()["users"]
    assert [user["name"] for user in found] == ["demo"]
    tags = {"project": {"name": "tagged", "tags": ["a", "b"]}}
    assert (await admin.post("/v3/projects", json=tags)).status == 201
    for query, names in (("tags=a,b", ["tagged"]), ("not-tags-any=b&name=tagged", [])):
        answer = await admin.get(f"/v3/projects?{query}")
        assert [project["name"] for project in answer.json()["projects"]] == names
    assert (await admin.post("/v3/projects", json=tags)).status == 409
    change = {"user": {"original_password": PASSWORD, "password": "new"}}
    assert (await demo.post(f"/v3/users/{found[0]['id']}/password", json=change)).status == 204
    assert (await demo.get("/v3/auth/projects")).status == 401
    assert await place.token("demo", "demo", "new")
    place.identity.close()
