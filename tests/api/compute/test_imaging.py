"""createImage and createBackup: the image that is there at once, and what is asked of sagas."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from kilonova.base.errors import TooLarge
from kilonova.domain.agent import topic
from kilonova.domain.guest import GuestStatus, PowerState
from kilonova.domain.imaging import NewImage
from kilonova.domain.operations import OperationReply, OperationRequest
from kilonova.domain.states import VmState
from kilonova.interfaces.image import Image
from kilonova.messaging.bus import Subscription
from kilonova.store import actions, block_devices, servers
from kilonova.web.client import Answer
from tests.support.cloud import IMAGE, PROJECT, Cloud, body

V1 = "11111111-aaaa-4000-8000-000000000001"


async def ready(cloud: Cloud, **values: Any) -> str:
    """A running server of the project."""
    given = body(networks="none", **values)
    made = await cloud.client("member", "2.74").post("/v2.1/servers", json=given)
    assert made.status == 202, made.text
    server_id = str(made.json()["server"]["id"])
    cloud.run(server_id)
    return server_id


async def on_volume(cloud: Cloud) -> str:
    """A running server whose root disk is the volume V1."""
    cloud.volumes.add(V1, project_id=PROJECT, bootable=True, size=2, description="mine")
    root = {"source_type": "volume", "destination_type": "volume", "uuid": V1, "boot_index": 0}
    return await ready(cloud, imageRef="", block_device_mapping_v2=[root])


async def act(
    cloud: Cloud, server_id: str, action: str, given: Any, *, who: str = "member", at: int = 104
) -> Answer:
    path = f"/v2.1/servers/{server_id}/action"
    return await cloud.client(who, f"2.{at}").post(path, json={action: given})


def made(cloud: Cloud) -> Image:
    """The image that was made."""
    (image,) = [image for image in cloud.images.table.values() if image.id != IMAGE]
    return image


def words(answer: Answer) -> str:
    (fault,) = answer.json().values()
    return str(fault["message"])


async def task(cloud: Cloud, server_id: str) -> str | None:
    shown = await cloud.client().get(f"/v2.1/servers/{server_id}")
    return shown.json()["server"]["OS-EXT-STS:task_state"]  # type: ignore[no-any-return]


async def test_the_image_is_queued_before_the_answer(cloud: Cloud) -> None:
    server_id = await ready(cloud)
    given = {"name": "my image", "metadata": {"os_distro": "mine", "more": "x"}}
    answer = await act(cloud, server_id, "createImage", given)
    image = made(cloud)
    assert (answer.status, answer.json()) == (202, {"image_id": image.id})
    assert "location" not in answer.headers
    assert (image.name, image.status, image.visibility) == ("my image", "queued", "private")
    assert image.properties["os_distro"] == "mine"
    assert image.properties["image_type"] == "snapshot"
    assert image.properties["instance_uuid"] == server_id
    assert image.properties["base_image_ref"] == IMAGE
    assert image.properties["boot_roles"] == "member,reader"
    assert image.min_disk == 1
    assert await task(cloud, server_id) == "image_snapshot_pending"
    assert cloud.cell1.db.run_sync(cloud.sagas.names) == ["server.create_image"]
    page = await cloud.cell1.db.read(actions.page, server_id)
    assert page is not None and page[0].action == "createImage"


async def test_older_clients_read_a_location(cloud: Cloud) -> None:
    answer = await act(cloud, await ready(cloud), "createImage", {"name": "i"}, at=44)
    assert (answer.status, answer.body) == (202, b"")
    assert answer.headers["location"] == f"http://image.test/images/{made(cloud).id}"


async def test_the_other_address_does_the_same(cloud: Cloud) -> None:
    path = f"/v2.1/os-volumes_boot/{await ready(cloud)}/action"
    given = {"createImage": {"name": "i"}}
    answer = await cloud.client("member", "2.102").post(path, json=given)
    assert (answer.status, answer.json()) == (202, {"image_id": made(cloud).id})


async def test_a_busy_server_gets_no_image(cloud: Cloud) -> None:
    server_id = await ready(cloud)
    assert (await act(cloud, server_id, "createImage", {"name": "i"})).status == 202
    again = await act(cloud, server_id, "createImage", {"name": "j"})
    assert (again.status, words(again)) == (
        409,
        f"Cannot 'createImage' instance {server_id} while it is in task_state "
        "image_snapshot_pending",
    )
    assert made(cloud).name == "i"


async def test_an_image_whose_work_cannot_begin_is_deleted(cloud: Cloud) -> None:
    server_id = await ready(cloud)
    assert (await act(cloud, server_id, "createImage", {"name": "i"})).status == 202
    now = cloud.clock.now()
    cloud.cell1.db.run_sync(servers.update, server_id, now=now, task_state=None)
    again = await act(cloud, server_id, "createImage", {"name": "j"})
    assert (again.status, words(again)) == (409, "The server is busy.")
    assert made(cloud).name == "i"
    assert len(cloud.images.deleted) == 1


@pytest.mark.parametrize(
    ("vm_state", "status"),
    [
        (VmState.STOPPED, 202),
        (VmState.PAUSED, 202),
        (VmState.SUSPENDED, 202),
        (VmState.ERROR, 409),
        (VmState.SHELVED, 409),
        (VmState.RESCUED, 409),
    ],
)
async def test_states(cloud: Cloud, vm_state: VmState, status: int) -> None:
    server_id = await ready(cloud)
    cloud.finish(server_id, vm_state, PowerState.SHUTDOWN)
    backup = {"name": "b", "backup_type": "daily", "rotation": 1}
    assert (await act(cloud, server_id, "createBackup", backup)).status == status


async def test_who_may(cloud: Cloud) -> None:
    server_id = await ready(cloud)
    given = {"name": "i"}
    assert (await act(cloud, server_id, "createImage", given, who="reader")).status == 403
    assert (await act(cloud, server_id, "createImage", given, who="other")).status == 404


async def test_a_quota_of_the_image_service_is_forbidding(cloud: Cloud) -> None:
    async def create(wanted: NewImage, *, token: str | None) -> Image:
        raise TooLarge("at most 9 images")

    cloud.images.create = create  # type: ignore[method-assign]
    answer = await act(cloud, await ready(cloud), "createImage", {"name": "i"})
    assert answer.status == 403
    assert "at most 9 images" in words(answer)


async def test_properties_an_operator_keeps_are_not_inherited(cloud: Cloud) -> None:
    present = cloud.images.table[IMAGE]
    properties = {"cache_in_nova": "yes", "hw_disk_bus": "virtio"}
    cloud.images.table[IMAGE] = msgspec.structs.replace(present, properties=properties)
    assert (await act(cloud, await ready(cloud), "createImage", {"name": "i"})).status == 202
    assert made(cloud).properties["hw_disk_bus"] == "virtio"
    assert "cache_in_nova" not in made(cloud).properties


async def test_a_backup_tells_its_type(cloud: Cloud) -> None:
    server_id = await ready(cloud)
    given = {"name": "b", "backup_type": "weekly", "rotation": "2", "metadata": {"a": "b"}}
    answer = await act(cloud, server_id, "createBackup", given, at=45)
    image = made(cloud)
    assert (answer.status, answer.json()) == (202, {"image_id": image.id})
    assert image.properties["image_type"] == "backup"
    assert image.properties["backup_type"] == "weekly"
    assert image.properties["a"] == "b"
    assert await task(cloud, server_id) == "image_backup"
    assert cloud.cell1.db.run_sync(cloud.sagas.names) == ["server.create_backup"]


async def test_a_backup_that_is_not_kept_is_not_named(cloud: Cloud) -> None:
    given = {"name": "b", "backup_type": "daily", "rotation": 0}
    for at in (44, 45):
        answer = await act(cloud, await ready(cloud), "createBackup", given, at=at)
        assert (answer.status, answer.body) == (202, b"")
        assert "location" not in answer.headers


# -- servers on volumes ------------------------------------------------------------------------


class Listener:
    """The agent of h1: notes what it is asked, and refuses what it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.refuses = ""

    async def operate(self, request: OperationRequest) -> OperationReply:
        self.asked.append(request.name)
        if request.name == self.refuses:
            return OperationReply("failed", error="NotSupported", message="No agent in there.")
        status = GuestStatus(request.server_id, "", PowerState.RUNNING)
        return OperationReply("done", result=msgspec.msgpack.encode(status))


