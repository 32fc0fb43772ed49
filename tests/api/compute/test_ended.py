"""What each microversion refuses that its neighbour takes, and what was removed for good."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.compute.test_refusals import (
    AS_VOLUME,
    BLANK,
    BOOT,
    NOBODY,
    VOLUME,
    Case,
    Stage,
    act,
    create,
    devices,
    get,
)
from tests.support.cloud import IMAGE, NETWORK, body

# -- removed: 410 at every version -----------------------------------------------------------------

REMOVED = """
    GET /os-agents; POST /os-agents; PUT /os-agents/1; DELETE /os-agents/1
    GET /os-cells; POST /os-cells; GET /os-cells/capacities; GET /os-cells/detail
    GET /os-cells/info; POST /os-cells/sync_instances; GET /os-cells/1; PUT /os-cells/1
    DELETE /os-cells/1; GET /os-cells/1/capacities
    POST /os-certificates; GET /os-certificates/root
    GET /os-cloudpipe; POST /os-cloudpipe; PUT /os-cloudpipe/configure-project
    GET /os-fixed-ips/10.0.0.1
    GET /os-floating-ip-dns; PUT /os-floating-ip-dns/d; DELETE /os-floating-ip-dns/d
    GET /os-floating-ip-dns/d/entries/e; PUT /os-floating-ip-dns/d/entries/e
    DELETE /os-floating-ip-dns/d/entries/e
    GET /os-floating-ips-bulk; POST /os-floating-ips-bulk; GET /os-floating-ips-bulk/h1
    PUT /os-floating-ips-bulk/delete
    GET /os-fping; GET /os-fping/1
    POST /os-networks; POST /os-networks/add; DELETE /os-networks/1
    POST /os-tenant-networks; DELETE /os-tenant-networks/1
    GET /os-security-group-default-rules; POST /os-security-group-default-rules
    GET /os-security-group-default-rules/1; DELETE /os-security-group-default-rules/1
    GET /servers/1/consoles; POST /servers/1/consoles; GET /servers/1/consoles/1
    DELETE /servers/1/consoles/1; GET /servers/1/os-virtual-interfaces
