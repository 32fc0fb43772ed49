"""Servers that rest: suspend and resume, shelve, offload and unshelve, and what is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kilonova.db.database import Tx
from kilonova.domain.guest import PowerState
from kilonova.domain.states import VmState
from kilonova.store import mappings, servers
from tests.api.compute.test_actions import act, message, ready
from tests.support.cloud import Cloud
from tests.support.compute import NIC


def sagas(cloud: Cloud) -> list[tuple[str, dict[str, Any]]]:
    """Name and arguments of the sagas in the cell."""

    def read(tx: Tx) -> list[tuple[str, dict[str, Any]]]:
        rows = tx.execute(cloud.sagas.table.select()).mappings()
        return [(row["name"], msgspec.json.decode(row["args"])) for row in rows]

    return cloud.cell1.db.run_sync(read)


def change(cloud: Cloud, server_id: str, **values: Any) -> None:
    """Fields of the server's row."""
    cloud.cell1.db.run_sync(servers.update, server_id, now=cloud.clock.now(), **values)


async def shown(cloud: Cloud, server_id: str, *, at: int = 1) -> dict[str, Any]:
    """The server as administrators see it."""
    answer = await cloud.client("admin", f"2.{at}").get(f"/v2.1/servers/{server_id}")
    found: dict[str, Any] = answer.json()["server"]
    return found


STEPS = [
    ("suspend", VmState.ACTIVE, "suspending", "server.suspend"),
    ("resume", VmState.SUSPENDED, "resuming", "server.resume"),
    ("shelve", VmState.ACTIVE, "shelving", "server.shelve"),
    ("shelve", VmState.STOPPED, "shelving", "server.shelve"),
    ("shelve", VmState.PAUSED, "shelving", "server.shelve"),
    ("shelve", VmState.SUSPENDED, "shelving", "server.shelve"),
    ("shelveOffload", VmState.SHELVED, "shelving_offloading", "server.shelve_offload"),
    ("unshelve", VmState.SHELVED, "unshelving", "server.unshelve_here"),
    ("unshelve", VmState.SHELVED_OFFLOADED, "unshelving", "server.unshelve"),
]


@pytest.mark.parametrize(("action", "vm_state", "task", "saga"), STEPS)
async def test_it_begins(
    cloud: Cloud, action: str, vm_state: VmState, task: str, saga: str
) -> None:
    server_id = await ready(cloud, vm_state)
    assert (await act(cloud, server_id, action, None, at=1)).status == 202
    assert [name for name, _ in sagas(cloud)] == [saga]
    assert (await shown(cloud, server_id))["OS-EXT-STS:task_state"] == task
    again = await act(cloud, server_id, action, None)
    assert (again.status, f"task_state {task}" in message(again)) == (409, True)
    path = f"/v2.1/servers/{server_id}/os-instance-actions"
    done = (await cloud.client("member").get(path)).json()["instanceActions"]
    assert done[0]["action"] == action


NOT_FROM = [
    ("suspend", (VmState.PAUSED, VmState.STOPPED, VmState.SHELVED, VmState.ERROR)),
    ("resume", (VmState.ACTIVE, VmState.PAUSED, VmState.SHELVED_OFFLOADED)),
    ("shelve", (VmState.RESCUED, VmState.RESIZED, VmState.SHELVED, VmState.ERROR)),
    ("shelveOffload", (VmState.ACTIVE, VmState.SHELVED_OFFLOADED)),
    ("unshelve", (VmState.ACTIVE, VmState.SUSPENDED, VmState.ERROR)),
]


@pytest.mark.parametrize(("action", "states"), NOT_FROM)
async def test_not_from_every_state(cloud: Cloud, action: str, states: tuple[VmState, ...]) -> None:
    server_id = await ready(cloud)
    for vm_state in states:
        cloud.finish(server_id, vm_state, PowerState.SHUTDOWN)
        answer = await act(cloud, server_id, action, None)
        words = f"Cannot '{action}' instance {server_id} while it is in vm_state {vm_state}"
        assert (answer.status, message(answer)) == (409, words)
    assert sagas(cloud) == []


@pytest.mark.parametrize("action", ["suspend", "resume", "shelve", "shelveOffload", "unshelve"])
async def test_a_locked_server_is_left_alone(cloud: Cloud, action: str) -> None:
    start = {"suspend": "ACTIVE", "shelve": "ACTIVE", "resume": "SUSPENDED"}.get(action, "SHELVED")
    server_id = await ready(cloud, VmState[start])
    assert (await act(cloud, server_id, "lock", None)).status == 202
    who = "member" if action != "shelveOffload" else "admin"
    answer = await act(cloud, server_id, action, None, who=who)
    assert answer.status == (202 if who == "admin" else 409)


