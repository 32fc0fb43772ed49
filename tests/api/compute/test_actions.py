"""Server actions whose work is yet to come, and those of one step: bodies, states, refusals."""

from __future__ import annotations

from typing import Any

import pytest

from kilonova.domain.guest import PowerState
from kilonova.domain.states import VmState
from kilonova.web.client import Answer
from tests.support.cloud import IMAGE, Cloud, body

UNKNOWN = "70a599e0-31e7-49b7-b260-000000000000"


async def ready(cloud: Cloud, vm_state: VmState = VmState.ACTIVE) -> str:
    """A server of the project in that state."""
    made = await cloud.client("member", "2.37").post("/v2.1/servers", json=body(networks="none"))
    server_id = str(made.json()["server"]["id"])
    cloud.run(server_id)
    cloud.finish(server_id, VmState.ACTIVE, PowerState.RUNNING)
    power = PowerState.RUNNING if vm_state == VmState.ACTIVE else PowerState.SHUTDOWN
    cloud.finish(server_id, vm_state, power)
    return server_id


async def act(
    cloud: Cloud, server_id: str, action: str, given: Any, *, who: str = "admin", at: int = 104
) -> Answer:
    """POST an action."""
    path = f"/v2.1/servers/{server_id}/action"
    return await cloud.client(who, f"2.{at}").post(path, json={action: given})


def message(answer: Answer) -> str:
    """The words of a fault."""
    (fault,) = answer.json().values()
    return str(fault["message"])


BAD: list[tuple[str, Any, int]] = [
    ("resize", {"flavorRef": ""}, 1),
    ("resize", None, 104),
    ("resize", {"flavorRef": "2", "more": 1}, 104),
    ("migrate", {"host": "a b"}, 56),
    ("os-migrateLive", {"block_migration": "auto", "host": None}, 24),
    ("os-migrateLive", {"block_migration": False, "host": None}, 24),
    ("os-migrateLive", {"block_migration": "auto", "host": None, "force": True}, 29),
    ("os-migrateLive", {"block_migration": "auto", "host": None, "force": True}, 68),
    ("os-migrateLive", {"block_migration": "auto", "host": None, "force": True}, 30),
    ("os-migrateLive", {"block_migration": "auto", "host": "nohost"}, 104),
    ("os-migrateLive", {"block_migration": "auto", "host": "h1"}, 104),
    ("evacuate", {}, 13),
    ("evacuate", {"onSharedStorage": True}, 14),
    ("evacuate", {"onSharedStorage": True, "adminPass": "x"}, 13),
    ("evacuate", {"force": True}, 28),
    ("evacuate", {"force": True}, 29),
    ("evacuate", {"force": True}, 68),
    ("evacuate", {"host": "h1"}, 104),
    ("evacuate", {}, 104),
    ("unshelve", {"host": "h1"}, 77),
    ("unshelve", {}, 77),
    ("rebuild", {}, 1),
    ("rebuild", {"imageRef": "x"}, 1),
    ("rebuild", {"imageRef": UNKNOWN}, 1),
    ("rebuild", {"imageRef": IMAGE, "description": "d"}, 18),
    ("rebuild", {"imageRef": IMAGE, "key_name": "k"}, 53),
    ("rebuild", {"imageRef": IMAGE, "key_name": "nokey"}, 54),
    ("rebuild", {"imageRef": IMAGE, "personality": []}, 57),
    ("rebuild", {"imageRef": IMAGE, "user_data": "aGk="}, 56),
    ("rebuild", {"imageRef": IMAGE, "trusted_image_certificates": ["a"]}, 62),
    ("rebuild", {"imageRef": IMAGE, "hostname": "web"}, 89),
    ("rescue", {"rescue_image_ref": "x"}, 1),
    ("createImage", {}, 1),
    ("createImage", {"name": " "}, 1),
    ("createBackup", {"name": "b", "backup_type": "daily", "rotation": -1}, 1),
    ("createBackup", {"name": "b", "backup_type": "daily"}, 1),
    ("changePassword", {"adminPass": 1}, 1),
    ("trigger_crash_dump", {}, 17),
    ("resize", {"flavorRef": "1"}, 104),
    ("resize", {"flavorRef": "9"}, 104),
    ("migrate", {"host": "nohost"}, 56),
    ("migrate", {"host": "h1"}, 56),
]


@pytest.mark.parametrize(("action", "given", "at"), BAD)
async def test_what_is_wrong_answers_400(cloud: Cloud, action: str, given: Any, at: int) -> None:
    answer = await act(cloud, await ready(cloud), action, given, at=at)
    assert answer.status == 400, answer.text


