"""What the Compute API refuses, row by row: request, microversion, status, and its words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from kilonova.domain.guest import FlavorSpec
from kilonova.store import flavors, servers
from kilonova.web.testing import Client
from tests.support.cloud import IMAGE, NETWORK, OTHER, PORT, PROJECT, Cloud, body
from tests.support.compute import NOW

VOLUME = "88888888-0000-4000-8000-000000000001"
NOBODY = "99999999-0000-4000-8000-000000000009"
BOOT = {"boot_index": 0, "uuid": IMAGE, "source_type": "image", "destination_type": "local"}
AS_VOLUME = {"boot_index": 0, "uuid": VOLUME, "source_type": "volume", "destination_type": "volume"}
BLANK = {"boot_index": -1, "source_type": "blank", "destination_type": "local", "volume_size": 1}


class Case(msgspec.Struct, frozen=True):
    """One refusal. ``{sid}`` in the path is an ACTIVE server's id."""

    name: str
    path: str
    status: int
    json: Any = None
    version: str = "2.1"
    who: str = "member"
    method: str = "POST"
    words: str = ""
    raw: bytes | None = None
    headers: dict[str, str] = {}


def create(
    title: str, status: int, words: str = "", /, *, version: str = "2.1", **given: Any
) -> Case:
    """POST /servers."""
    who = given.pop("who", "member")
    if int(version[2:]) >= 37:
        given = {"networks": "none", **given}
    return Case(title, "/v2.1/servers", status, body(**given), version, who, words=words)


def devices(name: str, status: int, *rows: dict[str, Any], words: str = "", **more: Any) -> Case:
    """POST /servers with block devices."""
    return create(name, status, words, block_device_mapping_v2=list(rows), **more)


def act(title: str, status: int, words: str = "", /, version: Any = "2.1", **action: Any) -> Case:
    """POST an action."""
    who = action.pop("who", "member")
    return Case(title, "/v2.1/servers/{sid}/action", status, action, version, who, words=words)


def get(name: str, path: str, status: int, words: str = "", **more: Any) -> Case:
    """GET."""
    return Case(name, f"/v2.1{path}", status, method="GET", words=words, **more)


