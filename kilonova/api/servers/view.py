"""How servers are shown: one table of fields with the versions they appear at."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from kilonova.context import Context
from kilonova.domain import states
from kilonova.domain.resources import Service
from kilonova.domain.server import Server, host_id
from kilonova.domain.states import WITH_FAULT, WITH_PROGRESS
from kilonova.store.servers import Extras
from kilonova.web.view import OMIT, Field, View

EXTENDED = "os_compute_api:os-extended-server-attributes"
HOST_STATUS = "os_compute_api:servers:show:host_status"
UNKNOWN_ONLY = "os_compute_api:servers:show:host_status:unknown-only"
EXTRA_SPECS = "os_compute_api:servers:show:flavor-extra-specs"


class Shown:
    """A server with what its view needs of the request."""

    __slots__ = ("frame", "s", "status")

    def __init__(self, server: Server, frame: Frame) -> None:
        self.s = server
        self.frame = frame
        self.status = states.status(server.vm_state, server.task_state)


class Frame:
    """What all servers of one answer share: link prefixes, version, and the state of hosts."""

    def __init__(self, call: Context, granted: frozenset[str]) -> None:
        self.self_base = call.link("servers") + "/"
        self.mark_base = call.bookmark("servers") + "/"
        self.image_base = call.bookmark("images") + "/"
        self.flavor_base = call.bookmark("flavors") + "/"
        self.version = call.version
        self.granted = granted
        self.host_status: dict[str, str] = {}
        self.default_zone = call.app.settings.default.default_availability_zone
        self.flavors: dict[int, Any] = {}

    def with_hosts(self, services: Mapping[str, Service], now: dt.datetime, seconds: float) -> None:
        """Take the states of the hosts' nova-compute services."""
        for host, service in services.items():
            if service.disabled:
                word = "MAINTENANCE"
            elif service.forced_down:
                word = "DOWN"
            else:
                word = "UP" if service.is_up(now, seconds) else "UNKNOWN"
            self.host_status[host] = word


def _time(when: dt.datetime | None) -> str | None:
    return None if when is None else when.isoformat()[:19] + "Z"


def _micro(when: dt.datetime | None) -> str | None:
    return None if when is None else when.isoformat(timespec="microseconds")[:26]


def _image(x: Shown) -> Any:
    image = x.s.image
    if image is None:
        return ""
    shown: dict[str, Any] = {
        "id": image.id,
        "links": [{"rel": "bookmark", "href": x.frame.image_base + image.id}],
    }
    if x.frame.version >= 98:
        shown["properties"] = image.properties
    return shown


def _flavor(x: Shown) -> Any:
    flavor = x.s.flavor
    known = x.frame.flavors.get(id(flavor))
    if known is not None:
        return known
    shown: dict[str, Any]
    if x.frame.version < 47:
        shown = {
            "id": flavor.flavorid,
            "links": [{"rel": "bookmark", "href": x.frame.flavor_base + flavor.flavorid}],
        }
    else:
        shown = {
            "vcpus": flavor.vcpus,
            "ram": flavor.memory_mb,
            "disk": flavor.root_gb,
            "ephemeral": flavor.ephemeral_gb,
            "swap": flavor.swap_mb,
            "original_name": flavor.name,
        }
        if EXTRA_SPECS in x.frame.granted:
            shown["extra_specs"] = flavor.extra_specs
    x.frame.flavors[id(flavor)] = shown
    return shown


def _links(x: Shown) -> Any:
    key = x.s.id
    return [
        {"rel": "self", "href": x.frame.self_base + key},
        {"rel": "bookmark", "href": x.frame.mark_base + key},
    ]


def _fault(x: Shown) -> Any:
    fault = x.s.fault
    if fault is None or x.status not in WITH_FAULT:
        return OMIT
    shown: dict[str, Any] = {
        "code": fault.code,
        "created": _time(fault.created_at),
        "message": fault.message,
    }
    if fault.details and (EXTENDED in x.frame.granted or fault.code != 500):
        shown["details"] = fault.details
    return shown


def _volumes(x: Shown) -> Any:
    if x.frame.version < 3:
        return [{"id": volume.id} for volume in x.s.volumes]
    return [
        {"id": volume.id, "delete_on_termination": volume.delete_on_termination}
        for volume in x.s.volumes
    ]


def _groups(x: Shown) -> Any:
    names = x.s.security_groups
    return [{"name": name} for name in names] if names else OMIT


def _host_status(x: Shown) -> Any:
    host = x.s.host
    word = x.frame.host_status.get(host, "UNKNOWN") if host else ""
    if HOST_STATUS in x.frame.granted:
        return word
    return word if UNKNOWN_ONLY in x.frame.granted and word == "UNKNOWN" else OMIT


def _property(name: str) -> Any:
    def get(x: Shown) -> Any:
        image = x.s.image
        return (image.properties.get(name) or "") if image else ""

    return get


def _bare_addresses(x: Shown) -> Any:
    table = msgspec.json.decode(x.s.addresses)
    return {
        label: [{"version": row["version"], "addr": row["addr"]} for row in rows]
        for label, rows in table.items()
    }


