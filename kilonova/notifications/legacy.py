"""The unversioned payloads: one function per kind of facts; pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from kilonova.base.clock import UTC
from kilonova.domain.request import RequestSpec
from kilonova.domain.resources import KeyPair
from kilonova.notifications import facts as f
from kilonova.notifications import values as v

NO_COPY = frozenset({"kernel_id", "ramdisk_id"})


def payload(event: str, thing: f.Facts) -> dict[str, Any]:
    """The unversioned payload about the facts of an event."""
    return MAKERS[type(thing)](event, thing)


def publisher(thing: f.Facts, default: str) -> str:
    """What stands behind the service in the publisher id: the host, or what the event is about."""
    if isinstance(thing, f.ServerFacts):
        return thing.server.host or default
    if isinstance(thing, f.AggregateFacts):
        return str(thing.id) if thing.id is not None else thing.name
    if isinstance(thing, f.MetricsFacts):
        return thing.node
    return default


def _server(event: str, x: f.ServerFacts) -> dict[str, Any]:
    made = _about(x)
    if x.cause is not None:
        made |= {
            "exception": x.cause.kind,
            "message": x.cause.message,
            "code": 500,
        }
    elif x.message:
        made["message"] = x.message
    if event.startswith("instance.update"):
        made |= {
            "old_state": v.before(x, "vm_state"),
            "old_task_state": v.before(x, "task_state"),
            "new_task_state": x.server.task_state,
        }
        if v.old_name(x) is not None:
            made["old_display_name"] = v.old_name(x)
    if x.period is not None:
        made |= {
            "audit_period_beginning": _moment(x.period.begin),
            "audit_period_ending": _moment(x.period.end),
        }
    if x.volume_id is not None and event.startswith("instance.volume_"):
        made["volume_id"] = x.volume_id
    if event.startswith("instance.create") and x.server.image is not None:
        made["image_name"] = x.server.image.name
    return made


def _about(x: f.ServerFacts) -> dict[str, Any]:
    s, flavor = x.server, x.server.flavor
    properties = s.image.properties if s.image else {}
    return {
        "tenant_id": s.project_id,
        "user_id": s.user_id,
        "instance_id": s.id,
        "display_name": s.name,
        "reservation_id": s.reservation_id,
        "hostname": s.hostname,
        "instance_type": flavor.name,
        "instance_type_id": flavor.id,
        "instance_flavor_id": flavor.flavorid,
        "architecture": v.image_property(x, "architecture", "hw_architecture"),
        "memory_mb": flavor.memory_mb,
        "disk_gb": flavor.root_gb + flavor.ephemeral_gb,
        "vcpus": flavor.vcpus,
        "root_gb": flavor.root_gb,
        "ephemeral_gb": flavor.ephemeral_gb,
        "host": s.host,
        "node": s.node,
        "availability_zone": s.availability_zone,
        "cell_name": "",
        "created_at": s.created_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S+00:00"),
        "terminated_at": _moment(s.terminated_at),
        "deleted_at": _moment(v.deleted_at(x)),
        "launched_at": _moment(s.launched_at),
        "image_ref_url": v.image_id(x),
        "os_type": v.image_property(x, "os_type"),
        "kernel_id": properties.get("kernel_id", ""),
        "ramdisk_id": properties.get("ramdisk_id", ""),
        "state": s.vm_state,
        "state_description": s.task_state or "",
        "progress": s.progress or "",
        "access_ip_v4": s.access_ip_v4,
        "access_ip_v6": s.access_ip_v6,
        "image_meta": {
            "base_image_ref": v.image_id(x),
            **{key: value for key, value in properties.items() if key not in NO_COPY},
        },
        "metadata": s.metadata,
        "fixed_ips": [
            {
                "address": ip.address,
                "version": ip.version,
                "type": "fixed",
                "floating_ips": [],
                "meta": {},
                "label": ip.label,
                "vif_mac": ip.mac,
            }
            for ip in v.addresses(x)
        ],
    }


def _aggregate(_event: str, x: f.AggregateFacts) -> dict[str, Any]:
    made: dict[str, Any] = {"name": x.name}
    if x.id is not None:
        made["aggregate_id"] = x.id
    if x.host:
        made["host_name"] = x.host
    if x.metadata is not None:
        made["meta_data"] = x.metadata
    return made


def _group(_event: str, x: f.GroupFacts) -> dict[str, Any]:
    if x.added:
        return {"server_group_id": x.group.id, "instance_uuids": list(x.added)}
    return {
        "server_group_id": x.group.id,
        "name": x.group.name,
        "policies": [x.group.policy],
    }


def _keypair(event: str, x: KeyPair) -> dict[str, Any]:
    return {"tenant_id": x.user_id, "user_id": x.user_id, "key_name": x.name}


def _task(event: str, x: f.TaskFacts) -> dict[str, Any]:
    return {
        "request_spec": _request(event, x.request)["request_spec"] if x.request else {},
        "instance_properties": {},
        "instance_id": x.server_id,
        "state": x.state,
        "method": event.split(".")[1],
        "reason": x.cause.message,
    }


def _request(_event: str, x: RequestSpec) -> dict[str, Any]:
    return {
        "request_spec": {
            "instance_uuids": list(x.servers),
            "num_instances": x.num_instances,
            "instance_properties": {"project_id": x.project_id, "user_id": x.user_id},
            "instance_type": {"flavorid": x.flavor.flavorid, "name": x.flavor.name},
            "image": {"id": x.image.id} if x.image else {},
        }
    }


def _cause(_event: str, x: f.Cause) -> dict[str, Any]:
    return {"exception": x.message, "args": {"step": x.step}}


def _metrics(_event: str, x: f.MetricsFacts) -> dict[str, Any]:
    return {
        "host": x.host,
        "host_ip": x.host_ip,
        "nodename": x.node,
        "metrics": [
            {
                "name": m.name,
                "value": m.value,
                "timestamp": m.timestamp.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f"),
                "source": "libvirt.LibvirtDriver",
            }
            for m in x.metrics
        ],
    }


def _usage(_event: str, x: f.VolumeUsage) -> dict[str, Any]:
    return {
        "volume_id": x.volume_id,
        "tenant_id": x.project_id,
        "user_id": x.user_id,
        "availability_zone": x.zone,
        "instance_id": x.server_id,
        "last_refreshed": _moment(x.refreshed),
        "reads": x.reads,
        "read_bytes": x.read_bytes,
        "writes": x.writes,
        "write_bytes": x.write_bytes,
    }


def _libvirt(_event: str, x: f.LibvirtError) -> dict[str, Any]:
    return {"ip": x.ip, "method": "_connect", "reason": x.cause.message}


def _moment(when: dt.datetime | None) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") if when is not None else ""


MAKERS: dict[type[Any], Callable[[str, Any], dict[str, Any]]] = {
    f.ServerFacts: _server,
    f.AggregateFacts: _aggregate,
    f.GroupFacts: _group,
    KeyPair: _keypair,
    f.TaskFacts: _task,
    RequestSpec: _request,
    f.Cause: _cause,
    f.MetricsFacts: _metrics,
    f.VolumeUsage: _usage,
    f.LibvirtError: _libvirt,
}
