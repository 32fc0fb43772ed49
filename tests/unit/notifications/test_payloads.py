"""Payloads as they travel: every row of the table can be rendered, and says what it should."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from kilonova.domain.fit.host import Wanted
from kilonova.domain.fit.shapes import DeviceRequest, DeviceSpec, GuestCell, GuestTopology
from kilonova.domain.guest import Disk
from kilonova.domain.request import RequestSpec, ServerGroup
from kilonova.domain.resources import Aggregate, Group, KeyPair, Service
from kilonova.notifications import facts as f
from kilonova.notifications import legacy, values
from kilonova.notifications.payloads import PAYLOADS, payload
from kilonova.notifications.table import TABLE
from tests.support.compute import FLAVOR, IMAGE, NIC, NOW, server

CAUSE = f.Cause("Timeout", "It took too long.", "build_on#h1/spawn", "h1")
VOLUME = Disk("d1", "volume", "volume", "vdb", volume_id="v1", tag="data")
REQUEST = RequestSpec(
    servers=("s1",),
    project_id="p1",
    user_id="u1",
    flavor=FLAVOR,
    image=IMAGE,
    requested_host="h1",
    ignore_hosts=("h2",),
    group=ServerGroup("g1", "affinity"),
    hints={"query": "a", "different_host": ["x", "y"]},
    shape=Wanted(
        GuestTopology((GuestCell(0, 512, cpus=frozenset({1, 0})),), policy="dedicated"),
        (DeviceRequest("r1", 1, (DeviceSpec("10de", "1db6"),), alias="gpu"),),
    ),
)
PAIR = KeyPair(1, "u1", "mine", "ssh", "aa:bb", "ssh-rsa AAAA", NOW)
AGGREGATE = Aggregate(7, "a-1", "rack", {"k": "v"}, ("h1",), NOW, None)
FACTS: dict[str, Any] = {
    "FlavorPayload": f.FlavorFacts(FLAVOR, ("p1",)),
    "AggregatePayload": f.AggregateFacts.of(AGGREGATE, "h1"),
    "AggregateCachePayload": f.CacheFacts(AGGREGATE, "h1", ("i1",), ("i2",), 1, 2),
    "ServerGroupPayload": f.GroupFacts(Group("g1", "g", "p1", "u1", "affinity", {"a": 1}), ("s1",)),
    "KeypairPayload": PAIR,
    "ServiceStatusPayload": Service(
        1, "s-1", "h1", "nova-compute", "compute", False, None, False, NOW, 3, 66, NOW, None
    ),
    "ComputeTaskPayload": f.TaskFacts("s1", "error", CAUSE, REQUEST),
    "RequestSpecPayload": REQUEST,
    "ExceptionPayload": CAUSE,
    "MetricsPayload": f.MetricsFacts("h1", "10.0.0.1", "h1", (f.Metric("cpu.percent", 12.6, NOW),)),
    "VolumeUsagePayload": f.VolumeUsage("v1", "p1", "u1", "nova", "s1", NOW, 1, 2, 3, 4),
    "LibvirtErrorPayload": f.LibvirtError("10.0.0.1", CAUSE),
}


def about(**more: Any) -> f.ServerFacts:
    """A server with everything."""
    who = f.Who("req-1", "u2", "p2")
    return f.ServerFacts(
        server=server(1, host="h1", vm_state="active", power_state=1, **more),
        who=who,
        nics=(NIC,),
        disks=(VOLUME, Disk("d0", "root", "image", "vda")),
        cause=CAUSE,
        before=server(1, name="former"),
        period=f.Period(NOW, NOW),
        keys=(PAIR,),
        volume_id="v1",
        new_volume_id="v2",
        more={"new_flavor": FLAVOR},
    )


def data(made: dict[str, Any]) -> dict[str, Any]:
    """The fields of a payload."""
    found: dict[str, Any] = made["nova_object.data"]
    return found


@pytest.mark.parametrize("event", list(TABLE))
def test_every_event_can_be_told(event: str) -> None:
    row = TABLE.get(event)
    thing = FACTS.get(row.payload) or about()
    made = json.loads(msgspec.json.encode(payload(row.payload, thing)))
    assert made["nova_object.name"] == row.payload
    assert made["nova_object.namespace"] == "nova"
    assert made["nova_object.version"] == PAYLOADS[row.payload].version
    assert set(data(made)) == {field.name for field in PAYLOADS[row.payload].fields}
    if row.legacy is not None:
        assert json.loads(msgspec.json.encode(legacy.payload(event, thing)))


def test_a_server() -> None:
    made = data(payload("InstanceActionPayload", about()))
    assert (made["uuid"], made["tenant_id"], made["host"]) == (server(1).id, "p1", "h1")
    assert (made["state"], made["power_state"], made["locked"]) == ("active", "running", False)
    assert made["created_at"] == "2026-01-31T12:00:01Z"
    assert made["action_initiator_user"] == "u2"
    assert data(made["flavor"])["extra_specs"] == {"a": "b"}
    assert data(made["fault"]) == {
        "module_name": "kilonova",
        "function_name": "spawn",
        "exception": "Timeout",
        "exception_message": "It took too long.",
        "traceback": "Timeout in build_on#h1/spawn: It took too long.",
    }
    (ip,) = made["ip_addresses"]
    assert data(ip) == {
        "label": "private",
        "mac": "fa:16:3e:00:00:01",
        "meta": {},
        "port_uuid": NIC.port_id,
        "version": 4,
        "address": "10.0.0.5",
        "device_name": None,
    }
    (disk,) = made["block_devices"]
    assert data(disk)["device_name"] == "/dev/vdb"
    assert data(disk)["delete_on_termination"] is False


def test_a_change() -> None:
    made = data(payload("InstanceUpdatePayload", about()))
    assert made["old_display_name"] == "former"
    assert data(made["state_update"]) == {
        "old_state": "building",
        "state": "active",
        "old_task_state": "scheduling",
        "new_task_state": "scheduling",
    }
    gone = about(deleted=True, terminated_at=NOW)
    assert data(payload("InstancePayload", gone))["deleted_at"] == "2026-01-31T12:00:00Z"


def test_a_request() -> None:
    made = data(payload("RequestSpecPayload", REQUEST))
    assert made["scheduler_hints"] == {"query": ["a"], "different_host": ["x", "y"]}
    assert data(made["retry"]) == {"num_attempts": 1, "hosts": ["h2"]}
    assert data(made["requested_destination"])["host"] == "h1"
    (cell,) = data(made["numa_topology"])["cells"]
    assert (data(cell)["cpuset"], data(cell)["cpu_policy"]) == ([0, 1], "dedicated")
    (wanted,) = data(made["pci_requests"])["requests"]
    assert data(wanted)["spec"] == [{"vendor_id": "10de", "product_id": "1db6"}]
    properties = data(data(made["image"])["properties"])
    assert properties == {"os_distro": "debian"}


def test_properties_have_types() -> None:
    image = msgspec.structs.replace(
        IMAGE,
        properties={
            "hw_cpu_cores": "4",
            "hw_boot_menu": "Yes",
            "hw_vif_model": "VIRTIO",
            "architecture": "amd64",
            "hw_video_ram": "much",
            "colour": "red",
        },
    )
    made = data(payload("ImageMetaPropsPayload", image))
    assert made == {
        "hw_cpu_cores": 4,
        "hw_boot_menu": True,
        "hw_vif_model": "virtio",
        "hw_architecture": "x86_64",
    }


def test_an_aggregate_that_is_being_made() -> None:
    made = data(payload("AggregatePayload", f.AggregateFacts("a-1", "rack")))
    assert made == {"id": None, "uuid": "a-1", "name": "rack", "hosts": None, "metadata": None}


def test_fingerprints() -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8W6D8D2m0lK2bL4G0n5tq0M3y1k1u5o9b7n2Zc8w0a me"
    assert len(values.fingerprint(key, "ssh").split(":")) == 16
    assert values.fingerprint("nonsense", "ssh") == ""
    assert values.fingerprint("ssh-rsa %%%", "ssh") == ""
    assert values.fingerprint(key, "x509") == ""


def test_the_older_form() -> None:
    made = legacy.payload("instance.create.end", about())
    assert made["instance_id"] == server(1).id
    assert (made["memory_mb"], made["disk_gb"], made["image_name"]) == (512, 1, "tiny")
    assert made["created_at"] == "2026-01-31 12:00:01+00:00"
    assert made["fixed_ips"][0]["vif_mac"] == "fa:16:3e:00:00:01"
    assert legacy.publisher(about(), "api") == "h1"
    assert legacy.publisher(f.AggregateFacts("a-1", "rack"), "api") == "rack"
    assert legacy.payload("aggregate.addhost.start", FACTS["AggregatePayload"]) == {
        "name": "rack",
        "aggregate_id": 7,
        "host_name": "h1",
        "meta_data": {"k": "v"},
    }
    added = legacy.payload("server_group.add_member", FACTS["ServerGroupPayload"])
    assert added == {"server_group_id": "g1", "instance_uuids": ["s1"]}