_BASE = [
    Field("id", lambda x: x.s.id),
    Field("name", lambda x: x.s.name),
    Field("status", lambda x: x.status),
    Field("tenant_id", lambda x: x.s.project_id),
    Field("user_id", lambda x: x.s.user_id),
    Field("metadata", lambda x: x.s.metadata),
    Field("hostId", lambda x: host_id(x.s.project_id, x.s.host)),
    Field("image", _image),
    Field("flavor", _flavor),
    Field("created", lambda x: _time(x.s.created_at)),
    Field("updated", lambda x: _time(x.s.updated_at or x.s.created_at)),
    Field("accessIPv4", lambda x: x.s.access_ip_v4 or ""),
    Field("accessIPv6", lambda x: x.s.access_ip_v6 or ""),
    Field("links", _links),
    Field("fault", _fault),
    Field("progress", lambda x: x.s.progress if x.status in WITH_PROGRESS else OMIT),
    Field("OS-DCF:diskConfig", lambda x: "AUTO" if x.s.auto_disk_config else "MANUAL"),
    Field("locked", lambda x: x.s.locked_by is not None, since=9),
    Field("description", lambda x: x.s.description, since=19),
    Field("tags", lambda x: x.s.tags, since=26),
    Field("trusted_image_certificates", lambda x: x.s.trusted_certs, since=63),
    Field("locked_reason", lambda x: x.s.locked_reason, since=73),
]
_FULL = [
    Field("addresses", lambda x: x.s.addresses),
    Field("key_name", lambda x: x.s.key_name),
    Field("config_drive", lambda x: "True" if x.s.config_drive else ""),
    Field("OS-EXT-AZ:availability_zone", lambda x: x.s.availability_zone or ""),
    Field("OS-EXT-STS:task_state", lambda x: x.s.task_state),
    Field("OS-EXT-STS:vm_state", lambda x: x.s.vm_state),
    Field("OS-EXT-STS:power_state", lambda x: x.s.power_state),
    Field("OS-SRV-USG:launched_at", lambda x: _micro(x.s.launched_at)),
    Field("OS-SRV-USG:terminated_at", lambda x: _micro(x.s.terminated_at)),
    Field("os-extended-volumes:volumes_attached", _volumes),
    Field("security_groups", _groups),
    Field("OS-EXT-SRV-ATTR:host", lambda x: x.s.host, policy=EXTENDED),
    Field("OS-EXT-SRV-ATTR:hypervisor_hostname", lambda x: x.s.node, policy=EXTENDED),
    Field("OS-EXT-SRV-ATTR:instance_name", lambda x: x.s.guest_name, policy=EXTENDED),
    Field("OS-EXT-SRV-ATTR:reservation_id", lambda x: x.s.reservation_id, since=3, policy=EXTENDED),
    Field("OS-EXT-SRV-ATTR:launch_index", lambda x: x.s.launch_index, since=3, policy=EXTENDED),
    Field("OS-EXT-SRV-ATTR:hostname", lambda x: x.s.hostname, since=3, until=89, policy=EXTENDED),
    Field("OS-EXT-SRV-ATTR:hostname", lambda x: x.s.hostname, since=90),
    Field("OS-EXT-SRV-ATTR:kernel_id", _property("kernel_id"), since=3, policy=EXTENDED),
    Field("OS-EXT-SRV-ATTR:ramdisk_id", _property("ramdisk_id"), since=3, policy=EXTENDED),
    Field("OS-EXT-SRV-ATTR:root_device_name", lambda x: x.s.root_device, since=3, policy=EXTENDED),
    Field("OS-EXT-SRV-ATTR:user_data", lambda x: x.s.user_data, since=3, policy=EXTENDED),
    Field("host_status", _host_status, since=16),
    Field("pinned_availability_zone", lambda x: x.s.pinned_zone, since=96),
    Field("scheduler_hints", lambda x: x.s.scheduler_hints, since=100),
]
_SERVER_GROUPS = Field("server_groups", lambda x: x.s.groups, since=71)

INDEX = View(
    "server",
    [
        Field("id", lambda x: x.s.id),
        Field("name", lambda x: x.s.name),
        Field("links", _links),
    ],
)
DETAIL = View("server", [*_BASE, *_FULL])
SHOW = View("server", [*_BASE, *_FULL, _SERVER_GROUPS])
UPDATED = View(
    "server",
    [
        *_BASE,
        Field("addresses", _bare_addresses, until=74),
        *(
            Field(f.name, f.get, since=max(f.since, 75), until=f.until, policy=f.policy)
            for f in _FULL
            if f.until is None or f.until >= 75
        ),
        _SERVER_GROUPS,
    ],
)
_RULES = (EXTENDED, HOST_STATUS, UNKNOWN_ONLY, EXTRA_SPECS)


def granted(call: Context, target: Mapping[str, Any] | None = None) -> frozenset[str]:
    """Which of the fields' policies the caller has."""
    return frozenset(rule for rule in _RULES if call.allows(rule, target))


def extras(version: int, rules: frozenset[str]) -> Extras:
    """What must be read beside the server rows at that version."""
    return Extras(
        tags=version >= 26,
        faults=True,
        volumes=True,
        user_data=version >= 3 and EXTENDED in rules,
    )


def wants_hosts(version: int, rules: frozenset[str]) -> bool:
    """Whether the state of hosts is shown."""
    return version >= 16 and bool(rules & {HOST_STATUS, UNKNOWN_ONLY})


def render(view: View, servers: Iterable[Server], frame: Frame) -> list[Any]:
    """Servers as dicts."""
    one = view.at(frame.version, frame.granted)
    return [one(Shown(server, frame)) for server in servers]


def partial(call: Context, server_id: str, project_id: str, created: dt.datetime) -> dict[str, Any]:
    """A server whose cell does not answer (2.69): the few things the API database knows."""
    return {
        "id": server_id,
        "status": "UNKNOWN",
        "tenant_id": project_id,
        "created": _time(created),
        "links": [
            {"rel": "self", "href": call.link("servers", server_id)},
            {"rel": "bookmark", "href": call.bookmark("servers", server_id)},
        ],
    }
