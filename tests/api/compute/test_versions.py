"""Version documents, and every version of every kind of answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kilonova.web.testing import Client
from tests.support.cloud import Cloud, body

EDGES = (
    1, 2, 3, 7, 9, 10, 11, 16, 19, 21, 26, 28, 33, 35, 37, 38, 47, 51, 53, 55, 58, 61, 62, 63, 66,
    69, 71, 73, 75, 83, 84, 88, 90, 91, 92, 96, 98, 100, 102, 104,
)  # fmt: skip


async def test_documents(cloud: Cloud) -> None:
    nobody = Client(cloud.app)
    root = await nobody.get("/")
    assert root.status == 200
    assert [(v["id"], v["status"]) for v in root.json()["versions"]] == [
        ("v2.0", "SUPPORTED"),
        ("v2.1", "CURRENT"),
    ]
    assert root.json()["versions"][1]["version"] == "2.104"
    assert root.json()["versions"][1]["links"][0]["href"] == "http://testserver/v2.1/"
    home = await nobody.get("/v2.1/")
    assert home.json()["version"]["min_version"] == "2.1"
    assert (await nobody.get("/v2.1")).json() == home.json()
    lost = await nobody.get("/servers")
    assert lost.status == 300
    assert lost.json()["choices"][1]["links"][0]["href"] == "http://testserver/v2.1/servers"
    assert (await nobody.get("/v2.1/servers")).status == 401
    assert (await nobody.get("/v2.1/nothing")).status == 401
    assert (await cloud.client().get("/v2.1/nothing")).status == 404
    # An empty id must not be taken for the list.
    assert (await cloud.client().get("/v2.1/servers/")).status == 404
    assert (await cloud.client().get("/v2.1/servers", version="2.105")).status == 406
    assert (await cloud.client().get("/v2.1/servers", version="2.x")).status == 400


async def test_old_names(cloud: Cloud) -> None:
    client = cloud.client(version="2.104")
    project = "6f70656e737461636b20342065766572"
    for root in ("/v2", f"/v2/{project}", f"/v2.1/{project}"):
        assert (await client.get(f"{root}/servers", version="2.1")).status == 200
    assert (await client.get("/v2.1/other/servers")).status == 400
    made = await client.post("/v2/servers", json=body(nonsense=1))
    assert made.status == 202


@pytest.fixture(scope="module")
def shared() -> Iterator[Cloud]:
    """One cloud for all versions: every conversation cleans up behind itself."""
    made = Cloud()
    yield made
    made.close()


@pytest.mark.parametrize("version", EDGES)
async def test_every_version(shared: Cloud, version: int) -> None:
    cloud = shared
    admin = cloud.client("admin", f"2.{version}")
    member = cloud.client("member", f"2.{version}")

    async def ok(client: Client, method: str, path: str, **more: Any) -> Any:
        answer = await client.request(method, f"/v2.1{path}", **more)
        assert answer.status < 400, (path, answer.status, answer.text)
        return answer.json() if answer.body else None

    networks = {"networks": "none"} if version >= 37 else {}
    made = await ok(member, "POST", "/servers", json=body(metadata={"a": "b"}, **networks))
    sid = made["server"]["id"]
    bad = (await ok(member, "POST", "/servers", json=body(**networks)))["server"]["id"]
    await ok(member, "GET", f"/servers/{sid}")
    await ok(member, "GET", f"/servers/{sid}/os-instance-actions")
    cloud.run(sid)
    cloud.fail(bad, "no host")
    for client in (admin, member):
        for path in (
            "/servers",
            "/servers/detail",
            "/servers?limit=1",
            f"/servers/{sid}",
            f"/servers/{bad}",
            f"/servers/{sid}/ips",
            f"/servers/{sid}/ips/private",
            f"/servers/{sid}/metadata",
            f"/servers/{sid}/metadata/a",
            f"/servers/{sid}/os-instance-actions",
            "/flavors",
            "/flavors/detail",
            "/flavors/1",
            "/flavors/1/os-extra_specs",
            "/os-keypairs",
            "/limits",
            "/os-availability-zone",
            "/extensions",
            "/extensions/os-keypairs",
        ):
            await ok(client, "GET", path)
    await ok(member, "PUT", f"/servers/{sid}", json={"server": {"name": "x"}})
    await ok(member, "POST", f"/servers/{sid}/metadata", json={"metadata": {"c": "d"}})
    await ok(member, "PUT", f"/servers/{sid}/metadata/c", json={"meta": {"c": "e"}})
    await ok(member, "PUT", f"/servers/{sid}/metadata", json={"metadata": {"x": "y"}})
    await ok(member, "DELETE", f"/servers/{sid}/metadata/x")
    if version >= 26:
        await ok(member, "PUT", f"/servers/{sid}/tags", json={"tags": ["a", "b"]})
        await ok(member, "PUT", f"/servers/{sid}/tags/c")
        await ok(member, "PUT", f"/servers/{sid}/tags/c")
        await ok(member, "GET", f"/servers/{sid}/tags")
        await ok(member, "GET", f"/servers/{sid}/tags/c")
        await ok(member, "DELETE", f"/servers/{sid}/tags/c")
        await ok(member, "DELETE", f"/servers/{sid}/tags")
    else:
        assert (await member.get(f"/v2.1/servers/{sid}/tags")).status == 404
    await ok(member, "POST", f"/servers/{sid}/action", json={"lock": None})
    await ok(member, "GET", f"/servers/{sid}")
    await ok(member, "POST", f"/servers/{sid}/action", json={"unlock": None})
    await ok(admin, "POST", f"/servers/{sid}/action", json={"os-resetState": {"state": "error"}})
    await ok(admin, "POST", f"/servers/{sid}/action", json={"os-resetState": {"state": "active"}})
    await ok(member, "POST", f"/servers/{sid}/action", json={"reboot": {"type": "SOFT"}})
    cloud.end_sagas()
    actions = await ok(member, "GET", f"/servers/{sid}/os-instance-actions")
    for action in actions["instanceActions"]:
        for client in (admin, member):
            path = f"/servers/{sid}/os-instance-actions/{action['request_id']}"
            await ok(client, "GET", path)
    await _flavors(ok, admin, version)
    await _keys(ok, member, version)
    await _hosts(ok, admin, version)
    await ok(member, "DELETE", f"/servers/{sid}")
    cloud.delete(sid)
    cloud.delete(bad)
    gone = await member.get(f"/v2.1/servers/{sid}/os-instance-actions")
    assert gone.status == (200 if version >= 21 else 404)
    await ok(admin, "GET", "/servers/detail?deleted=true")


async def _flavors(ok: Any, admin: Client, version: int) -> None:
    flavor = {
        "name": "new",
        "ram": 64,
        "vcpus": 1,
        "disk": 0,
        "id": "auto",
        "os-flavor-access:is_public": False,
    }
    made = (await ok(admin, "POST", "/flavors", json={"flavor": flavor}))["flavor"]["id"]
    path = f"/flavors/{made}"
    await ok(admin, "GET", path)
    await ok(admin, "POST", f"{path}/os-extra_specs", json={"extra_specs": {"a": "b"}})
    await ok(admin, "PUT", f"{path}/os-extra_specs/a", json={"a": "c"})
    await ok(admin, "GET", f"{path}/os-extra_specs/a")
    await ok(admin, "GET", "/flavors/detail?is_public=None")
    await ok(admin, "DELETE", f"{path}/os-extra_specs/a")
    await ok(admin, "POST", f"{path}/action", json={"addTenantAccess": {"tenant": "t"}})
    await ok(admin, "GET", f"{path}/os-flavor-access")
    await ok(admin, "POST", f"{path}/action", json={"removeTenantAccess": {"tenant": "t"}})
    if version >= 55:
        await ok(admin, "PUT", path, json={"flavor": {"description": "d"}})
    await ok(admin, "DELETE", path)


async def _keys(ok: Any, member: Client, version: int) -> None:
    public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
    await ok(
        member, "POST", "/os-keypairs", json={"keypair": {"name": "k 1", "public_key": public}}
    )
    if version < 92:
        for kind in ("ssh", "x509") if version in (2, 91) else ("ssh",):
            key = {"name": kind, **({"type": kind} if version >= 2 else {})}
            made = await ok(member, "POST", "/os-keypairs", json={"keypair": key})
            assert "PRIVATE KEY" in made["keypair"]["private_key"]
            await ok(member, "DELETE", f"/os-keypairs/{kind}")
    await ok(member, "GET", "/os-keypairs")
    await ok(member, "GET", "/os-keypairs/k%201")
    await ok(member, "DELETE", "/os-keypairs/k%201")


async def _hosts(ok: Any, admin: Client, version: int) -> None:
    await ok(admin, "GET", "/os-availability-zone/detail")
    listed = (await ok(admin, "GET", "/os-services"))["services"]
    compute = next(s for s in listed if s["binary"] == "nova-compute")
    if version >= 53:
        path = f"/os-services/{compute['id']}"
        await ok(admin, "PUT", path, json={"status": "disabled", "disabled_reason": "r"})
        await ok(admin, "PUT", path, json={"status": "enabled", "forced_down": False})
    else:
        named = {"host": "h1", "binary": "nova-compute"}
        await ok(admin, "PUT", "/os-services/disable", json=named)
        await ok(admin, "PUT", "/os-services/enable", json=named)
        await ok(
            admin,
            "PUT",
            "/os-services/disable-log-reason",
            json={**named, "disabled_reason": "r"},
        )
        if version >= 11:
            await ok(admin, "PUT", "/os-services/force-down", json={**named, "forced_down": False})
    found = (await ok(admin, "GET", "/os-hypervisors"))["hypervisors"]
    await ok(admin, "GET", "/os-hypervisors/detail")
    await ok(admin, "GET", f"/os-hypervisors/{found[0]['id']}")
    if version >= 53:
        await ok(admin, "GET", "/os-hypervisors/detail?with_servers=true")
    else:
        await ok(admin, "GET", "/os-hypervisors/n1/search")
        await ok(admin, "GET", "/os-hypervisors/n1/servers")
    if version < 88:
        await ok(admin, "GET", f"/os-hypervisors/{found[0]['id']}/uptime")
        await ok(admin, "GET", "/os-hypervisors/statistics")
