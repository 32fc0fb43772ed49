"""Conversations about rebuild, rescue, unrescue and changePassword."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from kilonova.config.settings import Settings
from kilonova.db.database import Tx
from kilonova.domain.guest import Disk, HostReport, ImageRef, PowerState
from kilonova.domain.resources import KeyPair, ShareMapping
from kilonova.domain.sagas import Former, RebuildArgs, Reimage, RescueArgs
from kilonova.domain.server import Private
from kilonova.domain.states import VmState
from kilonova.interfaces.image import Image
from kilonova.store import actions, keypairs, nodes, pending, servers, shares
from kilonova.store.pending import Pending
from kilonova.web.client import Answer
from tests.api.compute.test_actions import act, message, ready
from tests.support.cloud import IMAGE, Cloud

NEW = "70a599e0-31e7-49b7-b260-000000000001"
BIG = "70a599e0-31e7-49b7-b260-000000000002"
PINNED = "70a599e0-31e7-49b7-b260-000000000003"
QUEUED = "70a599e0-31e7-49b7-b260-000000000004"
BESIDE = "70a599e0-31e7-49b7-b260-000000000005"
ODD = "70a599e0-31e7-49b7-b260-000000000006"
SNAPSHOT = "70a599e0-31e7-49b7-b260-000000000007"
UNKNOWN = "70a599e0-31e7-49b7-b260-000000000009"
VOLUME = "99999999-0000-4000-8000-000000000001"
GIB = 1 << 30


def images(cloud: Cloud) -> None:
    for image in (
        Image(NEW, name="new", size=2048, properties={"os_distro": "alpine"}),
        Image(BIG, size=3 * GIB),
        Image(PINNED, size=1, properties={"hw_cpu_policy": "dedicated"}),
        Image(QUEUED, status="queued"),
        Image(BESIDE, size=1, properties={"hw_rescue_bus": "scsi"}),
        Image(ODD, size=1, properties={"hw_rescue_device": "floppy"}),
        Image(SNAPSHOT, size=1, properties={"block_device_mapping": "[]"}),
    ):
        cloud.images.images[image.id] = image


def args(cloud: Cloud, kind: type[Any]) -> Any:
    """What the newest saga was told."""

    def read(tx: Tx) -> Any:
        row = list(tx.execute(cloud.sagas.table.select()).mappings())[-1]
        return msgspec.json.decode(row["args"], type=kind)

    return cloud.cell1.db.run_sync(read)


def private(cloud: Cloud, server_id: str) -> Private:
    found = cloud.cell1.db.run_sync(servers.private, server_id)
    assert found is not None
    return found


def secret(cloud: Cloud, server_id: str) -> Pending:
    return cloud.cell1.db.run_sync(pending.read, server_id)


# -- rebuild ---------------------------------------------------------------------------------------


async def test_a_rebuild_with_everything(cloud: Cloud) -> None:
    images(cloud)
    pair = KeyPair(0, "admin", "mine", "ssh", "f", "ssh-x y", cloud.clock.now())
    cloud.db.run_sync(keypairs.create, pair, limit=10)
    server_id = await ready(cloud)
    given = {
        "imageRef": NEW,
        "name": "renamed",
        "adminPass": "secret",
        "metadata": {"a": "b"},
        "OS-DCF:diskConfig": "AUTO",
        "accessIPv4": "10.1.2.3",
        "accessIPv6": "fe80::0:1",
        "description": "again",
        "key_name": "mine",
        "user_data": "aGk=",
        "hostname": "again",
        "preserve_ephemeral": "true",
    }
    answer = await act(cloud, server_id, "rebuild", given)
    assert answer.status == 202, answer.text
    assert answer.headers["location"].endswith(f"/servers/{server_id}")
    shown = answer.json()["server"]
    assert (shown["status"], shown["progress"], shown["adminPass"]) == ("REBUILD", 0, "secret")
    assert shown["OS-EXT-STS:task_state"] == "rebuilding"
    assert (shown["image"]["id"], shown["name"]) == (NEW, "renamed")
    assert (shown["metadata"], shown["description"]) == ({"a": "b"}, "again")
    assert (shown["accessIPv4"], shown["accessIPv6"]) == ("10.1.2.3", "fe80::1")
    assert (shown["key_name"], shown["user_data"]) == ("mine", "aGk=")
    assert shown["OS-EXT-SRV-ATTR:hostname"] == "again"
    told = args(cloud, RebuildArgs)
    assert told.former is not None
    assert told.former.image is not None
    assert told.former.image.id == IMAGE
    assert (told.stopped, told.preserve_ephemeral, told.root) == (False, True, None)
    assert secret(cloud, server_id).admin_pass == "secret"
    assert private(cloud, server_id).public_key == "ssh-x y"
    again = await act(cloud, server_id, "rebuild", {"imageRef": NEW})
    assert (again.status, "task_state rebuilding" in message(again)) == (409, True)


async def test_a_rebuild_with_the_same_image(cloud: Cloud) -> None:
    server_id = await ready(cloud, VmState.STOPPED)
    files = [{"path": "/etc/motd", "contents": "aGk="}]
    answer = await act(cloud, server_id, "rebuild", {"imageRef": IMAGE, "personality": files}, at=1)
    shown = answer.json()["server"]
    assert (shown["status"], shown["image"]["id"]) == ("REBUILD", IMAGE)
    assert not {"key_name", "user_data", "OS-EXT-STS:vm_state"} & shown.keys()
    told = args(cloud, RebuildArgs)
    assert (told.former, told.stopped, told.preserve_ephemeral) == (None, True, False)
    kept = secret(cloud, server_id)
    assert (len(kept.admin_pass or ""), kept.files[0].path) == (12, "/etc/motd")
    cloud.finish(server_id, VmState.ERROR, PowerState.RUNNING)
    unset = {"imageRef": IMAGE, "key_name": None, "user_data": None, "description": None}
    answer = await act(cloud, server_id, "rebuild", unset, at=57)
    shown = answer.json()["server"]
    assert (shown["key_name"], shown["user_data"], shown["description"]) == (None, None, None)
    assert "OS-EXT-STS:vm_state" not in shown


async def test_an_administrator_sees_the_user_data_once(cloud: Cloud) -> None:
    server_id = await ready(cloud)
    body = {"rebuild": {"imageRef": IMAGE, "user_data": "aGk="}}
    path = f"/v2.1/servers/{server_id}/action"
    answer = await cloud.client("admin", "2.75").post(path, json=body)
    shown = answer.json()["server"]
    assert shown["user_data"] == "aGk="
    assert "OS-EXT-SRV-ATTR:host" in shown
    assert "OS-EXT-SRV-ATTR:user_data" not in shown


APPEARS = {
    9: "locked", 19: "description", 26: "tags", 54: "key_name", 57: "user_data",
    63: "trusted_image_certificates", 71: "server_groups", 73: "locked_reason",
    75: "OS-EXT-STS:vm_state", 96: "pinned_availability_zone", 100: "scheduler_hints",
}  # fmt: skip


@pytest.mark.parametrize("at", [1, 8, 18, 25, 46, 47, 53, 56, 62, 70, 72, 74, 89, 90, 95, 97, 104])
async def test_what_each_version_shows(cloud: Cloud, at: int) -> None:
    server_id = await ready(cloud)
    answer = await act(cloud, server_id, "rebuild", {"imageRef": IMAGE}, at=at)
    shown = answer.json()["server"]
    for since, name in APPEARS.items():
        assert (name in shown) == (at >= since), name


async def test_no_password_is_shown_where_there_are_none() -> None:
    plain = Settings()
    api = msgspec.structs.replace(plain.api, enable_instance_password=False)
    cloud = Cloud(msgspec.structs.replace(plain, api=api))
    try:
        server_id = await ready(cloud)
        answer = await act(cloud, server_id, "rebuild", {"imageRef": IMAGE})
        assert "adminPass" not in answer.json()["server"]
        cloud.finish(server_id, VmState.ACTIVE, PowerState.RUNNING)
        answer = await act(cloud, server_id, "rescue", None)
        assert (answer.status, answer.json()) == (200, {})
    finally:
        cloud.close()


@pytest.mark.parametrize(
    ("given", "status", "words"),
    [
        ({"imageRef": UNKNOWN}, 400, "Cannot find image for rebuild"),
        ({"imageRef": QUEUED}, 400, "is not active"),
        ({"imageRef": BIG}, 400, "Flavor's disk is too small"),
        ({"imageRef": PINNED}, 400, "NUMA topology cannot be changed"),
        ({"imageRef": NEW, "trusted_image_certificates": ["a"]}, 400, "certificates"),
        ({"imageRef": NEW, "metadata": {str(n): "x" for n in range(129)}}, 403, "metadata items"),
        ({"imageRef": NEW, "key_name": "nokey"}, 400, "Invalid key_name"),
        ({"imageRef": NEW, "accessIPv4": "fe80::1"}, 400, "accessIPv4"),
    ],
)
async def test_refused_rebuilds(
    cloud: Cloud, given: dict[str, Any], status: int, words: str
) -> None:
    images(cloud)
    server_id = await ready(cloud)
    answer = await act(cloud, server_id, "rebuild", given)
    assert answer.status == status, answer.text
    assert words in answer.text
    assert cloud.cell1.db.run_sync(cloud.sagas.names) == []


@pytest.mark.parametrize(
    "vm_state", [VmState.PAUSED, VmState.SUSPENDED, VmState.RESCUED, VmState.SHELVED]
)
async def test_states_that_forbid_a_rebuild_and_a_rescue(cloud: Cloud, vm_state: VmState) -> None:
    server_id = await ready(cloud, vm_state)
    for action, given in (("rebuild", {"imageRef": IMAGE}), ("rescue", None)):
        answer = await act(cloud, server_id, action, given)
        assert (answer.status, f"'{action}'" in message(answer)) == (409, True)
    given = {"adminPass": "x"}
    assert (await act(cloud, server_id, "changePassword", given)).status == 409


async def test_locked_servers_and_virtual_tpms(cloud: Cloud) -> None:
    server_id = await ready(cloud)
    assert (await act(cloud, server_id, "lock", None)).status == 202
    for action, given in (
        ("rebuild", {"imageRef": IMAGE}),
        ("rescue", None),
        ("changePassword", {"adminPass": "x"}),
    ):
        answer = await act(cloud, server_id, action, given, who="member")
        assert (answer.status, message(answer)) == (409, f"Instance {server_id} is locked")
    image = ImageRef(IMAGE, properties={"hw_tpm_version": "2.0"})
    cloud.cell1.db.run_sync(
        lambda tx: servers.update(tx, server_id, now=cloud.clock.now(), image=image)
    )
    for action, given in (("rebuild", {"imageRef": IMAGE}), ("rescue", None)):
        answer = await act(cloud, server_id, action, given)
        assert (answer.status, "vTPM" in message(answer)) == (400, True)


async def test_shares_forbid_a_rebuild(cloud: Cloud) -> None:
    server_id = await ready(cloud)
    row = ShareMapping("u", server_id, "s", "tag", "10.0.0.1:/s", "NFS")
    cloud.cell1.db.run_sync(shares.add, row, now=cloud.clock.now())
    answer = await act(cloud, server_id, "rebuild", {"imageRef": IMAGE})
    assert (answer.status, "shares" in message(answer)) == (400, True)


def on_volume(cloud: Cloud, server_id: str) -> None:
    """The server starts from a volume that was made from the image."""
    cloud.volumes.add(VOLUME, size=2, status="in-use", image_metadata={"image_id": IMAGE})
    root = Disk(
        id="d", role="root", source="volume", device="vda", volume_id=VOLUME, size_mb=2048,
        format="raw", attachment_id="a", connection={},
    )  # fmt: skip

    def write(tx: Tx) -> None:
        now = cloud.clock.now()
        servers.set_disks(tx, server_id, [root], now=now)
        system = {"image_os_distro": "debian", "boot_roles": "member"}
        servers.update(tx, server_id, now=now, image=None, from_volume=True, system=system)

    cloud.cell1.db.run_sync(write)


async def test_a_rebuild_of_a_server_on_a_volume(cloud: Cloud) -> None:
    images(cloud)
    server_id = await ready(cloud)
    on_volume(cloud, server_id)
    old = await act(cloud, server_id, "rebuild", {"imageRef": NEW}, at=92)
    assert (old.status, "volume-backed" in message(old)) == (400, True)
    small = Image(BIG, size=1, min_disk=3)
    cloud.images.images[BIG] = small
    answer = await act(cloud, server_id, "rebuild", {"imageRef": BIG}, at=93)
    assert (answer.status, "Volume is smaller" in message(answer)) == (400, True)
    assert (await act(cloud, server_id, "rebuild", {"imageRef": IMAGE}, at=92)).status == 202
    told = args(cloud, RebuildArgs)
    assert (told.former, told.root) == (None, None)
    cloud.finish(server_id, VmState.ACTIVE, PowerState.RUNNING)

    answer = await act(cloud, server_id, "rebuild", {"imageRef": NEW}, at=93)
    assert (answer.status, answer.json()["server"]["image"]) == (202, "")
    told = args(cloud, RebuildArgs)
    assert told.former == Former(None, {"os_distro": "debian"})
    assert isinstance(told.root, Reimage)
    assert (told.root.disk_id, told.root.image.id, told.root.seconds) == ("d", NEW, 20.0)
    assert private(cloud, server_id).system["image_os_distro"] == "alpine"
    assert private(cloud, server_id).system["boot_roles"] == "member"


# -- rescue ----------------------------------------------------------------------------------------


async def test_rescue_and_unrescue(cloud: Cloud) -> None:
    images(cloud)
    server_id = await ready(cloud)
    given = {"adminPass": "secret", "rescue_image_ref": NEW}
    answer = await act(cloud, server_id, "rescue", given, who="member", at=1)
    assert (answer.status, answer.json()) == (200, {"adminPass": "secret"})
    told = args(cloud, RescueArgs)
    assert (told.image.id, told.named) == (NEW, NEW)
    assert secret(cloud, server_id) == Pending("secret")
    shown = (await cloud.client().get(f"/v2.1/servers/{server_id}")).json()["server"]
    assert shown["OS-EXT-STS:task_state"] == "rescuing"
    cloud.finish(server_id, VmState.RESCUED, PowerState.RUNNING)
    shown = (await cloud.client().get(f"/v2.1/servers/{server_id}")).json()["server"]
    assert shown["status"] == "RESCUE"
    for action, body in (("reboot", {"type": "HARD"}), ("os-stop", None), ("pause", None)):
        assert (await act(cloud, server_id, action, body)).status == 409
    assert (await act(cloud, server_id, "unrescue", None)).status == 202
    shown = (await cloud.client().get(f"/v2.1/servers/{server_id}")).json()["server"]
    assert shown["OS-EXT-STS:task_state"] == "unrescuing"
    names = [action.action for action in cloud.cell1.db.run_sync(actions.page, server_id) or ()]
    assert names[:2] == ["unrescue", "rescue"]


async def test_what_a_rescue_starts_from(cloud: Cloud) -> None:
    images(cloud)
    server_id = await ready(cloud, VmState.ERROR)
    assert len((await act(cloud, server_id, "rescue", None)).json()["adminPass"]) == 12
    assert (args(cloud, RescueArgs).image.id, args(cloud, RescueArgs).named) == (IMAGE, None)
    for base, chosen in ((NEW, NEW), (UNKNOWN, "snapshot")):
        cloud.finish(server_id, VmState.STOPPED, PowerState.SHUTDOWN)
        image = ImageRef("snapshot", properties={"base_image_ref": base})
        cloud.cell1.db.run_sync(
            lambda tx, image=image: servers.update(
                tx, server_id, now=cloud.clock.now(), image=image
            )
        )
        assert (await act(cloud, server_id, "rescue", None)).status == 200
        assert args(cloud, RescueArgs).image.id == chosen
    cloud.finish(server_id, VmState.STOPPED, PowerState.SHUTDOWN)
    own = cloud.services.settings
    libvirt = msgspec.structs.replace(own.libvirt, rescue_image_id=BESIDE)
    settings = msgspec.structs.replace(own, libvirt=libvirt)
    cloud.services = msgspec.structs.replace(cloud.services, settings=settings)
    cloud.app = cloud.build()
    assert (await act(cloud, server_id, "rescue", None)).status == 200
    assert args(cloud, RescueArgs).image.id == BESIDE


@pytest.mark.parametrize("image", [UNKNOWN, QUEUED, ODD, SNAPSHOT])
async def test_images_nobody_is_rescued_with(cloud: Cloud, image: str) -> None:
    images(cloud)
    server_id = await ready(cloud)
    answer = await act(cloud, server_id, "rescue", {"rescue_image_ref": image})
    assert (answer.status, "not supported" in message(answer)) == (400, True)


async def test_a_rescue_of_a_server_on_a_volume(cloud: Cloud) -> None:
    images(cloud)
    server_id = await ready(cloud)
    on_volume(cloud, server_id)
    given = {"rescue_image_ref": BESIDE}

    async def refused(given: dict[str, Any], at: int) -> str:
        answer = await act(cloud, server_id, "rescue", given, at=at)
        assert answer.status == 400, answer.text
        return message(answer)

    assert "Cannot rescue a volume-backed instance" in await refused(given, 86)
    assert "Host unable to rescue" in await refused(given, 87)
    report = HostReport("n1", "QEMU", 7002000, 4, 8192, 100, traits=("COMPUTE_RESCUE_BFV",))
    cloud.cell1.db.run_sync(
        lambda tx: nodes.save(
            tx, uuid="55555555-0000-4000-8000-000000000001", host="h1", report=report,
            now=cloud.clock.now(),
        )
    )  # fmt: skip
    assert "hw_rescue_device" in await refused({"rescue_image_ref": NEW}, 87)
    assert "hw_rescue_device" in await refused({}, 87)
    assert (await act(cloud, server_id, "rescue", given, at=87)).status == 200
    cloud.finish(server_id, VmState.ACTIVE, PowerState.RUNNING)
    cloud.volumes.table[VOLUME] = msgspec.structs.replace(
        cloud.volumes.table[VOLUME], status="detaching"
    )
    answer = await act(cloud, server_id, "rescue", given, at=87)
    assert (answer.status, "'detaching'" in message(answer)) == (409, True)


# -- passwords -------------------------------------------------------------------------------------


async def change(cloud: Cloud, server_id: str, *, error: str = "") -> Answer:
    """POST changePassword, with a conductor that does it or fails."""
    given = {"adminPass": "new-secret"}
    asked = asyncio.create_task(act(cloud, server_id, "changePassword", given))
    for _ in range(200):
        await asyncio.sleep(0.01)
        if asked.done():
            return asked.result()
        if cloud.cell1.db.run_sync(cloud.sagas.names):
            break
    assert secret(cloud, server_id) == Pending("new-secret")
    cloud.cell1.db.run_sync(_end, cloud, server_id, error)
    cloud.end_sagas()
    while not asked.done():
        await cloud.clock.advance(1)
        await asyncio.sleep(0.01)
    return asked.result()


def _end(tx: Tx, cloud: Cloud, server_id: str, error: str) -> None:
    now = cloud.clock.now()
    action = (actions.page(tx, server_id) or [])[0]
    assert action.action == "changePassword"
    name, request = "compute_set_admin_password", action.request_id
    actions.start_event(tx, server_id, request, name, now=now)
    kind, _, text = error.partition(": ")
    actions.finish_event(
        tx,
        server_id,
        request,
        name,
        now=now,
        error=text or None,
        traceback=f"{kind} in set_password: {text}" if error else None,
    )
    actions.finish(tx, server_id, request, now=now, message="Error" if error else None)
    pending.forget(tx, server_id, now=now)
    servers.set_task(tx, server_id, None, now=now)


async def test_a_password_is_changed_and_kept_for_its_owner(cloud: Cloud) -> None:
    server_id = await ready(cloud)
    answer = await change(cloud, server_id)
    assert (answer.status, answer.body) == (202, b"")
    path = f"/v2.1/servers/{server_id}/os-server-password"
    assert (await cloud.client().get(path)).json() == {"password": ""}
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    cloud.cell1.db.run_sync(
        lambda tx: servers.update(
            tx, server_id, now=cloud.clock.now(), public_key=f"{public.decode()} me"
        )
    )
    assert (await change(cloud, server_id)).status == 202
    kept = (await cloud.client().get(path)).json()["password"]
    assert key.decrypt(base64.b64decode(kept), padding.PKCS1v15()) == b"new-secret"


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        ("NotSupported: its agent does not answer", 501, "does not answer"),
        ("Conflict: QEMU guest agent is not enabled", 409, "agent is not enabled"),
        ("Unavailable: libvirt at /secret/path failed", 409, "error setting admin password"),
    ],
)
async def test_passwords_that_are_not_changed(
    cloud: Cloud, error: str, status: int, words: str
) -> None:
    server_id = await ready(cloud)
    answer = await change(cloud, server_id, error=error)
    assert answer.status == status
    assert words in answer.text
    assert "new-secret" not in answer.text
    shown = (await cloud.client().get(f"/v2.1/servers/{server_id}")).json()["server"]
    assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("ACTIVE", None)


async def test_a_rebuild_by_its_other_address(cloud: Cloud) -> None:
    server_id = await ready(cloud)
    path = f"/v2.1/os-volumes_boot/{server_id}/action"
    body = {"rebuild": {"imageRef": IMAGE}}
    assert (await cloud.client("member", "2.103").post(path, json=body)).status == 404
    answer = await cloud.client("member", "2.79").post(path, json=body)
    assert (answer.status, answer.json()["server"]["status"]) == (202, "REBUILD")