async def test_offloading_is_for_administrators(cloud: Cloud) -> None:
    server_id = await ready(cloud, VmState.SHELVED)
    assert (await act(cloud, server_id, "shelveOffload", None, who="member")).status == 403


SPECIAL = [
    ({"hw:mem_encryption": "true"}, {"suspend": 400, "shelve": 202}),
    ({"hw:tpm_version": "2.0"}, {"shelve": 400, "suspend": 202}),
    ({"accel:device_profile": "gpu"}, {"suspend": 400, "shelve": 202}),
    ({"hw:mem_encryption": "false"}, {"suspend": 202}),
]


@pytest.mark.parametrize(("specs", "answers"), SPECIAL)
async def test_what_is_special_is_refused(
    cloud: Cloud, specs: dict[str, str], answers: dict[str, int]
) -> None:
    server_id = await ready(cloud)
    server = cloud.cell1.db.run_sync(servers.get, server_id)
    assert server is not None
    change(cloud, server_id, flavor=msgspec.structs.replace(server.flavor, extra_specs=specs))
    for action, status in answers.items():
        answer = await act(cloud, server_id, action, None)
        assert answer.status == status, answer.text


async def test_ports_with_accelerators_stay(cloud: Cloud) -> None:
    server_id = await ready(cloud)
    card = msgspec.structs.replace(NIC, vnic_type="accelerator-direct")
    cloud.cell1.db.run_sync(servers.set_nics, server_id, [card], now=cloud.clock.now())
    for action in ("suspend", "shelve"):
        assert (await act(cloud, server_id, action, None)).status == 400
    # What is refused comes before the state.
    cloud.finish(server_id, VmState.ERROR, PowerState.SHUTDOWN)
    assert (await act(cloud, server_id, "suspend", None)).status == 400


async def test_one_on_a_volume_leaves_at_once(cloud: Cloud) -> None:
    server_id = await ready(cloud)
    change(cloud, server_id, image=None, from_volume=True)
    assert (await act(cloud, server_id, "shelve", None)).status == 202
    assert [name for name, _ in sagas(cloud)] == ["server.shelve_volumes"]


async def test_unshelving_somewhere(cloud: Cloud) -> None:
    server_id = await ready(cloud, VmState.SHELVED_OFFLOADED)
    change(cloud, server_id, pinned_zone="nova")
    wants: list[tuple[int, Any, tuple[str | None, bool, str | None], str | None]] = [
        (76, {"anything": 1}, (None, False, None), "nova"),
        (77, None, (None, False, None), "nova"),
        (77, {"availability_zone": "nova"}, (None, True, "nova"), "nova"),
        (91, {"host": "h1"}, ("h1", False, None), "nova"),
        (91, {"availability_zone": None, "host": "h1"}, ("h1", True, None), None),
    ]
    for at, given, (host, repin, zone), pinned in wants:
        answer = await act(cloud, server_id, "unshelve", given, at=at)
        assert answer.status == 202, answer.text
        ((name, args),) = sagas(cloud)
        assert name == "server.unshelve"
        assert (args["host"], args["repin"], args["zone"]) == (host, repin, zone)
        assert (await shown(cloud, server_id, at=96))["pinned_availability_zone"] == pinned
        cloud.finish(server_id, VmState.SHELVED_OFFLOADED, PowerState.SHUTDOWN)


async def test_a_host_of_another_zone(cloud: Cloud) -> None:
    server_id = await ready(cloud, VmState.SHELVED_OFFLOADED)
    change(cloud, server_id, pinned_zone="moon")
    refused = await act(cloud, server_id, "unshelve", {"host": "h1"}, at=91)
    assert (refused.status, "moon" in message(refused)) == (409, True)
    free = {"host": "h1", "availability_zone": None}
    assert (await act(cloud, server_id, "unshelve", free, at=91)).status == 202


async def test_what_is_shown_of_an_offloaded_server(cloud: Cloud) -> None:
    server_id = await ready(cloud, VmState.SHELVED_OFFLOADED)
    change(cloud, server_id, host=None, node=None)
    view = await shown(cloud, server_id)
    assert (view["status"], view["hostId"]) == ("SHELVED_OFFLOADED", "")
    assert view["OS-EXT-SRV-ATTR:host"] is None
    assert view["OS-EXT-SRV-ATTR:hypervisor_hostname"] is None
    assert view["OS-EXT-AZ:availability_zone"] == "nova"
    assert cloud.db.run_sync(mappings.find, server_id) is not None
    # Nobody waits for a host: there is none.
    assert (await cloud.client("member").delete(f"/v2.1/servers/{server_id}")).status == 204
