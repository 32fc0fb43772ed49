"""Every route of the Compute API: 401 without a token, 403 with the wrong role."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from kilonova.api.service import api
from kilonova.web.call import Caller
from kilonova.web.routes import Route
from kilonova.web.testing import Client
from tests.support import cloud as support
from tests.support.cloud import Cloud, body

LATEST = 104
SERVICE = "55555555-0000-4000-8000-000000000001"
FLAVOR = {"name": "f", "ram": 1, "vcpus": 1, "disk": 1}
EVENT = {"name": "network-changed", "server_uuid": "70a599e0-31e7-49b7-b260-868f441e862b"}

ACTION = "/servers/{server_id}/action"
ACTIONS: dict[str, Any] = {
    "reboot": {"type": "SOFT"},
    "os-resetState": {"state": "error"},
    "resize": {"flavorRef": "2"},
    "os-migrateLive": {"block_migration": "auto", "host": None},
    "evacuate": {},
    "rebuild": {"imageRef": support.IMAGE},
    "createImage": {"name": "i"},
    "createBackup": {"name": "b", "backup_type": "daily", "rotation": 1},
    "changePassword": {"adminPass": "secret"},
    "addSecurityGroup": {"name": "web"},
    "removeSecurityGroup": {"name": "web"},
    "addFixedIp": {"networkId": support.NETWORK},
    "removeFixedIp": {"address": "10.0.0.5"},
    "addFloatingIp": {"address": "172.24.4.9"},
    "removeFloatingIp": {"address": "172.24.4.9"},
    "os-getConsoleOutput": {},
    "os-getVNCConsole": {"type": "novnc"},
    "os-getSPICEConsole": {"type": "spice-html5"},
    "os-getSerialConsole": {"type": "serial"},
}
SOME_GROUP = "66666666-0000-4000-8000-000000000001"

# What each route takes, so that nothing but the role is wrong.
BODIES: dict[tuple[str, str, str | None], Any] = {
    **{("POST", ACTION, name): {name: body} for name, body in ACTIONS.items()},
    ("POST", "/servers/{server_id}/os-interface", None): {"interfaceAttachment": {}},
    ("POST", "/servers/{server_id}/remote-consoles", None): {
        "remote_console": {"protocol": "vnc", "type": "novnc"}
    },
    ("POST", "/servers/{server_id}/shares", None): {"share": {"share_id": support.IMAGE}},
    ("POST", "/os-floating-ips", None): {"pool": "public"},
    ("PUT", "/os-hosts/{host}", None): {"status": "enable"},
    ("POST", "/os-security-groups", None): {"security_group": {"name": "g", "description": ""}},
    ("PUT", "/os-security-groups/{group_id}", None): {
        "security_group": {"name": "g", "description": ""}
    },
    ("POST", "/os-security-group-rules", None): {
        "security_group_rule": {"parent_group_id": SOME_GROUP}
    },
    ("POST", "/servers/{server_id}/os-volume_attachments", None): {
        "volumeAttachment": {"volumeId": support.IMAGE}
    },
    ("PUT", "/servers/{server_id}/os-volume_attachments/{volume_id}", None): {
        "volumeAttachment": {"volumeId": support.IMAGE}
    },
    ("POST", "/os-volumes", None): {"volume": {"size": 1}},
    ("POST", "/os-snapshots", None): {"snapshot": {"volume_id": "1"}},
    ("POST", "/os-assisted-volume-snapshots", None): {
        "snapshot": {
            "volume_id": "1",
            "create_info": {"snapshot_id": "1", "type": "qcow2", "new_file": "f"},
        }
    },
    ("POST", "/servers", None): body(networks="none"),
    ("PUT", "/servers/{server_id}", None): {"server": {"name": "n"}},
    ("POST", "/servers/{server_id}/metadata", None): {"metadata": {"a": "b"}},
    ("PUT", "/servers/{server_id}/metadata", None): {"metadata": {"a": "b"}},
    ("PUT", "/servers/{server_id}/metadata/{key}", None): {"meta": {"1": "b"}},
    ("PUT", "/servers/{server_id}/tags", None): {"tags": ["a"]},
    ("POST", "/flavors", None): {"flavor": FLAVOR},
    ("PUT", "/flavors/{flavor_id}", None): {"flavor": {"description": "d"}},
    ("POST", "/flavors/{flavor_id}/action", "addTenantAccess"): {
        "addTenantAccess": {"tenant": support.OTHER}
    },
    ("POST", "/flavors/{flavor_id}/action", "removeTenantAccess"): {
        "removeTenantAccess": {"tenant": support.OTHER}
    },
    ("POST", "/flavors/{flavor_id}/os-extra_specs", None): {"extra_specs": {"hw:x": "1"}},
    ("PUT", "/flavors/{flavor_id}/os-extra_specs/{key}", None): {"1": "1"},
    ("PUT", "/os-services/{service_id}", None): {"status": "enabled"},
    ("PUT", "/os-services/{word}", None): {"host": "h1", "binary": "nova-compute"},
    ("POST", "/os-server-external-events", None): {"events": [EVENT]},
    ("POST", "/os-aggregates", None): {"aggregate": {"name": "a"}},
    ("PUT", "/os-aggregates/{aggregate_id}", None): {"aggregate": {"name": "b"}},
    ("POST", "/os-aggregates/{aggregate_id}/action", "add_host"): {"add_host": {"host": "h1"}},
    ("POST", "/os-aggregates/{aggregate_id}/action", "remove_host"): {
        "remove_host": {"host": "h1"}
    },
    ("POST", "/os-aggregates/{aggregate_id}/action", "set_metadata"): {
        "set_metadata": {"metadata": {"a": "b"}}
    },
    ("POST", "/os-aggregates/{aggregate_id}/images", None): {"cache": [{"id": support.IMAGE}]},
    ("POST", "/os-server-groups", None): {"server_group": {"name": "g", "policy": "affinity"}},
    ("PUT", "/os-quota-sets/{project_id}", None): {"quota_set": {"cores": 1}},
    ("PUT", "/os-quota-class-sets/{name}", None): {"quota_class_set": {"cores": 1}},
}

# What the rules open to everyone with a token, or to everyone for their own key pairs.
OPEN = {
    ("GET", "/images"),
    ("GET", "/images/detail"),
    ("GET", "/images/{image_id}"),
    ("DELETE", "/images/{image_id}"),
    ("GET", "/images/{image_id}/metadata"),
    ("POST", "/images/{image_id}/metadata"),
    ("PUT", "/images/{image_id}/metadata"),
    ("GET", "/images/{image_id}/metadata/{key}"),
    ("PUT", "/images/{image_id}/metadata/{key}"),
    ("DELETE", "/images/{image_id}/metadata/{key}"),
    ("GET", "/os-floating-ip-pools"),
    ("POST", "/os-baremetal-nodes"),
    ("DELETE", "/os-baremetal-nodes/{node_id}"),
    ("POST", "/os-baremetal-nodes/{node_id}/action"),
    ("GET", "/flavors"),
    ("GET", "/flavors/detail"),
    ("GET", "/flavors/{flavor_id}"),
    ("GET", "/os-keypairs"),
    ("POST", "/os-keypairs"),
    ("GET", "/os-keypairs/{name}"),
    ("DELETE", "/os-keypairs/{name}"),
    ("GET", "/os-availability-zone"),
    ("GET", "/limits"),
    ("GET", "/os-quota-sets/{project_id}/defaults"),
    ("GET", "/extensions"),
    ("GET", "/extensions/{alias}"),
    ("GET", "/os-quota-sets/{project_id}/defaults"),
}
ADMINISTRATION = re.compile(
    r"/os-services|/os-aggregates|/os-quota-class-sets|/os-hypervisors|/os-server-external-events|/ext/audit|.*/os-flavor-access"
    r"|/os-availability-zone/detail|/flavors/[^/]+/action"
)
POWERLESS = Caller(user_id="fake", project_id=support.PROJECT, roles=("guest",))
# Nobody gets what is asked for here, whoever he is.
REFUSED = {"os-getRDPConsole"}
GUARDED = [
    route
    for route in api().routes
    if not route.public and not route.gone and (route.method, route.path) not in OPEN
    if route.action not in REFUSED
]


def _name(route: Route) -> str:
    return f"{route.method} {route.path} {route.action or ''}".strip()


@pytest.fixture(scope="module")
def place() -> Iterator[Cloud]:
    """A cloud with one server of the project all callers but ``other`` are in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(support.CALLERS, "powerless", POWERLESS)
        made = Cloud()
        yield made
        made.close()


