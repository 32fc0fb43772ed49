"""Every list of the identity service asks its database as often for many things as for few."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kilonova.embedded.identity.service import API
from kilonova.web.testing import Client
from tests.support.counting import costs, same, unlisted
from tests.support.identity import start

FEW, MANY = 2, 20
LISTS = (
    "/auth/catalog",
    "/auth/projects",
    "/auth/domains",
    "/domains",
    "/projects",
    "/projects/{project_id}/tags",
    "/users",
    "/users/{user_id}/groups",
    "/users/{user_id}/projects",
    "/groups",
    "/groups/{group_id}/users",
    "/roles",
    "/roles/{prior_id}/implies",
    "/role_inferences",
    "/system/users/{actor_id}/roles",
    "/projects/{target_id}/users/{actor_id}/roles",
    "/role_assignments",
    "/regions",
    "/services",
    "/endpoints",
    "/users/{user_id}/application_credentials",
    "/credentials",
    "/users/{user_id}/credentials/OS-EC2",
    "/registered_limits",
    "/limits",
)
MORE = (
    "/role_assignments?include_names=true",
    "/role_assignments?effective=true",
    "/users/{user_id}",
    "/projects/{project_id}",
    "/projects/{project_id}?parents_as_list&subtree_as_list",
    "/projects?tags=t1",
)
# One thing each, or served by the same handler as one of the lists.
SINGLE = {
    "",
    "/auth/tokens",
    "/auth/system",
    "/limits/model",
    "/ext/openapi.json",
    "/OS-INHERIT/projects/{target_id}/users/{actor_id}/roles/inherited_to_projects",
    "/OS-INHERIT/projects/{target_id}/users/{actor_id}/roles/{role_id}/inherited_to_projects",
    "/domains/{target_id}/users/{actor_id}/roles",
    "/OS-INHERIT/domains/{target_id}/users/{actor_id}/roles/inherited_to_projects",
    "/OS-INHERIT/domains/{target_id}/users/{actor_id}/roles/{role_id}/inherited_to_projects",
    "/system/groups/{actor_id}/roles",
    "/projects/{target_id}/groups/{actor_id}/roles",
    "/OS-INHERIT/projects/{target_id}/groups/{actor_id}/roles/inherited_to_projects",
    "/OS-INHERIT/projects/{target_id}/groups/{actor_id}/roles/{role_id}/inherited_to_projects",
    "/domains/{target_id}/groups/{actor_id}/roles",
    "/OS-INHERIT/domains/{target_id}/groups/{actor_id}/roles/inherited_to_projects",
    "/OS-INHERIT/domains/{target_id}/groups/{actor_id}/roles/{role_id}/inherited_to_projects",
}


def test_no_list_is_forgotten() -> None:
    assert unlisted(API, LISTS, SINGLE) == set()


async def fill(client: Client, count: int) -> dict[str, str]:
    """``count`` of everything; the names paths need."""

    async def make(path: str, **given: Any) -> str:
        key = path.rpartition("/")[2].removesuffix("s").replace("regione", "region")
        if key in {"registered_limit", "limit"}:
            answer = await client.post(f"/v3{path}", json={f"{key}s": [given]})
            assert answer.status == 201, answer.text
            return ""
        answer = await client.post(f"/v3{path}", json={key: given})
        assert answer.status == 201, (path, answer.text)
        return str(answer.json()[key]["id"])

    async def put(path: str) -> None:
        answer = await client.put(f"/v3{path}")
        assert answer.status in (200, 201, 204), (path, answer.text)

    token = await client.get("/v3/auth/tokens", headers={"X-Subject-Token": client._token or ""})
    me = token.json()["token"]["user"]["id"]
    names = {"user_id": me, "actor_id": me}
    project = group = prior = ""
    for number in range(count):
        domain = await make("/domains", name=f"d{number}")
        tags = [f"t{n}" for n in range(count)]
        project = await make("/projects", name=f"p{number}", tags=tags)
        user = await make("/users", name=f"u{number}", password="x" * 12)
        group = group or await make("/groups", name="g")
        own = await make("/groups", name=f"g{number}")
        role = await make("/roles", name=f"r{number}")
        prior = prior or await make("/roles", name="prior")
        await put(f"/groups/{group}/users/{user}")
        await put(f"/groups/{own}/users/{me}")
        await put(f"/roles/{prior}/implies/{role}")
        await put(f"/projects/{project}/users/{me}/roles/{role}")
        names["target_id"] = names.get("target_id", project)
        if project != names["target_id"]:
            await put(f"/projects/{names['target_id']}/users/{me}/roles/{role}")
        await put(f"/system/users/{me}/roles/{role}")
        await put(f"/domains/{domain}/users/{me}/roles/{role}")
        region = await make("/regions", description="x")
        service = await make("/services", type=f"s{number}", name="x")
        await make(
            "/endpoints", service_id=service, interface="public", url="http://x", region_id=region
        )
        await make("/credentials", type="other", blob="{}", user_id=me)
        await make(f"/users/{me}/application_credentials", name=f"a{number}")
        limit = {"service_id": service, "resource_name": f"n{number}"}
        await make("/registered_limits", default_limit=1, **limit)
        await make("/limits", project_id=project, resource_limit=2, **limit)
        ec2 = await client.post(f"/v3/users/{me}/credentials/OS-EC2", json={"tenant_id": project})
        assert ec2.status == 201, ec2.text
    return {**names, "project_id": project, "group_id": group, "prior_id": prior}


@pytest.mark.timeout(300)
async def test_many_cost_what_few_cost(tmp_path: Path) -> None:
    found = []
    for count in (FEW, MANY):
        (tmp_path / str(count)).mkdir()
        place = await start(tmp_path / str(count))
        client = await place.client("admin", "admin")
        names = await fill(client, count)
        paths = [f"/v3{path}" for path in (*LISTS, *MORE)]
        found.append(await costs(client, paths, names))
        place.identity.close()
    (few, _), (many, lengths) = found
    assert same(few, many) == {}
    assert {path for path in many if lengths[path] < MANY and path[3:] in LISTS} == set()
