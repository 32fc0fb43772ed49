"""Domains, projects, users, groups, roles, assignments and the catalog."""

from __future__ import annotations

from typing import Any

from kilonova.web.testing import Client
from tests.support.identity import PASSWORD, Place, by_password


async def make(client: Client, key: str, **given: Any) -> Any:
    """POST one thing; its body."""
    answer = await client.post(f"/v3/{key}s", json={key: given})
    assert answer.status == 201, answer.text
    return answer.json()[key]


async def only(client: Client, path: str, key: str) -> list[str]:
    """The names in a list."""
    answer = await client.get(path)
    assert answer.status == 200, answer.text
    return sorted(item.get("name", item["id"]) for item in answer.json()[key])


async def test_domain_is_disabled_before_it_goes(place: Place, admin: Client) -> None:
    domain = await make(admin, "domain", name="blue", colour="navy")
    assert domain["colour"] == "navy"
    project = await make(admin, "project", name="p", domain_id=domain["id"])
    user = await make(admin, "user", name="u", domain_id=domain["id"], password=PASSWORD)
    path = f"/v3/domains/{domain['id']}"
    assert (await admin.delete(path)).status == 403
    assert (await admin.post("/v3/domains", json={"domain": {"name": "blue"}})).status == 409
    given = {"id": user["id"], "password": PASSWORD}
    auth = {"identity": {"methods": ["password"], "password": {"user": given}}}
    assert (await place.login(auth)).status == 201
    assert (await admin.patch(path, json={"domain": {"enabled": False}})).status == 200
    assert (await place.login(auth)).status == 401
    assert (await admin.delete(path)).status == 204
    for gone in (path, f"/v3/projects/{project['id']}", f"/v3/users/{user['id']}"):
        assert (await admin.get(gone)).status == 404
    assert (await admin.delete("/v3/domains/default")).status == 403


async def test_projects_nest(admin: Client) -> None:
    top = await make(admin, "project", name="top")
    middle = await make(admin, "project", name="middle", parent_id=top["id"])
    leaf = await make(admin, "project", name="leaf", parent_id=middle["id"])
    assert top["parent_id"] == "default"
    path = f"/v3/projects/{leaf['id']}"
    shown = (await admin.get(f"{path}?parents_as_ids")).json()["project"]
    assert shown["parents"] == {middle["id"]: {top["id"]: None}}
    below = (await admin.get(f"/v3/projects/{top['id']}?subtree_as_ids")).json()["project"]
    assert below["subtree"] == {middle["id"]: {leaf["id"]: None}}
    listed = (await admin.get(f"{path}?parents_as_list")).json()["project"]["parents"]
    assert [item["project"]["name"] for item in listed] == ["middle", "top"]
    assert (await admin.delete(f"/v3/projects/{top['id']}")).status == 403
    off = {"project": {"enabled": False}}
    assert (await admin.patch(f"/v3/projects/{top['id']}", json=off)).status == 403
    moved = {"project": {"parent_id": "default"}}
    assert (await admin.patch(path, json=moved)).status == 400
    assert (await admin.get(f"/v3/projects?parent_id={top['id']}")).json()["projects"][0][
        "name"
    ] == "middle"
    assert await only(admin, "/v3/projects?is_domain=true", "projects") == ["Default"]


async def test_project_tags(admin: Client) -> None:
    project = await make(admin, "project", name="tagged", tags=["a"])
    path = f"/v3/projects/{project['id']}/tags"
    assert (await admin.put(f"{path}/b")).status == 201
    assert (await admin.get(path)).json()["tags"] == ["a", "b"]
    assert (await admin.get(f"{path}/b")).status == 204
    assert (await admin.get(f"{path}/c")).status == 404
    assert (await admin.delete(f"{path}/a")).status == 204
    assert await only(admin, "/v3/projects?tags=b", "projects") == ["tagged"]
    assert "tagged" not in await only(admin, "/v3/projects?not-tags=b", "projects")
    assert (await admin.put(path, json={"tags": ["x", "y"]})).json()["tags"] == ["x", "y"]
    assert (await admin.put(path, json={"tags": ["x,y"]})).status == 400
    assert (await admin.delete(path)).status == 204
    assert (await admin.get(path)).json()["tags"] == []


