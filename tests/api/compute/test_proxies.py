"""What this API once passed to its neighbours: images, networks, floating IPs; and old hosts."""

from __future__ import annotations

from typing import Any

import pytest

from kilonova.base.errors import Conflict, NotSupported
from kilonova.web.client import Answer
from tests.support.agents import FakeAgent
from tests.support.cloud import IMAGE, NETWORK, PORT, PROJECT, Cloud, body

OTHER_IMAGE = "70a599e0-31e7-49b7-b260-000000000002"
SERVER = "5f2a9b1c-0000-4000-8000-000000000001"
PUBLIC = "22222222-0000-4000-8000-00000000000e"
FLOATING = "99999999-0000-4000-8000-000000000001"


def need(answer: Answer, status: int = 200) -> Any:
    assert answer.status == status, (answer.status, answer.text)
    return answer.json() if answer.body else None


# --- images -----------------------------------------------------------------------------------


async def test_images(cloud: Cloud) -> None:
    client = cloud.client("member", "2.35")
    cloud.image_documents.put(IMAGE, auto_disk_config="True", os_distro="debian")
    cloud.image_documents.put(OTHER_IMAGE, status="saving", instance_uuid=SERVER, protected=True)
    first, second = need(await client.get("/v2.1/images"))["images"]
    assert (first["id"], first["name"], set(first)) == (IMAGE, "tiny", {"id", "name", "links"})
    assert [link["rel"] for link in first["links"]] == ["self", "bookmark", "alternate"]
    assert first["links"][2]["href"] == f"http://images/images/{IMAGE}"
    full = need(await client.get("/v2.1/images/detail"))["images"]
    assert (full[0]["OS-DCF:diskConfig"], full[0]["progress"]) == ("AUTO", 100)
    assert full[0]["metadata"] == {"auto_disk_config": "True", "os_distro": "debian"}
    assert (full[1]["status"], full[1]["server"]["id"]) == ("SAVING", SERVER)
    assert need(await client.get(f"/v2.1/images/{IMAGE}"))["image"] == full[0]
    assert second["id"] == OTHER_IMAGE
    assert (await client.get(f"/v2.1/images/{SERVER}")).status == 404
    assert (await client.delete(f"/v2.1/images/{OTHER_IMAGE}")).status == 403
    need(await client.delete(f"/v2.1/images/{IMAGE}"), 204)
    assert (await client.delete(f"/v2.1/images/{IMAGE}")).status == 404
    for path in ("", "/detail", f"/{IMAGE}"):
        assert (await client.get(f"/v2.1/images{path}", version="2.36")).status == 404


async def test_images_filtered_and_in_pages(cloud: Cloud) -> None:
    client = cloud.client("member", "2.1")
    for number in range(3):
        cloud.image_documents.put(f"{IMAGE[:-1]}{number}")
    page = need(await client.get("/v2.1/images?limit=2"))
    assert len(page["images"]) == 2
    assert f"marker={IMAGE[:-1]}1" in page["images_links"][0]["href"]
    query = "name=a&status=SAVING&minRam=5&server=http%3A%2F%2Fx/servers/s1&type=snapshot"
    need(
        await client.get(
            f"/v2.1/images/detail?{query}&property-k=v&changes-since=2026-01-01T00:00:00Z"
        )
    )
    assert cloud.image_documents.asked[-1] == {
        "name": "a",
        "status": "saving",
        "min_ram": "5",
        "instance_uuid": "s1",
        "image_type": "snapshot",
        "k": "v",
        "updated_at": "gte:2026-01-01T00:00:00Z",
        "limit": 1000,
    }
    for wrong in ("limit=0", "limit=x", "marker=nothing"):
        assert (await client.get(f"/v2.1/images?{wrong}")).status == 400


