"""Cards, consoles, counters and security groups of servers."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from kilonova.config.settings import Settings
from kilonova.db.database import Tx
from kilonova.db.tables import cell as cell_tables
from kilonova.domain.fit.shapes import GuestCell, GuestTopology, Held
from kilonova.domain.guest import Nic, PowerState
from kilonova.domain.resources import ConsoleToken
from kilonova.domain.sagas import AttachArgs
from kilonova.domain.states import VmState
from kilonova.interfaces.network import Network, Port
from kilonova.store import actions, consoles, servers
from kilonova.web.client import Answer
from kilonova.web.testing import Client
from tests.support.agents import FakeAgent
from tests.support.cloud import IMAGE, NETWORK, OTHER, PORT, PROJECT, Cloud, body
from tests.support.compute import NIC

NEW = "33333333-0000-4000-8000-000000000007"
EXTERNAL = "22222222-0000-4000-8000-00000000000e"
SUBNET = "88888888-0000-4000-8000-000000000001"
GROUP = "66666666-0000-4000-8000-000000000001"


def need(answer: Answer, status: int = 200) -> Any:
    assert answer.status == status, (answer.status, answer.text)
    return answer.json() if answer.body else None


async def running(cloud: Cloud) -> str:
    made = await cloud.client("member", "2.37").post("/v2.1/servers", json=body(networks="none"))
    server_id = str(made.json()["server"]["id"])
    cloud.run(server_id)
    return server_id


@pytest_asyncio.fixture
async def agent(cloud: Cloud) -> AsyncIterator[FakeAgent]:
    made = FakeAgent(cloud)
    await made.start()
    yield made


# --- interfaces -----------------------------------------------------------------------------


async def attach(
    cloud: Cloud, client: Client, sid: str, given: dict[str, Any], *, error: str = ""
) -> Answer:
    """POST os-interface, with a conductor that makes the card or fails."""
    path = f"/v2.1/servers/{sid}/os-interface"
    asked = asyncio.create_task(client.post(path, json={"interfaceAttachment": given}))
    for _ in range(200):
        await asyncio.sleep(0.01)
        if asked.done():
            return asked.result()
        if cloud.cell1.db.run_sync(cloud.sagas.names):
            break
    args = cloud.cell1.db.run_sync(_args, cloud)
    cloud.cell1.db.run_sync(_end, cloud, sid, args, error)
    cloud.end_sagas()
    while not asked.done():
        await cloud.clock.advance(1)
        await asyncio.sleep(0.01)
    return asked.result()


def _args(tx: Tx, cloud: Cloud) -> AttachArgs:
    (row,) = tx.execute(cloud.sagas.table.select()).mappings()
    return msgspec.json.decode(row["args"], type=AttachArgs)


def _end(tx: Tx, cloud: Cloud, sid: str, args: AttachArgs, error: str) -> None:
    now = cloud.clock.now()
    (action,) = (a for a in actions.page(tx, sid) or () if a.action == "attach_interface")
    name, request = "compute_attach_interface", action.request_id
    actions.start_event(tx, sid, request, name, now=now)
    if error:
        kind = error.partition(":")[0]
        trace = f"{kind} in make_port: no"
        actions.finish_event(tx, sid, request, name, now=now, error=error, traceback=trace)
    else:
        port = Port(
            args.nic.port_id or NEW,
            args.nic.network_id or NETWORK,
            PROJECT,
            "fa:16:3e:00:00:77",
            "ACTIVE",
            device_id=sid,
            ips=(("10.0.0.9", SUBNET),),
        )
        cloud.networks.made[port.id] = port
        nic = Nic(port.id, port.mac, port.network_id, "private", tag=args.nic.tag)
        servers.set_nics(tx, sid, [*servers.get_nics(tx, sid), nic], now=now)
        actions.finish_event(tx, sid, request, name, now=now)
    actions.finish(tx, sid, request, now=now, message="Error" if error else None)


@pytest.mark.parametrize("version", ["2.1", "2.48", "2.49", "2.70", "2.104"])
async def test_attach_show_detach(cloud: Cloud, version: str) -> None:
    client, sid = cloud.client("member", version), await running(cloud)
    path = f"/v2.1/servers/{sid}/os-interface"
    assert need(await client.get(path)) == {"interfaceAttachments": []}
    tagged = int(version[2:]) >= 49
    given = {"net_id": NETWORK, **({"tag": "public"} if tagged else {})}
    made = need(await attach(cloud, client, sid, given))["interfaceAttachment"]
    expected = {
        "net_id": NETWORK,
        "port_id": NEW,
        "mac_addr": "fa:16:3e:00:00:77",
        "port_state": "ACTIVE",
        "fixed_ips": [{"subnet_id": SUBNET, "ip_address": "10.0.0.9"}],
    }
    if int(version[2:]) >= 70:
        expected["tag"] = "public"
    assert made == expected
    assert need(await client.get(path))["interfaceAttachments"] == [expected]
    assert need(await client.get(f"{path}/{NEW}"))["interfaceAttachment"] == expected
    assert (await client.get(f"{path}/{PORT}")).status == 404
    assert (await client.get(f"{path}/{IMAGE}")).status == 404
    need(await client.delete(f"{path}/{NEW}"), 202)
    assert cloud.cell1.db.run_sync(cloud.sagas.names) == ["server.detach_interface"]
    assert (await client.delete(f"{path}/{NEW}")).status == 409
    cloud.end_sagas()
    assert (await client.delete(f"{path}/{PORT}")).status == 404
    shown = need(await client.get(f"/v2.1/servers/{sid}/os-instance-actions"))
    names = [row["action"] for row in shown["instanceActions"]]
    assert names[:2] == ["detach_interface", "attach_interface"]


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"net_id": NETWORK, "port_id": PORT}, 400),
        ({"fixed_ips": [{"ip_address": "10.0.0.9"}]}, 400),
        ({"net_id": NETWORK, "fixed_ips": []}, 400),
        ({"net_id": NETWORK, "fixed_ips": [{"ip_address": "ten"}]}, 400),
        ({"net_id": "private"}, 400),
        ({"net_id": NETWORK, "tag": "a/b"}, 400),
        ({"net_id": NETWORK, "more": 1}, 400),
        ({"net_id": IMAGE}, 404),
        ({"port_id": IMAGE}, 404),
        ({"net_id": EXTERNAL}, 403),
    ],
)
async def test_refused_attachments(cloud: Cloud, given: dict[str, Any], status: int) -> None:
    cloud.networks.known[EXTERNAL] = Network(
        EXTERNAL, "out", OTHER, external=True, subnets=(SUBNET,)
    )
    answer = await attach(cloud, cloud.client("member", "2.104"), await running(cloud), given)
    assert answer.status == status, answer.text


async def test_ports_that_are_not_free(cloud: Cloud) -> None:
    client, sid = cloud.client("member", "2.104"), await running(cloud)
    cloud.networks.made[NEW] = Port(NEW, NETWORK, OTHER, "fa:16:3e:00:00:08")
    assert (await attach(cloud, client, sid, {"port_id": NEW})).status == 400
    cloud.networks.made[NEW] = Port(NEW, NETWORK, PROJECT, "fa:16:3e:00:00:08", device_id="x")
    assert (await attach(cloud, client, sid, {"port_id": NEW})).status == 409
    old = await attach(cloud, cloud.client("member", "2.48"), sid, {"tag": "a"})
    assert old.status == 400
    cloud.networks.known[EXTERNAL] = Network(EXTERNAL, "second", PROJECT, subnets=(SUBNET,))
    assert (await attach(cloud, client, sid, {})).status == 409
    cloud.finish(sid, VmState.SUSPENDED, PowerState.SUSPENDED)
    assert (await attach(cloud, client, sid, {"net_id": NETWORK})).status == 409
    assert (await client.delete(f"/v2.1/servers/{sid}/os-interface/{NIC.port_id}")).status == 409


@pytest.mark.parametrize(
    ("error", "status"),
    [("Conflict: taken", 409), ("BadRequest: no", 400), ("Unavailable: away", 500)],
)
async def test_attachments_that_fail_later(cloud: Cloud, error: str, status: int) -> None:
    client, sid = cloud.client("member", "2.104"), await running(cloud)
    answer = await attach(cloud, client, sid, {"net_id": NETWORK}, error=error)
    assert answer.status == status
    if status < 500:
        assert error in answer.text


async def test_a_port_that_was_deleted_leaves_its_server(cloud: Cloud) -> None:
    sid = await running(cloud)
    admin = cloud.client("admin", "2.104")

    async def tell(port_id: str) -> None:
        event = {"name": "network-vif-deleted", "server_uuid": sid, "tag": port_id}
        body = {"events": [event]}
        need(await admin.post("/v2.1/os-server-external-events", json=body))

    await tell(IMAGE)
    assert cloud.cell1.db.run_sync(cloud.sagas.names) == []
    for _ in range(2):
        await tell(NIC.port_id)
        assert cloud.cell1.db.run_sync(cloud.sagas.names) == ["server.detach_interface"]


# --- consoles -------------------------------------------------------------------------------


async def test_remote_consoles(cloud: Cloud, agent: FakeAgent) -> None:
    client, admin = cloud.client("member", "2.104"), cloud.client("admin", "2.104")
    sid = await running(cloud)
    path = f"/v2.1/servers/{sid}/remote-consoles"
    wanted = {"remote_console": {"protocol": "vnc", "type": "novnc"}}
    assert (await client.post(path, json=wanted)).status == 400  # its host has no guest
    server = cloud.cell1.db.run_sync(servers.get, sid)
    assert server is not None
    agent.adopt(server)
    made = need(await client.post(path, json=wanted))["remote_console"]
    url = made.pop("url")
    assert made == wanted["remote_console"]
    start = "http://127.0.0.1:6080/vnc_auto.html?path=%3Ftoken%3D"
    assert url.startswith(start)
    token = url.removeprefix(start)
    found = need(await admin.get(f"/v2.1/os-console-auth-tokens/{token}"))["console"]
    assert found == {
        "instance_uuid": sid,
        "host": "127.0.0.1",
        "port": 5900,
        "internal_access_path": "00000000-0000-4000-8000-00000000fa4e",
    }
    older = await admin.get(f"/v2.1/os-console-auth-tokens/{token}", version="2.98")
    assert need(older)["console"] == found
    oldest = await client.get(f"/v2.1/os-console-auth-tokens/{token}", version="2.30")
    assert oldest.status == 400
    assert (await client.get(f"/v2.1/os-console-auth-tokens/{token}")).status == 403
    assert (await admin.get(f"/v2.1/os-console-auth-tokens/{IMAGE}")).status == 404
    assert (await admin.get(f"/v2.1/os-console-auth-tokens/{token}?a=b")).status == 400
    cloud.pass_time(601)
    assert (await admin.get(f"/v2.1/os-console-auth-tokens/{token}")).status == 404


@pytest.mark.parametrize(
    ("protocol", "kind", "version"),
    [
        ("vnc", "serial", 6),
        ("spice", "novnc", 6),
        ("rdp", "rdp-html5", 6),
        ("vnc", "xvpvnc", 6),
        ("mks", "webmks", 7),
        ("mks", "webmks", 8),
        ("spice", "spice-direct", 98),
        ("spice", "spice-direct", 99),
        ("serial", "serial", 104),
    ],
)
async def test_consoles_nobody_has(cloud: Cloud, protocol: str, kind: str, version: int) -> None:
    client, sid = cloud.client("member", f"2.{version}"), await running(cloud)
    wanted = {"remote_console": {"protocol": protocol, "type": kind}}
    answer = await client.post(f"/v2.1/servers/{sid}/remote-consoles", json=wanted)
    assert answer.status == 400, answer.text


async def test_consoles_before_they_were_a_resource(cloud: Cloud, agent: FakeAgent) -> None:
    client, sid = cloud.client("member", "2.5"), await running(cloud)
    server = cloud.cell1.db.run_sync(servers.get, sid)
    assert server is not None
    agent.adopt(server)
    path = f"/v2.1/servers/{sid}/action"
    made = need(await client.post(path, json={"os-getVNCConsole": {"type": "novnc"}}))["console"]
    assert (made["type"], "token" in made["url"]) == ("novnc", True)
    for action, kind in (
        ("os-getVNCConsole", "xvpvnc"),
        ("os-getSPICEConsole", "spice-html5"),
        ("os-getSerialConsole", "serial"),
        ("os-getVNCConsole", "other"),
        ("os-getRDPConsole", "rdp-html5"),
        ("os-getRDPConsole", "other"),
    ):
        assert (await client.post(path, json={action: {"type": kind}})).status == 400
    gone = await client.post(path, json={"os-getVNCConsole": {"type": "novnc"}}, version="2.6")
    assert gone.status == 404
    early = await client.post(f"/v2.1/servers/{sid}/remote-consoles", json={})
    assert early.status == 404


async def test_a_spice_console_and_a_host_that_is_down() -> None:
    plain = Settings()
    spice = msgspec.structs.replace(plain.spice, enabled=True)
    cloud = Cloud(msgspec.structs.replace(plain, spice=spice))
    client, sid = cloud.client("member", "2.104"), await running(cloud)
    wanted = {"remote_console": {"protocol": "spice", "type": "spice-direct"}}
    path = f"/v2.1/servers/{sid}/remote-consoles"
    assert (await client.post(path, json=wanted)).status == 409
    agent = FakeAgent(cloud)
    await agent.start()
    server = cloud.cell1.db.run_sync(servers.get, sid)
    assert server is not None
    agent.adopt(server)
    url = need(await client.post(path, json=wanted))["remote_console"]["url"]
    assert url.startswith("http://127.0.0.1:13002/nova?token=")
    token = url.partition("token=")[2]
    told = await cloud.client("admin", "2.104").get(f"/v2.1/os-console-auth-tokens/{token}")
    assert need(told)["console"]["tls_port"] is None
    cloud.close()


async def test_tokens_are_pruned_with_their_server(cloud: Cloud) -> None:
    row = ConsoleToken(
        IMAGE, "novnc", "h", 1, None, "u", cloud.clock.now() + dt.timedelta(seconds=5)
    )
    cloud.cell1.db.run_sync(consoles.add, "t", row)
    cloud.cell1.db.run_sync(consoles.forget, IMAGE)
    now = cloud.clock.now()
    assert cloud.cell1.db.run_sync(consoles.get, "t", now=now) is None


# --- counters, topology, passwords ------------------------------------------------------------


async def test_diagnostics(cloud: Cloud, agent: FakeAgent) -> None:
    admin, sid = cloud.client("admin", "2.48"), await running(cloud)
    path = f"/v2.1/servers/{sid}/diagnostics"
    server = cloud.cell1.db.run_sync(servers.get, sid)
    assert server is not None
    agent.adopt(server)
    told = need(await admin.get(path))
    assert (told["num_cpus"], told["num_nics"], told["num_disks"]) == (1, 1, 1)
    assert (told["state"], told["memory_details"]) == ("running", {"maximum": 512, "used": 512})
    assert told["nic_details"][0]["mac_address"] == NIC.mac
    assert told["disk_details"][0]["read_requests"] == 112
    old = need(await admin.get(path, version="2.47"))
    assert (old["vda_read_req"], old["memory"], old["cpu0_time"]) == (112, 512 << 10, 17300000000)
    assert (await admin.get(path + "?a=b", version="2.102")).status == 400
    assert (await cloud.client("member", "2.48").get(path)).status == 403
    cloud.finish(sid, VmState.STOPPED, PowerState.SHUTDOWN)
    assert (await admin.get(path)).status == 409


async def test_diagnostics_of_a_host_that_is_down(cloud: Cloud) -> None:
    admin, sid = cloud.client("admin", "2.48"), await running(cloud)
    assert (await admin.get(f"/v2.1/servers/{sid}/diagnostics")).status == 409


async def test_topology(cloud: Cloud) -> None:
    client, sid = cloud.client("member", "2.78"), await running(cloud)
    path = f"/v2.1/servers/{sid}/topology"
    assert need(await client.get(path)) == {"nodes": [], "pagesize_kb": None}

    def numa(tx: Tx) -> None:
        server = servers.get(tx, sid)
        assert server is not None
        specs = {"hw:numa_nodes": "2", "hw:numa_cpus.0": "0-2,^1", "hw:numa_mem.0": "300"}
        specs |= {"hw:numa_cpus.1": "1,3", "hw:numa_mem.1": "212"}
        flavor = msgspec.structs.replace(server.flavor, vcpus=4, memory_mb=512, extra_specs=specs)
        servers.update(tx, sid, now=cloud.clock.now(), flavor=flavor)

    cloud.cell1.db.run_sync(numa)
    first, second = need(await client.get(path))["nodes"]
    assert first == {"vcpu_set": [0, 2], "siblings": [], "memory_mb": 300}
    assert second == {"vcpu_set": [1, 3], "siblings": [], "memory_mb": 212}
    seen = need(await cloud.client("admin", "2.78").get(path))["nodes"]
    assert seen[0]["cpu_pinning"] == {}

    def hold(tx: Tx) -> None:
        server = servers.get(tx, sid)
        assert server is not None
        cell = GuestCell(0, 512, pcpus=frozenset({0, 1}), page_kb=2048, host_cell=1)
        placed = msgspec.structs.replace(cell, pins=((0, 4), (1, 6)))
        held = Held(GuestTopology((placed,), "dedicated"))
        row = {"server_id": sid, "host": server.host, "held": held}
        tx.execute(cell_tables.guest_holds.insert().values(row))

    cloud.cell1.db.run_sync(hold)
    told = need(await cloud.client("admin", "2.78").get(path))
    assert told == {
        "nodes": [
            {
                "vcpu_set": [0, 1],
                "siblings": [],
                "memory_mb": 512,
                "cpu_pinning": {"0": 4, "1": 6},
                "host_node": 1,
            }
        ],
        "pagesize_kb": 2048,
    }
    assert "host_node" not in need(await client.get(path))["nodes"][0]
    assert (await client.get(path, version="2.77")).status == 404


async def test_server_password(cloud: Cloud) -> None:
    client, sid = cloud.client(), await running(cloud)
    path = f"/v2.1/servers/{sid}/os-server-password"
    assert need(await client.get(path)) == {"password": ""}
    now = cloud.clock.now()
    cloud.cell1.db.run_sync(servers.note, sid, "password", "secret", now=now)
    assert need(await client.get(path)) == {"password": "secret"}
    assert (await cloud.client("reader").delete(path)).status == 403
    need(await client.delete(path), 204)
    assert need(await client.get(path)) == {"password": ""}


async def test_shares(cloud: Cloud) -> None:
    client, sid = cloud.client("member", "2.97"), await running(cloud)
    path = f"/v2.1/servers/{sid}/shares"
    assert need(await client.get(path)) == {"shares": []}
    wanted = {"share": {"share_id": IMAGE, "tag": "mine"}}
    assert (await client.post(path, json=wanted)).status == 409
    assert (await client.delete(f"{path}/{IMAGE}")).status == 409
    cloud.finish(sid, VmState.STOPPED, PowerState.SHUTDOWN)
    assert (await client.post(path, json=wanted)).status == 409
    assert (await client.post(path, json={"share": {"share_id": "x"}})).status == 400
    assert (await client.get(f"{path}/{IMAGE}")).status == 404
    assert (await client.get(f"{path}/x")).status == 400
    assert (await client.delete(f"{path}/{IMAGE}")).status == 404
    assert (await client.get(path, version="2.96")).status == 404


# --- security groups and addresses ------------------------------------------------------------


def give_port(cloud: Cloud, sid: str, **more: Any) -> dict[str, Any]:
    row = {
        "id": PORT,
        "device_id": sid,
        "network_id": NETWORK,
        "security_groups": ["66666666-0000-4000-8000-000000000000"],
        "fixed_ips": [{"ip_address": "10.0.0.5", "subnet_id": SUBNET}],
        **more,
    }
    return cloud.documents.put("ports", row)


async def test_security_groups_of_a_server(cloud: Cloud) -> None:
    client, sid = cloud.client(), await running(cloud)
    path, act = f"/v2.1/servers/{sid}/os-security-groups", f"/v2.1/servers/{sid}/action"
    add, remove = {"addSecurityGroup": {"name": "web"}}, {"removeSecurityGroup": {"name": GROUP}}
    assert (await client.post(act, json=add)).status == 400
    port = give_port(cloud, sid)
    assert (await client.post(act, json=remove)).status == 404
    need(await client.post(act, json=add), 202)
    need(await client.post(act, json=add), 202)
    assert port["security_groups"][1:] == [GROUP]
    listed = need(await client.get(path))["security_groups"]
    assert [group["name"] for group in listed] == ["default", "web"]
    shown = need(await client.get(f"/v2.1/servers/{sid}"))["server"]["security_groups"]
    assert shown == [{"name": "default"}, {"name": "web"}]
    need(await client.post(act, json=remove), 202)
    assert len(port["security_groups"]) == 1
    nothing = {"addSecurityGroup": {"name": "nogroup"}}
    assert (await client.post(act, json=nothing)).status == 404
    assert (await client.post(act, json={"addSecurityGroup": {}})).status == 400
    cloud.documents.put("security-groups", {"id": IMAGE, "name": "web", "tenant_id": PROJECT})
    assert (await client.post(act, json=add)).status == 409
    port["port_security_enabled"] = False
    assert (await client.post(act, json={"addSecurityGroup": {"name": GROUP}})).status == 400


async def test_fixed_and_floating_addresses(cloud: Cloud) -> None:
    client, sid = cloud.client("member", "2.43"), await running(cloud)
    act = f"/v2.1/servers/{sid}/action"
    floating = {"address": "172.24.4.20"}
    assert (await client.post(act, json={"addFloatingIp": floating})).status == 400
    port = give_port(cloud, sid)
    assert (await client.post(act, json={"addFloatingIp": floating})).status == 404
    row = {"id": NEW, "floating_ip_address": "172.24.4.20", "port_id": None}
    cloud.documents.put("floatingips", row)
    assert (await client.post(act, json={"removeFloatingIp": floating})).status == 409
    other = {**floating, "fixed_address": "10.0.0.99"}
    assert (await client.post(act, json={"addFloatingIp": other})).status == 400
    need(await client.post(act, json={"addFloatingIp": floating}), 202)
    assert (row["port_id"], row["fixed_ip_address"]) == (PORT, "10.0.0.5")
    need(await client.post(act, json={"removeFloatingIp": floating}), 202)
    assert row["port_id"] is None

    assert (await client.post(act, json={"addFixedIp": {"networkId": IMAGE}})).status == 400
    cloud.documents.put("subnets", {"id": SUBNET, "network_id": NETWORK})
    need(await client.post(act, json={"addFixedIp": {"networkId": NETWORK}}), 202)
    assert port["fixed_ips"][1:] == [{"subnet_id": SUBNET}]
    port["fixed_ips"][1]["ip_address"] = "10.0.0.6"
    need(await client.post(act, json={"removeFixedIp": {"address": "10.0.0.6"}}), 202)
    assert len(port["fixed_ips"]) == 1
    assert (await client.post(act, json={"removeFixedIp": {"address": "10.0.0.6"}})).status == 400
    assert (await client.post(act, json={"removeFixedIp": {"address": "x"}})).status == 400
    locked = cloud.client("admin", "2.43")
    need(await locked.post(act, json={"lock": None}), 202)
    assert (await client.post(act, json={"addFixedIp": {"networkId": NETWORK}})).status == 409
    for action in ("addFixedIp", "removeFixedIp", "addFloatingIp", "removeFloatingIp"):
        answer = await client.post(act, json={action: floating}, version="2.44")
        assert answer.status == 404


async def test_old_security_groups(cloud: Cloud) -> None:
    client = cloud.client("member", "2.35")
    root, rules = "/v2.1/os-security-groups", "/v2.1/os-security-group-rules"
    assert len(need(await client.get(root))["security_groups"]) == 2
    assert len(need(await client.get(f"{root}?limit=1&offset=1"))["security_groups"]) == 1
    given = {"security_group": {"name": "db", "description": "d"}}
    made = need(await client.post(root, json=given))["security_group"]
    path = f"{root}/{made['id']}"
    assert made["rules"] == []
    rule = {"parent_group_id": made["id"], "ip_protocol": "tcp", "from_port": 22, "to_port": "22"}
    new = need(await client.post(rules, json={"security_group_rule": rule}))["security_group_rule"]
    assert (new["ip_range"], new["group"]) == ({"cidr": "0.0.0.0/0"}, {})
    from_group = {**rule, "group_id": GROUP, "ip_protocol": "icmp", "from_port": -1, "to_port": -1}
    other = need(await client.post(rules, json={"security_group_rule": from_group}))
    assert other["security_group_rule"]["group"] == {"name": "web", "tenant_id": PROJECT}
    assert (other["security_group_rule"]["from_port"], new["to_port"]) == (-1, 22)
    shown = need(await client.get(path))["security_group"]
    assert len(shown["rules"]) == 2
    for wrong in (
        {"ip_protocol": "gre"},
        {"from_port": 23},
        {"from_port": None},
        {"cidr": "ten"},
        {"ip_protocol": None},
        {"to_port": 70000},
    ):
        answer = await client.post(rules, json={"security_group_rule": {**rule, **wrong}})
        assert answer.status == 400, wrong
    nowhere = {**rule, "parent_group_id": IMAGE}
    assert (await client.post(rules, json={"security_group_rule": nowhere})).status == 404
    changed = {"security_group": {"name": "db2", "description": ""}}
    assert need(await client.put(path, json=changed))["security_group"]["name"] == "db2"
    empty = {"security_group": {"name": " ", "description": ""}}
    assert (await client.post(root, json=empty)).status == 400
    need(await client.delete(f"{rules}/{new['id']}"), 202)
    assert (await client.delete(f"{rules}/{IMAGE}")).status == 404
    assert (await client.delete(f"{rules}/x")).status == 400
    need(await client.delete(path), 202)
    assert (await client.get(path)).status == 404
    assert (await client.get(f"{root}/x")).status == 400
    assert (await client.get(root, version="2.36")).status == 404


async def test_an_address_that_is_taken(cloud: Cloud) -> None:
    client, sid = cloud.client("member", "2.104"), await running(cloud)
    taken = msgspec.structs.replace(
        cloud.networks.made[PORT], device_id=IMAGE, ips=(("10.0.0.77", SUBNET),)
    )
    cloud.networks.made[PORT] = taken
    told = f"Fixed IP address 10.0.0.77 is already in use on instance {IMAGE}."
    address = {"fixed_ips": [{"ip_address": "10.0.0.77"}]}
    answer = await attach(cloud, client, sid, {"net_id": NETWORK, **address})
    assert (answer.status, told in answer.text) == (400, True)
    wanted = {"uuid": NETWORK, "fixed_ip": "10.0.0.77"}
    answer = await client.post("/v2.1/servers", json=body(networks=[wanted]))
    assert (answer.status, told in answer.text) == (400, True)
    wanted["fixed_ip"] = "10.0.0.78"
    need(await client.post("/v2.1/servers", json=body(networks=[wanted])), 202)


async def test_each_event_has_a_code_of_its_own(cloud: Cloud) -> None:
    sid = await running(cloud)
    waiting = (await cloud.client().post("/v2.1/servers", json=body())).json()["server"]["id"]
    admin = cloud.client("admin", "2.93")

    async def tell(*events: tuple[str, str, dict[str, str]]) -> tuple[int, list[tuple[str, int]]]:
        given = [{"name": name, "server_uuid": uuid, **more} for name, uuid, more in events]
        answer = await admin.post("/v2.1/os-server-external-events", json={"events": given})
        told = answer.json()["events"]
        assert [row["name"] for row in told] == [name for name, _, _ in events]
        return answer.status, [(row["status"], row["code"]) for row in told]

    good, lost = ("completed", 200), ("failed", 404)
    assert await tell(("network-changed", sid, {"status": "failed"})) == (200, [good])
    assert await tell(("network-changed", IMAGE, {})) == (207, [lost])
    codes = await tell(
        ("volume-extended", sid, {"tag": IMAGE}),
        ("volume-extended", sid, {}),
        ("power-update", sid, {}),
        ("network-changed", waiting, {}),
        ("volume-reimaged", IMAGE, {"tag": "x"}),
    )
    assert codes == (207, [good, ("failed", 400), ("failed", 400), ("failed", 422), lost])


async def test_a_port_that_ought_to_have_an_address(cloud: Cloud) -> None:
    client, sid = cloud.client("member", "2.104"), await running(cloud)
    for allocation, status in (("immediate", 400), ("none", 202), ("deferred", 202)):
        port = Port(NEW, NETWORK, PROJECT, "fa:16:3e:00:00:08", ip_allocation=allocation)
        cloud.networks.made[NEW] = port
        asked = body(networks=[{"port": NEW}])
        assert (await client.post("/v2.1/servers", json=asked)).status == status
        if status == 400:
            assert (await attach(cloud, client, sid, {"port_id": NEW})).status == 400