async def ask(cloud: Cloud, route: Route, who: str | None, server_id: str) -> Any:
    """The answer to a well-formed request."""
    known = {"server_id": server_id, "service_id": SERVICE, "word": "enable"}
    if "{group_id}" in route.path:
        known["group_id"] = await group(cloud)
    path = re.sub(r"\{([a-z_]+)(:path)?\}", lambda found: known.get(found[1], "1"), route.path)
    version = f"2.{LATEST if route.until is None else max(1, min(LATEST, route.until))}"
    default = {route.action: None} if route.action else None
    same = route.path.replace("/os-volumes_boot", "/servers")
    json = BODIES.get((route.method, same, route.action), default)
    if route.path.startswith("/os-assisted") and route.method == "DELETE":
        path += "?delete_info={}"
    client = Client(cloud.app) if who is None else cloud.client(who)
    root = "/v2.1" if route.rooted else ""
    return await client.request(route.method, root + path, json=json, version=version)


async def group(cloud: Cloud) -> str:
    """A server group: it is looked up before its policy is, for the policy speaks of its owner."""
    client = cloud.client("member", "2.64")
    listed = (await client.get("/v2.1/os-server-groups")).json()["server_groups"]
    if listed:
        return str(listed[0]["id"])
    wanted = {"server_group": {"name": "g", "policy": "affinity"}}
    made = await client.post("/v2.1/os-server-groups", json=wanted)
    return str(made.json()["server_group"]["id"])