async def test_user_attributes_and_pages(admin: Client) -> None:
    user = await make(admin, "user", name="ann", email="a@example.org", password="p")
    assert user["email"] == "a@example.org"
    assert "password" not in str(user).replace("password_expires_at", "")
    path = f"/v3/users/{user['id']}"
    change = {"user": {"description": "x", "options": {"lock_password": True}}}
    shown = (await admin.patch(path, json=change)).json()["user"]
    assert (shown["description"], shown["email"]) == ("x", "a@example.org")
    assert shown["options"] == {"lock_password": True}
    assert (await admin.patch(path, json={"user": {"domain_id": "other"}})).status == 400
    assert (await admin.patch(path, json={"user": {"name": "demo"}})).status == 409
    assert (await admin.get("/v3/users?limit=0")).status == 400
    names: list[str] = []
    url: str | None = "http://testserver/v3/users?limit=2"
    while url is not None:
        body = (await admin.get(url)).json()
        names += [item["name"] for item in body["users"]]
        url = body["links"]["next"]
    assert sorted(names) == [
        *("admin", "ann", "cinder", "demo", "glance", "neutron", "nova", "placement")
    ]
    assert await only(admin, "/v3/users?enabled=0", "users") == []


async def test_users_see_themselves(admin: Client, demo: Client) -> None:
    mine = (await admin.get("/v3/users?name=demo")).json()["users"][0]["id"]
    other = (await admin.get("/v3/users?name=nova")).json()["users"][0]["id"]
    assert (await demo.get(f"/v3/users/{mine}")).status == 200
    assert await only(demo, f"/v3/users/{mine}/projects", "projects") == ["demo"]
    assert await only(demo, f"/v3/users/{mine}/groups", "groups") == []
    for path in (f"/v3/users/{other}", f"/v3/users/{other}/projects", "/v3/users"):
        assert (await demo.get(path)).status == 403
    project = (await demo.get("/v3/auth/projects")).json()["projects"][0]["id"]
    assert (await demo.get(f"/v3/projects/{project}")).status == 200
    assert (await demo.get("/v3/domains/default")).status == 200


async def test_own_password(place: Place, demo: Client) -> None:
    caller = await place.identity.tokens.authenticate(demo._token or "")
    assert caller is not None
    path = f"/v3/users/{caller.user_id}/password"

    async def change(old: str, new: str) -> int:
        body = {"user": {"original_password": old, "password": new}}
        return (await demo.post(path, json=body)).status

    assert await change("wrong", "new") == 401
    assert await change(PASSWORD, PASSWORD) == 400
    anonymous = {"user": {"original_password": PASSWORD, "password": "new"}}
    assert (await place.anonymous.post(path, json=anonymous)).status == 204
    assert (await place.login(by_password("demo", "demo"))).status == 401
    assert (await place.login(by_password("demo", "demo", "new"))).status == 201


