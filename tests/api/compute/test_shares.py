"""File shares of a server, with a Manila on a real port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from kilonova.clients.keystone import Endpoint
from kilonova.clients.manila import Manila
from kilonova.db.database import Tx
from kilonova.domain.guest import HostReport, PowerState
from kilonova.domain.states import VmState
from kilonova.store import nodes, servers, shares
from kilonova.web.client import HttpClient
from tests.support import outside
from tests.support.cloud import IMAGE, Cloud, body
from tests.support.compute import NOW

TRAITS = ("COMPUTE_MEM_BACKING_FILE", "COMPUTE_STORAGE_VIRTIO_FS")
NONE = "e8debdc0-447a-4376-a10a-4cd9122d7986"


class Token:
    """A token source with the administrator's."""

    async def token(self) -> str:
        return "admin"

    async def endpoint(self, service_type: str, *, interface: str, region: str | None) -> str:
        raise AssertionError("the endpoint is given")

    def forget(self) -> None:
        """Nothing to forget."""


class Place:
    """A cloud with such a service, and a server that is off."""

    def __init__(self, manila: outside.Manila, http: HttpClient) -> None:
        self.cloud = Cloud()
        self.manila = manila
        self.client = Manila(Endpoint(http, Token(), "shared-file-system", override=manila.url))
        self.cloud.services = msgspec.structs.replace(self.cloud.services, shares=self.client)
        self.cloud.app = self.cloud.build()
        self.server = ""

    def host(self, *traits: str) -> None:
        """What the server's host says of itself."""

        def write(tx: Tx) -> None:
            report = HostReport("n1", "fake", 1, 8, 8192, 100, traits=traits)
            (node,) = nodes.page(tx, host="h1")
            nodes.save(tx, uuid=node.uuid, host="h1", report=report, now=NOW)

        self.cloud.cell1.db.run_sync(write)

    async def make(self) -> str:
        """The server."""
        made = await self.cloud.client(version="2.97").post(
            "/v2.1/servers", json=body(networks="none")
        )
        self.server = str(made.json()["server"]["id"])
        self.cloud.run(self.server)
        self.state(VmState.STOPPED)
        return f"/v2.1/servers/{self.server}/shares"

    def state(self, vm_state: VmState) -> None:
        """Bring the server into a state."""
        self.cloud.finish(self.server, vm_state, PowerState.SHUTDOWN)

    def status(self, share_id: str, status: str) -> None:
        """What a conductor would have written."""
        self.cloud.cell1.db.run_sync(shares.set_status, self.server, share_id, status, now=NOW)
        self.cloud.end_sagas()


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    http = HttpClient()
    with outside.Manila() as manila:
        made = Place(manila, http)
        made.host(*TRAITS)
        yield made
        made.cloud.close()
    await http.close()


def ask(share_id: str, **more: Any) -> dict[str, Any]:
    return {"share": {"share_id": share_id, **more}}


async def test_a_share_comes_and_goes(place: Place) -> None:
    path = await place.make()
    one, two = place.manila.add("10.0.0.50:/mnt/foo"), place.manila.add()
    client, admin = (place.cloud.client(who, "2.97") for who in ("member", "admin"))
    answer = await client.post(path, json=ask(one, tag="mine"))
    assert answer.status == 201, answer.text
    shown = {"share_id": one, "status": "attaching", "tag": "mine"}
    assert answer.json() == {"share": shown}
    place.status(one, "inactive")
    answer = await admin.post(path, json=ask(two))
    made = answer.json()["share"]
    assert (made["tag"], made["export_location"]) == (two, "10.0.0.50:/mnt/foo")
    assert len(made["uuid"]) == 36
    place.status(two, "error")
    listed = (await admin.get(path)).json()["shares"]
    assert {row["share_id"]: row for row in listed} == {
        one: {"share_id": one, "status": "inactive", "tag": "mine"},
        two: {"share_id": two, "status": "error", "tag": two},
    }
    assert (await client.get(f"{path}/{one}")).json()["share"] == {**shown, "status": "inactive"}
    assert "export_location" in (await admin.get(f"{path}/{one}")).json()["share"]
    answer = await client.delete(f"{path}/{one}")
    assert (answer.status, answer.body) == (200, b"")
    assert (await client.get(f"{path}/{one}")).json()["share"]["status"] == "detaching"
    done = await admin.get(f"/v2.1/servers/{place.server}/os-instance-actions")
    names = [row["action"] for row in done.json()["instanceActions"]]
    assert (names.count("attach_share"), names.count("detach_share")) == (2, 1)
    assert all(sent["x-openstack-manila-api-version"] == "2.82" for sent in place.manila.headers)


