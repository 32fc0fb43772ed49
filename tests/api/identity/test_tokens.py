"""Getting, checking and ending tokens."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

import pytest

from kilonova.base.clock import VirtualClock
from kilonova.embedded.identity.keys import rotate
from kilonova.web.testing import Client
from tests.support.identity import PASSWORD, Place, by_password, start

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


async def check(client: Client, subject: str, query: str = "") -> Any:
    """``GET /v3/auth/tokens`` about another token."""
    return await client.get(f"/v3/auth/tokens{query}", headers={"X-Subject-Token": subject})


async def test_versions(place: Place) -> None:
    answer = await place.anonymous.get("/")
    assert answer.status == 300
    (version,) = answer.json()["versions"]["values"]
    assert version["id"].startswith("v3.")
    assert version["links"][0]["href"] == "http://testserver/v3/"
    assert (await place.anonymous.get("/v3/")).json()["version"] == version


async def test_body_of_a_project_token(place: Place) -> None:
    answer = await place.login(by_password("demo", "demo"))
    assert answer.status == 201
    token = answer.json()["token"]
    assert token["methods"] == ["password"]
    assert token["user"]["domain"] == {"id": "default", "name": "Default"}
    assert token["user"]["password_expires_at"] is None
    assert token["project"]["domain"] == {"id": "default", "name": "Default"}
    assert token["is_domain"] is False
    assert [role["name"] for role in token["roles"]] == ["member", "reader"]
    assert TIME.fullmatch(token["issued_at"])
    assert TIME.fullmatch(token["expires_at"])
    assert len(token["audit_ids"]) == 1
    urls = {e["url"] for s in token["catalog"] for e in s["endpoints"]}
    assert f"http://testserver/compute/v2.1/{token['project']['id']}" in urls
    bare = await place.login(by_password("demo", "demo"), query="?nocatalog")
    assert "catalog" not in bare.json()["token"]


async def test_scopes(place: Place) -> None:
    auth = by_password("admin", None)
    assert "roles" not in (await place.login(auth)).json()["token"]
    domain = (await place.login({**auth, "scope": {"domain": {"name": "Default"}}})).json()
    assert domain["token"]["domain"] == {"id": "default", "name": "Default"}
    system = (await place.login({**auth, "scope": {"system": {"all": True}}})).json()["token"]
    assert system["system"] == {"all": True}
    assert system["roles"][0]["name"] == "admin"
    assert "project" not in system
    demo = by_password("demo", None)
    for scope in (
        {"system": {"all": True}},
        {"domain": {"id": "default"}},
        {"project": {"name": "admin", "domain": {"id": "default"}}},
        {"project": {"id": "nowhere"}},
    ):
        assert (await place.login({**demo, "scope": scope})).status == 401
    two = {"system": {"all": True}, "domain": {"id": "default"}}
    assert (await place.login({**auth, "scope": two})).status == 400


@pytest.mark.parametrize(
    ("auth", "status"),
    [
        ({}, 400),
        ({"identity": {}}, 400),
        ({"identity": {"methods": []}}, 400),
        ({"identity": {"methods": ["password"]}}, 400),
        ({"identity": {"methods": ["saml2"], "saml2": {}}}, 401),
        ({"identity": {"methods": ["token"], "token": {"id": "nonsense"}}}, 401),
        (by_password("demo", "demo", "wrong"), 401),
        (by_password("nobody", "demo"), 401),
    ],
)
async def test_refused_logins(place: Place, auth: dict[str, Any], status: int) -> None:
    answer = await place.login(auth)
    assert answer.status == status, answer.text
    assert answer.json()["error"]["code"] == status
    assert PASSWORD not in answer.text


async def test_default_project_is_the_scope_when_none_is_asked(place: Place, admin: Client) -> None:
    project = (await admin.get("/v3/projects?name=demo")).json()["projects"][0]
    user = (await admin.get("/v3/users?name=demo")).json()["users"][0]
    body = {"user": {"default_project_id": project["id"]}}
    assert (await admin.patch(f"/v3/users/{user['id']}", json=body)).status == 200
    auth = by_password("demo", None)
    assert (await place.login(auth)).json()["token"]["project"]["id"] == project["id"]
    unscoped = (await place.login({**auth, "scope": "unscoped"})).json()["token"]
    assert "project" not in unscoped


async def test_rescoping_keeps_the_end_and_the_audit_chain(place: Place) -> None:
    first = await place.login(by_password("demo", None))
    raw = first.headers["X-Subject-Token"]
    identity = {"methods": ["token"], "token": {"id": raw}}
    scope = {"project": {"name": "demo", "domain": {"name": "Default"}}}
    second = (await place.login({"identity": identity, "scope": scope})).json()["token"]
    before = first.json()["token"]
    assert second["expires_at"] == before["expires_at"]
    assert second["audit_ids"][1] == before["audit_ids"][0]
    assert set(second["methods"]) == {"token", "password"}


async def test_validation_and_revocation(place: Place, admin: Client, demo: Client) -> None:
    subject = await place.token("demo", "demo")
    nova = await place.client("nova", "service")
    answer = await check(nova, subject)
    assert answer.status == 200
    assert answer.headers["X-Subject-Token"] == subject
    assert answer.headers["Vary"] == "X-Auth-Token"
    assert "catalog" not in (await check(nova, subject, "?nocatalog")).json()["token"]
    assert (await check(demo, subject)).status == 200
    assert (await check(demo, await place.token("admin", "admin"))).status == 403
    assert (await check(admin, "bad")).status == 404
    assert (await admin.get("/v3/auth/tokens")).status == 400
    head = await admin.head("/v3/auth/tokens", headers={"X-Subject-Token": subject})
    assert (head.status, head.body) == (200, b"")
    gone = await admin.delete("/v3/auth/tokens", headers={"X-Subject-Token": subject})
    assert gone.status == 204
    assert (await check(admin, subject)).status == 404
    assert (await admin.get("/v3/auth/catalog", token=subject)).status == 401


async def test_tokens_end_in_time(tmp_path: Path) -> None:
    clock = VirtualClock(dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    place = await start(tmp_path, clock=clock)
    old = await place.token("demo", "demo")
    await clock.advance(24 * 3600 - 1)
    assert (await place.anonymous.get("/v3/auth/catalog", token=old)).status == 200
    await clock.advance(1)
    assert (await place.anonymous.get("/v3/auth/catalog", token=old)).status == 401
    nova = await place.client("nova", "service")
    assert (await check(nova, old)).status == 404
    assert (await check(nova, old, "?allow_expired=1")).status == 200
    await clock.advance(2 * 24 * 3600)
    nova = await place.client("nova", "service")
    assert (await check(nova, old, "?allow_expired=1")).status == 404
    place.identity.close()


async def test_keys_rotate_and_only_old_ones_end_tokens(place: Place) -> None:
    directory = place.identity.settings.key_dir
    old = await place.token("demo", "demo")
    rotate(directory, keep=2)
    assert (await place.anonymous.get("/v3/auth/catalog", token=old)).status == 200
    place.identity.tokens._known.clear()
    assert (await place.anonymous.get("/v3/auth/catalog", token=old)).status == 200
    rotate(directory, keep=2)
    rotate(directory, keep=2)
    fresh = place.identity.keys.__class__(directory)
    assert fresh.open(old) is None
    assert oct(directory.stat().st_mode)[-3:] == "700"
    assert all(
        oct(file.stat().st_mode)[-3:] == "600" for file in directory.iterdir() if file.is_file()
    )


async def _end(place: Place, admin: Client, how: str, user_id: str, project_id: str) -> None:
    member = (await admin.get("/v3/roles?name=member")).json()["roles"][0]["id"]
    calls: dict[str, tuple[str, str, Any]] = {
        "password": ("PATCH", f"/v3/users/{user_id}", {"user": {"password": "other"}}),
        "disable user": ("PATCH", f"/v3/users/{user_id}", {"user": {"enabled": False}}),
        "delete user": ("DELETE", f"/v3/users/{user_id}", None),
        "disable project": ("PATCH", f"/v3/projects/{project_id}", {"project": {"enabled": False}}),
        "delete project": ("DELETE", f"/v3/projects/{project_id}", None),
        "disable domain": ("PATCH", "/v3/domains/default", {"domain": {"enabled": False}}),
        "take role": ("DELETE", f"/v3/projects/{project_id}/users/{user_id}/roles/{member}", None),
    }
    method, path, body = calls[how]
    assert (await admin.request(method, path, json=body)).status in (200, 204)


@pytest.mark.parametrize(
    "how",
    [
        "password", "disable user", "delete user", "disable project", "delete project",
        "disable domain", "take role",
    ],
)  # fmt: skip
async def test_tokens_end_when_their_ground_goes(
    place: Place, admin: Client, demo: Client, how: str
) -> None:
    token = (await demo.get("/v3/auth/projects")).json()["projects"][0]
    user = (await admin.get("/v3/users?name=demo")).json()["users"][0]
    await _end(place, admin, how, user["id"], token["id"])
    assert (await demo.get("/v3/auth/catalog")).status == 401


async def test_enabling_again_does_not_revive_tokens(
    place: Place, admin: Client, demo: Client
) -> None:
    user = (await admin.get("/v3/users?name=demo")).json()["users"][0]
    for enabled in (False, True):
        body = {"user": {"enabled": enabled}}
        assert (await admin.patch(f"/v3/users/{user['id']}", json=body)).status == 200
    assert (await demo.get("/v3/auth/catalog")).status == 401
    assert await place.token("demo", "demo")
