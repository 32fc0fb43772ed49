"""Servers and flavors for tests of the store and the API."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec

from kilonova.domain.guest import Disk, FixedIp, FlavorSpec, ImageRef, Nic
from kilonova.domain.server import EMPTY, BuildRequest, BuildSpec, Private, Server
from kilonova.domain.states import Task, VmState

NOW = dt.datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=dt.UTC)
FLAVOR = FlavorSpec(
    id=1, flavorid="1", name="m1.tiny", vcpus=1, memory_mb=512, root_gb=1, extra_specs={"a": "b"}
)
IMAGE = ImageRef(
    id="70a599e0-31e7-49b7-b260-868f441e862b",
    name="tiny",
    size=1024,
    properties={"os_distro": "debian"},
)
NIC = Nic(
    port_id="11111111-0000-0000-0000-000000000001",
    mac="fa:16:3e:00:00:01",
    network_id="22222222-0000-0000-0000-000000000001",
    network_label="private",
    ips=(FixedIp("10.0.0.5", "s1", "10.0.0.0/24", floating=("172.24.4.9",)),),
)
DISK = Disk(id="d0", role="root", source="image", device="vda", image=IMAGE, size_mb=1024)


def server_id(number: int) -> str:
    """A stable id."""
    return f"00000000-0000-4000-8000-{number:012d}"


def server(number: int = 1, **values: Any) -> Server:
    """A server that is being placed."""
    base = Server(
        id=server_id(number),
        number=0,
        project_id="p1",
        user_id="u1",
        name=f"server-{number}",
        hostname=f"server-{number}",
        description=None,
        vm_state=VmState.BUILDING,
        task_state=Task.SCHEDULING,
        power_state=0,
        progress=0,
        host=None,
        node=None,
        availability_zone=None,
        pinned_zone=None,
        flavor=FLAVOR,
        image=IMAGE,
        metadata={"k": "v"},
        addresses=EMPTY,
        security_groups=("default",),
        key_name=None,
        config_drive=False,
        access_ip_v4=None,
        access_ip_v6=None,
        locked_by=None,
        locked_reason=None,
        reservation_id="r-12345678",
        launch_index=0,
        root_device="/dev/vda",
        auto_disk_config=False,
        trusted_certs=None,
        scheduler_hints={},
        created_at=NOW + dt.timedelta(seconds=number),
        updated_at=NOW + dt.timedelta(seconds=number),
        launched_at=None,
        terminated_at=None,
        deleted=False,
        tags=("red", f"n{number}"),
    )
    return msgspec.structs.replace(base, **values)


def request(number: int = 1, **values: Any) -> tuple[BuildRequest, BuildSpec]:
    """A build request and its spec."""
    return (
        BuildRequest(
            server(number, **values), Private(disks=(DISK,), user_data="aGk="), f"req-{number}"
        ),
        BuildSpec(admin_pass="secret"),
    )
