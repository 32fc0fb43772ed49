"""Conversations about resizes and cold migrations, up to the work itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kilonova.config.pci import Pci
from kilonova.config.settings import Settings
from kilonova.db.database import Tx
from kilonova.domain.guest import FlavorSpec, PowerState
from kilonova.domain.moves import Before, Kind, Status, kept
from kilonova.domain.resources import Migration
from kilonova.domain.states import VmState
from kilonova.store import flavors, migrations, servers
from tests.api.compute.test_actions import act, message, ready
from tests.support.cloud import PROJECT, Cloud
from tests.support.compute import FLAVOR, NOW

MOVE = "99999999-0000-4000-8000-000000000001"


def waits(cloud: Cloud, server_id: str, *, source: str = "h1", flavor: FlavorSpec = FLAVOR) -> None:
    """A finished move of a server waits for its owner's word."""

    def write(tx: Tx) -> None:
        before = Before("active", PowerState.RUNNING, flavor)
        row = Migration(
            id=0,
            uuid=MOVE,
            server_id=server_id,
            type=Kind.RESIZE,
            status=Status.FINISHED,
            project_id=PROJECT,
            user_id="fake",
            source_host=source,
            source_node="n1",
            dest_host="h1",
            dest_node="n1",
            old_flavor_id=1,
            new_flavor_id=2,
            created_at=NOW,
            updated_at=NOW,
            data=kept(before),
        )
        migrations.add(tx, row)

    cloud.cell1.db.run_sync(write)


def state(cloud: Cloud, server_id: str) -> tuple[str, str | None]:
    server = cloud.cell1.db.run_sync(servers.get, server_id)
    assert server is not None
    return server.vm_state, server.task_state


@pytest.mark.parametrize(
    ("action", "given", "vm_state", "at", "saga"),
    [
        ("resize", {"flavorRef": "2"}, VmState.ACTIVE, 104, "server.resize"),
        ("resize", {"flavorRef": 2}, VmState.STOPPED, 1, "server.resize"),
        ("migrate", None, VmState.ACTIVE, 1, "server.migrate"),
        ("migrate", {"host": None}, VmState.STOPPED, 56, "server.migrate"),
    ],
)
async def test_a_move_begins(
    cloud: Cloud, action: str, given: Any, vm_state: VmState, at: int, saga: str
) -> None:
    server_id = await ready(cloud, vm_state)
    answer = await act(cloud, server_id, action, given, at=at)
    assert (answer.status, answer.body) == (202, b"")
    assert state(cloud, server_id) == (vm_state, "resize_prep")
    assert cloud.cell1.db.run_sync(cloud.sagas.names) == [saga]
    again = await act(cloud, server_id, action, given, at=at)
    assert again.status == 409
    shown = await cloud.client("admin", "2.104").get(f"/v2.1/servers/{server_id}")
    assert shown.json()["server"]["status"] == "RESIZE"
    path = f"/v2.1/servers/{server_id}/os-instance-actions"
    first = (await cloud.client("admin", "2.104").get(path)).json()["instanceActions"][0]
    assert (first["action"], first["message"]) == (action, None)


async def test_the_disk_config_changes_with_the_flavor(cloud: Cloud) -> None:
    server_id = await ready(cloud)
    given = {"flavorRef": "2", "OS-DCF:diskConfig": "AUTO"}
    assert (await act(cloud, server_id, "resize", given)).status == 202
    server = cloud.cell1.db.run_sync(servers.get, server_id)
    assert server is not None and server.auto_disk_config


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"root_gb": 0}, "Resize to zero disk flavor is not allowed"),
        ({"disabled": True}, "could not be found"),
        ({"extra_specs": {"hw:cpu_policy": "nonsense"}}, "nonsense"),
        ({"extra_specs": {"pci_passthrough:alias": "gpu:1"}}, "gpu"),
    ],
)
async def test_flavors_that_do_not_do(cloud: Cloud, values: dict[str, Any], words: str) -> None:
    server_id = await ready(cloud)
    made = msgspec.structs.replace(
        FLAVOR, id=0, flavorid="7", name="seven", **{"root_gb": 1, **values}
    )
    cloud.db.run_sync(flavors.create, made, now=NOW)
    answer = await act(cloud, server_id, "resize", {"flavorRef": "7"})
    assert answer.status == 400, answer.text
    assert words in message(answer)
    assert state(cloud, server_id) == ("active", None)


