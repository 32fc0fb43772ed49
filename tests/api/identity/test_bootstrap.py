"""The first content of the identity service at a later start."""

from __future__ import annotations

from pathlib import Path

from kilonova.embedded.identity.store import rows
from tests.support.identity import PASSWORD, Place, start


async def revision(place: Place) -> int:
    return await place.identity.db.read(rows.revision)


async def test_where_nothing_changed_nothing_is_written(tmp_path: Path) -> None:
    first = await start(tmp_path)
    before = await revision(first)
    first.identity.close()
    again = await start(tmp_path)
    assert await revision(again) == before
    assert await again.token("admin", "admin")
    again.identity.close()


async def test_what_is_missing_comes_back(tmp_path: Path) -> None:
    first = await start(tmp_path)
    admin = await first.client("admin", "admin")
    endpoints = (await admin.get("/v3/endpoints")).json()["endpoints"]
    assert (await admin.delete(f"/v3/endpoints/{endpoints[0]['id']}")).status == 204
    first.identity.close()
    again = await start(tmp_path)
    admin = await again.client("admin", "admin")
    assert len((await admin.get("/v3/endpoints")).json()["endpoints"]) == len(endpoints)
    again.identity.close()


async def test_a_password_somebody_changed_is_the_given_one_again(tmp_path: Path) -> None:
    first = await start(tmp_path)
    admin = await first.client("admin", "admin")
    users = (await admin.get("/v3/users?name=demo")).json()["users"]
    body = {"user": {"password": "another battery"}}
    assert (await admin.patch(f"/v3/users/{users[0]['id']}", json=body)).status == 200
    first.identity.close()
    again = await start(tmp_path)
    assert await again.token("demo", "demo")
    again.identity.close()


async def test_the_note_is_worth_nothing_under_another_key(tmp_path: Path) -> None:
    first = await start(tmp_path)
    note = tmp_path / "keys" / "bootstrapped"
    assert PASSWORD not in note.read_text()
    before = await revision(first)
    first.identity.close()
    (tmp_path / "keys" / "0").unlink()
    again = await start(tmp_path)
    assert await revision(again) == before + 1
    again.identity.close()


async def test_another_address_is_taken_over(tmp_path: Path) -> None:
    (await start(tmp_path)).identity.close()
    url = "http://elsewhere/v3"
    again = await start(tmp_path, endpoints=[("identity", "keystone", url)])
    admin = await again.client("admin", "admin")
    found = (await admin.get("/v3/endpoints")).json()["endpoints"]
    assert {item["url"] for item in found if item["url"].endswith("/v3")} == {url}
    again.identity.close()