@pytest.mark.parametrize(
    ("action", "given"),
    [
        ("confirmResize", None),
        ("revertResize", None),
        ("unrescue", None),
        ("resume", None),
        ("unpause", None),
        ("restore", None),
        ("shelveOffload", None),
        ("unshelve", None),
    ],
)
async def test_what_the_state_does_not_allow_answers_409(
    cloud: Cloud, action: str, given: Any
) -> None:
    server_id = await ready(cloud)
    answer = await act(cloud, server_id, action, given)
    assert answer.status == 409, answer.text
    assert message(answer) == (
        f"Cannot '{action}' instance {server_id} while it is in vm_state active"
    )
    missing = await act(cloud, UNKNOWN, action, given)
    assert missing.status == 404


async def test_a_locked_server_stays_as_it_is(cloud: Cloud) -> None:
    server_id = await ready(cloud)
    assert (await act(cloud, server_id, "lock", None)).status == 202
    locked = await act(cloud, server_id, "resize", {"flavorRef": "2"}, who="member")
    assert (locked.status, message(locked)) == (409, f"Instance {server_id} is locked")
    assert (await act(cloud, server_id, "pause", None, who="member")).status == 409
    assert (await act(cloud, server_id, "createImage", {"name": "i"}, who="member")).status == 202


async def test_named_hosts_are_for_administrators(cloud: Cloud) -> None:
    server_id = await ready(cloud, VmState.SHELVED_OFFLOADED)
    given = {"host": "h1"}
    assert (await act(cloud, server_id, "unshelve", given, who="member")).status == 403
    assert (await act(cloud, server_id, "migrate", None, who="member")).status == 403
    assert (await act(cloud, server_id, "unshelve", {"host": "nohost"})).status == 400
    nowhere = {"availability_zone": "moon"}
    assert (await act(cloud, server_id, "unshelve", nowhere, at=77)).status == 400


async def test_a_zone_is_for_offloaded_servers(cloud: Cloud) -> None:
    server_id = await ready(cloud, VmState.SHELVED)
    answer = await act(cloud, server_id, "unshelve", {"availability_zone": "nova"}, at=77)
    assert answer.status == 409
    assert "must be SHELVED_OFFLOADED" in message(answer)


async def test_evacuation_wants_a_dead_host(cloud: Cloud) -> None:
    server_id = await ready(cloud)
    busy = await act(cloud, server_id, "evacuate", {})
    assert message(busy) == "Compute service of h1 is still in use."
    assert (await act(cloud, server_id, "evacuate", {"host": "nohost"})).status == 404
    cloud.pass_time(61)
    down = await act(cloud, server_id, "resize", {"flavorRef": "2"})
    assert (down.status, message(down)) == (409, "Service is unavailable at this time.")


async def test_quotas_of_images_and_files(cloud: Cloud) -> None:
    server_id = await ready(cloud)
    many = {str(number): "x" for number in range(129)}
    given = {"name": "i", "metadata": many}
    assert (await act(cloud, server_id, "createImage", given, at=38)).status == 403
    rebuild = {"imageRef": IMAGE, "metadata": many}
    assert (await act(cloud, server_id, "rebuild", rebuild)).status == 403
    assert (await act(cloud, server_id, "createImage", given, at=39)).status == 202


async def test_pause_unpause_and_crash_dump(cloud: Cloud) -> None:
    server_id = await ready(cloud)
    for action, task, vm_state in (
        ("pause", "pausing", VmState.PAUSED),
        ("unpause", "unpausing", VmState.ACTIVE),
    ):
        assert (await act(cloud, server_id, action, None, who="member")).status == 202
        assert cloud.cell1.db.run_sync(cloud.sagas.names) == [f"server.{action}"]
        shown = await cloud.client().get(f"/v2.1/servers/{server_id}")
        assert shown.json()["server"]["OS-EXT-STS:task_state"] == task
        assert (await act(cloud, server_id, action, None)).status == 409
        cloud.finish(server_id, vm_state, PowerState.RUNNING)
    assert (await act(cloud, server_id, "trigger_crash_dump", None, at=16)).status == 404
    assert (await act(cloud, server_id, "trigger_crash_dump", None, at=17)).status == 202
    assert cloud.cell1.db.run_sync(cloud.sagas.names) == ["server.crash_dump"]
    again = await act(cloud, server_id, "trigger_crash_dump", None, at=17)
    assert again.status == 409
