"""The life of servers as a client sees it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kilonova.config.settings import Settings
from kilonova.db.database import counted
from kilonova.domain.guest import PowerState
from kilonova.domain.states import VmState
from kilonova.store import mappings
from kilonova.web.testing import Client
from tests.support.cloud import IMAGE, NETWORK, PORT, PROJECT, Cloud, body


async def make(client: Client, **values: Any) -> str:
    answer = await client.post("/v2.1/servers", json=body(**values))
    assert answer.status == 202, answer.text
    made: str = answer.json()["server"]["id"]
    return made


async def test_create_show_list_delete(cloud: Cloud) -> None:
    client = cloud.client()
    answer = await client.post(
        "/v2.1/servers", json=body(metadata={"a": "b"}, security_groups=[{"name": "web"}])
    )
    assert answer.status == 202
    server = answer.json()["server"]
    sid = server["id"]
    assert len(server["adminPass"]) == 12
    assert server["OS-DCF:diskConfig"] == "MANUAL"
    assert server["security_groups"] == [{"name": "web"}]
    href = f"http://testserver/v2.1/servers/{sid}"
    assert answer.headers["Location"] == href
    assert server["links"] == [
        {"rel": "self", "href": href},
        {"rel": "bookmark", "href": f"http://testserver/servers/{sid}"},
    ]
    assert cloud.db.run_sync(cloud.sagas.names) == ["server.build"]
    spec = cloud.db.run_sync(mappings.find_spec, sid)
    assert spec is not None
    assert spec.admin_pass == server["adminPass"]
    assert (spec.nics[0].network_id, spec.security_groups) == (NETWORK, ("g1",))

    shown = (await client.get(f"/v2.1/servers/{sid}")).json()["server"]
    assert shown["status"] == "BUILD"
    assert shown["OS-EXT-STS:task_state"] == "scheduling"
    assert shown["image"]["id"] == IMAGE
    assert shown["flavor"]["id"] == "1"
    assert shown["metadata"] == {"a": "b"}
    assert shown["tenant_id"] == PROJECT
    assert shown["addresses"] == {}
    assert shown["created"] == "2026-01-31T12:00:00Z"

    cloud.run(sid)
    shown = (await client.get(f"/v2.1/servers/{sid}")).json()["server"]
    assert (shown["status"], shown["OS-EXT-STS:power_state"]) == ("ACTIVE", 1)
    assert shown["OS-EXT-AZ:availability_zone"] == "nova"
    assert len(shown["hostId"]) == 56
    assert shown["OS-SRV-USG:launched_at"] == "2026-01-31T12:00:00.123456"
    assert [a["addr"] for a in shown["addresses"]["private"]] == ["10.0.0.5", "172.24.4.9"]
    assert "OS-EXT-SRV-ATTR:host" not in shown
    admin = (await cloud.client("admin", "2.3").get(f"/v2.1/servers/{sid}")).json()["server"]
    assert admin["OS-EXT-SRV-ATTR:host"] == "h1"
    assert admin["OS-EXT-SRV-ATTR:instance_name"] == "instance-00000001"

    listed = (await client.get("/v2.1/servers")).json()["servers"]
    assert [set(s) for s in listed] == [{"id", "name", "links"}]
    (detail,) = (await client.get("/v2.1/servers/detail")).json()["servers"]
    assert detail == shown

    assert (await client.delete(f"/v2.1/servers/{sid}")).status == 204
    assert cloud.cell1.db.run_sync(cloud.sagas.names) == ["server.delete"]
    shown = (await client.get(f"/v2.1/servers/{sid}")).json()["server"]
    assert shown["OS-EXT-STS:task_state"] == "deleting"
    assert (await client.delete(f"/v2.1/servers/{sid}")).status == 204
    cloud.delete(sid)
    gone = await client.get(f"/v2.1/servers/{sid}")
    assert gone.status == 404
    assert gone.json() == {
        "itemNotFound": {"code": 404, "message": f"Instance {sid} could not be found."}
    }
    assert (await client.get("/v2.1/servers")).json() == {"servers": []}


async def test_delete_while_building(cloud: Cloud) -> None:
    client = cloud.client()
    sid = await make(client)
    for _ in range(2):
        assert (await client.delete(f"/v2.1/servers/{sid}")).status == 204
    assert cloud.db.run_sync(cloud.sagas.names) == ["server.build", "server.delete"]
    shown = (await client.get(f"/v2.1/servers/{sid}")).json()["server"]
    assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("BUILD", "deleting")
    cloud.db.run_sync(mappings.forget, sid)
    assert (await client.get(f"/v2.1/servers/{sid}")).status == 404


async def test_other_projects_see_nothing(cloud: Cloud) -> None:
    sid = await make(cloud.client())
    cloud.run(sid)
    other = cloud.client("other")
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/metadata"),
        ("GET", "/ips"),
        ("GET", "/os-instance-actions"),
    ):
        assert (await other.request(method, f"/v2.1/servers/{sid}{path}")).status == 404
    assert (await other.get("/v2.1/servers/detail")).json() == {"servers": []}
    stop = await other.post(f"/v2.1/servers/{sid}/action", json={"os-stop": None})
    assert stop.status == 404
    assert (await other.get("/v2.1/servers?all_tenants=1")).status == 403
    everything = await cloud.client("admin").get("/v2.1/servers?all_tenants=1")
    assert len(everything.json()["servers"]) == 1
    reader = cloud.client("reader")
    assert (await reader.get(f"/v2.1/servers/{sid}")).status == 200
    assert (await reader.post("/v2.1/servers", json=body())).status == 403
    assert (await reader.delete(f"/v2.1/servers/{sid}")).status == 403


async def test_no_valid_host(cloud: Cloud) -> None:
    client = cloud.client()
    sid = await make(client)
    cloud.fail(sid, "No valid host was found.")
    shown = (await client.get(f"/v2.1/servers/{sid}")).json()["server"]
    assert shown["status"] == "ERROR"
    assert shown["fault"] == {
        "code": 500,
        "created": "2026-01-31T12:00:00Z",
        "message": "No valid host was found.",
    }
    admin = (await cloud.client("admin").get(f"/v2.1/servers/{sid}")).json()["server"]
    assert admin["fault"]["details"] == "Traceback"


async def test_power(cloud: Cloud) -> None:
    client = cloud.client()
    sid = await make(client)
    path = f"/v2.1/servers/{sid}/action"
    early = await client.post(path, json={"os-stop": None})
    assert early.status == 409
    cloud.run(sid)
    assert (await client.post(path, json={"os-stop": None})).status == 202
    assert cloud.cell1.db.run_sync(cloud.sagas.names) == ["server.stop"]
    busy = await client.post(path, json={"os-stop": None})
    assert busy.json()["conflictingRequest"] == {
        "code": 409,
        "message": f"Cannot 'stop' instance {sid} while it is in task_state powering-off",
    }
    cloud.finish(sid, VmState.STOPPED, PowerState.SHUTDOWN)
    shown = (await client.get(f"/v2.1/servers/{sid}")).json()["server"]
    assert shown["status"] == "SHUTOFF"
    soft = await client.post(path, json={"reboot": {"type": "SOFT"}})
    assert (soft.status, "in vm_state stopped" in soft.text) == (409, True)
    assert (await client.post(path, json={"reboot": {"type": "HARD"}})).status == 202
    cloud.finish(sid, VmState.ACTIVE, PowerState.RUNNING)
    assert (await client.post(path, json={"reboot": {"type": "Soft"}})).status == 202
    shown = (await client.get(f"/v2.1/servers/{sid}")).json()["server"]
    assert shown["status"] == "REBOOT"
    cloud.finish(sid, VmState.STOPPED, PowerState.SHUTDOWN)
    assert (await client.post(path, json={"os-start": None})).status == 202
    actions = (await client.get(f"/v2.1/servers/{sid}/os-instance-actions")).json()
    assert {a["action"] for a in actions["instanceActions"]} == {
        "create",
        "stop",
        "reboot",
        "start",
    }
    for wrong in (
        {"reboot": {"type": "x"}},
        {"nothing": None},
        {"os-stop": None, "os-start": None},
    ):
        assert (await client.post(path, json=wrong)).status == 400


async def test_idempotent_create(cloud: Cloud) -> None:
    client = cloud.client().with_(**{"Idempotency-Key": "k1"})
    first = await client.post("/v2.1/servers", json=body())
    second = await client.post("/v2.1/servers", json=body())
    assert first.json() == second.json()
    assert (await client.post("/v2.1/servers", json=body(name="x"))).status == 409
    assert len((await client.get("/v2.1/servers")).json()["servers"]) == 1


async def test_crash_after_commit_makes_nothing_twice(cloud: Cloud) -> None:
    client = cloud.client().with_(**{"Idempotency-Key": "k1"})
    first = (await client.post("/v2.1/servers", json=body())).json()["server"]["id"]
    # Another process, which never heard of the answer, gets the same request.
    again = Client(cloud.build(), token="member", headers={"Idempotency-Key": "k1"})
    second = (await again.post("/v2.1/servers", json=body())).json()["server"]["id"]
    assert first == second
    assert len((await client.get("/v2.1/servers")).json()["servers"]) == 1
    assert cloud.db.run_sync(cloud.sagas.names) == ["server.build"]


async def test_many_at_once(cloud: Cloud) -> None:
    client = cloud.client()
    answer = await client.post(
        "/v2.1/servers",
        json=body(min_count=2, max_count="3", return_reservation_id=True),
    )
    reservation = answer.json()["reservation_id"]
    assert reservation.startswith("r-")
    names = (await client.get(f"/v2.1/servers?reservation_id={reservation}")).json()["servers"]
    assert sorted(s["name"] for s in names) == ["web-1", "web-2", "web-3"]
    over = await client.post("/v2.1/servers", json=body(min_count=8))
    assert over.status == 403
    assert over.json()["forbidden"]["message"] == (
        "Quota exceeded for instances: Requested 8, but already used 3 of 10 instances"
    )
    some = await client.post("/v2.1/servers", json=body(min_count=1, max_count=20))
    assert some.status == 202
    assert len((await client.get("/v2.1/servers")).json()["servers"]) == 10


LOCAL = {"source_type": "image", "destination_type": "local", "uuid": IMAGE, "boot_index": 0}


@pytest.mark.parametrize(
    ("values", "status", "words"),
    [
        ({"imageRef": NETWORK}, 400, "Can not find requested image"),
        ({"imageRef": ""}, 400, "Missing imageRef"),
        ({"flavorRef": "99"}, 400, "Invalid flavorRef provided."),
        ({"key_name": "nokey"}, 400, "Invalid key_name provided."),
        ({"name": ""}, 400, "name"),
        ({"name": " x"}, 400, "name"),
        ({"name": "x" * 256}, 400, "name"),
        ({"unknown": 1}, 400, "Additional properties are not allowed"),
        ({"user_data": "aaaaa"}, 400, "user_data"),
        ({"user_data": "a" * 65536}, 400, "user_data"),
        ({"metadata": {"a": 1}}, 400, "attribute a. Value: 1"),
        ({"metadata": {"a" * 256: "x"}}, 400, "metadata"),
        ({"metadata": {str(n): "x" for n in range(129)}}, 403, "metadata items"),
        ({"min_count": 3, "max_count": 2}, 400, "min_count must be <= max_count"),
        ({"availability_zone": "mars"}, 400, "availability zone is not available"),
        ({"availability_zone": "nova:h1"}, 403, "forced_host"),
        ({"security_groups": [{"name": "nogroup"}]}, 400, "nogroup"),
        ({"networks": [{"uuid": IMAGE}]}, 400, "could not be found"),
        ({"networks": [{"port": IMAGE}]}, 400, "could not be found"),
        ({"networks": [{}]}, 400, "Bad networks format"),
        ({"networks": [{"port": PORT}], "max_count": 2}, 400, "one by one"),
        ({"networks": [{"uuid": NETWORK, "fixed_ip": "x"}]}, 400, "fixed_ip"),
        ({"block_device_mapping": [{"device_name": "vda", "volume_id": IMAGE}]}, 400, "volume"),
        (
            {"block_device_mapping_v2": [LOCAL, {"source_type": "volume", "uuid": IMAGE}]},
            400,
            "failed to get volume",
        ),
        (
            {
                "block_device_mapping_v2": [
                    LOCAL,
                    {"source_type": "blank", "destination_type": "local", "volume_size": 5},
                ]
            },
            400,
            "Ephemeral",
        ),
        ({"accessIPv4": "bad"}, 400, "accessIPv4"),
        ({"OS-DCF:diskConfig": "x"}, 400, "diskConfig"),
        ({"description": "x"}, 400, "description"),
        ({"tags": ["x"]}, 400, "tags"),
        ({"host": "h1"}, 400, "host"),
    ],
)
async def test_refused(cloud: Cloud, values: dict[str, Any], status: int, words: str) -> None:
    answer = await cloud.client().post("/v2.1/servers", json=body(**values))
    assert (answer.status, words in answer.text) == (status, True), answer.text
    assert (await cloud.client().get("/v2.1/servers")).json() == {"servers": []}


async def test_new_keys(cloud: Cloud) -> None:
    client = cloud.client("admin", "2.104")
    answer = await client.post(
        "/v2.1/servers",
        json={
            **body(
                networks="auto",
                description="about",
                tags=["x", "y"],
                hostname="web.example.org",
                host="h1",
                config_drive=True,
                user_data="aGVsbG8=",
                availability_zone="nova",
            ),
            "os:scheduler_hints": {"custom": "1"},
        },
    )
    assert answer.status == 202, answer.text
    sid = answer.json()["server"]["id"]
    shown = (await client.get(f"/v2.1/servers/{sid}")).json()["server"]
    assert shown["description"] == "about"
    assert sorted(shown["tags"]) == ["x", "y"]
    assert shown["OS-EXT-SRV-ATTR:hostname"] == "web.example.org"
    assert shown["OS-EXT-SRV-ATTR:user_data"] == "aGVsbG8="
    assert shown["config_drive"] == "True"
    assert shown["scheduler_hints"] == {"custom": "1"}
    assert shown["pinned_availability_zone"] == "nova"
    assert shown["image"]["properties"] == {"os_distro": "debian"}
    assert shown["flavor"]["original_name"] == "m1.tiny"
    assert shown["flavor"]["extra_specs"] == {}
    assert shown["server_groups"] == []
    assert shown["host_status"] == ""
    assert shown["locked_reason"] is None
    cloud.run(sid)
    shown = (await client.get(f"/v2.1/servers/{sid}")).json()["server"]
    assert shown["host_status"] == "UP"
    assert shown["OS-EXT-SRV-ATTR:user_data"] == "aGVsbG8="
    (listed,) = (await client.get("/v2.1/servers/detail")).json()["servers"]
    assert listed == {key: value for key, value in shown.items() if key != "server_groups"}
    missing = await cloud.client(version="2.37").post("/v2.1/servers", json=body())
    assert missing.status == 400
    assert (await client.post("/v2.1/servers", json=body(networks="none"))).status == 202


async def test_an_automatic_network_is_the_only_one_there_is(cloud: Cloud) -> None:
    client = cloud.client(version="2.104")
    known = cloud.networks.known
    sid = await make(client, networks="auto")
    (nic,) = (await cloud.db.read(mappings.find_spec, sid)).nics  # type: ignore[union-attr]
    assert (nic.network_id, nic.auto) == (NETWORK, True)
    known[PORT] = msgspec.structs.replace(known[NETWORK], id=PORT)
    assert (await client.post("/v2.1/servers", json=body(networks="auto"))).status == 409
    known.clear()
    sid = await make(client, networks="auto")
    (nic,) = (await cloud.db.read(mappings.find_spec, sid)).nics  # type: ignore[union-attr]
    assert (nic.network_id, nic.auto) == (None, True)


async def test_update(cloud: Cloud) -> None:
    client = cloud.client(version="2.104")
    sid = await make(client, networks="none")
    path = f"/v2.1/servers/{sid}"
    answer = await client.put(path, json={"server": {"name": "new", "description": "d"}})
    assert answer.status == 200
    assert (answer.json()["server"]["name"], answer.json()["server"]["description"]) == ("new", "d")
    cloud.run(sid)
    answer = await client.put(path, json={"server": {"name": "newer", "accessIPv4": "1.2.3.4"}})
    assert answer.json()["server"]["accessIPv4"] == "1.2.3.4"
    pin = {"server": {"pinned_availability_zone": "nova"}}
    assert (await client.put(path, json=pin)).json()["server"]["pinned_availability_zone"] == "nova"
    wrong = {"server": {"pinned_availability_zone": "mars"}}
    assert (await client.put(path, json=wrong)).status == 409
    assert (await client.put(path, json=pin, version="2.103")).status == 400
    old = await client.put(path, json={"server": {"name": "old"}}, version="2.1")
    assert "OS-EXT-STS:vm_state" not in old.json()["server"]
    assert (await client.get(path, version="2.1")).json()["server"]["name"] == "old"


async def test_lists(cloud: Cloud) -> None:
    client = cloud.client(version="2.104")
    ids = []
    for number in range(4):
        cloud.pass_time(1)
        ids.append(await make(client, name=f"s{number}", networks="none", tags=[f"t{number}"]))
    cloud.run(ids[0])
    cloud.run(ids[1])
    cloud.fail(ids[2], "no")

    async def names(query: str, **more: Any) -> list[str]:
        answer = await client.get(f"/v2.1/servers{query}", **more)
        assert answer.status == 200, answer.text
        return [s["name"] for s in answer.json()["servers"]]

    assert await names("") == ["s3", "s2", "s1", "s0"]
    assert await names("?sort_key=display_name&sort_dir=asc") == ["s0", "s1", "s2", "s3"]
    first = (await client.get("/v2.1/servers?limit=2")).json()
    assert [s["name"] for s in first["servers"]] == ["s3", "s2"]
    (link,) = first["servers_links"]
    rest = (await client.get(link["href"])).json()
    assert [s["name"] for s in rest["servers"]] == ["s1", "s0"]
    assert await names("?status=ACTIVE") == ["s1", "s0"]
    assert await names("?status=BUILD&status=error") == ["s3", "s2"]
    assert await names("?name=s[01]") == ["s1", "s0"]
    assert await names("?ip=10.0") == ["s1", "s0"]
    assert await names("?tags=t1") == ["s1"]
    assert await names("?not-tags-any=t1,t3") == ["s2", "s0"]
    assert await names(f"?image={IMAGE}&flavor=1&limit=1") == ["s3"]
    assert await names("?vm_state=active") == ["s1", "s0"]
    assert await names("?vm_state=active", version="2.74") == ["s3", "s2", "s1", "s0"]
    assert await names("?changes-since=2026-01-31T12:00:03Z") == ["s3", "s2", "s1", "s0"]
    assert await names("?changes-since=2030-01-31T12:00:03Z") == []
    assert await names("?_unknown=1") == ["s3", "s2", "s1", "s0"]
    assert await names("?metadata={}&info_cache=x") == ["s3", "s2", "s1", "s0"]
    assert await names("?sort_key=vcpus&sort_dir=asc", version="2.74") == ["s0", "s1", "s2", "s3"]
    assert await names("?nonsense=1", version="2.74") == ["s3", "s2", "s1", "s0"]
    for wrong in (
        "?nonsense=1",
        "?status=what",
        "?marker=nothing",
        "?limit=-1",
        "?sort_key=secret",
        "?name=[",
        "?changes-since=yesterday",
        "?changes-since=2027-01-01&changes-before=2026-01-01",
        "?all_tenants=maybe",
    ):
        assert (await client.get(f"/v2.1/servers{wrong}")).status == 400, wrong
    assert await names("?status=what", version="2.37") == []
    assert (await client.get("/v2.1/servers?status=deleted")).status == 403
    cloud.delete(ids[0])
    for key in ("host", "node"):
        assert (await client.get(f"/v2.1/servers?sort_key={key}")).status == 403
    boss = cloud.client("admin", "2.104")
    assert (await boss.get("/v2.1/servers?sort_key=host")).status == 200
    assert (await boss.get("/v2.1/servers?metadata={")).status == 400
    sought = await boss.get('/v2.1/servers?metadata={"a":"b"}')
    assert sought.json()["servers"] == []
    admin = await cloud.client("admin").get("/v2.1/servers/detail?status=deleted&all_tenants=1")
    assert [s["status"] for s in admin.json()["servers"]] == ["DELETED"]


async def test_statements_do_not_grow(cloud: Cloud) -> None:
    client = cloud.client("admin", "2.104")

    async def count(path: str) -> int:
        with counted() as statements:
            assert (await client.get(path)).status == 200
        return len(statements)

    before: dict[str, int] = {}
    for number in range(6):
        sid = await make(client, name=f"s{number}", networks="none", tags=["a", "b"])
        cloud.run(sid)
        if number == 0:
            before = {
                path: await count(path)
                for path in ("/v2.1/servers", "/v2.1/servers/detail", f"/v2.1/servers/{sid}")
            }
    for path, number in before.items():
        assert await count(path) == number
    assert max(before.values()) <= 8


async def test_changed_before_the_second_that_is_shown(cloud: Cloud) -> None:
    client = cloud.client("member", "2.66")
    cloud.pass_time(0.5)
    sid = (await client.post("/v2.1/servers", json=body(networks="none"))).json()["server"]["id"]
    cloud.run(sid)
    updated = (await client.get(f"/v2.1/servers/{sid}")).json()["server"]["updated"]
    found = (await client.get(f"/v2.1/servers?changes-before={updated}")).json()["servers"]
    assert [row["id"] for row in found] == [sid]


async def test_security_groups_are_those_of_the_ports_by_name(cloud: Cloud) -> None:
    client, group = cloud.client(), "66666666-0000-4000-8000-000000000001"
    cloud.networks.groups[group] = group
    wanted = [{"name": group}, {"name": "default"}]
    made = await client.post("/v2.1/servers", json=body(security_groups=wanted))
    assert made.json()["server"]["security_groups"] == wanted
    sid = made.json()["server"]["id"]
    shown = await client.get(f"/v2.1/servers/{sid}")
    assert "security_groups" not in shown.json()["server"]
    cloud.run(sid)
    shown = await client.get(f"/v2.1/servers/{sid}")
    assert shown.json()["server"]["security_groups"] == [{"name": "web"}, {"name": "default"}]


@pytest.mark.parametrize("why", ["nothing", "asked", "image", "forced"])
async def test_who_gets_a_config_drive(why: str) -> None:
    plain = Settings()
    default = msgspec.structs.replace(plain.default, force_config_drive=why == "forced")
    made = Cloud(msgspec.structs.replace(plain, default=default))
    if why == "image":
        image = made.images.images[IMAGE]
        made.images.images[IMAGE] = msgspec.structs.replace(
            image, properties={"img_config_drive": "mandatory"}
        )
    client = made.client()
    sid = await make(client, **({"config_drive": True} if why == "asked" else {}))
    shown = (await client.get(f"/v2.1/servers/{sid}")).json()["server"]
    assert shown["config_drive"] == ("" if why == "nothing" else "True")
    made.close()