async def test_groups_give_roles(place: Place, admin: Client) -> None:
    group = await make(admin, "group", name="ops")
    user = await make(admin, "user", name="ann", password=PASSWORD)
    project = (await admin.get("/v3/projects?name=demo")).json()["projects"][0]
    role = (await admin.get("/v3/roles?name=member")).json()["roles"][0]
    grant = f"/v3/projects/{project['id']}/groups/{group['id']}/roles"
    assert (await admin.put(f"{grant}/{role['id']}")).status == 204
    assert (await admin.head(f"{grant}/{role['id']}")).status == 204
    assert await only(admin, grant, "roles") == ["member"]
    assert (await place.login(by_password("ann", "demo"))).status == 401
    member = f"/v3/groups/{group['id']}/users/{user['id']}"
    assert (await admin.get(member)).status == 404
    assert (await admin.put(member)).status == 204
    assert (await admin.get(member)).status == 204
    client = await place.client("ann", "demo")
    assert await only(admin, f"/v3/groups/{group['id']}/users", "users") == ["ann"]
    query = f"/v3/role_assignments?effective&user.id={user['id']}&include_names"
    rows = (await admin.get(query)).json()["role_assignments"]
    assert {row["role"]["name"] for row in rows} == {"member", "reader"}
    assert {row["scope"]["project"]["name"] for row in rows} == {"demo"}
    assert rows[0]["user"]["domain"] == {"id": "default", "name": "Default"}
    assert "membership" in rows[0]["links"]
    written = f"/v3/role_assignments?group.id={group['id']}"
    assert len((await admin.get(written)).json()["role_assignments"]) == 1
    assert (await admin.get(f"{written}&effective")).status == 400
    assert (await admin.delete(member)).status == 204
    assert (await client.get("/v3/auth/catalog")).status == 401


async def test_inherited_roles(place: Place, admin: Client) -> None:
    user = await make(admin, "user", name="ann", password=PASSWORD)
    role = (await admin.get("/v3/roles?name=reader")).json()["roles"][0]
    path = (
        f"/v3/OS-INHERIT/domains/default/users/{user['id']}/roles/{role['id']}"
        "/inherited_to_projects"
    )
    assert (await admin.put(path)).status == 204
    assert (await admin.get(path)).status == 204
    token = (await place.login(by_password("ann", "demo"))).json()["token"]
    assert [item["name"] for item in token["roles"]] == ["reader"]
    client = await place.client("ann", "demo")
    assert await only(client, "/v3/auth/projects", "projects") == ["admin", "demo", "service"]
    query = f"/v3/role_assignments?effective&user.id={user['id']}"
    assert len((await admin.get(query)).json()["role_assignments"]) == 3
    assert (await admin.delete(path)).status == 204
    assert (await place.login(by_password("ann", "demo"))).status == 401


async def test_roles_and_what_they_imply(admin: Client) -> None:
    role = await make(admin, "role", name="auditor")
    reader = (await admin.get("/v3/roles?name=reader")).json()["roles"][0]
    top = (await admin.get("/v3/roles?name=admin")).json()["roles"][0]
    path = f"/v3/roles/{role['id']}/implies/{reader['id']}"
    assert (await admin.get(path)).status == 404
    assert (await admin.put(path)).status == 201
    inference = (await admin.get(path)).json()["role_inference"]
    assert inference["implies"]["name"] == "reader"
    assert (await admin.put(f"/v3/roles/{role['id']}/implies/{top['id']}")).status == 403
    inferences = (await admin.get("/v3/role_inferences")).json()["role_inferences"]
    assert len(inferences) == 4
    assert (await admin.delete(path)).status == 204
    assert (await admin.delete(f"/v3/roles/{top['id']}")).status == 403
    assert (await admin.patch(f"/v3/roles/{top['id']}", json={"role": {"name": "x"}})).status == 403
    assert (await admin.delete(f"/v3/roles/{role['id']}")).status == 204