@pytest.fixture
async def agent(cloud: Cloud) -> AsyncIterator[Listener]:
    made = Listener()
    serving: Subscription = await cloud.bus.serve(topic("h1"), {"operate": made.operate})
    yield made
    await serving.close()


async def test_an_image_of_volumes_names_their_snapshots(cloud: Cloud, agent: Listener) -> None:
    server_id = await on_volume(cloud)
    answer = await act(cloud, server_id, "createImage", {"name": "i"})
    assert answer.status == 202, answer.text
    image = made(cloud)
    (snapshot,) = cloud.volumes.snapshots.values()
    assert (snapshot.volume_id, snapshot.name) == (V1, "snapshot for i")
    assert (image.status, image.size) == ("active", 0)
    assert image.properties["bdm_v2"] == "True"
    assert image.properties["root_device_name"] == "/dev/vda"
    (device,) = json.loads(image.properties["block_device_mapping"])
    assert device["snapshot_id"] == snapshot.id
    assert (device["source_type"], device["destination_type"]) == ("snapshot", "volume")
    assert (device["boot_index"], device["volume_size"]) == (0, 2)
    assert agent.asked == ["quiesce", "unquiesce"]
    assert await task(cloud, server_id) is None
    shown = await cloud.cell1.db.read(actions.page, server_id)
    assert shown is not None and shown[0].action == "createImage"
    assert shown[0].finish is not None
    again = await ready(cloud, imageRef=image.id)
    disks = cloud.cell1.db.run_sync(block_devices.of_server, again)
    assert [(d.origin, d.origin_id) for d in disks] == [("snapshot", snapshot.id)]


