"""The machines of a bare metal service, as old clients see them."""

from __future__ import annotations

import msgspec

from kilonova.clients.ironic import Ironic
from kilonova.clients.keystone import Endpoint
from kilonova.web.client import HttpClient
from tests.support import outside
from tests.support.cloud import Cloud

ROOT = "/v2.1/os-baremetal-nodes"
SERVER = "1ea4e53e-149a-4f02-9515-590c9fb2315a"


class Token:
    """A token source with the administrator's."""

    async def token(self) -> str:
        return "admin"

    async def endpoint(self, service_type: str, *, interface: str, region: str | None) -> str:
        raise AssertionError("the endpoint is given")

    def forget(self) -> None:
        """Nothing to forget."""


async def test_machines_are_those_of_the_service() -> None:
    cloud, http = Cloud(), HttpClient()
    with outside.Ironic() as ironic:
        machine = ironic.add("fa:16:3e:00:00:01", "fa:16:3e:00:00:02", instance_uuid=SERVER)
        others = [ironic.add(properties={}), ironic.add(provision_state="enroll")]
        service = Ironic(Endpoint(http, Token(), "baremetal", override=ironic.url))
        cloud.services = msgspec.structs.replace(cloud.services, bare_metal=service)
        cloud.app = cloud.build()
        admin = cloud.client("admin", "2.35")
        answer = await admin.get(ROOT)
        assert answer.status == 200, answer.text
        first, second, third = answer.json()["nodes"]
        plain = {"host": "IRONIC MANAGED", "interfaces": [], "task_state": "active"}
        sizes = {"cpus": "2", "memory_mb": "1024", "disk_gb": "10"}
        assert first == {"id": machine, **plain, **sizes}
        assert second == {"id": others[0], **plain, "cpus": "0", "memory_mb": "0", "disk_gb": "0"}
        assert third["task_state"] == "enroll"
        assert all(sent["x-auth-token"] == "admin" for sent in ironic.headers)
        shown = (await admin.get(f"{ROOT}/{machine}")).json()["node"]
        cards = [{"address": f"fa:16:3e:00:00:0{number}"} for number in (1, 2)]
        assert shown == {**first, "interfaces": cards, "instance_uuid": SERVER}
        assert (await admin.get(f"{ROOT}/{SERVER}")).status == 404
        assert (await cloud.client(version="2.35").get(ROOT)).status == 403
        assert (await admin.get(ROOT, version="2.36")).status == 404
        ironic.broken = True
        assert (await admin.get(ROOT)).status == 501
        assert (await admin.get(f"{ROOT}/{machine}")).status == 501
    assert (await admin.get(ROOT)).status == 501
    await http.close()
    cloud.close()


async def test_without_such_a_service() -> None:
    cloud = Cloud()
    admin = cloud.client("admin", "2.35")
    assert (await admin.get(ROOT)).status == 501
    assert (await admin.get(f"{ROOT}/1")).status == 501
    assert (await admin.post(ROOT, json={})).status == 400
    assert (await admin.delete(f"{ROOT}/1")).status == 400
    for action in ("add_interface", "remove_interface"):
        assert (await admin.post(f"{ROOT}/1/action", json={action: {}})).status == 400
    assert (await admin.get(ROOT, version="2.36")).status == 404
    cloud.close()
