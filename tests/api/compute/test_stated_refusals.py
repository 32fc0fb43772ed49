"""Refusals that want a cloud of their own: other settings, neighbours that say no, other states."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest

from kilonova.base.errors import BadRequest, Conflict
from kilonova.config.settings import Settings
from kilonova.domain.guest import FlavorSpec, PowerState
from kilonova.domain.resources import Migration
from kilonova.domain.states import VmState
from kilonova.store import flavors, migrations, servers
from kilonova.web.call import Caller
from kilonova.web.client import Answer
from tests.api.compute.test_quotas import Limits
from tests.api.compute.test_refusals import AS_VOLUME, BLANK, BOOT, NOBODY, VOLUME
from tests.support import cloud as support
from tests.support.cloud import IMAGE, PORT, PROJECT, Cloud, body
from tests.support.compute import NOW

COMPUTE = "44444444-0000-4000-8000-000000000001"
SECOND = "88888888-0000-4000-8000-000000000002"
DATA = "88888888-0000-4000-8000-000000000003"


def need(answer: Answer, status: int, words: str = "") -> Any:
    """The body of an answer; of a refusal its words."""
    assert answer.status == status, answer.text
    assert words in answer.text
    return answer.json() if answer.body else None


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    """A cloud for one test."""
    made = Cloud()
    yield made
    made.close()


def tuned(**settings: Any) -> Iterator[Cloud]:
    """A cloud with other settings of ``[DEFAULT]``."""
    plain = Settings()
    default = msgspec.structs.replace(plain.default, **settings)
    cloud = Cloud(msgspec.structs.replace(plain, default=default))
    yield cloud
    cloud.close()


async def made(cloud: Cloud, **values: Any) -> str:
    """A server that runs."""
    given = body(**{"networks": "none", **values})
    answer = need(await cloud.client(version="2.67").post("/v2.1/servers", json=given), 202)
    server_id = str(answer["server"]["id"])
    cloud.run(server_id)
    return server_id


# -- who asks --------------------------------------------------------------------------------------


async def test_a_token_for_the_system_is_for_no_project() -> None:
    whole = Caller(user_id="root", project_id=None, roles=("admin", "reader"), system_scope="all")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(support.CALLERS, "system", whole)
        cloud = Cloud()
        for path in ("/servers", "/os-services", "/os-aggregates", "/os-hypervisors", "/flavors"):
            answer = await cloud.client("system").get(f"/v2.1{path}")
            assert answer.status == (200 if path == "/flavors" else 403), (path, answer.text)
        cloud.close()


async def test_access_for_a_project_that_is_not_there(cloud: Cloud) -> None:
    cloud.services = msgspec.structs.replace(cloud.services, identity=Limits({}))
    cloud.app = cloud.build()
    private = FlavorSpec(0, "mine", "mine", 1, 512, 1, is_public=False)
    cloud.db.run_sync(flavors.create, private, now=NOW)
    given = {"addTenantAccess": {"tenant": "nobody"}}
    answer = await cloud.client("admin").post("/v2.1/flavors/mine/action", json=given)
    need(answer, 400, "not a valid project")


async def test_words_that_are_too_long(cloud: Cloud) -> None:
    server_id, long = await made(cloud), "x" * 256
    client, path = cloud.client(version="2.75"), f"/v2.1/servers/{server_id}"
    need(await client.post(f"{path}/metadata", json={"metadata": {long: "a"}}), 400)
    need(await client.put(f"{path}/metadata", json={"metadata": {"a": long}}), 400)
    need(await client.put(f"{path}/metadata/a", json={"meta": {"a": long}}), 400)
    need(await client.put(path, json={"server": {"name": long}}), 400)
    need(await client.post("/v2.1/os-keypairs", json={"keypair": {"name": long}}), 400)
    group = {"server_group": {"name": long, "policy": "affinity"}}
    need(await client.post("/v2.1/os-server-groups", json=group), 400)


async def test_unknown_parameters_of_quotas(cloud: Cloud) -> None:
    path, given = f"/v2.1/os-quota-sets/{PROJECT}", {"quota_set": {"cores": 5}}
    for version, put, delete in (("2.74", 200, 202), ("2.75", 400, 400)):
        admin = cloud.client("admin", version)
        need(await admin.put(f"{path}?colour=red", json=given), put)
        need(await admin.delete(f"{path}?colour=red"), delete)


# -- hosts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "ends", "answer"),
    [
        ("accepted", ("h1", None), 409),
        ("migrating", ("h1", "h2"), 409),
        ("finished", ("h2", "h1"), 409),
        ("running", ("h2", "h3"), 204),
        ("confirmed", ("h1", "h2"), 204),
        ("error", ("h2", "h1"), 204),
    ],
    ids=str,
)
async def test_a_service_with_migrations(
    cloud: Cloud, status: str, ends: tuple[str, str | None], answer: int
) -> None:
    row = Migration(
        id=0,
        uuid=NOBODY,
        server_id=NOBODY,
        type="migration",
        status=status,
        project_id="p",
        user_id="u",
        source_host=ends[0],
        source_node=ends[0],
        dest_host=ends[1],
        dest_node=ends[1],
        old_flavor_id=1,
        new_flavor_id=1,
        created_at=NOW,
        updated_at=None,
    )
    cloud.cell1.db.run_sync(migrations.add, row)
    path = f"/v2.1/os-services/{COMPUTE}"
    words = "in-progress migrations" if answer == 409 else ""
    need(await cloud.client("admin", "2.53").delete(path), answer, words)


# -- networks --------------------------------------------------------------------------------------


async def test_no_network_can_be_allocated(cloud: Cloud) -> None:
    async def auto_network(**_: Any) -> str:
        raise BadRequest("No network can be allocated automatically: no quota")

    cloud.networks.known.clear()
    cloud.networks.auto_network = auto_network  # type: ignore[method-assign]
    answer = await cloud.client(version="2.37").post("/v2.1/servers", json=body(networks="auto"))
    need(answer, 400, "No network can be allocated automatically")


async def test_security_groups_of_one_name(cloud: Cloud) -> None:
    async def security_groups(**_: Any) -> dict[str, str]:
        raise Conflict("Several security groups are named web; use an id to be specific.")

    cloud.networks.security_groups = security_groups  # type: ignore[method-assign]
    given = body(security_groups=[{"name": "web"}])
    need(await cloud.client().post("/v2.1/servers", json=given), 409, "named web")


@pytest.mark.parametrize(("version", "status"), [("2.71", 400), ("2.72", 202)])
async def test_a_port_that_asks_for_resources(cloud: Cloud, version: str, status: int) -> None:
    port = cloud.networks.made[PORT]
    cloud.networks.made[PORT] = msgspec.structs.replace(port, resource_request=True)
    given = body(networks=[{"port": PORT}])
    answer = await cloud.client(version=version).post("/v2.1/servers", json=given)
    need(answer, status, "2.72" if status == 400 else "")


# -- disks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("most", "disks", "status"), [
    (0, [BOOT], 400), (0, [AS_VOLUME], 202), (1, [BOOT, BLANK], 400), (2, [BOOT, BLANK], 202),
    (-1, [BOOT, BLANK, BLANK, BLANK], 202),
])  # fmt: skip
async def test_most_local_disks(most: int, disks: list[dict[str, Any]], status: int) -> None:
    for cloud in tuned(max_local_block_devices=most):
        cloud.volumes.add(VOLUME, bootable=True, project_id=PROJECT)
        roomy = FlavorSpec(0, "roomy", "roomy", 1, 512, 1, ephemeral_gb=10)
        cloud.db.run_sync(flavors.create, roomy, now=NOW)
        start = {"imageRef": ""} if disks == [AS_VOLUME] else {"imageRef": IMAGE}
        given = body(networks="none", block_device_mapping_v2=disks, flavorRef="roomy", **start)
        answer = await cloud.client(version="2.37").post("/v2.1/servers", json=given)
        need(answer, status, "more local devices than the limit" if status == 400 else "")


async def test_swap_disks(cloud: Cloud) -> None:
    flavor = FlavorSpec(0, "swap", "swap", 1, 512, 1, swap_mb=2048)
    cloud.db.run_sync(flavors.create, flavor, now=NOW)
    swap = {**BLANK, "guest_format": "swap"}
    for disks, status in (
        ([swap], 202),
        ([swap, swap], 400),
        ([{**swap, "volume_size": 2049}], 400),
    ):
        given = body(networks="none", flavorRef="swap", block_device_mapping_v2=[BOOT, *disks])
        answer = await cloud.client(version="2.37").post("/v2.1/servers", json=given)
        need(answer, status, "wap" if status == 400 else "")


async def test_a_flavor_without_a_disk_is_for_volumes(cloud: Cloud) -> None:
    cloud.volumes.add(VOLUME, bootable=True, project_id=PROJECT)
    cloud.db.run_sync(flavors.create, FlavorSpec(0, "bare", "bare", 1, 512, 0), now=NOW)
    client = cloud.client(version="2.37")
    given = body(networks="none", flavorRef="bare")
    need(await client.post("/v2.1/servers", json=given), 403, "zero_disk_flavor")
    on_volume = body(
        networks="none", flavorRef="bare", imageRef="", block_device_mapping_v2=[AS_VOLUME]
    )
    need(await client.post("/v2.1/servers", json=on_volume), 202)


ROOT_STATES = [
    VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED, VmState.SUSPENDED, VmState.SHELVED,
    VmState.SHELVED_OFFLOADED, VmState.RESIZED, VmState.RESCUED, VmState.ERROR,
]  # fmt: skip


@pytest.mark.parametrize("state", ROOT_STATES, ids=str)
async def test_the_root_volume_stays_in_every_state(cloud: Cloud, state: VmState) -> None:
    cloud.volumes.add(VOLUME, bootable=True, project_id=PROJECT)
    server_id = await made(cloud, imageRef="", block_device_mapping_v2=[AS_VOLUME])
    cloud.finish(server_id, state, PowerState.SHUTDOWN)
    answer = await cloud.client().delete(
        f"/v2.1/servers/{server_id}/os-volume_attachments/{VOLUME}"
    )
    need(answer, 400, "Cannot detach a root device volume")


async def test_a_volume_of_two_servers_is_not_swapped(cloud: Cloud) -> None:
    cloud.volumes.add(DATA, project_id=PROJECT, multiattach=True)
    cloud.volumes.add(SECOND, project_id=PROJECT)
    client, ids = cloud.client(version="2.60"), [await made(cloud), await made(cloud)]
    for server_id in ids:
        path = f"/v2.1/servers/{server_id}/os-volume_attachments"
        need(await client.post(path, json={"volumeAttachment": {"volumeId": DATA}}), 200)
        for use in await cloud.volumes.attachments(server_id):
            await cloud.volumes.connect(use.id, {})
            await cloud.volumes.complete(use.id)
        cloud.end_sagas()
    path = f"/v2.1/servers/{ids[0]}/os-volume_attachments/{DATA}"
    given = {"volumeAttachment": {"volumeId": SECOND}}
    need(await cloud.client("admin").put(path, json=given), 400, "more than once")


# -- images ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hw_cpu_max_sockets", "x"),
        ("hw_cpu_max_threads", "x"),
        ("hw_device_id", "x"),
        ("hw_disk_bus", "wire"),
        ("hw_numa_mem.0", "x"),
        ("hypervisor_version_requires", "new"),
        ("vmware_image_version", "x"),
        ("xenapi_device_id", "x"),
        ("xenapi_image_compression_level", "x"),
    ],
    ids=str,
)
async def test_images_nothing_is_made_of(cloud: Cloud, name: str, value: str) -> None:
    server_id = await made(cloud)
    image = cloud.images.images[IMAGE]
    numa = {"hw_numa_nodes": "1"} if "numa" in name else {}
    wrong = msgspec.structs.replace(image, id=NOBODY, properties={name: value, **numa})
    cloud.images.images[NOBODY] = wrong
    given = body(networks="none", imageRef=NOBODY)
    need(await cloud.client(version="2.37").post("/v2.1/servers", json=given), 400)
    path = f"/v2.1/servers/{server_id}/action"
    need(await cloud.client().post(path, json={"rebuild": {"imageRef": NOBODY}}), 400)


# -- states ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [VmState.STOPPED, VmState.SHELVED_OFFLOADED], ids=str)
async def test_shares_and_diagnostics_want_their_states(cloud: Cloud, state: VmState) -> None:
    server_id = await made(cloud)
    path = f"/v2.1/servers/{server_id}"
    shared = {"share": {"share_id": NOBODY}}
    member, admin = cloud.client(version="2.97"), cloud.client("admin", "2.48")
    need(await member.post(f"{path}/shares", json=shared), 409, "while it is in")
    cloud.finish(server_id, state, PowerState.SHUTDOWN)
    need(await admin.get(f"{path}/diagnostics"), 409)
    if state != VmState.STOPPED:
        need(await member.post(f"{path}/shares", json=shared), 409, "while it is in")


async def test_faults_are_told_in_detail_to_administrators(cloud: Cloud) -> None:
    given = need(await cloud.client().post("/v2.1/servers", json=body()), 202)
    server_id = given["server"]["id"]
    cloud.fail(server_id, "No valid host was found. ")
    for who, keys in (("member", set()), ("admin", {"details"})):
        shown = need(await cloud.client(who).get(f"/v2.1/servers/{server_id}"), 200)["server"]
        assert shown["status"] == "ERROR"
        assert set(shown["fault"]) == {"code", "message", "created"} | keys


async def test_busy_servers_say_with_what(cloud: Cloud) -> None:
    server_id = await made(cloud)
    path = f"/v2.1/servers/{server_id}/action"
    for vm_state, task, words in (
        (VmState.ACTIVE, "rebooting", f"Cannot 'pause' instance {server_id} while it is in "
         "task_state rebooting"),
        (VmState.STOPPED, None, f"Cannot 'pause' instance {server_id} while it is in vm_state "
         "stopped"),
    ):  # fmt: skip
        cloud.cell1.db.run_sync(
            servers.update, server_id, now=NOW, vm_state=vm_state, task_state=task
        )
        need(await cloud.client().post(path, json={"pause": None}), 409, words)
