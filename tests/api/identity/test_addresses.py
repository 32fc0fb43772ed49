"""Where the identity service answers: at the root, and below ``/identity``."""

from __future__ import annotations

import pytest

from tests.support.identity import PASSWORD, Place


@pytest.mark.parametrize("prefix", ["", "/identity"])
async def test_links_are_as_they_were_asked_for(place: Place, prefix: str) -> None:
    client = place.anonymous
    answer = await client.get(f"{prefix}/v3")
    (link,) = answer.json()["version"]["links"]
    assert link["href"].endswith(f"{prefix}/v3/")
    assert link["href"].count("/identity") == (1 if prefix else 0)
    choices = await client.get(prefix or "/")
    assert choices.status == 300
    assert choices.headers["location"].endswith(f"{prefix}/v3/")


async def test_a_token_from_there_is_a_token_here(place: Place) -> None:
    user = {"name": "admin", "domain": {"id": "default"}, "password": PASSWORD}
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}
    made = await place.anonymous.post("/identity/v3/auth/tokens", json=body)
    assert made.status == 201
    token = made.headers["x-subject-token"]
    headers = {"X-Auth-Token": token, "X-Subject-Token": token}
    seen = await place.anonymous.get("/v3/auth/tokens", headers=headers)
    assert seen.status == 200


async def test_only_whole_words_are_a_prefix(place: Place) -> None:
    assert (await place.anonymous.get("/identityv3")).status == 404
