"""Every list of the Compute API asks the databases as often for many things as for few."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from kilonova.api.service import api
from kilonova.config.settings import Settings
from kilonova.db.database import Tx
from kilonova.db.tables import cell as tables
from kilonova.domain.guest import Disk, FixedIp, Nic
from kilonova.domain.resources import Migration
from kilonova.domain.server import Server
from kilonova.domain.states import VmState
from kilonova.interfaces.network import Port
from kilonova.store import actions, groups, migrations, quotas, servers
from kilonova.web.testing import Client
from tests.support.cloud import NETWORK, PROJECT
from tests.support.compute import NOW
from tests.support.counting import Watched, cost, length, same, unlisted
from tests.support.crowd import Crowd

FEW, MANY = 6, 30
# Path → (microversion, whether it grows with what `fill` makes).
LISTS: dict[str, str] = {
    "/servers": "2.104",
    "/servers/detail": "2.104",
    "/servers/{server_id}/ips": "2.104",
    "/servers/{server_id}/os-security-groups": "2.104",
    "/servers/{server_id}/os-interface": "2.104",
    "/servers/{server_id}/metadata": "2.104",
    "/servers/{server_id}/tags": "2.104",
    "/servers/{server_id}/os-volume_attachments": "2.104",
    "/servers/{server_id}/os-instance-actions": "2.104",
    "/servers/{server_id}/migrations": "2.104",
    "/os-migrations": "2.104",
    "/os-volumes": "2.35",
    "/os-volumes/detail": "2.35",
    "/os-snapshots": "2.35",
    "/os-snapshots/detail": "2.35",
    "/os-volumes_boot": "2.102",
    "/os-volumes_boot/detail": "2.102",
    "/flavors": "2.104",
    "/flavors/detail": "2.104",
    "/flavors/{flavor_id}/os-flavor-access": "2.104",
    "/flavors/{flavor_id}/os-extra_specs": "2.104",
    "/os-keypairs": "2.104",
    "/os-availability-zone": "2.104",
    "/os-availability-zone/detail": "2.104",
    "/os-services": "2.104",
    "/os-hypervisors": "2.104",
    "/os-hypervisors/detail": "2.104",
    "/os-hypervisors/{pattern}/search": "2.52",
    "/os-hypervisors/{pattern}/servers": "2.52",
    "/os-aggregates": "2.104",
    "/os-server-groups": "2.104",
    "/os-simple-tenant-usage": "2.104",
    "/os-instance_usage_audit_log": "2.104",
    "/os-security-groups": "2.35",
    "/os-networks": "2.35",
    "/os-tenant-networks": "2.35",
    "/os-floating-ip-pools": "2.35",
    "/os-floating-ips": "2.35",
    "/images": "2.35",
    "/images/detail": "2.35",
    "/os-hosts": "2.42",
}
# One thing each, or no rows of a database.
SINGLE = {
    "/servers/{server_id}/diagnostics",
    "/servers/{server_id}/topology",
    "/servers/{server_id}/os-server-password",
    "/servers/{server_id}/shares",
    "/os-hypervisors/statistics",
    "/os-hypervisors/{hypervisor_id}/uptime",
    "/limits",
    "/os-quota-sets/{project_id}/detail",
    "/os-quota-sets/{project_id}/defaults",
    "/images/{image_id}/metadata",
    "/os-hosts/{host}/reboot",
    "/os-hosts/{host}/shutdown",
    "/os-hosts/{host}/startup",
    "/os-baremetal-nodes",
    "/extensions",
    "/ext/audit",
    "/ext/openapi.json",
}
# Besides the lists, what one thing of much costs, and lists with more asked of them.
MORE = {
    "/servers/{server_id}": "2.104",
    "/flavors?is_public=None": "2.104",
    "/flavors/detail?is_public=None": "2.104",
    "/os-server-groups?all_projects=True": "2.104",
    "/servers/detail?all_tenants=1&tags-any=blue,red&ip=10&name=[a-w]": "2.104",
    "/servers/detail?all_tenants=1": "2.1",
    "/os-simple-tenant-usage?detailed=1&start=2025-01-01T00:00:00": "2.104",
    "/os-simple-tenant-usage/{project_id}?start=2025-01-01T00:00:00": "2.104",
    "/os-hypervisors/detail?with_servers=true": "2.104",
    "/os-hypervisors?with_servers=true": "2.104",
    "/os-hypervisors/{hypervisor_id}?with_servers=true": "2.104",
    "/os-hypervisors/statistics": "2.87",
    "/os-quota-sets/{project_id}/detail": "2.104",
    "/limits": "2.104",
    "/os-hosts/{host}": "2.42",
    "/os-aggregates/{aggregate_id}": "2.104",
    "/os-server-groups/{group_id}": "2.104",
    "/flavors/{flavor_id}": "2.104",
    "/os-instance_usage_audit_log/2026-01-31%2000:00:00": "2.104",
}


def test_no_list_is_forgotten() -> None:
    assert unlisted(api(), LISTS, SINGLE) == set()


class Full(Crowd):
    """A crowd with ``count`` of everything, and the names paths need."""

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir()
        plain = Settings()
        default = msgspec.structs.replace(plain.default, instance_usage_audit=True)
        settings = msgspec.structs.replace(plain, default=default)
        super().__init__(folder, count * 3, hosts=count, settings=settings)
        self.count = count
        self.calls: list[str] = []
        self.names: dict[str, str] = {"project_id": PROJECT, "pattern": "h", "host": "h0-0"}
        volumes = Volumes(count)
        kept = self.services
        watched = msgspec.structs.replace(
            kept,
            images=Watched(kept.images, self.calls),
            networks=Watched(kept.networks, self.calls),
            volumes=Watched(volumes, self.calls),
            documents=Watched(kept.documents, self.calls),
            image_documents=Watched(kept.image_documents, self.calls),
        )
        self.asgi = self.build(watched)

    def at(self, version: str) -> Client:
        """The administrator."""
        return Client(self.asgi, token="admin", version=version)

    async def rest(self) -> None:
        """Make the rest."""
        chosen = next(
            s for s in self.everyone
            if s.host and s.host.startswith("h0-") and s.vm_state == VmState.ACTIVE
            and s.project_id == PROJECT
        )  # fmt: skip
        self.names["server_id"] = chosen.id
        self.cell1.db.run_sync(self._rows_of, chosen)
        self._neighbours(chosen)
        client = self.at("2.104")
        self.db.run_sync(quotas.set_limits, {"server_groups": -1}, PROJECT)
        await self._flavors(client)
        for number in range(self.count):
            await _post(client, "/os-aggregates", aggregate={"name": f"a{number}"})
            group = {"name": f"g{number}", "policy": "soft-affinity"}
            made = await _post(client, "/os-server-groups", server_group=group)
            self.names["group_id"] = made["server_group"]["id"]
            pair = {"keypair": {"name": f"k{number}"}}
            assert (await client.post("/v2.1/os-keypairs", json=pair, version="2.35")).status == 201
        for number in range(self.count):
            host = {"add_host": {"host": f"h0-{number}"}}
            path = f"/v2.1/os-aggregates/{number + 1}/action"
            assert (await client.post(path, json=host)).status == 200
            if number:
                path = "/v2.1/os-aggregates/1/action"
                assert (await client.post(path, json=host)).status == 200
        self.names["aggregate_id"] = "1"
        self.db.run_sync(self._members)
        listed = (await client.get("/v2.1/os-hypervisors")).json()["hypervisors"]
        self.names["hypervisor_id"] = listed[0]["id"]

    async def _flavors(self, client: Client) -> None:
        for number in range(self.count):
            flavor = {"name": f"f{number}", "id": f"f{number}", "ram": 1, "vcpus": 1, "disk": 1}
            flavor["os-flavor-access:is_public"] = False
            await _post(client, "/flavors", flavor=flavor)
            access = {"addTenantAccess": {"tenant": f"{number:032x}"}}
            assert (await client.post("/v2.1/flavors/f0/action", json=access)).status == 200
            specs = {"extra_specs": {f"own:k{number}": "v"}}
            answer = await client.post("/v2.1/flavors/f0/os-extra_specs", json=specs)
            assert answer.status == 200, answer.text
        self.names["flavor_id"] = "f0"

    def _members(self, tx: Tx) -> None:
        own = [server.id for server in self.everyone[: self.count]]
        groups.add_members(tx, self.names["group_id"], own, limit=-1)
        for number in range(self.count):
            quotas.set_limits(tx, {"cores": number}, PROJECT, f"user{number}")

    def _rows_of(self, tx: Tx, server: Server) -> None:
        tags = tuple(f"t{number}" for number in range(self.count))
        table = {f"k{number}": "v" for number in range(self.count)}
        servers.update(tx, server.id, now=NOW, tags=tags, metadata=table)
        servers.set_nics(tx, server.id, [_nic(number) for number in range(self.count)], now=NOW)
        for number in range(self.count):
            disk = Disk(f"d{number}", "data", "volume", f"vd{number}", volume_id=_id(8, number))
            row = {"server_id": server.id, "position": number, "volume_id": _id(8, number)}
            tx.execute(tables.disks.insert(), {**row, "delete_on_termination": True, "disk": disk})
            word = f"req-{number}"
            actions.start(
                tx,
                server.id,
                "reboot",
                request_id=word,
                user_id="u",
                project_id=PROJECT,
                now=NOW,
            )
            actions.start_event(tx, server.id, word, "compute_reboot", now=NOW)
            migrations.add(tx, _migration(server.id, number))

    def _neighbours(self, server: Server) -> None:
        for number in range(self.count):
            port = {
                "id": _id(3, number), "device_id": server.id, "network_id": NETWORK,
                "tenant_id": PROJECT, "mac_address": f"fa:16:3e:00:00:{number:02x}",
                "port_state": "ACTIVE", "status": "ACTIVE", "device_owner": "compute:az0",
                "fixed_ips": [{"subnet_id": "s1", "ip_address": f"10.9.0.{number}"}],
                "security_groups": [_id(6, number)],
            }  # fmt: skip
            self.documents.put("ports", port)
            mac = f"fa:16:3e:00:00:{number:02x}"
            self.networks.made[_id(3, number)] = Port(
                _id(3, number), NETWORK, PROJECT, mac, device_id=server.id
            )
            group: dict[str, Any] = {"id": _id(6, number), "name": f"g{number}", "description": ""}
            rules = [{
                "id": _id(7, number), "direction": "ingress", "ethertype": "IPv4",
                "protocol": "tcp", "port_range_min": 1, "port_range_max": 2,
                "remote_ip_prefix": None, "remote_group_id": _id(6, 0),
                "security_group_id": _id(6, number), "tenant_id": PROJECT,
            }]  # fmt: skip
            group.update(tenant_id=PROJECT, security_group_rules=rules)
            self.documents.put("security-groups", group)
            network: dict[str, Any] = {
                "id": _id(5, number),
                "name": f"n{number}",
                "tenant_id": PROJECT,
            }
            network.update({"router:external": True, "subnets": []})
            self.documents.put("networks", network)
            address = {
                "id": _id(4, number), "floating_ip_address": f"172.24.4.{number}",
                "floating_network_id": _id(5, number), "port_id": _id(3, number),
                "fixed_ip_address": f"10.9.0.{number}", "tenant_id": PROJECT, "status": "ACTIVE",
            }  # fmt: skip
            self.documents.put("floatingips", address)
            self.image_documents.put(_id(9, number), name=f"i{number}")


class Volumes:
    """A block storage service that has ``count`` of everything."""

    def __init__(self, count: int) -> None:
        self.count = count

    async def proxy(self, method: str, path: str, *, token: str, **_more: Any) -> Any:
        name = "snapshots" if "snapshots" in path else "volumes"
        return {name: [_volume(number) for number in range(self.count)]}


def _volume(number: int) -> dict[str, Any]:
    return {
        "id": _id(8, number), "status": "available", "size": 1, "created_at": "2026-01-31T12:00:00",
        "name": "v", "description": None, "volume_type": "x", "availability_zone": "nova",
        "attachments": [], "metadata": {}, "snapshot_id": None, "volume_id": _id(8, number),
    }  # fmt: skip


def _id(kind: int, number: int) -> str:
    return f"{kind:08d}-0000-4000-8000-{number:012d}"


def _nic(number: int) -> Nic:
    mac = f"fa:16:3e:00:00:{number:02x}"
    ips = (FixedIp(f"10.9.0.{number}", "s1", "10.9.0.0/24"),)
    label = f"net{number}"
    return Nic(port_id=_id(3, number), mac=mac, network_id=NETWORK, network_label=label, ips=ips)


def _migration(server_id: str, number: int) -> Migration:
    return Migration(
        id=0,
        uuid=_id(2, number),
        server_id=server_id,
        type="live-migration",
        status="running",
        project_id=PROJECT,
        user_id="fake",
        source_host="h1",
        source_node="n1",
        dest_host="h2",
        dest_node="n2",
        old_flavor_id=1,
        new_flavor_id=1,
        created_at=NOW,
        updated_at=NOW,
        data={"dest_host": "192.0.2.2"},
    )


async def _post(client: Client, path: str, **body: Any) -> Any:
    answer = await client.post(f"/v2.1{path}", json=body)
    assert answer.status in (200, 201), (path, answer.text)
    return answer.json()


async def costs(folder: Path, count: int) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Path → statements and calls of neighbours; path → length of the answer."""
    full = Full(folder, count)
    try:
        await full.rest()
        found, lengths = {}, {}
        for path, version in {**LISTS, **MORE}.items():
            where = path.format(**full.names)
            found[path], body = await cost(full.at(version), f"/v2.1{where}", full.calls)
            lengths[path] = length(body)
        return found, lengths
    finally:
        full.close()


# Answers about one thing, or with as many rows as there are projects or zones.
SHORT = {
    "/os-availability-zone", "/os-hypervisors/statistics", "/limits", "/os-simple-tenant-usage",
    "/os-quota-sets/{project_id}/detail", "/flavors", "/flavors/detail", "/os-hosts/{host}",
    "/os-hypervisors/{hypervisor_id}?with_servers=true",
}  # fmt: skip


@pytest.mark.timeout(300)
async def test_many_cost_what_few_cost(tmp_path: Path) -> None:
    few, _ = await costs(tmp_path / "few", FEW)
    many, lengths = await costs(tmp_path / "many", MANY)
    assert same(few, many) == {}
    short = {path for path, number in lengths.items() if number < MANY}
    assert short <= SHORT, {path: lengths[path] for path in short - SHORT}