async def test_a_server_on_a_volume_needs_no_root_disk(cloud: Cloud) -> None:
    server_id = await ready(cloud)
    cloud.cell1.db.run_sync(servers.update, server_id, now=NOW, from_volume=True)
    made = msgspec.structs.replace(FLAVOR, id=0, flavorid="7", name="seven", root_gb=0)
    cloud.db.run_sync(flavors.create, made, now=NOW)
    assert (await act(cloud, server_id, "resize", {"flavorRef": "7"})).status == 202


async def test_known_devices_are_taken(tmp_path: Any) -> None:
    alias = '{"name": "gpu", "vendor_id": "10de", "product_id": "1db6"}'
    cloud = Cloud(Settings(pci=Pci(alias=(alias,))))
    server_id = await ready(cloud)
    specs = {"pci_passthrough:alias": "gpu:1"}
    made = msgspec.structs.replace(FLAVOR, id=0, flavorid="7", name="seven", extra_specs=specs)
    cloud.db.run_sync(flavors.create, made, now=NOW)
    assert (await act(cloud, server_id, "resize", {"flavorRef": "7"})).status == 202


async def test_naming_a_host(cloud: Cloud) -> None:
    server_id = await ready(cloud)
    for at, given, status in (
        (55, {"host": "h1"}, 400),
        (56, {"host": "nohost"}, 400),
        (56, {"host": "h1"}, 400),
        (56, {"host": ""}, 400),
        (56, {"host": None, "more": 1}, 400),
    ):
        answer = await act(cloud, server_id, "migrate", given, at=at)
        assert (answer.status == 202) == (status == 202 or at < 56), answer.text
        cloud.finish(server_id, VmState.ACTIVE, PowerState.RUNNING)


@pytest.mark.parametrize(
    ("action", "status", "task"),
    [("confirmResize", 204, "resize_confirming"), ("revertResize", 202, "resize_reverting")],
)
async def test_what_becomes_of_a_resize(cloud: Cloud, action: str, status: int, task: str) -> None:
    server_id = await ready(cloud, VmState.RESIZED)
    nothing = await act(cloud, server_id, action, None)
    assert (nothing.status, message(nothing)) == (400, "Instance has not been resized.")
    waits(cloud, server_id)
    stranger = await act(cloud, server_id, action, None, who="other")
    assert stranger.status == 404
    assert (await act(cloud, server_id, action, None, who="member")).status == status
    assert state(cloud, server_id) == ("resized", task)
    assert (await act(cloud, server_id, action, None)).status == 409


async def test_the_old_host_must_be_there_to_be_left(cloud: Cloud) -> None:
    server_id = await ready(cloud, VmState.RESIZED)
    waits(cloud, server_id, source="h9")
    answer = await act(cloud, server_id, "confirmResize", None)
    assert (answer.status, message(answer)) == (409, "Service is unavailable at this time.")


async def test_going_back_may_be_over_quota(cloud: Cloud) -> None:
    server_id = await ready(cloud, VmState.RESIZED)
    waits(cloud, server_id, flavor=msgspec.structs.replace(FLAVOR, vcpus=100))
    answer = await act(cloud, server_id, "revertResize", None, who="member")
    assert answer.status == 403
    assert "Quota exceeded for cores" in message(answer)


async def test_on_the_old_address_of_servers_on_volumes(cloud: Cloud) -> None:
    server_id = await ready(cloud)
    path = f"/v2.1/os-volumes_boot/{server_id}/action"
    client = cloud.client("member", "2.102")
    assert (await client.post(path, json={"resize": {"flavorRef": "2"}})).status == 202
    cloud.finish(server_id, VmState.RESIZED, PowerState.RUNNING)
    waits(cloud, server_id)
    assert (await client.post(path, json={"revertResize": None})).status == 202