async def test_catalog_rows(admin: Client) -> None:
    service = await make(admin, "service", type="volumev3", name="cinder")
    region = await make(admin, "region", id="Two", description="second")
    url = "http://c/v3/$(project_id)s"
    given = {"service_id": service["id"], "interface": "public", "url": url}
    endpoint = await make(admin, "endpoint", region_id="Two", **given)
    shown = (await admin.get("/v3/auth/catalog")).json()["catalog"]
    assert "volumev3" in {item["type"] for item in shown}
    path = f"/v3/endpoints/{endpoint['id']}"
    assert (await admin.patch(path, json={"endpoint": {"enabled": False}})).status == 200
    shown = (await admin.get("/v3/auth/catalog")).json()["catalog"]
    assert "volumev3" not in {item["type"] for item in shown}
    bad = {"endpoint": {**given, "url": "http://x/$(password)s"}}
    assert (await admin.post("/v3/endpoints", json=bad)).status == 400
    assert (await admin.delete(f"/v3/regions/{region['id']}")).status == 409
    assert (await admin.delete(f"/v3/services/{service['id']}")).status == 204
    assert (await admin.get(path)).status == 404
    assert (await admin.delete(f"/v3/regions/{region['id']}")).status == 204
    child = await make(admin, "region", id="Three", parent_region_id="RegionOne")
    loop = {"region": {"parent_region_id": child["id"]}}
    assert (await admin.patch("/v3/regions/RegionOne", json=loop)).status == 400


async def test_bad_bodies(admin: Client) -> None:
    for path, body in (
        ("/v3/users", {"user": {}}),
        ("/v3/users", {"user": {"name": "x" * 256}}),
        ("/v3/users", {"user": {"name": "x", "enabled": "yes"}}),
        ("/v3/users", {"user": {"name": "x", "id": "y"}}),
        ("/v3/projects", {"project": {"name": ""}}),
        ("/v3/projects", {"project": {"name": "x", "is_domain": True, "domain_id": "default"}}),
        ("/v3/services", {"service": {"name": "x"}}),
        ("/v3/endpoints", {"endpoint": {"service_id": "x", "interface": "odd", "url": "http://x"}}),
        ("/v3/roles", {"role": None}),
        ("/v3/roles", []),
    ):
        answer = await admin.post(path, json=body)
        assert answer.status == 400, (path, body, answer.text)
    assert (
        await admin.post("/v3/projects", json={"project": {"name": "x", "domain_id": "no"}})
    ).status == 404


async def test_a_project_may_be_a_domain(admin: Client) -> None:
    made = await make(admin, "project", name="top", is_domain=True)
    assert (made["is_domain"], made["domain_id"], made["parent_id"]) == (True, None, None)
    assert (await admin.get(f"/v3/domains/{made['id']}")).status == 200
    path = f"/v3/projects/{made['id']}"
    assert (await admin.delete(path)).status == 403
    change = {"project": {"enabled": False, "id": made["id"], "domain_id": None}}
    assert (await admin.patch(path, json=change)).status == 200
    other = {"project": {"id": "other"}}
    assert (await admin.patch(path, json=other)).status == 400
    assert (await admin.delete(path)).status == 204


async def test_roles_of_a_domain_reach_no_token(place: Place, admin: Client) -> None:
    role = await make(admin, "role", name="local", domain_id="default")
    user = await make(admin, "user", name="ann", password=PASSWORD)
    project = (await admin.get("/v3/projects?name=demo")).json()["projects"][0]
    grant = f"/v3/projects/{project['id']}/users/{user['id']}/roles/{role['id']}"
    assert (await admin.put(grant)).status == 204
    query = f"/v3/role_assignments?effective&user.id={user['id']}"
    assert (await admin.get(query)).json()["role_assignments"] == []
    assert (await place.login(by_password("ann", "demo"))).status == 401
    member = (await admin.get("/v3/roles?name=member")).json()["roles"][0]
    backwards = f"/v3/roles/{member['id']}/implies/{role['id']}"
    assert (await admin.put(backwards)).status == 403
    assert (await admin.put(f"/v3/roles/{role['id']}/implies/{member['id']}")).status == 201
    head = await admin.head(f"/v3/roles/{role['id']}/implies/{member['id']}")
    assert head.status == 204
    token = (await place.login(by_password("ann", "demo"))).json()["token"]
    assert [item["name"] for item in token["roles"]] == ["member", "reader"]
    assert await only(admin, "/v3/roles?domain_id=default", "roles") == ["local"]
