"""A user's script with openstacksdk: make, look, change, delete; prints what it saw as JSON."""

from __future__ import annotations

import base64
import json
import sys
import warnings
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import openstack

VERSIONS = ("2.1", "2.3", "2.9", "2.16", "2.19", "2.26", "2.36", "2.47", "2.53", "2.61", "2.63",
            "2.69", "2.71", "2.73", "2.75", "2.79", "2.83", "2.88", "2.90", "2.96", "2.98",
            "2.100", "2.102", "2.104")  # fmt: skip
READS = (
    "/servers",
    "/servers/detail",
    "/servers/detail?limit=1&sort_key=created_at&sort_dir=asc",
    "/servers/{id}",
    "/servers/{id}/metadata",
    "/servers/{id}/metadata/kind",
    "/servers/{id}/ips",
    "/servers/{id}/os-instance-actions",
    "/servers/{id}/tags",
    "/flavors",
    "/flavors/detail",
    "/flavors/42",
    "/flavors/42/os-extra_specs",
    "/os-keypairs",
    "/os-keypairs/sdk",
    "/limits",
    "/os-availability-zone",
    "/os-availability-zone/detail",
    "/os-services",
    "/os-hypervisors",
    "/os-hypervisors/detail",
    "/extensions",
    "/",
)


def main() -> None:
    conn = openstack.connect()
    seen: dict[str, Any] = {}
    key = conn.compute.create_keypair(name="sdk")
    seen["key"] = "PRIVATE KEY" in key.private_key
    image = conn.image.find_image("tiny", ignore_missing=False)
    flavor = conn.compute.find_flavor("m1.nano", ignore_missing=False)
    server = conn.compute.create_server(
        name="by-sdk",
        image_id=image.id,
        flavor_id=flavor.id,
        key_name="sdk",
        networks="auto",
        metadata={"kind": "sdk"},
        tags=["one", "two"],
        description="made by a script",
        user_data=base64.b64encode(b"#!/bin/sh\ntrue\n").decode(),
    )
    server = conn.compute.wait_for_server(server, wait=120)
    seen["status"] = server.status
    seen["flavor"] = server.flavor.name
    seen["networks"] = sorted(server.addresses)
    seen["tags"] = sorted(server.tags or [])
    seen["description"] = server.description
    seen["names"] = [each.name for each in conn.compute.servers(details=False)]
    seen["filtered"] = [each.name for each in conn.compute.servers(name="by-", status="ACTIVE")]
    seen["empty"] = [each.name for each in conn.compute.servers(name="no such")]
    _change(conn, server, seen)
    _read(conn, server, sys.argv[1:])
    refusals = _refusals(conn, server)
    seen["refusals"] = refusals
    conn.compute.delete_server(server)
    conn.compute.wait_for_delete(server, wait=60)
    seen["left"] = len(list(conn.compute.servers()))
    conn.compute.delete_keypair("sdk")
    print(json.dumps(seen))


def _change(conn: Any, server: Any, seen: dict[str, Any]) -> None:
    conn.compute.update_server(server, name="by-script", description="changed")
    conn.compute.set_server_metadata(server, kind="sdk", more="yes")
    conn.compute.delete_server_metadata(server, ["more"])
    conn.compute.add_tag_to_server(server, "three")
    conn.compute.remove_tag_from_server(server, "one")
    fresh = conn.compute.get_server(server.id)
    seen["changed"] = [fresh.name, fresh.description, fresh.metadata, sorted(fresh.tags)]
    seen["console"] = isinstance(conn.compute.get_server_console_output(server)["output"], str)
    conn.compute.stop_server(server)
    conn.compute.wait_for_server(server, status="SHUTOFF", wait=90)
    conn.compute.start_server(server)
    conn.compute.wait_for_server(server, wait=60)
    conn.compute.reboot_server(server, "HARD")
    conn.compute.wait_for_server(server, wait=60)
    seen["actions"] = sorted(each.action for each in conn.compute.server_actions(server))


def _read(conn: Any, server: Any, clouds: list[str]) -> None:
    """Everything there is to read, at versions where answers changed, also as administrator."""
    for reader in (conn, *(openstack.connect(cloud=name) for name in clouds)):
        for version in VERSIONS:
            for path in READS:
                reader.compute.get(path.format(id=server.id), microversion=version)


def _refusals(conn: Any, server: Any) -> list[int]:
    base = f"/servers/{server.id}"
    asked = (
        ("POST", "/servers", {"server": {}}),
        ("POST", "/servers", {"server": {"name": "x", "flavorRef": "no", "networks": "none"}}),
        ("GET", "/servers/00000000-0000-0000-0000-000000000000", None),
        ("POST", f"{base}/action", {"os-start": None}),
        ("POST", f"{base}/action", {"noSuchAction": None}),
        ("POST", f"{base}/action", {"reboot": {"type": "WARM"}}),
        ("PUT", base, {"server": {"name": ""}}),
        ("GET", "/flavors/no-such-flavor", None),
        ("GET", "/no-such-path", None),
        ("POST", "/os-keypairs", {"keypair": {"name": "sdk"}}),
        ("POST", "/flavors", {"flavor": {"name": "f", "ram": 1, "vcpus": 1, "disk": 1}}),
    )
    return [
        conn.compute.request(where, method, json=body, microversion="2.79").status_code
        for method, where, body in asked
    ]


if __name__ == "__main__":
    main()