PROTOCOL = [
    get("a version that is not there", "/servers", 406, "2.105", version="2.105"),
    get("a version that is none", "/servers", 400, version="2.x"),
    Case("broken JSON", "/v2.1/servers", 400, raw=b"{", words="(?i)malformed"),
    Case("XML", "/v2.1/servers", 415, raw=b"<a/>", headers={"Content-Type": "application/xml"}),
    Case("a large body", "/v2.1/servers", 413, raw=b'"' + b"x" * 114700 + b'"'),
    Case("no such path", "/v2.1/nothing", 404, method="GET"),
    get("another project in the path", f"/{OTHER}/servers", 400, "(?i)malformed"),
    create("an unknown key", 400, "Additional properties are not allowed", colour="red"),
    get("an unknown query, 2.75", "/servers?colour=red", 400, version="2.75"),
    get("an unknown marker", f"/servers?marker={NOBODY}", 400, "marker"),
    get("a limit that is none", "/servers?limit=x", 400),
    get("a negative limit", "/servers?limit=-1", 400),
    get("an unknown sort key, 2.75", "/servers?sort_key=colour", 400, version="2.75"),
    get("a sort direction that is none", "/servers?sort_key=uuid&sort_dir=up", 400),
    get("an ignored sort key, 2.75", "/servers?sort_key=cleaned", 400, version="2.75"),
    get(
        "changes in the wrong order",
        "/servers?changes-since=2026-02-01T00:00:00Z&changes-before=2026-01-01T00:00:00Z",
        400,
        version="2.66",
    ),
    get("a status that is none, 2.38", "/servers?status=odd", 400, version="2.38"),
    get("a wrong regular expression", "/servers?name=(", 400),
    get("deleted servers for a user", "/servers?status=deleted", 403, "(?i)administrators"),
    get("all tenants for a user", "/servers?all_tenants=1", 403),
    Case("two actions", "/v2.1/servers/{sid}/action", 400, {"os-start": None, "os-stop": None}),
    Case("no action", "/v2.1/servers/{sid}/action", 400, {}),
    Case("an unknown action", "/v2.1/servers/{sid}/action", 400, {"dance": None}),
    get("images after 2.35", "/images", 404, version="2.36"),
    get("networks after 2.35", "/os-networks", 404, version="2.36"),
    get("volumes after 2.35", "/os-volumes", 404, version="2.36"),
    get("hosts after 2.42", "/os-hosts", 404, version="2.43", who="admin"),
    get("os-volumes_boot after 2.102", "/os-volumes_boot", 404, version="2.103"),
    get("cells", "/os-cells", 410, who="admin"),
    get("agents", "/os-agents", 410, who="admin"),
    get("certificates", "/os-certificates/root", 410),
    get("fixed IPs", "/os-fixed-ips/10.0.0.1", 410, who="admin"),
    get("virtual interfaces", "/servers/{sid}/os-virtual-interfaces", 410),
    get("bare metal", "/os-baremetal-nodes", 501, who="admin"),
    Case("new bare metal", "/v2.1/os-baremetal-nodes", 400, {"node": {}}, who="admin"),
    get("rebooting a host that is down", "/os-hosts/h1/reboot", 400, who="admin"),
    get("another project's server", "/servers/{sid}", 404, who="other"),
    Case("a reader's server", "/v2.1/servers", 403, body(), who="reader"),
]
SERVERS = [
    create("more than one with a port", 400, networks=[{"port": PORT}], max_count=2),
    create(
        "more than one with an address",
        400,
        networks=[{"uuid": NETWORK, "fixed_ip": "10.0.0.7"}],
        max_count=2,
    ),
    create("fewer at most than at least", 400, min_count=3, max_count=2),
    create("one hostname for many", 400, version="2.90", hostname="a", max_count=2),
    create("a hostname that is none", 400, version="2.90", hostname="a b"),
    create("user data that is no base64", 400, user_data="a"),
    create("user data that is too long", 400, user_data="QUFB" * 20000),
    create("a host for a user", 403, availability_zone="nova:h1"),
    create("an unknown zone", 400, "(?i)zone", availability_zone="far"),
    create("an unknown flavor", 400, flavorRef="77"),
    create("an unknown image", 400, imageRef=NOBODY),
    create("an image that is not one", 400, imageRef="x/y"),
    create("an unknown key pair", 400, key_name="none"),
    create("an unknown security group", 400, security_groups=[{"name": "none"}]),
    Case(
        "an unknown group",
        "/v2.1/servers",
        400,
        {**body(), "os:scheduler_hints": {"group": NOBODY}},
    ),
    create("a name of nothing", 400, **{"name": ""}),
    create("a name that is too long", 400, **{"name": "x" * 256}),
    create("metadata that is too long", 400, metadata={"k": "x" * 256}),
    create("too much metadata", 403, metadata={f"k{n}": "v" for n in range(129)}),
    create("tags before their time", 400, version="2.51", tags=["a"]),
    create("a host before its time", 400, version="2.73", host="h1"),
    create("a host by a user", 403, version="2.74", host="h1"),
    create("files after their time", 400, version="2.57", personality=[]),
    create("no networks", 400, version="2.37", networks=None),
    create("an unknown network", 400, networks=[{"uuid": NOBODY}]),
    create("an unknown port", 400, networks=[{"port": NOBODY}]),
    create("an address outside", 400, networks=[{"uuid": NETWORK, "fixed_ip": "no"}]),
    create("a certificate nobody may", 400, version="2.62", trusted_image_certificates=["a"]),
]
DEVICES = [
    devices("old and new devices", 400, BOOT, block_device_mapping=[{"volume_id": VOLUME}]),
    devices("another image for the disk", 400, {**BOOT, "uuid": NOBODY}),
    devices("an image for a second disk", 400, BOOT, {**BOOT, "boot_index": 1}),
    devices("a gap in the order", 400, BOOT, {**AS_VOLUME, "boot_index": 2}, words="(?i)boot seq"),
    devices("the same order twice", 400, BOOT, AS_VOLUME, words="(?i)boot seq"),
    devices(
        "a blank volume of no size",
        400,
        BOOT,
        {"boot_index": -1, "source_type": "blank", "destination_type": "volume"},
        words="(?i)size",
    ),
    devices("an unknown bus", 400, {**BOOT, "disk_bus": "wire"}),
    devices("a device name that is none", 400, {**BOOT, "device_name": "a b"}),
    devices(
        "a type of what has one",
        400,
        BOOT,
        {**AS_VOLUME, "boot_index": -1, "volume_type": "fast"},
        version="2.67",
    ),
    devices(
        "an unknown type",
        400,
        BOOT,
        {**BLANK, "destination_type": "volume", "volume_type": "none"},
        version="2.67",
    ),
    devices("a type before its time", 400, {**BOOT, "volume_type": "fast"}, version="2.66"),
    devices(
        "too many local disks", 400, BOOT, BLANK, BLANK, BLANK, words="(?i)local", flavorRef="roomy"
    ),
    devices("an unknown volume", 400, {**AS_VOLUME, "uuid": NOBODY}),
    devices("an unknown snapshot", 400, {**AS_VOLUME, "uuid": NOBODY, "source_type": "snapshot"}),
    create("neither image nor volume", 400, imageRef=""),
    create("a flavor without a disk", 403, flavorRef="empty"),
    create("a flavor with too little memory", 400, flavorRef="small"),
    Case(
        "detaching the root disk",
        "/v2.1/servers/{rooted}/os-volume_attachments/{volume}",
        400,
        method="DELETE",
        words="(?i)root",
    ),
    Case(
        "attaching what is not there",
        "/v2.1/servers/{sid}/os-volume_attachments",
        404,
        {"volumeAttachment": {"volumeId": NOBODY}},
    ),
    get("an attachment that is not there", f"/servers/{{sid}}/os-volume_attachments/{NOBODY}", 404),
]
ACTIONS = [
    act("starting what runs", 409, r"Cannot 'start' instance .* while it is in vm_state active",
        **{"os-start": None}),
    act("unpausing what runs", 409, unpause=None),
    act("resuming what runs", 409, resume=None),
    act("resizing to the same", 400, resize={"flavorRef": "1"}),
    act("resizing to what is not there", 400, resize={"flavorRef": "77"}),
    act("confirming nothing", 409, confirmResize=None),
    act("reverting nothing", 409, revertResize=None),
    act("unshelving what runs", 409, unshelve=None),
    act("evacuating from a host that is up", 400, who="admin",
        evacuate={"onSharedStorage": False}),
    act("evacuating by a user", 403, evacuate={"onSharedStorage": False}),
    act("a backup of a wrong turn", 400,
        createBackup={"name": "b", "backup_type": "daily", "rotation": -1}),
    act("a group that is not there", 404, addSecurityGroup={"name": "none"}),
    act("a group it does not have", 404, removeSecurityGroup={"name": "none"}),
    act("a fixed IP after 2.43", 404, version="2.44", addFixedIp={"networkId": NETWORK}),
    act("a floating IP after 2.43", 404, version="2.44", addFloatingIp={"address": "1.2.3.4"}),
    act(
        "a floating IP without a fixed one",
        400,
        "No fixed IPs",
        addFloatingIp={"address": "1.2.3.4"},
    ),
    act("RDP", 400, **{"os-getRDPConsole": {"type": "rdp-html5"}}),
    act("a VNC console after 2.5", 404, version="2.6",
        **{"os-getVNCConsole": {"type": "novnc"}}),
    act("network info", 410, who="admin", resetNetwork=None),
    act("reset by a user", 403, **{"os-resetState": {"state": "error"}}),
    act("reset to nonsense", 400, who="admin", **{"os-resetState": {"state": "odd"}}),
    act("a reboot of no kind", 400, reboot={"type": "warm"}),
    Case("unlocking an admin's lock", "/v2.1/servers/{locked}/action", 403, {"unlock": None}),
    Case("stopping what is locked", "/v2.1/servers/{locked}/action", 409, {"os-stop": None},
         words="locked"),
]  # fmt: skip
OTHERS = [
    get("a private flavor", "/flavors/mine", 404),
    get("who may use a public flavor", "/flavors/1/os-flavor-access", 404, who="admin"),
    Case("access to a public flavor", "/v2.1/flavors/1/action", 409,
         {"addTenantAccess": {"tenant": PROJECT}}, "2.7", "admin"),
    Case("a wrong extra spec", "/v2.1/flavors/1/os-extra_specs", 400,
         {"extra_specs": {"hw:numa_nodes": "none"}}, "2.86", "admin"),
    Case("an unknown extra spec", "/v2.1/flavors/1/os-extra_specs", 400,
         {"extra_specs": {"hw:colour": "red"}}, "2.86", "admin"),
    Case("a flavor by a user", "/v2.1/flavors", 403,
         {"flavor": {"name": "x", "ram": 1, "vcpus": 1, "disk": 0}}),
    Case("a flavor that is there", "/v2.1/flavors", 409,
         {"flavor": {"name": "m1.tiny", "ram": 1, "vcpus": 1, "disk": 0}}, who="admin"),
    Case("events by a user", "/v2.1/os-server-external-events", 403,
         {"events": [{"name": "network-changed", "server_uuid": NOBODY}]}),
    Case("events of no kind", "/v2.1/os-server-external-events", 400,
         {"events": [{"name": "rain", "server_uuid": NOBODY}]}, who="admin"),
    get("an action that is not there", "/servers/{sid}/os-instance-actions/req-0", 404),
    get("actions in the wrong order",
        "/servers/{sid}/os-instance-actions?changes-since=2026-02-01T00:00:00Z"
        "&changes-before=2026-01-01T00:00:00Z", 400, version="2.66"),
    get("actions after nothing", "/servers/{sid}/os-instance-actions?marker=req-0", 400,
        version="2.58"),
    get("actions of a deleted server, 2.20", "/servers/{gone}/os-instance-actions", 404,
        version="2.20"),
    Case("ending a move that is not one", "/v2.1/servers/{sid}/migrations/1", 409, method="DELETE",
         version="2.24", who="admin"),
    Case("a host of another zone", "/v2.1/os-aggregates/2/action", 409,
         {"add_host": {"host": "h1"}}, who="admin"),
    Case("a host that is not there", "/v2.1/os-aggregates/1/action", 404,
         {"add_host": {"host": "none"}}, who="admin"),
    Case("an aggregate with hosts", "/v2.1/os-aggregates/1", 400, method="DELETE", who="admin"),
    Case("a service with servers", "/v2.1/os-services/1", 409, method="DELETE", who="admin"),
    Case("a quota of what is not there", f"/v2.1/os-quota-sets/{PROJECT}", 400,
         {"quota_set": {"colour": 1}}, who="admin", method="PUT"),
    Case("a quota below what is used", f"/v2.1/os-quota-sets/{PROJECT}", 400,
         {"quota_set": {"instances": 0}}, who="admin", method="PUT"),
    Case("a quota by a user", f"/v2.1/os-quota-sets/{PROJECT}", 403,
         {"quota_set": {"instances": 5}}, method="PUT"),
    Case("too many servers", "/v2.1/servers", 403, body(min_count=30, max_count=30),
         words="Quota exceeded for cores, instances: Requested 30, 30, but already used"),
    get("a key pair that is not there", "/os-keypairs/none", 404),
    Case("a key that is none", "/v2.1/os-keypairs", 400,
         {"keypair": {"name": "k", "public_key": "odd"}}),
    Case("a group of no policy", "/v2.1/os-server-groups", 400,
         {"server_group": {"name": "g", "policies": ["odd"]}}),
    Case("a soft group before its time", "/v2.1/os-server-groups", 400,
         {"server_group": {"name": "g", "policies": ["soft-affinity"]}}, "2.14"),
    Case("metadata of wrong words", "/v2.1/servers/{sid}/metadata", 400,
         {"metadata": {"k": 1}}),
    Case("a tag with a comma", "/v2.1/servers/{sid}/tags/a,b", 400, method="PUT", version="2.26"),
    Case("too many tags", "/v2.1/servers/{sid}/tags", 400,
         {"tags": [f"t{n}" for n in range(51)]}, "2.26", method="PUT"),
    get("a tag it has not", "/servers/{sid}/tags/none", 404, version="2.26"),
    get("diagnostics of one that is off", "/servers/{off}/diagnostics", 409, version="2.48",
        who="admin"),
    Case("a card on no network", "/v2.1/servers/{sid}/os-interface", 404,
         {"interfaceAttachment": {"net_id": NOBODY}}),
    Case("a card with everything", "/v2.1/servers/{sid}/os-interface", 400,
         {"interfaceAttachment": {"net_id": NETWORK, "port_id": PORT}}),
    Case("a port that is not there", "/v2.1/servers/{sid}/os-interface", 404,
         {"interfaceAttachment": {"port_id": NOBODY}}),
    Case("a console of no kind", "/v2.1/servers/{sid}/remote-consoles", 400,
         {"remote_console": {"protocol": "odd", "type": "novnc"}}, "2.6"),
]  # fmt: skip
FAULTS = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    501: "notImplemented",
    503: "serviceUnavailable",
}
CASES = [*PROTOCOL, *SERVERS, *DEVICES, *ACTIONS, *OTHERS]


