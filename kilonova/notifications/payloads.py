"""PAYLOADS: the versioned payloads by name: their version, their fields, each field's source."""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Callable
from typing import Any

import msgspec

from kilonova.base.clock import isoformat
from kilonova.notifications import values as v

NAMESPACE = "nova"


class Field(msgspec.Struct, frozen=True):
    """A field of a payload, and where its value comes from."""

    name: str
    of: Callable[[Any], Any]


class Payload(msgspec.Struct, frozen=True):
    """A versioned payload. ``sparse``: fields whose source says UNSET are left out."""

    name: str
    version: str
    fields: tuple[Field, ...]
    sparse: bool = False


PAYLOADS: dict[str, Payload] = {}


def payload(name: str, thing: Any) -> dict[str, Any]:
    """The payload of that name about ``thing`` (facts, see ``facts``), as it travels."""
    row = PAYLOADS[name]
    data = {field.name: plain(field.of(thing)) for field in row.fields}
    if row.sparse:
        data = {key: value for key, value in data.items() if value is not msgspec.UNSET}
    return {
        "nova_object.name": row.name,
        "nova_object.namespace": NAMESPACE,
        "nova_object.version": row.version,
        "nova_object.data": data,
    }


class Nested(msgspec.Struct, frozen=True):
    """A value that is a payload itself."""

    name: str
    thing: Any


