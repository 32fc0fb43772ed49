"""Application credentials from making to ending them."""

from __future__ import annotations

from typing import Any

from kilonova.web.testing import Client
from tests.support.identity import Place


async def own_id(client: Client, place: Place) -> str:
    """The user id of a client."""
    caller = await place.identity.tokens.authenticate(client._token or "")
    assert caller is not None
    return caller.user_id


async def make(client: Client, user_id: str, **given: Any) -> Any:
    """Create one named ``ci``."""
    body = {"application_credential": {"name": "ci", **given}}
    return await client.post(f"/v3/users/{user_id}/application_credentials", json=body)


def login(item: dict[str, Any]) -> dict[str, Any]:
    """The ``auth`` object for a credential."""
    given = {"id": item["id"], "secret": item["secret"]}
    return {"identity": {"methods": ["application_credential"], "application_credential": given}}


async def test_life(place: Place, demo: Client) -> None:
    user_id = await own_id(demo, place)
    answer = await make(demo, user_id, roles=[{"name": "reader"}])
    assert answer.status == 201, answer.text
    item = answer.json()["application_credential"]
    assert (await make(demo, user_id)).status == 409
    issued = await place.login(login(item))
    token = issued.json()["token"]
    assert token["methods"] == ["application_credential"]
    assert [role["name"] for role in token["roles"]] == ["reader"]
    assert token["application_credential"]["restricted"] is True
    by_name = {"name": "ci", "secret": item["secret"], "user": {"id": user_id}}
    auth = {"identity": {"methods": ["application_credential"], "application_credential": by_name}}
    assert (await place.login(auth)).status == 201
    assert (await place.login({**auth, "scope": {"system": {"all": True}}})).status == 401
    base = f"/v3/users/{user_id}/application_credentials"
    listed = (await demo.get(base)).json()["application_credentials"]
    assert [one["id"] for one in listed] == [item["id"]]
    assert "secret" not in listed[0]
    restricted = place.anonymous.with_(token=issued.headers["X-Subject-Token"])
    assert (await restricted.get(f"{base}/{item['id']}")).status == 200
    assert (await make(restricted, user_id, name="more")).status == 403
    assert (await restricted.delete(f"{base}/{item['id']}")).status == 403
    assert (await demo.delete(f"{base}/{item['id']}")).status == 204
    assert (await restricted.get("/v3/auth/catalog")).status == 401
    assert (await place.login(login(item))).status == 401


async def test_refusals(place: Place, admin: Client, demo: Client) -> None:
    user_id = await own_id(demo, place)
    for given in (
        {"roles": [{"name": "admin"}]},
        {"expires_at": "2001-01-01T00:00:00"},
        {"expires_at": "soon"},
        {"access_rules": [{"path": "/v2.1/servers", "method": "GET", "service": "compute"}]},
        {"project_id": "0123456789abcdef0123456789abcdef"},
        {"name": ""},
    ):
        assert (await make(demo, user_id, **given)).status == 400, given
    assert (await make(admin, user_id)).status == 403


async def test_credential_ends_with_the_role(place: Place, admin: Client, demo: Client) -> None:
    user_id = await own_id(demo, place)
    item = (await make(demo, user_id)).json()["application_credential"]
    issued = await place.login(login(item))
    client = place.anonymous.with_(token=issued.headers["X-Subject-Token"])
    role = (await admin.get("/v3/roles?name=member")).json()["roles"][0]["id"]
    path = f"/v3/projects/{item['project_id']}/users/{user_id}/roles/{role}"
    assert (await admin.delete(path)).status == 204
    assert (await client.get("/v3/auth/catalog")).status == 401
    assert (await place.login(login(item))).status == 401