async def test_image_metadata(cloud: Cloud) -> None:
    client = cloud.client("member", "2.38")
    cloud.image_documents.put(IMAGE, a="1", b="2")
    path = f"/v2.1/images/{IMAGE}/metadata"
    assert need(await client.get(path)) == {"metadata": {"a": "1", "b": "2"}}
    assert need(await client.get(f"{path}/a")) == {"meta": {"a": "1"}}
    assert (await client.get(f"{path}/c")).status == 404
    added = need(await client.post(path, json={"metadata": {"b": "3", "c": "4"}}))
    assert added == {"metadata": {"a": "1", "b": "3", "c": "4"}}
    assert need(await client.put(f"{path}/d", json={"meta": {"d": "5"}})) == {"meta": {"d": "5"}}
    assert (await client.put(f"{path}/d", json={"meta": {"e": "5"}})).status == 400
    assert (await client.put(f"{path}/d", json={"meta": {"d": "5", "e": "6"}})).status == 400
    need(await client.delete(f"{path}/d"), 204)
    assert (await client.delete(f"{path}/d")).status == 404
    assert need(await client.put(path, json={"metadata": {"z": "9"}})) == {"metadata": {"z": "9"}}
    many = {str(number): "x" for number in range(129)}
    assert (await client.put(path, json={"metadata": many})).status == 403
    assert (await client.post(path, json={"metadata": {"a": 1}})).status == 400
    assert (await client.get(f"/v2.1/images/{SERVER}/metadata")).status == 404
    assert (await client.get(path, version="2.39")).status == 404


# --- networks ---------------------------------------------------------------------------------


def give_networks(cloud: Cloud) -> None:
    put = cloud.documents.put
    put("networks", {"id": NETWORK, "name": "private", "tenant_id": PROJECT, "mtu": 1450})
    put("networks", {"id": PUBLIC, "name": "public", "router:external": True, "shared": True})


async def test_networks(cloud: Cloud) -> None:
    client, admin = cloud.client("member", "2.35"), cloud.client("admin", "2.35")
    give_networks(cloud)
    first, second = need(await client.get("/v2.1/os-networks"))["networks"]
    assert (first["id"], first["label"], first["cidr"]) == (NETWORK, "private", None)
    assert (second["label"], "bridge" in first) == ("public", False)
    seen = need(await admin.get(f"/v2.1/os-networks/{NETWORK}"))["network"]
    assert (seen["mtu"], seen["project_id"], seen["bridge"]) == (1450, PROJECT, None)
    assert need(await client.get(f"/v2.1/os-tenant-networks/{NETWORK}"))["network"] == {
        "id": NETWORK,
        "cidr": "None",
        "label": "private",
    }
    assert len(need(await client.get("/v2.1/os-tenant-networks"))["networks"]) == 2
    for root in ("os-networks", "os-tenant-networks"):
        assert (await client.get(f"/v2.1/{root}/{SERVER}")).status == 404
        assert (await client.get(f"/v2.1/{root}", version="2.36")).status == 404


