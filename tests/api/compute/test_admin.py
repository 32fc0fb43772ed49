"""What operators do: aggregates, groups, quotas, services; and what is gone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kilonova.domain.agent import topic
from kilonova.domain.operations import ConsoleText, OperationReply, OperationRequest
from kilonova.web.client import Answer
from kilonova.web.testing import Client
from tests.support.cloud import IMAGE, PROJECT, Cloud, body


def need(answer: Answer, status: int = 200) -> Any:
    assert answer.status == status, (answer.status, answer.text)
    return answer.json() if answer.body else None


async def make(client: Client, **values: Any) -> str:
    made = need(await client.post("/v2.1/servers", json=body(**values)), 202)
    return str(made["server"]["id"])


@pytest.mark.parametrize("version", ["2.1", "2.41", "2.104"])
async def test_aggregates(cloud: Cloud, version: str) -> None:
    admin = cloud.client("admin", version)
    root = "/v2.1/os-aggregates"
    made = need(await admin.post(root, json={"aggregate": {"name": "a"}}))["aggregate"]
    assert ("uuid" in made, "hosts" in made) == (version != "2.1", False)
    path = f"{root}/{made['id']}"
    assert (await admin.post(root, json={"aggregate": {"name": "a"}})).status == 409
    act = f"{path}/action"
    need(await admin.post(act, json={"add_host": {"host": "h1"}}))
    assert (await admin.post(act, json={"add_host": {"host": "h1"}})).status == 409
    assert (await admin.post(act, json={"add_host": {"host": "nohost"}})).status == 404
    zone = {"set_metadata": {"metadata": {"availability_zone": "z1", "ssd": "yes"}}}
    shown = need(await admin.post(act, json=zone))["aggregate"]
    assert (shown["availability_zone"], shown["hosts"]) == ("z1", ["h1"])
    zones = need(await cloud.client().get("/v2.1/os-availability-zone"))["availabilityZoneInfo"]
    assert zones == [{"zoneName": "z1", "zoneState": {"available": True}, "hosts": None}]
    none = {"set_metadata": {"metadata": {"ssd": None}}}
    assert need(await admin.post(act, json=none))["aggregate"]["metadata"] == {
        "availability_zone": "z1"
    }
    need(await admin.put(path, json={"aggregate": {"name": "b"}}))
    need(await admin.get(path))
    need(await admin.get(root))
    assert (await admin.delete(path)).status == 400
    need(await admin.post(act, json={"remove_host": {"host": "h1"}}))
    assert (await admin.post(act, json={"remove_host": {"host": "h1"}})).status == 404
    need(await admin.delete(path))
    assert (await admin.get(path)).status == 404
    assert (await cloud.client("member", version).get(root)).status == 403


async def test_zone_stays_under_servers(cloud: Cloud) -> None:
    sid = await make(cloud.client())
    cloud.run(sid)
    admin = cloud.client("admin")
    zoned = {"aggregate": {"name": "a", "availability_zone": "z1"}}
    made = need(await admin.post("/v2.1/os-aggregates", json=zoned))["aggregate"]
    act = f"/v2.1/os-aggregates/{made['id']}/action"
    assert (await admin.post(act, json={"add_host": {"host": "h1"}})).status == 409


@pytest.mark.parametrize("version", ["2.1", "2.13", "2.15", "2.64", "2.104"])
async def test_groups(cloud: Cloud, version: str) -> None:
    minor = int(version.partition(".")[2])
    client = cloud.client("member", version)
    root = "/v2.1/os-server-groups"
    asked: dict[str, Any] = {"name": "g"}
    if minor >= 64:
        asked.update(policy="anti-affinity", rules={"max_server_per_host": 2})
    else:
        asked["policies"] = ["anti-affinity"]
    group = need(await client.post(root, json={"server_group": asked}))["server_group"]
    assert ("project_id" in group) == (minor >= 13)
    extra = {"networks": "none"} if minor >= 37 else {}
    made = need(
        await client.post(
            "/v2.1/servers",
            json={**body(**extra), "os:scheduler_hints": {"group": group["id"]}},
        ),
        202,
    )
    sid = made["server"]["id"]
    assert need(await client.get(f"{root}/{group['id']}"))["server_group"]["members"] == [sid]
    assert len(need(await client.get(root))["server_groups"]) == 1
    if minor >= 71:
        shown = need(await client.get(f"/v2.1/servers/{sid}"))["server"]
        assert shown["server_groups"] == [group["id"]]
    soft = {"name": "s", "policies": ["soft-affinity"]}
    if minor < 64:
        answer = await client.post(root, json={"server_group": soft})
        assert answer.status == (200 if minor >= 15 else 400)
    unknown = {**body(**extra), "os:scheduler_hints": {"group": PROJECT}}
    assert (await client.post("/v2.1/servers", json=unknown)).status == 400
    assert (await cloud.client("other", version).get(f"{root}/{group['id']}")).status == 404
    need(await client.delete(f"{root}/{group['id']}"), 204)
    assert (await client.get(f"{root}/{group['id']}")).status == 404


@pytest.mark.parametrize("version", ["2.1", "2.36", "2.50", "2.57", "2.104"])
async def test_quotas(cloud: Cloud, version: str) -> None:
    admin, member = cloud.client("admin", version), cloud.client("member", version)
    path = f"/v2.1/os-quota-sets/{PROJECT}"
    assert need(await member.get(path))["quota_set"]["instances"] == 10
    need(await member.get(f"{path}/defaults"))
    changed = need(await admin.put(path, json={"quota_set": {"instances": 1, "cores": -1}}))
    assert changed["quota_set"]["instances"] == 1
    assert (await member.put(path, json={"quota_set": {"instances": 5}})).status == 403
    extra = {"networks": "none"} if int(version[2:]) >= 37 else {}
    await make(member, **extra)
    over = await member.post("/v2.1/servers", json=body(**extra))
    assert (over.status, "Quota exceeded for instances" in over.text) == (403, True)
    detail = need(await member.get(f"{path}/detail"))["quota_set"]
    assert detail["instances"] == {"limit": 1, "in_use": 1, "reserved": 0}
    assert (await admin.put(path, json={"quota_set": {"instances": 0}})).status == 400
    need(await admin.put(path, json={"quota_set": {"instances": 0, "force": True}}))
    limits = need(await member.get("/v2.1/limits"))["limits"]["absolute"]
    assert (limits["maxTotalInstances"], limits["totalInstancesUsed"]) == (0, 1)
    need(await admin.delete(path), 202)
    classes = "/v2.1/os-quota-class-sets/default"
    need(await admin.get(classes))
    need(await admin.put(classes, json={"quota_class_set": {"instances": 7}}))
    assert need(await member.get(path))["quota_set"]["instances"] == 7


async def test_console_output(cloud: Cloud) -> None:
    client = cloud.client()
    sid = await make(client)
    path = f"/v2.1/servers/{sid}/action"
    ask = {"os-getConsoleOutput": {"length": 5}}
    assert (await client.post(path, json=ask)).status == 409
    cloud.run(sid)
    assert (await client.post(path, json=ask)).status == 409

    async def operate(request: OperationRequest) -> OperationReply:

        args = msgspec.msgpack.decode(request.args)
        text = ConsoleText(f"{args['length']} lines of {request.server_id}")
        return OperationReply("done", msgspec.msgpack.encode(text))

    await cloud.bus.serve(topic("h1"), {"operate": operate})
    answer = need(await client.post(path, json=ask))
    assert answer == {"output": f"5 lines of {sid}"}


async def test_services(cloud: Cloud) -> None:
    admin = cloud.client("admin", "2.104")
    listed = need(await admin.get("/v2.1/os-services"))["services"]
    compute = next(s for s in listed if s["binary"] == "nova-compute")
    assert (compute["state"], compute["status"], compute["zone"]) == ("up", "enabled", "nova")
    cloud.pass_time(61)
    (shown,) = need(await admin.get("/v2.1/os-services?binary=nova-compute"))["services"]
    assert shown["state"] == "down"
    path = f"/v2.1/os-services/{compute['id']}"
    assert (await admin.put(path, json={})).status == 400
    assert (await admin.put(path, json={"disabled_reason": "x"})).status == 400
    sid = await make(cloud.client())
    cloud.run(sid)
    assert (await admin.delete(path)).status == 409
    cloud.delete(sid)
    need(await admin.delete(path), 204)
    assert (await admin.get("/v2.1/os-hypervisors")).json() == {"hypervisors": []}


async def test_locks(cloud: Cloud) -> None:
    member, admin = cloud.client("member", "2.104"), cloud.client("admin", "2.104")
    sid = await make(member, networks="none")
    cloud.run(sid)
    path = f"/v2.1/servers/{sid}/action"
    need(await member.post(path, json={"lock": {"locked_reason": "mine"}}), 202)
    shown = need(await member.get(f"/v2.1/servers/{sid}"))["server"]
    assert (shown["locked"], shown["locked_reason"]) == (True, "mine")
    refused = await member.post(path, json={"os-stop": None})
    assert refused.json()["conflictingRequest"]["message"] == f"Instance {sid} is locked"
    assert (await member.delete(f"/v2.1/servers/{sid}")).status == 409
    assert len(need(await member.get("/v2.1/servers?locked=true"))["servers"]) == 1
    need(await member.post(path, json={"unlock": None}), 202)
    need(await admin.post(path, json={"lock": None}), 202)
    assert (await member.post(path, json={"unlock": None})).status == 403
    need(await admin.post(path, json={"os-stop": None}), 202)


async def test_down_cell(cloud: Cloud) -> None:
    member = cloud.client("member", "2.69")
    sid = await make(member, networks="none")
    cloud.run(sid)
    cloud.lose_cell1()
    (shown,) = need(await member.get("/v2.1/servers/detail"))["servers"]
    assert (shown["id"], shown["status"]) == (sid, "UNKNOWN")
    assert need(await member.get("/v2.1/servers", version="2.68")) == {"servers": []}
    one = need(await member.get(f"/v2.1/servers/{sid}"))["server"]
    assert one["flavor"]["original_name"] == "m1.tiny"
    assert {key: one[key] for key in shown} == shown
    assert (await cloud.client("other", "2.69").get(f"/v2.1/servers/{sid}")).status == 404
    assert (await member.get(f"/v2.1/servers/{sid}", version="2.68")).status == 503


async def test_gone(cloud: Cloud) -> None:
    admin = cloud.client("admin")
    for method, path in (
        ("GET", "/os-cells"),
        ("GET", "/os-agents"),
        ("PUT", "/os-floating-ip-dns/d/entries/e"),
        ("GET", "/servers/x/os-virtual-interfaces"),
    ):
        assert (await admin.request(method, f"/v2.1{path}")).status == 410
    action = await admin.post("/v2.1/servers/x/action", json={"resetNetwork": None})
    assert action.status == 410


@pytest.mark.parametrize(("version", "status"), [("2.85", 200), ("2.86", 400), ("2.104", 400)])
async def test_values_of_extra_specs(cloud: Cloud, version: str, status: int) -> None:
    admin = cloud.client("admin", version)
    path = "/v2.1/flavors/1/os-extra_specs"
    for key, value in (("hw:cpu_policy", "best"), ("hw:nothing", "1"), ("hw:numa_nodes", "0")):
        answer = await admin.post(path, json={"extra_specs": {key: value}})
        assert answer.status == status
        assert (await admin.put(f"{path}/{key}", json={key: value})).status == status
    need(await admin.post(path, json={"extra_specs": {"hw:cpu_policy": "shared", "a:b": "c"}}))


async def test_images_no_guest_can_be_made_of(cloud: Cloud) -> None:
    image = cloud.images.images[IMAGE]
    wrong = msgspec.structs.replace(image, properties={"hw_disk_bus": "scuzzy"})
    cloud.images.images[IMAGE] = wrong
    answer = await cloud.client().post("/v2.1/servers", json=body())
    assert answer.status == 400
    assert "Invalid image metadata" in answer.text