async def test_what_is_refused(place: Place) -> None:
    path = await place.make()
    share = place.manila.add()
    client = place.cloud.client(version="2.97")
    for wrong, status in (
        (ask("x"), 400),
        (ask(share, tag="a b"), 400),
        (ask(share, tag=""), 400),
        (ask(share, more=1), 400),
        (ask(NONE), 404),
        (ask(place.manila.add(status="creating")), 409),
        (ask(place.manila.add(None)), 409),
        (ask(place.manila.add(share_proto="CIFS")), 409),
    ):
        answer = await client.post(path, json=wrong)
        assert answer.status == status, (wrong, answer.text)
    assert (await client.post(path, json=ask(share), version="2.96")).status == 404
    assert (await client.post(path, json=ask(share, tag="a"))).status == 201
    place.status(share, "inactive")
    assert (await client.post(path, json=ask(share, tag="b"))).status == 409
    assert (await client.post(path, json=ask(place.manila.add(), tag="a"))).status == 409
    assert (await client.get(f"{path}/{NONE}")).status == 404
    assert (await client.delete(f"{path}/{NONE}")).status == 404
    for who in ("reader", "other"):
        other = place.cloud.client(who, "2.97")
        assert (await other.post(path, json=ask(share))).status == (403 if who == "reader" else 404)
    place.manila.broken = True
    assert (await client.post(path, json=ask(place.manila.add()))).status == 404


async def test_states_of_the_server(place: Place) -> None:
    path = await place.make()
    share = place.manila.add()
    client = place.cloud.client(version="2.97")
    place.state(VmState.ACTIVE)
    assert (await client.post(path, json=ask(share))).status == 409
    assert (await client.delete(f"{path}/{share}")).status == 409
    place.state(VmState.STOPPED)
    assert (await client.post(path, json=ask(share))).status == 201
    place.status(share, "inactive")
    place.state(VmState.ACTIVE)
    assert (await client.delete(f"{path}/{share}")).status == 409
    place.state(VmState.ERROR)
    assert (await client.delete(f"{path}/{share}")).status == 200


@pytest.mark.parametrize(
    ("traits", "pages", "status"),
    [
        ((), False, 409),
        (TRAITS[:1], True, 409),
        (TRAITS[1:], False, 409),
        (TRAITS[1:], True, 201),
        (TRAITS, False, 201),
    ],
)
async def test_what_the_host_must_be_able_to(
    place: Place, traits: tuple[str, ...], pages: bool, status: int
) -> None:
    place.host(*traits)
    if pages:
        specs = {"extra_specs": {"hw:mem_page_size": "large"}}
        answer = await place.cloud.client("admin").post(
            "/v2.1/flavors/1/os-extra_specs", json=specs
        )
        assert answer.status == 200, answer.text
    path = await place.make()
    wanted = ask(place.manila.add())
    answer = await place.cloud.client(version="2.97").post(path, json=wanted)
    assert answer.status == status, answer.text


async def test_access_is_given_once_and_taken_with_its_lock(place: Place) -> None:
    share, manila = place.manila.add(), place.client
    looks = [await manila.grant(share, "10.0.0.1", reason="why") for _ in range(3)]
    assert looks == [False, True, True]
    assert place.manila.rules_of(share) == [("ip", "10.0.0.1", "rw")]
    (rule,) = place.manila.rules.values()
    locks = {"lock_visibility": True, "lock_deletion": True, "lock_reason": "why"}
    assert rule.items() >= locks.items()
    for _ in range(2):
        await manila.revoke(share, "10.0.0.1")
    assert place.manila.rules == {}
    await manila.revoke(NONE, "10.0.0.1")


async def test_what_servers_with_shares_cannot(place: Place) -> None:
    path = await place.make()
    share = place.manila.add()
    client = place.cloud.client("admin", "2.97")
    assert (await client.post(path, json=ask(share))).status == 201
    place.status(share, "inactive")
    action = path.replace("/shares", "/action")
    assert (await client.post(action, json={"migrate": None})).status == 409
    assert (await client.post(action, json={"rebuild": {"imageRef": IMAGE}})).status == 400
    for name, kind in shares.REFUSED.items():
        with pytest.raises(kind, match="file shares"):
            place.cloud.cell1.db.run_sync(servers.begin, place.server, name, task=None, now=NOW)
    place.cloud.cell1.db.run_sync(shares.drop, place.server)
    place.cloud.cell1.db.run_sync(servers.begin, place.server, "migrate", task=None, now=NOW)