async def server(cloud: Cloud) -> str:
    """A server that runs; always the same."""
    listed = (await cloud.client("member").get("/v2.1/servers")).json()["servers"]
    if listed:
        return str(listed[0]["id"])
    made = await cloud.client("member", "2.37").post("/v2.1/servers", json=body(networks="none"))
    server_id = str(made.json()["server"]["id"])
    cloud.run(server_id)
    return server_id


@pytest.mark.parametrize("route", [r for r in api().routes if not r.public], ids=_name)
async def test_no_token(place: Cloud, route: Route) -> None:
    answer = await ask(place, route, None, await server(place))
    assert answer.status == 401


@pytest.mark.parametrize("route", GUARDED, ids=_name)
async def test_no_role(place: Cloud, route: Route) -> None:
    answer = await ask(place, route, "powerless", await server(place))
    assert answer.status == 403, answer.text
    assert "olicy" in answer.json()["forbidden"]["message"]


@pytest.mark.parametrize("route", [r for r in GUARDED if r.method != "GET"], ids=_name)
async def test_readers_change_nothing(place: Cloud, route: Route) -> None:
    answer = await ask(place, route, "reader", await server(place))
    assert answer.status == 403, answer.text


@pytest.mark.parametrize(
    "route",
    [
        r
        for r in GUARDED
        if ADMINISTRATION.match(r.path) or (r.path.startswith("/flavors") and r.method != "GET")
    ],
    ids=_name,
)
async def test_members_administer_nothing(place: Cloud, route: Route) -> None:
    answer = await ask(place, route, "member", await server(place))
    assert answer.status == 403, answer.text


@pytest.mark.parametrize("route", [r for r in GUARDED if "{server_id}" in r.path], ids=_name)
async def test_strangers_see_no_server(place: Cloud, route: Route) -> None:
    answer = await ask(place, route, "other", await server(place))
    assert answer.status == 404, answer.text
