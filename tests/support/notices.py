"""Doing to a simulated cloud everything that is told of, and reading what was told."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from typing import Any

import msgspec

from kilonova.base.clock import VirtualClock
from kilonova.messaging.notices import MemorySink
from kilonova.workflows.reconcilers.usage import UsageAudits
from tests.simulated.conftest import Simulated, until

OPTIONS = """
[DEFAULT]
compute_monitors = cpu.virt_driver
reclaim_instance_interval = 3600
update_resources_interval = 1
instance_usage_audit = true
instance_usage_audit_period = hour
[oslo_messaging_notifications]
driver = test
[notifications]
notification_format = both
notify_on_state_change = vm_and_task_state
bdms_in_notifications = true
"""


class Told(msgspec.Struct, frozen=True):
    """One notification as a listener gets it."""

    topic: str
    event: str
    publisher: str
    priority: str
    payload: Any
    message_id: str

    @property
    def data(self) -> dict[str, Any]:
        """The fields of a versioned payload."""
        found: dict[str, Any] = self.payload["nova_object.data"]
        return found


def read(pairs: Iterable[tuple[str, bytes]]) -> list[Told]:
    """Messages of a sink, out of their envelope."""
    made = []
    for topic, body in pairs:
        outer = json.loads(body)
        assert outer["oslo.version"] == "2.0"
        inner = json.loads(outer["oslo.message"])
        made.append(
            Told(
                topic,
                inner["event_type"],
                inner["publisher_id"],
                inner["priority"],
                inner["payload"],
                inner["message_id"],
            )
        )
    return made


def sink(simulated: Simulated) -> MemorySink:
    """Where the conductor of a cloud sends."""
    sender = simulated.conductor.sender
    assert sender is not None
    (found,) = sender.sinks
    assert isinstance(found, MemorySink)
    return found


async def told(simulated: Simulated, *, versioned: bool = True) -> list[Told]:
    """Everything that was told so far, of one form."""
    sender = simulated.conductor.sender
    assert sender is not None
    await sender.flush()
    begin = "versioned_notifications" if versioned else "notifications"
    return [one for one in read(sink(simulated).sent) if one.topic.startswith(f"{begin}.")]


async def of_server(simulated: Simulated, server_id: str) -> list[Told]:
    """What was told of a server, updates left out."""
    return [
        one
        for one in await told(simulated)
        if one.event != "instance.update" and one.data.get("uuid") == server_id
    ]


async def act(simulated: Simulated, server_id: str, body: dict[str, Any], becomes: str) -> None:
    """An action of a server, to its end."""
    answer = await simulated.ask("POST", f"/v2.1/servers/{server_id}/action", json=body, admin=True)
    assert answer.status == 202, answer.text
    await simulated.becomes(server_id, becomes)


async def life(simulated: Simulated) -> str:
    """A server that goes through everything that can be done to it; its id. It is gone then."""
    server_id = await simulated.create(
        "told", tags=["red"], metadata={"k": "v"}, key_name=await keypairs(simulated)
    )
    await simulated.becomes(server_id, "ACTIVE")
    for body, status in (
        ({"lock": {"locked_reason": "mine"}}, "ACTIVE"),
        ({"unlock": None}, "ACTIVE"),
        ({"reboot": {"type": "SOFT"}}, "ACTIVE"),
        ({"pause": None}, "PAUSED"),
        ({"unpause": None}, "ACTIVE"),
        ({"trigger_crash_dump": None}, "ACTIVE"),
        ({"suspend": None}, "SUSPENDED"),
        ({"resume": None}, "ACTIVE"),
        ({"shelve": None}, "SHELVED_OFFLOADED"),
        ({"unshelve": None}, "ACTIVE"),
        ({"os-stop": None}, "SHUTOFF"),
        ({"os-start": None}, "ACTIVE"),
    ):
        await act(simulated, server_id, body, status)
        await ended(simulated, server_id)
    await interfaces(simulated, server_id)
    await volumes(simulated, server_id)
    path = f"/v2.1/servers/{server_id}"
    assert (await simulated.ask("PUT", f"{path}/tags/blue")).status == 201
    assert (await simulated.ask("PUT", path, json={"server": {"name": "other"}})).status == 200
    await simulated.delete(server_id)
    await simulated.becomes(server_id, "SOFT_DELETED")
    await act(simulated, server_id, {"restore": None}, "ACTIVE")
    await gone(simulated, server_id)
    return server_id


async def gone(simulated: Simulated, *server_ids: str) -> None:
    """Delete servers at once."""
    for server_id in server_ids:
        path = f"/v2.1/servers/{server_id}/action"
        answer = await simulated.ask("POST", path, json={"forceDelete": None}, admin=True)
        assert answer.status == 202, answer.text
    for server_id in server_ids:
        await simulated.becomes(server_id, "GONE")


async def ended(simulated: Simulated, server_id: str) -> None:
    """Every action of the server is over."""
    path = f"/v2.1/servers/{server_id}/os-instance-actions"

    async def look() -> bool:
        found = (await simulated.ask("GET", path, admin=True)).json()["instanceActions"]
        shown = [await simulated.ask("GET", f"{path}/{a['request_id']}", admin=True) for a in found]
        events = [e for one in shown for e in one.json()["instanceAction"]["events"]]
        return all(event["finish_time"] is not None for event in events) and all(
            one.json()["instanceAction"]["events"]
            or one.json()["instanceAction"]["action"] in ("lock", "unlock")
            for one in shown
        )

    await until(look, within=60, what="actions over", pause=0.2)


async def keypairs(simulated: Simulated) -> str:
    """A generated key pair comes and goes, another stays; its name."""
    made = await simulated.ask(
        "POST",
        "/v2.1/os-keypairs",
        json={"keypair": {"name": "made", "type": "ssh"}},
    )
    assert made.status in (200, 201), made.text
    public = made.json()["keypair"]["public_key"]
    body = {"keypair": {"name": "given", "type": "ssh", "public_key": public}}
    assert (await simulated.ask("POST", "/v2.1/os-keypairs", json=body)).status in (200, 201)
    assert (await simulated.ask("DELETE", "/v2.1/os-keypairs/made")).status == 204
    return "given"


async def interfaces(simulated: Simulated, server_id: str) -> None:
    """One more network card comes and goes."""
    path = f"/v2.1/servers/{server_id}/os-interface"
    first = (await simulated.ask("GET", path)).json()["interfaceAttachments"]
    body = {"interfaceAttachment": {"net_id": first[0]["net_id"]}}
    made = await simulated.ask("POST", path, json=body)
    assert made.status == 200, made.text
    port = made.json()["interfaceAttachment"]["port_id"]
    await ended(simulated, server_id)
    assert (await simulated.ask("DELETE", f"{path}/{port}")).status == 202
    await ended(simulated, server_id)


async def volumes(simulated: Simulated, server_id: str) -> None:
    """A volume is attached, replaced by another, and detached."""
    one, other = await volume(simulated, "one"), await volume(simulated, "other")
    path = f"/v2.1/servers/{server_id}/os-volume_attachments"
    body = {"volumeAttachment": {"volumeId": one}}
    assert (await simulated.ask("POST", path, json=body)).status == 200
    await ended(simulated, server_id)
    body = {"volumeAttachment": {"volumeId": other}}
    swapped = await simulated.ask("PUT", f"{path}/{one}", json=body, admin=True)
    assert swapped.status == 202, swapped.text
    await ended(simulated, server_id)
    gone = await simulated.ask("DELETE", f"{path}/{other}")
    assert gone.status == 202, gone.text
    await ended(simulated, server_id)


async def volume(simulated: Simulated, name: str) -> str:
    """A new volume of one GiB."""
    project = await _project(simulated)
    path = f"/v3/{project}/volumes"
    body = {"volume": {"name": name, "size": 1}}
    made = await simulated.ask("POST", path, json=body, service="volume")
    assert made.status == 202, made.text
    volume_id = str(made.json()["volume"]["id"])

    async def ready() -> bool:
        shown = await simulated.ask("GET", f"{path}/{volume_id}", service="volume")
        return bool(shown.json()["volume"]["status"] == "available")

    await until(ready, within=30, what="volume")
    return volume_id


async def _project(simulated: Simulated) -> str:
    found = await simulated.ask("GET", "/v3/auth/tokens", service="identity")
    if found.status != 200:
        token = simulated.tokens["kilonova"]
        url = simulated.cloud.layout.url("identity", "/v3/auth/tokens")
        headers = {"X-Auth-Token": token, "X-Subject-Token": token}
        found = await simulated.cloud.http.request("GET", url, headers=headers)
    return str(found.json()["token"]["project"]["id"])


async def records(simulated: Simulated) -> None:
    """Aggregates, flavors, groups and services come, change and go."""
    number = await simulated.aggregate("told", {"k": "v"}, "fake-1")
    path = f"/v2.1/os-aggregates/{number}"
    await simulated.admin("PUT", path, {"aggregate": {"name": "told2"}})
    await simulated.admin("POST", f"{path}/images", {"cache": [{"id": simulated.image}]})
    await until(lambda: _kinds_have(simulated, "aggregate.cache_images.end"), within=30, what="end")
    await simulated.dissolve(number, "fake-1")
    flavor = await simulated.flavor("told", {"hw:cpu_policy": "shared"})
    await simulated.admin("DELETE", f"/v2.1/flavors/{flavor}")
    body = {"server_group": {"name": "g", "policy": "affinity"}}
    made = await simulated.ask("POST", "/v2.1/os-server-groups", json=body)
    group = made.json()["server_group"]["id"]
    member = await simulated.hinted("member", {"group": group}, networks="none")
    await simulated.becomes(member, "ACTIVE")
    await gone(simulated, member)
    assert (await simulated.ask("DELETE", f"/v2.1/os-server-groups/{group}")).status == 204
    found = await simulated.admin("GET", "/v2.1/os-services?host=fake-10&binary=nova-compute")
    service = f"/v2.1/os-services/{found['services'][0]['id']}"
    await simulated.admin("PUT", service, {"status": "disabled", "disabled_reason": "test"})
    await simulated.admin("PUT", service, {"status": "enabled"})
    await simulated.stop_agent("fake-10")
    await simulated.admin("DELETE", service)


async def troubles(simulated: Simulated) -> tuple[str, str]:
    """A server that no host can make, and one whose reboot fails; both are gone then."""
    simulated.world.fails("spawn", times=None, error="The disk is full.")
    lost = await simulated.create("lost")
    await simulated.becomes(lost, "ERROR")
    simulated.world.heals()
    stuck = await simulated.create("stuck")
    await simulated.becomes(stuck, "ACTIVE")
    simulated.world.fails("reboot", times=1, error="The guest hangs.")
    body = {"reboot": {"type": "HARD"}}
    answer = await simulated.ask("POST", f"/v2.1/servers/{stuck}/action", json=body)
    assert answer.status == 202
    await simulated.becomes(stuck, "ACTIVE", "ERROR")
    simulated.world.fails("attach_nic", times=1, error="No slot is free.")
    await simulated.ask("POST", f"/v2.1/servers/{stuck}/os-interface", json={})
    simulated.world.fails("attach_disk", times=1, error="No bus is free.")
    path = f"/v2.1/servers/{stuck}/os-volume_attachments"
    one, other = await volume(simulated, "x"), await volume(simulated, "y")
    await simulated.ask("POST", path, json={"volumeAttachment": {"volumeId": one}})
    await ended(simulated, stuck)
    await simulated.ask("POST", path, json={"volumeAttachment": {"volumeId": one}})
    await ended(simulated, stuck)
    simulated.world.fails("swap_disk", times=1, error="The disk is too slow.")
    await simulated.ask(
        "PUT", f"{path}/{one}", json={"volumeAttachment": {"volumeId": other}}, admin=True
    )
    await ended(simulated, stuck)
    simulated.world.heals()
    await gone(simulated, lost, stuck)
    return lost, stuck


async def audited(simulated: Simulated) -> dict[str, Any]:
    """A server that lives while an hour ends is counted; the log of that hour."""
    server_id = await simulated.create("counted", networks="none")
    await simulated.becomes(server_id, "ACTIVE")
    (cell,) = simulated.conductor.sources.cells.real
    later = VirtualClock(start=simulated.cloud.clock.now() + dt.timedelta(hours=1))
    audits = UsageAudits(cell=cell, clock=later, period="hour")
    assert await audits.reconcile() > 0
    assert await audits.reconcile() == 0
    await gone(simulated, server_id)
    before = later.now().strftime("%Y-%m-%d %H:%M:%S")
    path = f"/v2.1/os-instance_usage_audit_log/{before}"
    found = await simulated.ask("GET", path, admin=True)
    assert found.status == 200, found.text
    log: dict[str, Any] = found.json()["instance_usage_audit_log"]
    return log


async def _kinds_have(simulated: Simulated, event: str) -> bool:
    return any(one.event == event for one in await told(simulated))