class Stage:
    """A cloud with a server of each kind the table names."""

    def __init__(self) -> None:
        self.cloud = Cloud()
        self.names: dict[str, str] = {"volume": VOLUME}

    async def fill(self) -> None:
        """Servers that run, are off, are gone, boot from a volume; flavors, aggregates."""
        cloud, admin = self.cloud, self.cloud.client("admin")
        if VOLUME not in cloud.volumes.table:
            cloud.volumes.add(VOLUME, bootable=True, project_id=PROJECT)
        for flavor in (
            FlavorSpec(0, "mine", "mine", 1, 512, 1, is_public=False),
            FlavorSpec(0, "empty", "empty", 1, 512, 0),
            FlavorSpec(0, "small", "small", 1, 64, 1),
            FlavorSpec(0, "roomy", "roomy", 1, 512, 1, ephemeral_gb=10),
        ):
            cloud.db.run_sync(flavors.create, flavor, now=NOW)
        large = msgspec.structs.replace(cloud.images.images[IMAGE], min_ram=256)
        cloud.images.images[IMAGE] = large
        for number, zone in enumerate(("east", "west"), 1):
            values = {"name": f"a{number}", "availability_zone": zone}
            answer = await admin.post("/v2.1/os-aggregates", json={"aggregate": values})
            assert answer.status == 200, answer.text
        host = {"add_host": {"host": "h1"}}
        answer = await admin.post("/v2.1/os-aggregates/1/action", json=host)
        assert answer.status == 200, answer.text
        for name in ("sid", "off", "gone", "locked"):
            self.names[name] = await self._make()
            cloud.run(self.names[name])
        now = cloud.clock.now()
        cloud.cell1.db.run_sync(
            servers.update, self.names["off"], now=now, vm_state="stopped", power_state=4
        )
        cloud.delete(self.names["gone"])
        self.names["rooted"] = await self._make(imageRef="", block_device_mapping_v2=[AS_VOLUME])
        cloud.run(self.names["rooted"])
        path = f"/v2.1/servers/{self.names['locked']}/action"
        assert (await admin.post(path, json={"lock": None})).status == 202

    async def _make(self, **values: Any) -> str:
        answer = await self.cloud.client().post("/v2.1/servers", json=body(**values))
        assert answer.status == 202, answer.text
        made: str = answer.json()["server"]["id"]
        return made

    async def play(self, case: Case) -> None:
        """Ask, and look at the refusal."""
        if "sid" not in self.names:
            await self.fill()
        client: Client = self.cloud.client(case.who, case.version)
        path = case.path.format(**self.names)
        answer = await client.request(
            case.method, path, json=case.json, data=case.raw, headers=case.headers or None
        )
        assert answer.status == case.status, answer.text
        ((name, fault),) = answer.json().items()
        assert (name, fault["code"]) == (FAULTS.get(case.status, "computeFault"), case.status)
        assert re.search(case.words, str(fault["message"])), fault


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """One for all rows: a refusal changes nothing."""
    made = Stage()
    yield made
    made.cloud.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
async def test_refused(stage: Stage, case: Case) -> None:
    await stage.play(case)