"""
GONE_ROUTES = [tuple(word.split()) for word in REMOVED.strip().replace("\n", ";").split(";")]
GONE_ACTIONS = [
    ("/os-fixed-ips/10.0.0.1/action", "reserve"),
    ("/os-fixed-ips/10.0.0.1/action", "unreserve"),
    ("/os-networks/1/action", "disassociate"),
    ("/os-networks/1/action", "disassociate_host"),
    ("/os-networks/1/action", "disassociate_project"),
    ("/os-networks/1/action", "associate_host"),
    ("/servers/1/action", "resetNetwork"),
]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """One for all rows: a refusal changes nothing."""
    made = Stage()
    yield made
    made.cloud.close()


def test_all_that_is_removed_is_named() -> None:
    assert len(set(GONE_ROUTES)) == 46


@pytest.mark.parametrize(("method", "path"), GONE_ROUTES, ids=str)
async def test_removed(stage: Stage, method: str, path: str) -> None:
    for version in ("2.1", "2.36", "2.104"):
        for who in ("admin", "member"):
            case = Case("", f"/v2.1{path}", 410, None, version, who, method)
            await stage.play(case)


@pytest.mark.parametrize(("path", "action"), GONE_ACTIONS, ids=str)
async def test_removed_actions(stage: Stage, path: str, action: str) -> None:
    for version in ("2.1", "2.104"):
        await stage.play(Case("", f"/v2.1{path}", 410, {action: None}, version, "admin"))


# -- routes of some versions: 404 at the others ----------------------------------------------------

WINDOWS = [
    (0, 35, "GET /images; GET /images/detail; GET /images/{image}; DELETE /images/{image}"),
    (0, 38, "GET /images/{image}/metadata; POST /images/{image}/metadata"),
    (0, 38, "PUT /images/{image}/metadata; GET /images/{image}/metadata/a"),
    (0, 38, "PUT /images/{image}/metadata/a; DELETE /images/{image}/metadata/a"),
    (0, 35, "GET /os-baremetal-nodes; POST /os-baremetal-nodes; GET /os-baremetal-nodes/1"),
    (0, 35, "DELETE /os-baremetal-nodes/1; POST /os-baremetal-nodes/1/action#add_interface"),
    (0, 35, "POST /os-baremetal-nodes/1/action#remove_interface"),
    (0, 35, "GET /os-floating-ip-pools; GET /os-floating-ips; POST /os-floating-ips"),
    (0, 35, "GET /os-floating-ips/1; DELETE /os-floating-ips/1"),
    (0, 35, "GET /os-networks; GET /os-networks/1"),
    (0, 35, "GET /os-tenant-networks; GET /os-tenant-networks/1"),
    (0, 35, "GET /os-security-groups; POST /os-security-groups; GET /os-security-groups/1"),
    (0, 35, "PUT /os-security-groups/1; DELETE /os-security-groups/1"),
    (0, 35, "POST /os-security-group-rules; DELETE /os-security-group-rules/1"),
    (0, 35, "GET /os-volumes; POST /os-volumes; GET /os-volumes/detail; GET /os-volumes/{volume}"),
    (0, 35, "DELETE /os-volumes/{volume}; GET /os-snapshots; POST /os-snapshots"),
    (0, 35, "GET /os-snapshots/detail; GET /os-snapshots/1; DELETE /os-snapshots/1"),
    (0, 42, "GET /os-hosts; GET /os-hosts/h1; PUT /os-hosts/h1; GET /os-hosts/h1/reboot"),
    (0, 42, "GET /os-hosts/h1/shutdown; GET /os-hosts/h1/startup"),
    (0, 52, "GET /os-hypervisors/n1/search; GET /os-hypervisors/n1/servers"),
    (0, 87, "GET /os-hypervisors/{node}/uptime"),
    (0, 102, "GET /os-volumes_boot; POST /os-volumes_boot; GET /os-volumes_boot/detail"),
    (0, 102, "GET /os-volumes_boot/{sid}; PUT /os-volumes_boot/{sid}"),
    (0, 102, "DELETE /os-volumes_boot/{sid}; POST /os-volumes_boot/{sid}/action#confirmResize"),
    (0, 102, "POST /os-volumes_boot/{sid}/action#revertResize"),
    (0, 102, "POST /os-volumes_boot/{sid}/action#reboot"),
    (0, 102, "POST /os-volumes_boot/{sid}/action#resize"),
    (0, 102, "POST /os-volumes_boot/{sid}/action#rebuild"),
    (0, 102, "POST /os-volumes_boot/{sid}/action#createImage"),
    (0, 102, "POST /os-volumes_boot/{sid}/action#os-start"),
    (0, 102, "POST /os-volumes_boot/{sid}/action#os-stop"),
    (17, 102, "POST /os-volumes_boot/{sid}/action#trigger_crash_dump"),
    (55, 0, "PUT /flavors/1"),
    (81, 0, "POST /os-aggregates/1/images"),
    (6, 0, "POST /servers/{sid}/remote-consoles"),
    (22, 0, "POST /servers/{sid}/migrations/1/action#force_complete"),
    (17, 0, "POST /servers/{sid}/action#trigger_crash_dump"),
    (0, 43, "POST /servers/{sid}/action#addFixedIp; POST /servers/{sid}/action#removeFixedIp"),
    (0, 43, "POST /servers/{sid}/action#addFloatingIp"),
    (0, 43, "POST /servers/{sid}/action#removeFloatingIp"),
    (0, 5, "POST /servers/{sid}/action#os-getVNCConsole"),
    (0, 5, "POST /servers/{sid}/action#os-getSPICEConsole"),
    (0, 5, "POST /servers/{sid}/action#os-getSerialConsole"),
    (0, 5, "POST /servers/{sid}/action#os-getRDPConsole"),
    (23, 0, "GET /servers/{sid}/migrations; GET /servers/{sid}/migrations/1"),
    (24, 0, "DELETE /servers/{sid}/migrations/1"),
    (26, 0, "GET /servers/{sid}/tags; PUT /servers/{sid}/tags; DELETE /servers/{sid}/tags"),
    (26, 0, "GET /servers/{sid}/tags/a; PUT /servers/{sid}/tags/a; DELETE /servers/{sid}/tags/a"),
    (78, 0, "GET /servers/{sid}/topology"),
    (97, 0, "GET /servers/{sid}/shares; POST /servers/{sid}/shares"),
    (97, 0, f"GET /servers/{{sid}}/shares/{NOBODY}; DELETE /servers/{{sid}}/shares/{NOBODY}"),
]
OUTSIDE = [
    (*word.split(), f"2.{minor}")
    for since, until, words in WINDOWS
    for word in words.split(";")
    for minor in (since - 1, until + 1)
    if minor not in (-1, 1)
]


@pytest.mark.parametrize(("method", "path", "version"), OUTSIDE, ids=str)
async def test_other_versions(stage: Stage, method: str, path: str, version: str) -> None:
    stage.names |= {"image": IMAGE, "node": "55555555-0000-4000-8000-000000000001"}
    path, _, action = path.partition("#")
    json: Any = {action or "any": {}} if method in ("POST", "PUT") else None
    await stage.play(Case("", f"/v2.1{path}", 404, json, version, "admin", method))


# -- unknown parameters: refused from some version on ----------------------------------------------

QUERIES = {
    59: "/os-migrations",
    58: "/servers/{sid}/os-instance-actions",
    53: "/os-hypervisors /os-hypervisors/detail /os-hypervisors/{node}",
    75: "/servers /servers/detail /flavors /flavors/detail /limits /os-keypairs /os-keypairs/k "
    "/os-quota-sets/p /os-quota-sets/p/detail /os-server-groups /os-services "
    "/os-simple-tenant-usage /os-simple-tenant-usage/p /servers/{sid}/os-volume_attachments",
    97: f"/servers/{{sid}}/shares /servers/{{sid}}/shares/{NOBODY}",
    99: f"/os-console-auth-tokens/{NOBODY}",
    102: "/flavors/1 /flavors/1/os-extra_specs /flavors/1/os-extra_specs/a "
    "/flavors/mine/os-flavor-access /os-aggregates /os-aggregates/1 /os-availability-zone "
    "/os-availability-zone/detail /os-instance_usage_audit_log "
    "/os-instance_usage_audit_log/2026-01-01%2000:00:00 /os-quota-class-sets/default "
    f"/os-server-groups/{NOBODY} /servers/{{sid}} /servers/{{sid}}/diagnostics "
    "/servers/{sid}/ips /servers/{sid}/ips/private /servers/{sid}/metadata "
    "/servers/{sid}/metadata/a /servers/{sid}/migrations /servers/{sid}/migrations/1 "
    "/servers/{sid}/os-instance-actions/a /servers/{sid}/os-interface "
    f"/servers/{{sid}}/os-interface/{NOBODY} /servers/{{sid}}/os-server-password "
    "/servers/{sid}/os-security-groups /servers/{sid}/topology /extensions /extensions/os-x",
}
STRICT = [(path, since) for since, paths in QUERIES.items() for path in paths.split()]


@pytest.mark.parametrize(("path", "since"), STRICT, ids=str)
async def test_unknown_parameters(stage: Stage, path: str, since: int) -> None:
    node = {True: "55555555-0000-4000-8000-000000000001", False: "1"}
    for version, wanted in ((since, True), (since - 1, False)):
        stage.names["node"] = node[version >= 53]
        asked = get("", f"{path}?colour=red", 400, version=f"2.{version}", who="admin")
        if wanted:
            await stage.play(asked)
            continue
        client = stage.cloud.client("admin", asked.version)
        answer = await client.get(asked.path.format(**stage.names))
        assert answer.status != 400, answer.text


# -- what the version before does not take ---------------------------------------------------------


def change(title: str, version: str, /, **given: object) -> Case:
    """PUT a server."""
    return Case(title, "/v2.1/servers/{sid}", 400, {"server": given}, version, method="PUT")


def live(title: str, version: str, **given: object) -> Case:
    """os-migrateLive."""
    return act(title, 400, version=version, who="admin", **{"os-migrateLive": given})


def console(title: str, version: str, protocol: str, kind: str) -> Case:
    """POST remote-consoles."""
    asked = {"remote_console": {"protocol": protocol, "type": kind}}
    return Case(title, "/v2.1/servers/{sid}/remote-consoles", 400, asked, version)


TAGGED = {"uuid": NETWORK, "tag": "a"}
CERTIFICATES = [str(number) for number in range(51)]
BEFORE = [
    Case("2.1: a key pair's type", "/v2.1/os-keypairs", 400,
         {"keypair": {"name": "k", "type": "ssh"}}),
    console("2.7: an MKS console", "2.7", "mks", "webmks"),
    Case("2.10: force-down", "/v2.1/os-services/force-down", 404,
         {"host": "h1", "binary": "nova-compute"}, "2.10", "admin", "PUT"),
    act("2.13: evacuate without a word about storage", 400, version="2.13", who="admin",
        evacuate={"adminPass": "x"}),
    act("2.14: evacuate with a word about storage", 400, version="2.14", who="admin",
        evacuate={"onSharedStorage": True}),
    change("2.18: a description", "2.18", description="d"),
    live("2.24: block migration as it fits", "2.24", block_migration="auto",
         disk_over_commit=False, host=None),
    live("2.25: over-commitment of disks", "2.25", block_migration="auto",
         disk_over_commit=False, host=None),
    act("2.28: evacuate by force", 400, version="2.28", who="admin",
        evacuate={"host": "h1", "force": True}),
    act("2.68: evacuate by force", 400, version="2.68", who="admin",
        evacuate={"host": "h1", "force": True}),
    live("2.29: live migration by force", "2.29", block_migration="auto", host="h1", force=True),
    live("2.68: live migration by force", "2.68", block_migration="auto", host="h1", force=True),
    devices("2.33: a disk's tag", 400, {**BOOT, "tag": "a"}, version="2.33"),
    devices("2.41: a disk's tag", 400, {**BOOT, "tag": "a"}, version="2.41"),
    create("2.37: a network's tag", 400, version="2.37", networks=[TAGGED]),
    create("2.41: a network's tag", 400, version="2.41", networks=[TAGGED]),
    create("2.37: a network by a word", 400, version="2.37", networks=[{"uuid": "x"}]),
    Case("2.50: a class of floating IPs", "/v2.1/os-quota-class-sets/default", 400,
         {"quota_class_set": {"floating_ips": 1}}, "2.50", "admin", "PUT"),
    Case("2.57: a class of files", "/v2.1/os-quota-class-sets/default", 400,
         {"quota_class_set": {"injected_files": 1}}, "2.57", "admin", "PUT"),
    Case("2.52: a service by its UUID",
         "/v2.1/os-services/44444444-0000-4000-8000-000000000001", 404,
         {"host": "h1", "binary": "nova-compute"}, "2.52", "admin", "PUT"),
    Case("2.53: a service by a word", "/v2.1/os-services/enable", 400,
         {"host": "h1", "binary": "nova-compute"}, "2.53", "admin", "PUT"),
    create("2.63: too many certificates", 400, version="2.63",
           trusted_image_certificates=CERTIFICATES),
    devices("2.63: certificates for a volume", 400, AS_VOLUME, version="2.63", imageRef="",
            trusted_image_certificates=["a"]),
    Case("2.63: a group of one policy", "/v2.1/os-server-groups", 400,
         {"server_group": {"name": "g", "policy": "affinity"}}, "2.63"),
    Case("2.64: a group of a list of policies", "/v2.1/os-server-groups", 400,
         {"server_group": {"name": "g", "policies": ["affinity"]}}, "2.64"),
    get("2.65: actions up to a time",
        "/servers/{sid}/os-instance-actions?changes-before=2026-01-01T00:00:00Z", 400,
        version="2.65"),
    get("2.65: migrations up to a time", "/os-migrations?changes-before=2026-01-01T00:00:00Z",
        400, version="2.65", who="admin"),
    get("2.79: migrations of a user", "/os-migrations?user_id=u", 400, version="2.79",
        who="admin"),
    Case("2.84: another end of an attachment",
         "/v2.1/servers/{rooted}/os-volume_attachments/{volume}", 400,
         {"volumeAttachment": {"volumeId": VOLUME, "delete_on_termination": True}}, "2.84",
         "admin", "PUT"),
    change("2.89: a hostname", "2.89", hostname="a"),
    change("2.93: a whole name", "2.93", hostname="a.example.org"),
    act("2.90: unshelve to a host", 400, version="2.90", who="admin", unshelve={"host": "h1"}),
    act("2.90: unshelve to any zone", 400, version="2.90", unshelve={"availability_zone": None}),
    console("2.98: a direct SPICE console", "2.98", "spice", "spice-direct"),
    Case("2.102: a flavor that is disabled", "/v2.1/flavors", 400,
         {"flavor": {"name": "f", "ram": 64, "vcpus": 1, "disk": 0, "OS-FLV-DISABLED:disabled":
                     False}}, "2.102", "admin"),
    Case("2.51: tags of a server on a volume", "/v2.1/os-volumes_boot", 400,
         body(networks="none", tags=["a"]), "2.51"),
    devices("2.66: a blank volume's type", 400, BOOT,
            {**BLANK, "destination_type": "volume", "volume_type": "fast"}, version="2.66"),
]  # fmt: skip


@pytest.mark.parametrize("case", BEFORE, ids=lambda case: case.name.replace(" ", "-"))
async def test_version_before(stage: Stage, case: Case) -> None:
    await stage.play(case)