def plain(value: Any) -> Any:
    """A value as it travels: payloads as objects, times as text, tuples as lists."""
    if isinstance(value, Nested):
        return payload(value.name, value.thing)
    if isinstance(value, dt.datetime):
        return isoformat(value)
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def one(name: str, of: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A source that gives a payload, or None."""

    def source(thing: Any) -> Any:
        found = of(thing)
        return None if found is None else Nested(name, found)

    return source


def many(name: str, of: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A source that gives a list of payloads."""
    return lambda thing: tuple(Nested(name, found) for found in of(thing))


def _row(
    name: str, version: str, fields: dict[str, Callable[[Any], Any]], *, sparse: bool = False
) -> None:
    PAYLOADS[name] = Payload(
        name, version, tuple(Field(key, of) for key, of in fields.items()), sparse
    )


def _same(*names: str, of: str = "") -> dict[str, Callable[[Any], Any]]:
    """Fields that are attributes of the same name, of the thing or of a part of it."""
    return {name: operator.attrgetter(f"{of}.{name}" if of else name) for name in names}


def _server(name: str) -> Callable[[Any], Any]:
    return operator.attrgetter(f"server.{name}")


def _typed(name: str) -> Callable[[Any], Any]:
    return lambda image: v.typed_property(image, name)


_INSTANCE: dict[str, Callable[[Any], Any]] = {
    "uuid": _server("id"),
    "user_id": _server("user_id"),
    "tenant_id": _server("project_id"),
    "reservation_id": _server("reservation_id"),
    "display_name": _server("name"),
    "display_description": _server("description"),
    "host_name": _server("hostname"),
    "host": _server("host"),
    "node": _server("node"),
    "os_type": lambda x: v.image_property(x, "os_type"),
    "architecture": lambda x: v.image_property(x, "architecture", "hw_architecture"),
    "availability_zone": _server("availability_zone"),
    "flavor": one("FlavorPayload", v.own_flavor),
    "image_uuid": v.image_id,
    "key_name": _server("key_name"),
    "kernel_id": lambda x: v.image_property(x, "kernel_id") or "",
    "ramdisk_id": lambda x: v.image_property(x, "ramdisk_id") or "",
    "created_at": _server("created_at"),
    "launched_at": _server("launched_at"),
    "terminated_at": _server("terminated_at"),
    "deleted_at": v.deleted_at,
    "updated_at": _server("updated_at"),
    "state": _server("vm_state"),
    "power_state": v.power_state,
    "task_state": _server("task_state"),
    "progress": _server("progress"),
    "ip_addresses": many("IpPayload", v.addresses),
    "block_devices": many("BlockDevicePayload", v.volumes),
    "metadata": _server("metadata"),
    "locked": lambda x: x.server.locked_by is not None,
    "auto_disk_config": lambda x: "AUTO" if x.server.auto_disk_config else "MANUAL",
    "request_id": lambda x: x.who.request_id or None,
    "action_initiator_user": lambda x: x.who.user_id or None,
    "action_initiator_project": lambda x: x.who.project_id or None,
    "locked_reason": _server("locked_reason"),
    "shares": many("SharePayload", lambda x: x.shares),
}
_FAULT = {"fault": one("ExceptionPayload", lambda x: x.cause)}
_CERTIFICATES = {"trusted_image_certificates": _server("trusted_certs")}
_PERIOD = {"audit_period": one("AuditPeriodPayload", lambda x: x.period)}
_TAGS = {"tags": _server("tags")}

_row("InstancePayload", "1.9", _INSTANCE)
_row("InstanceActionPayload", "1.9", {**_INSTANCE, **_FAULT})
_row(
    "InstanceActionVolumePayload",
    "1.7",
    {**_INSTANCE, **_FAULT, "volume_id": lambda x: x.volume_id},
)
_row(
    "InstanceActionVolumeSwapPayload",
    "1.9",
    {
        **_INSTANCE,
        **_FAULT,
        "old_volume_id": lambda x: x.volume_id,
        "new_volume_id": lambda x: x.new_volume_id,
    },
)
_row(
    "InstanceActionSharePayload",
    "1.0",
    {**_INSTANCE, **_FAULT, "share_id": lambda x: x.more.get("share_id")},
)
_row(
    "InstanceActionSnapshotPayload",
    "1.10",
    {**_INSTANCE, **_FAULT, "snapshot_image_id": lambda x: x.more.get("snapshot_image_id")},
)
_row(
    "InstanceActionRescuePayload",
    "1.4",
    {**_INSTANCE, **_FAULT, "rescue_image_ref": lambda x: x.more.get("rescue_image_ref")},
)
_row("InstanceActionRebuildPayload", "1.10", {**_INSTANCE, **_FAULT, **_CERTIFICATES})
_row(
    "InstanceActionResizePrepPayload",
    "1.4",
    {**_INSTANCE, **_FAULT, "new_flavor": one("FlavorPayload", v.new_flavor)},
)
_row(
    "InstanceCreatePayload",
    "1.13",
    {
        **_INSTANCE,
        **_FAULT,
        **_CERTIFICATES,
        **_TAGS,
        "keypairs": many("KeypairPayload", lambda x: x.keys),
        "instance_name": lambda x: x.server.guest_name,
    },
)
_row(
    "InstanceUpdatePayload",
    "2.1",
    {
        **_INSTANCE,
        **_PERIOD,
        **_TAGS,
        "state_update": one("InstanceStateUpdatePayload", lambda x: x),
        "old_display_name": v.old_name,
    },
)
_row("InstanceExistsPayload", "2.1", {**_INSTANCE, **_PERIOD})
_row(
    "InstanceStateUpdatePayload",
    "1.0",
    {
        "old_state": lambda x: v.before(x, "vm_state"),
        "state": _server("vm_state"),
        "old_task_state": lambda x: v.before(x, "task_state"),
        "new_task_state": _server("task_state"),
    },
)
_row(
    "AuditPeriodPayload",
    "1.0",
    {"audit_period_beginning": lambda p: p.begin, "audit_period_ending": lambda p: p.end},
)
_row(
    "IpPayload",
    "1.0",
    _same("label", "mac", "meta", "port_uuid", "version", "address")
    | {"device_name": lambda ip: ip.device or None},
)
_row(
    "BlockDevicePayload",
    "1.0",
    _same("boot_index", "volume_id", "tag")
    | {
        "device_name": lambda d: f"/dev/{d.device}",
        "delete_on_termination": lambda d: d.ends_with_server,
    },
)
_row(
    "SharePayload",
    "1.0",
    {"share_mapping_uuid": lambda x: x.uuid, **_same("share_id", "status", "tag")},
)

_row(
    "ExceptionPayload",
    "1.1",
    {
        "module_name": lambda c: "kilonova",
        "function_name": lambda c: v.last_word(c.step),
        "exception": lambda c: c.kind,
        "exception_message": lambda c: c.message,
        "traceback": lambda c: f"{c.kind} in {c.step or 'the service'}: {c.message}",
    },
)
_row(
    "FlavorPayload",
    "1.4",
    {
        **_same(
            "flavorid",
            "memory_mb",
            "vcpus",
            "root_gb",
            "ephemeral_gb",
            "name",
            "rxtx_factor",
            "disabled",
            "is_public",
            "extra_specs",
            "description",
            of="flavor",
        ),
        "swap": lambda x: x.flavor.swap_mb,
        "vcpu_weight": lambda _: 0,
        "projects": lambda x: x.projects,
    },
)
_row("AggregatePayload", "1.1", _same("id", "uuid", "name", "hosts", "metadata"))
_row(
    "AggregateCachePayload",
    "1.0",
    {
        **_same("id", "uuid", "name", of="aggregate"),
        **_same("host", "index", "total"),
        "images_cached": lambda x: x.cached,
        "images_failed": lambda x: x.failed,
    },
)
_row(
    "KeypairPayload",
    "1.0",
    _same("user_id", "name", "type")
    | {
        "public_key": lambda k: k.public_key or None,
        "fingerprint": lambda k: k.fingerprint or None,
    },
)
_row(
    "ServerGroupPayload",
    "1.1",
    {
        "uuid": lambda x: x.group.id,
        **_same("name", "user_id", "project_id", "members", "policy", of="group"),
        "policies": lambda x: (x.group.policy,),
        "hosts": lambda _: None,
        "rules": lambda x: {key: str(value) for key, value in x.group.rules.items()},
    },
)
_row(
    "ServiceStatusPayload",
    "1.1",
    _same(
        "host",
        "binary",
        "topic",
        "report_count",
        "disabled",
        "disabled_reason",
        "last_seen_up",
        "forced_down",
        "version",
        "uuid",
    )
    | {"availability_zone": lambda _: None},
)
_row(
    "ComputeTaskPayload",
    "1.0",
    {
        "instance_uuid": lambda x: x.server_id,
        "request_spec": one("RequestSpecPayload", lambda x: x.request),
        "state": lambda x: x.state,
        "reason": one("ExceptionPayload", lambda x: x.cause),
    },
)
_row(
    "MetricsPayload",
    "1.0",
    _same("host", "host_ip")
    | {"nodename": lambda x: x.node, "metrics": many("MetricPayload", lambda x: x.metrics)},
)
_row(
    "MetricPayload",
    "1.0",
    _same("name", "timestamp")
    | {
        "value": lambda m: round(m.value),
        "numa_membw_values": lambda _: None,
        "source": lambda _: "libvirt.LibvirtDriver",
    },
)
_row(
    "VolumeUsagePayload",
    "1.0",
    _same("volume_id", "project_id", "user_id", "reads", "read_bytes", "writes", "write_bytes")
    | {
        "availability_zone": lambda u: u.zone,
        "instance_uuid": lambda u: u.server_id,
        "last_refreshed": lambda u: u.refreshed,
    },
)
_row(
    "LibvirtErrorPayload",
    "1.0",
    {"ip": lambda x: x.ip, "reason": one("ExceptionPayload", lambda x: x.cause)},
)
_row(
    "RequestSpecPayload",
    "1.1",
    {
        "instance_uuid": lambda r: r.servers[0],
        "project_id": lambda r: r.project_id,
        "user_id": lambda r: r.user_id,
        "availability_zone": lambda r: r.availability_zone,
        "flavor": one("FlavorPayload", v.own_flavor_of),
        "force_hosts": lambda r: r.force_host,
        "force_nodes": lambda r: r.force_node,
        "ignore_hosts": lambda r: r.ignore_hosts or None,
        "image": one("ImageMetaPayload", lambda r: r.image),
        "instance_group": one("ServerGroupPayload", v.asked_group),
        "numa_topology": one("InstanceNUMATopologyPayload", v.asked_topology),
        "pci_requests": one("InstancePCIRequestsPayload", v.asked_devices),
        "num_instances": lambda r: r.num_instances,
        "requested_destination": one("DestinationPayload", v.asked_destination),
        "retry": one("SchedulerRetriesPayload", v.tried),
        "scheduler_hints": lambda r: {name: r.hint(name) for name in r.hints},
        "security_groups": lambda _: (),
    },
)
_row(
    "ImageMetaPayload",
    "1.0",
    {
        **_same("id", "name", "size", "container_format", "disk_format", "min_ram", "min_disk"),
        "status": lambda _: "active",
        "checksum": lambda i: i.checksum or None,
        "tags": lambda _: (),
        **{
            name: lambda _: None
            for name in (
                "visibility",
                "protected",
                "owner",
                "virtual_size",
                "created_at",
                "updated_at",
                "direct_url",
            )
        },
        "properties": one("ImageMetaPropsPayload", lambda i: i),
    },
)
_row(
    "ImageMetaPropsPayload",
    "1.20",
    {name: _typed(name) for name in v.TYPED},
    sparse=True,
)
_row(
    "DestinationPayload",
    "1.0",
    _same("host", "node") | {"cell": lambda _: None, "aggregates": lambda _: None},
)
_row("SchedulerRetriesPayload", "1.0", _same("num_attempts", "hosts"))
_row(
    "InstanceNUMATopologyPayload",
    "1.0",
    {
        "instance_uuid": lambda t: t.server_id,
        "cells": many("InstanceNUMACellPayload", lambda t: v.cells(t.topology)),
        "emulator_threads_policy": lambda t: t.topology.emulator,
    },
)
_row(
    "InstanceNUMACellPayload",
    "1.2",
    {
        "id": lambda c: c.cell.id,
        "cpuset": lambda c: sorted(c.cell.cpus),
        "pcpuset": lambda c: sorted(c.cell.pcpus),
        "cpuset_reserved": lambda c: sorted(c.cell.reserved) or None,
        "memory": lambda c: c.cell.memory_mb,
        "pagesize": lambda c: c.cell.page_kb,
        "cpu_topology": lambda _: None,
        "cpu_pinning_raw": lambda c: {str(a): b for a, b in c.cell.pins} or None,
        "cpu_policy": lambda c: c.topology.policy,
        "cpu_thread_policy": lambda c: c.topology.threads,
    },
)
_row("VirtCPUTopologyPayload", "1.0", _same("sockets", "cores", "threads"))
_row(
    "InstancePCIRequestsPayload",
    "1.0",
    {
        "instance_uuid": lambda r: r.servers[0],
        "requests": many("InstancePCIRequestPayload", lambda r: r.shape.devices),
    },
)
_row(
    "InstancePCIRequestPayload",
    "1.1",
    {
        "count": lambda d: d.count,
        "spec": lambda d: [v.device_spec(spec) for spec in d.specs],
        "alias_name": lambda d: d.alias or None,
        "request_id": lambda _: None,
        "numa_policy": lambda d: d.policy,
    },
)
_row("CellMappingPayload", "2.0", _same("uuid", "name", "disabled"))
