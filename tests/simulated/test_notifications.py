"""Everything that happens in a cloud is told, in order, in both forms."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kilonova.domain.agent import DriverAway
from kilonova.notifications.table import TABLE
from tests.simulated.conftest import OWN, Simulated, until
from tests.support import moving, notices
from tests.support.notices import Told
from tests.support.outside import Manila

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

KINDS = Path(__file__).parent / "notifications.txt"
"""The kinds this conversation has caused. It only grows."""
LIFE = """
create.start create.end lock unlock reboot.start reboot.end pause.start pause.end unpause.start
unpause.end trigger_crash_dump.start trigger_crash_dump.end suspend.start suspend.end resume.start
resume.end shelve.start shelve.end shelve_offload.start shelve_offload.end unshelve.start
unshelve.end power_off.start power_off.end power_on.start power_on.end interface_attach.start
interface_attach.end interface_detach.start interface_detach.end volume_attach.start
volume_attach.end volume_swap.start volume_swap.end volume_detach.start volume_detach.end
soft_delete.start soft_delete.end restore.start restore.end delete.start shutdown.start
shutdown.end delete.end
"""


@pytest.fixture(scope="module")
def shares() -> Iterator[Manila]:
    with Manila() as made:
        yield made


@pytest.fixture(scope="module")
def own(shares: Manila) -> dict[str, str]:
    manila = f"[manila]\nendpoint_override = {shares.url}\n"
    return {"kilonova.conf": OWN + notices.OPTIONS + manila}


def _one(told: list[Told], event: str) -> Told:
    (found,) = [one for one in told if one.event == event]
    return found


async def test_the_life_of_a_server(simulated: Simulated) -> None:
    server_id = await notices.life(simulated)
    told = await notices.of_server(simulated, server_id)
    assert [one.event.removeprefix("instance.") for one in told] == LIFE.split()
    made = _one(told, "instance.create.end")
    assert made.topic == "versioned_notifications.info"
    assert made.publisher.startswith("nova-compute:fake-")
    data = made.data
    assert (data["state"], data["task_state"], data["power_state"]) == ("active", None, "running")
    assert (data["tags"], data["metadata"], data["key_name"]) == (["red"], {"k": "v"}, "given")
    assert data["keypairs"][0]["nova_object.data"]["name"] == "given"
    (card,) = data["ip_addresses"]
    assert card["nova_object.data"]["port_uuid"]
    assert data["request_id"].startswith("req-")
    assert data["action_initiator_user"] == data["user_id"]
    assert _one(told, "instance.lock").publisher.startswith("nova-api:")
    assert _one(told, "instance.lock").data["locked_reason"] == "mine"
    attached = _one(told, "instance.volume_attach.end").data
    assert [row["nova_object.data"]["volume_id"] for row in attached["block_devices"]] == [
        attached["volume_id"]
    ]
    swapped = _one(told, "instance.volume_swap.end").data
    assert swapped["old_volume_id"] == attached["volume_id"] != swapped["new_volume_id"]
    assert _one(told, "instance.delete.end").data["state"] == "deleted"
    assert len({one.message_id for one in told}) == len(told)


async def test_states_are_told(simulated: Simulated) -> None:
    updates = [
        one.data
        for one in await notices.told(simulated)
        if one.event == "instance.update" and one.data["display_name"] == "told"
    ]
    states = [one["state_update"]["nova_object.data"] for one in updates]
    assert states[0] == {
        "old_state": None,
        "state": "building",
        "old_task_state": None,
        "new_task_state": "scheduling",
    }
    tasks = [(one["old_task_state"], one["new_task_state"]) for one in states]
    for pair in (("scheduling", "networking"), ("spawning", None), (None, "powering-off")):
        assert pair in tasks
    vm = [(one["old_state"], one["state"]) for one in states if one["old_state"] != one["state"]]
    assert ("building", "active") in vm
    assert ("active", "stopped") in vm
    renamed = [
        one.data["old_display_name"]
        for one in await notices.told(simulated)
        if one.event == "instance.update" and one.data["old_display_name"]
    ]
    assert renamed == ["told"]


async def test_records(simulated: Simulated) -> None:
    await notices.records(simulated)
    told = await notices.told(simulated)
    begun = _one(told, "aggregate.create.start")
    assert (begun.data["id"], begun.data["hosts"], begun.data["name"]) == (None, None, "told")
    assert _one(told, "aggregate.add_host.end").data["hosts"] == ["fake-1"]
    cached = _one(told, "aggregate.cache_images.progress")
    assert (cached.data["host"], cached.data["index"], cached.data["total"]) == ("fake-1", 1, 1)
    assert _one(told, "flavor.update").data["extra_specs"] == {"hw:cpu_policy": "shared"}
    assert _one(told, "server_group.add_member").data["members"]
    off, on = [one for one in told if one.event == "service.update"]
    assert (off.data["disabled"], off.data["disabled_reason"]) == (True, "test")
    assert (on.data["disabled"], on.publisher) == (False, "nova-compute:fake-10")


async def test_troubles(simulated: Simulated) -> None:
    lost, stuck = await notices.troubles(simulated)
    told = await notices.told(simulated)
    task = _one(told, "compute_task.build_instances.error")
    assert (task.data["instance_uuid"], task.data["state"]) == (lost, "error")
    assert (task.priority, task.topic) == ("ERROR", "versioned_notifications.error")
    events = [one.event for one in told if one.data.get("uuid") == lost]
    assert events.count("instance.create.error") == events.count("instance.create.start") > 0
    failed = next(one for one in told if one.event == "instance.reboot.error")
    assert failed.data["uuid"] == stuck
    assert "hangs" in failed.data["fault"]["nova_object.data"]["exception_message"]
    assert any(one.event == "compute.exception" for one in told)


async def test_a_hypervisor_that_is_away(simulated: Simulated) -> None:
    away = DriverAway("fake-2", "10.0.0.2", "libvirt.LibvirtDriver", "It is not there.")
    await simulated.conductor.agents.driver_away(away)
    told = _one(await notices.told(simulated), "libvirt.connect.error")
    assert (told.data["ip"], told.publisher) == ("10.0.0.2", "nova-compute:fake-2")
    assert told.priority == "ERROR"


async def test_volume_usage(simulated: Simulated) -> None:
    server_id = await simulated.create("reader", networks="none")
    await simulated.becomes(server_id, "ACTIVE")
    volume = await notices.volume(simulated, "read")
    path = f"/v2.1/servers/{server_id}/os-volume_attachments"
    await simulated.ask("POST", path, json={"volumeAttachment": {"volumeId": volume}})
    await notices.ended(simulated, server_id)
    assert await simulated.conductor.volume_usages.reconcile() == 1
    told = _one(await notices.told(simulated), "volume.usage")
    assert (told.data["volume_id"], told.data["instance_uuid"]) == (volume, server_id)
    assert told.data["reads"] > 0
    await notices.gone(simulated, server_id)


async def test_audits(simulated: Simulated) -> None:
    log = await notices.audited(simulated)
    assert log["overall_status"] == "ALL hosts done. 0 errors."
    assert (log["num_hosts_done"], log["hosts_not_run"]) == (log["num_hosts"], [])
    told = [one for one in await notices.told(simulated) if one.event == "instance.exists"]
    assert len(told) == log["total_instances"] > 0
    counted = next(one for one in told if one.data["display_name"] == "counted")
    period = counted.data["audit_period"]["nova_object.data"]
    assert period["audit_period_ending"].replace("T", " ").rstrip("Z") == log["period_ending"]


async def test_guests_that_move(simulated: Simulated) -> None:
    server = await simulated.create("mover", networks="none")
    host = (await simulated.becomes(server, "ACTIVE"))["OS-EXT-SRV-ATTR:host"]
    path = f"/v2.1/servers/{server}"
    go = {"os-migrateLive": {"host": None, "block_migration": "auto"}}
    simulated.world.takes("live_move", 600, server=server)
    for force in (False, True):
        await simulated.admin("POST", f"{path}/action", go)

        async def look() -> int:
            found = (await simulated.admin("GET", f"{path}/migrations"))["migrations"]
            return found[0]["id"] if found and found[0]["memory_total_bytes"] else 0

        number = await until(look, within=20, what="it runs")
        if force:
            body = {"force_complete": None}
            await simulated.admin("POST", f"{path}/migrations/{number}/action", body)
        else:
            await simulated.admin("DELETE", f"{path}/migrations/{number}")
        shown = await simulated.becomes(server, "ACTIVE")
    simulated.world.heals()
    host = shown["OS-EXT-SRV-ATTR:host"]
    asked = f"/v2.1/os-services?host={host}&binary=nova-compute"
    (service,) = (await simulated.admin("GET", asked))["services"]
    await simulated.admin("PUT", f"/v2.1/os-services/{service['id']}", {"forced_down": True})
    await simulated.admin("POST", f"{path}/action", {"evacuate": {}})
    await simulated.becomes(server, "ACTIVE", "ERROR")
    told = [o.event for o in await notices.told(simulated) if o.data.get("uuid") == server]
    moves = [event.removeprefix("instance.live_migration_") for event in told if "live_" in event]
    assert moves[:2] == ["pre.start", "pre.end"]
    assert moves.index("abort.start") < moves.index("rollback.start") < moves.index("abort.end")
    assert moves[-4:] == ["post.start", "post_dest.start", "post_dest.end", "post.end"]
    assert told.count("instance.evacuate") == 1
    await notices.gone(simulated, server)


async def test_unversioned(simulated: Simulated) -> None:
    told = await notices.told(simulated, versioned=False)
    seen = {one.event for one in told}
    assert {
        "compute.instance.create.start",
        "compute.instance.create.end",
        "compute.instance.delete.end",
        "compute.instance.update",
        "compute.instance.volume.attach",
        "aggregate.addhost.end",
        "servergroup.create",
        "keypair.import.end",
        "compute_task.build_instances",
    } <= seen
    legacy = {row.legacy for _, row in TABLE.items()}
    assert seen <= legacy
    made = next(one for one in told if one.event == "compute.instance.create.end")
    assert made.publisher.startswith("compute.fake-")
    assert (made.payload["state"], made.payload["message"]) == ("active", "Success")
    assert made.payload["fixed_ips"][0]["label"]


async def test_kinds(simulated: Simulated, shares: Manila) -> None:
    await moving.remade(simulated)
    await moving.moved(simulated)
    await moving.hindered(simulated)
    await moving.sharing(simulated, shares)
    told = await notices.told(simulated)
    out = os.environ.get("KILONOVA_NOTICES")
    if out:
        lines = [json.dumps([o.event, o.publisher, o.priority, o.payload]) for o in told]
        Path(out).write_text("\n".join(lines) + "\n")
    seen = {one.event for one in told}
    known = set(KINDS.read_text().split())
    assert known - seen == set()
    assert seen - known == set(), "more than before: add them to notifications.txt"
    assert {event for event in seen if TABLE.get(event).waits} == set()
    assert {e for e, row in TABLE.items() if not row.waits} - seen == set()