async def test_floating_ips(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    client = cloud.client("member", "2.35")
    give_networks(cloud)
    pools = need(await client.get("/v2.1/os-floating-ip-pools"))
    assert pools == {"floating_ip_pools": [{"name": "public"}]}
    root = "/v2.1/os-floating-ips"
    assert need(await client.get(root)) == {"floating_ips": []}
    cloud.documents.put("ports", {"id": PORT, "device_id": SERVER})
    row = {
        "id": FLOATING,
        "floating_ip_address": "172.24.4.20",
        "fixed_ip_address": "10.0.0.5",
        "floating_network_id": PUBLIC,
        "port_id": PORT,
        "tenant_id": PROJECT,
    }
    cloud.documents.put("floatingips", row)
    expected = {
        "id": FLOATING,
        "ip": "172.24.4.20",
        "fixed_ip": "10.0.0.5",
        "instance_id": SERVER,
        "pool": "public",
    }
    assert need(await client.get(root)) == {"floating_ips": [expected]}
    assert need(await client.get(f"{root}/{FLOATING}")) == {"floating_ip": expected}
    assert (await client.post(root, json={"pool": "nopool"})).status == 404
    assert (await client.post(root, json={})).status == 404
    assert (await client.post(root, json={"pool": 1})).status == 400

    async def create(kind: str, values: dict[str, Any], *, token: str | None) -> dict[str, Any]:
        assert values == {"floating_network_id": PUBLIC, "tenant_id": PROJECT}
        return {**row, "port_id": None, "fixed_ip_address": None}

    monkeypatch.setattr(cloud.documents, "create", create)
    made = need(await client.post(root, json={"pool": "public"}))["floating_ip"]
    assert (made["instance_id"], made["fixed_ip"]) == (None, None)
    for words, status in (("Quota exceeded", 403), ("No more addresses", 404)):

        async def refuse(kind: str, *_: Any, reason: str = words, **__: Any) -> dict[str, Any]:
            raise Conflict(reason)

        monkeypatch.setattr(cloud.documents, "create", refuse)
        assert (await client.post(root, json={"pool": PUBLIC})).status == status
    need(await client.delete(f"{root}/{FLOATING}"), 202)
    assert (await client.delete(f"{root}/{FLOATING}")).status == 404
    assert (await client.get(root, version="2.36")).status == 404


# --- hosts ------------------------------------------------------------------------------------


async def test_hosts(cloud: Cloud) -> None:
    admin = cloud.client("admin", "2.42")
    made = await cloud.client().post("/v2.1/servers", json=body())
    cloud.run(made.json()["server"]["id"])
    listed = need(await admin.get("/v2.1/os-hosts"))["hosts"]
    assert {"host_name": "h1", "service": "compute", "zone": "nova"} in listed
    some = need(await admin.get("/v2.1/os-hosts?zone=internal"))["hosts"]
    assert [row["service"] for row in some] == ["conductor"]
    assert need(await admin.get("/v2.1/os-hosts?zone="))["hosts"] == listed
    shown = need(await admin.get("/v2.1/os-hosts/h1"))["host"]
    by_project = {row["resource"]["project"]: row["resource"] for row in shown}
    assert (by_project["(total)"]["cpu"], by_project["(used_max)"]["memory_mb"]) == (4, 512)
    assert by_project[PROJECT] == {**by_project["(used_max)"], "project": PROJECT}
    assert (await admin.get("/v2.1/os-hosts/nohost")).status == 404
    path = "/v2.1/os-hosts/h1"
    assert need(await admin.put(path, json={"status": "Disable"})) == {
        "host": "h1",
        "status": "disabled",
    }
    (service,) = need(await admin.get("/v2.1/os-services?binary=nova-compute"))["services"]
    assert service["status"] == "disabled"
    need(await admin.put(path, json={"status": "enable"}))
    assert (await admin.put(path, json={})).status == 400
    assert (await admin.put(path, json={"status": "off"})).status == 400
    assert (await admin.put("/v2.1/os-hosts/x", json={"status": "enable"})).status == 404
    assert (await admin.get("/v2.1/os-hosts", version="2.43")).status == 404


async def test_switching_hosts(cloud: Cloud) -> None:
    admin, path = cloud.client("admin", "2.42"), "/v2.1/os-hosts/h1"
    enter, leave = {"maintenance_mode": "enable"}, {"maintenance_mode": "disable"}
    assert (await admin.put(path, json=enter)).status == 400  # nobody is there to be asked
    agent = FakeAgent(cloud)
    await agent.start()
    both = {**enter, "status": "disable"}
    assert need(await admin.put(path, json=both)) == {
        "host": "h1",
        "status": "disabled",
        "maintenance_mode": "on_maintenance",
    }
    assert need(await admin.put(path, json=leave))["maintenance_mode"] == "off_maintenance"
    for word in ("reboot", "shutdown", "startup"):
        assert need(await admin.get(f"{path}/{word}")) == {"host": "h1", "power_action": word}
        agent.world.fails("switch_host", error=NotSupported("It cannot."))
        assert (await admin.get(f"{path}/{word}")).status == 501
        assert (await admin.get(f"/v2.1/os-hosts/x/{word}")).status == 404
        assert (await admin.get(f"{path}/{word}", version="2.43")).status == 404