async def test_a_guest_without_an_agent_is_not_quiesced(cloud: Cloud, agent: Listener) -> None:
    agent.refuses = "quiesce"
    assert (await act(cloud, await on_volume(cloud), "createImage", {"name": "i"})).status == 202
    assert agent.asked == ["quiesce"]


async def test_a_guest_that_must_be_quiesced_gets_no_image_else(
    cloud: Cloud, agent: Listener
) -> None:
    agent.refuses = "quiesce"
    server_id = await on_volume(cloud)
    system = {"image_os_require_quiesce": "yes"}
    now = cloud.clock.now()
    cloud.cell1.db.run_sync(servers.update, server_id, now=now, system=system)
    answer = await act(cloud, server_id, "createImage", {"name": "i"})
    assert (answer.status, "No agent in there." in words(answer)) == (400, True)
    assert list(cloud.images.table) == [IMAGE]
    assert cloud.volumes.snapshots == {}


async def test_nothing_is_left_of_an_image_of_volumes_that_failed(
    cloud: Cloud, agent: Listener
) -> None:
    async def upload(image_id: str, data: object, *, token: str | None = None) -> None:
        raise TooLarge("no space")

    cloud.images.upload = upload  # type: ignore[method-assign, assignment]
    answer = await act(cloud, await on_volume(cloud), "createImage", {"name": "i"})
    assert answer.status == 413
    assert list(cloud.images.table) == [IMAGE]
    assert cloud.volumes.snapshots == {}
    assert agent.asked == ["quiesce", "unquiesce"]


async def test_servers_on_volumes_are_not_backed_up(cloud: Cloud) -> None:
    given = {"name": "b", "backup_type": "daily", "rotation": 1}
    answer = await act(cloud, await on_volume(cloud), "createBackup", given)
    assert (answer.status, words(answer)) == (
        400,
        "Backup is not supported for volume-backed instances.",
    )
