"""How servers are shown: one table of fields with the versions they appear at."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from kilonova.base.cache import Layers
from kilonova.base.clock import isoformat_micro
from kilonova.context import Context
from kilonova.domain import states
from kilonova.domain.resources import Service
from kilonova.domain.server import BuildSpec, Server, host_id
from kilonova.domain.server import Mapping as WhereItIs
from kilonova.domain.states import WITH_FAULT, WITH_PROGRESS
from kilonova.store.servers import Extras, decode
from kilonova.web.view import OMIT, Field, View

EXTENDED = "os_compute_api:os-extended-server-attributes"
HOST_STATUS = "os_compute_api:servers:show:host_status"
UNKNOWN_ONLY = "os_compute_api:servers:show:host_status:unknown-only"
EXTRA_SPECS = "os_compute_api:servers:show:flavor-extra-specs"
_RULES = (EXTENDED, HOST_STATUS, UNKNOWN_ONLY, EXTRA_SPECS)


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


Getter = Callable[[Server, Frame], Any]
Render = Callable[[Server, Frame], dict[str, Any]]


class F(Field):
    """A field of a server: an attribute's name, or a function of server and frame."""

    __slots__ = ("make", "path")

    def __init__(self, name: str, source: str | Getter, **more: Any) -> None:
        super().__init__(name, source if isinstance(source, str) else None, **more)
        self.path = source if isinstance(source, str) else None
        self.make = None if isinstance(source, str) else source


class ServerView(View):
    """A view whose plain attributes are read by one call for all of them.

    A page of 1,000 servers has 40,000 fields: a Python call for each would be most of its cost.
    """

    def __init__(self, fields: Sequence[F]) -> None:
        super().__init__("server", fields)
        self._renders: dict[tuple[int, frozenset[str]], Render] = {}

    def render_at(self, version: int, granted: frozenset[str]) -> Render:
        """The function that renders one server."""
        key = (version, granted & self.policies)
        found = self._renders.get(key)
        if found is None:
            found = self._renders[key] = self._compile(*key)
        return found

    def _compile(self, version: int, granted: frozenset[str]) -> Render:
        shown = [f for f in self.fields if isinstance(f, F) and f.shown(version, granted)]
        names = [f.name for f in shown]
        if len(set(names)) != len(names):
            raise ValueError(f"two fields of one name at {version}")
        plain = [f for f in shown if f.path is not None]
        plain_names = tuple(f.name for f in plain)
        read = attrgetter(*(f.path for f in plain if f.path))
        made = tuple((f.name, f.make) for f in shown if f.make is not None)

        def render(server: Server, frame: Frame) -> dict[str, Any]:
            row = dict(zip(plain_names, read(server), strict=True))
            for name, make in made:
                value = make(server, frame)
                if value is not OMIT:
                    row[name] = value
            return row

        return render


@functools.cache
def _status(vm_state: str, task_state: str | None) -> str:
    return states.status(vm_state, task_state)


# Five times as fast as isoformat: a page of 1,000 servers has some 3,000 times in it.
_encode = msgspec.json.Encoder().encode


def _seconds(when: dt.datetime) -> str:
    return _encode(when)[1:20].decode() + "Z"


def _micro(when: dt.datetime | None) -> str | None:
    """Without a zone, as these two fields have always been."""
    if when is None:
        return None
    return _encode(when)[1:27].decode() if when.microsecond else isoformat_micro(when)


def _image(s: Server, frame: Frame) -> Any:
    image = s.image
    if image is None:
        return ""
    shown: dict[str, Any] = {
        "id": image.id,
        "links": [{"rel": "bookmark", "href": frame.image_base + image.id}],
    }
    if frame.version >= 98:
        shown["properties"] = image.properties
    return shown


def _flavor(s: Server, frame: Frame) -> Any:
    flavor = s.flavor
    if frame.version < 47:
        return {
            "id": flavor.flavorid,
            "links": [{"rel": "bookmark", "href": frame.flavor_base + flavor.flavorid}],
        }
    shown: dict[str, Any] = {
        "vcpus": flavor.vcpus,
        "ram": flavor.memory_mb,
        "disk": flavor.root_gb,
        "ephemeral": flavor.ephemeral_gb,
        "swap": flavor.swap_mb,
        "original_name": flavor.name,
    }
    if EXTRA_SPECS in frame.granted:
        shown["extra_specs"] = flavor.extra_specs
    return shown


def _links(s: Server, frame: Frame) -> Any:
    key = s.id
    return (
        {"rel": "self", "href": frame.self_base + key},
        {"rel": "bookmark", "href": frame.mark_base + key},
    )


def _fault(s: Server, frame: Frame) -> Any:
    fault = s.fault
    if fault is None or _status(s.vm_state, s.task_state) not in WITH_FAULT:
        return OMIT
    shown: dict[str, Any] = {
        "code": fault.code,
        "created": _seconds(fault.created_at),
        "message": fault.message,
    }
    if fault.details and (EXTENDED in frame.granted or fault.code != 500):
        shown["details"] = fault.details
    return shown


def _progress(s: Server, _frame: Frame) -> Any:
    return s.progress if _status(s.vm_state, s.task_state) in WITH_PROGRESS else OMIT


def _volumes(s: Server, frame: Frame) -> Any:
    if not s.volumes:
        return ()
    if frame.version < 3:
        return [{"id": volume.id} for volume in s.volumes]
    return [
        {"id": volume.id, "delete_on_termination": volume.delete_on_termination}
        for volume in s.volumes
    ]


def _groups(s: Server, _frame: Frame) -> Any:
    # They are those of its ports, which come with its first host.
    ports = s.host is not None or s.launched_at is not None
    names = s.security_groups if ports else ()
    return [{"name": name} for name in names] if names else OMIT


def _host_status(s: Server, frame: Frame) -> Any:
    word = frame.host_status.get(s.host, "UNKNOWN") if s.host else ""
    if HOST_STATUS in frame.granted:
        return word
    return word if UNKNOWN_ONLY in frame.granted and word == "UNKNOWN" else OMIT


def _property(name: str) -> Getter:
    def get(s: Server, _frame: Frame) -> Any:
        return (s.image.properties.get(name) or "") if s.image else ""

    return get


def _bare_addresses(s: Server, _frame: Frame) -> Any:
    return bare_addresses(s)


def bare_addresses(server: Server) -> dict[str, Any]:
    """Label → addresses without the extension keys."""
    table = msgspec.json.decode(server.addresses)
    return {
        label: [{"version": row["version"], "addr": row["addr"]} for row in rows]
        for label, rows in table.items()
    }


_BASE = [
    F("id", "id"),
    F("name", "name"),
    F("status", lambda s, _: _status(s.vm_state, s.task_state)),
    F("tenant_id", "project_id"),
    F("user_id", "user_id"),
    F("metadata", "metadata"),
    F("hostId", lambda s, _: host_id(s.project_id, s.host)),
    F("image", _image),
    F("flavor", _flavor),
    F("created", lambda s, _: _seconds(s.created_at)),
    F("updated", lambda s, _: _seconds(s.updated_at or s.created_at)),
    F("accessIPv4", lambda s, _: s.access_ip_v4 or ""),
    F("accessIPv6", lambda s, _: s.access_ip_v6 or ""),
    F("links", _links),
    F("fault", _fault),
    F("progress", _progress),
    F("OS-DCF:diskConfig", lambda s, _: "AUTO" if s.auto_disk_config else "MANUAL"),
    F("locked", lambda s, _: s.locked_by is not None, since=9),
    F("description", "description", since=19),
    F("tags", "tags", since=26),
    F("trusted_image_certificates", "trusted_certs", since=63),
    F("locked_reason", "locked_reason", since=73),
]
_FULL = [
    F("addresses", "addresses"),
    F("key_name", "key_name"),
    F("config_drive", lambda s, _: "True" if s.config_drive else ""),
    F("OS-EXT-AZ:availability_zone", lambda s, _: s.availability_zone or ""),
    F("OS-EXT-STS:task_state", "task_state"),
    F("OS-EXT-STS:vm_state", "vm_state"),
    F("OS-EXT-STS:power_state", "power_state"),
    F("OS-SRV-USG:launched_at", lambda s, _: _micro(s.launched_at)),
    F("OS-SRV-USG:terminated_at", lambda s, _: _micro(s.terminated_at)),
    F("os-extended-volumes:volumes_attached", _volumes),
    F("security_groups", _groups),
    F("OS-EXT-SRV-ATTR:host", "host", policy=EXTENDED),
    F("OS-EXT-SRV-ATTR:hypervisor_hostname", "node", policy=EXTENDED),
    F("OS-EXT-SRV-ATTR:instance_name", "guest_name", policy=EXTENDED),
    F("OS-EXT-SRV-ATTR:reservation_id", "reservation_id", since=3, policy=EXTENDED),
    F("OS-EXT-SRV-ATTR:launch_index", "launch_index", since=3, policy=EXTENDED),
    F("OS-EXT-SRV-ATTR:hostname", "hostname", since=3, until=89, policy=EXTENDED),
    F("OS-EXT-SRV-ATTR:hostname", "hostname", since=90),
    F("OS-EXT-SRV-ATTR:kernel_id", _property("kernel_id"), since=3, policy=EXTENDED),
    F("OS-EXT-SRV-ATTR:ramdisk_id", _property("ramdisk_id"), since=3, policy=EXTENDED),
    F("OS-EXT-SRV-ATTR:root_device_name", "root_device", since=3, policy=EXTENDED),
    F("OS-EXT-SRV-ATTR:user_data", "user_data", since=3, policy=EXTENDED),
    F("host_status", _host_status, since=16),
    F("pinned_availability_zone", "pinned_zone", since=96),
    F("scheduler_hints", "scheduler_hints", since=100),
]
_SERVER_GROUPS = F("server_groups", "groups", since=71)


def _from_75(field: F) -> F:
    source = field.path or field.make
    assert source is not None
    since = max(field.since, 75)
    return F(field.name, source, since=since, until=field.until, policy=field.policy)


INDEX = ServerView([F("id", "id"), F("name", "name"), F("links", _links)])
DETAIL = ServerView([*_BASE, *_FULL])
SHOW = ServerView([*_BASE, *_FULL, _SERVER_GROUPS])
UPDATED = ServerView(
    [
        *_BASE,
        F("addresses", _bare_addresses, until=74),
        *(_from_75(field) for field in _FULL),
        _SERVER_GROUPS,
    ]
)
_KEY, _DATA = "key_name", "user_data"
# A rebuild tells the user data once, under its plain name.
_NOT_REBUILT = (_KEY, "OS-EXT-SRV-ATTR:user_data")
REBUILT = ServerView(
    [
        *(f for f in UPDATED.fields if isinstance(f, F) and f.name not in _NOT_REBUILT),
        F(_KEY, _KEY, since=54),
        F(_DATA, _DATA, since=57),
        F("adminPass", lambda _server, _frame: OMIT),  # the handler knows it, no row does
    ]
)


def granted(call: Context, target: Mapping[str, Any] | None = None) -> frozenset[str]:
    """Which of the fields' policies the caller has."""
    return frozenset(rule for rule in _RULES if call.allows(rule, target))


def extras(version: int, rules: frozenset[str]) -> Extras:
    """What must be read beside the server rows at that version."""
    return Extras(user_data=version >= 3 and EXTENDED in rules, host=wants_hosts(version, rules))


def rebuilt_extras(version: int, rules: frozenset[str]) -> Extras:
    """The same for a server that was rebuilt, which shows its user data to everybody."""
    wanted = extras(version, rules)
    return msgspec.structs.replace(wanted, user_data=wanted.user_data or version >= 57)


def wants_hosts(version: int, rules: frozenset[str]) -> bool:
    """Whether the state of hosts is shown."""
    return version >= 16 and bool(rules & {HOST_STATUS, UNKNOWN_ONLY})


def render(view: ServerView, servers: Iterable[Server], frame: Frame) -> list[Any]:
    """Servers as dicts."""
    one = view.render_at(frame.version, frame.granted)
    return [one(server, frame) for server in servers]


def render_rows(
    view: ServerView,
    rows: Iterable[Any],
    frame: Frame,
    extras: Extras,
    memory: Layers[Any, msgspec.Raw],
) -> list[msgspec.Raw]:
    """Rows as the database keeps them, with ``extras``, as JSON; servers may stand among them.

    What a row says is all that its JSON is made of, so JSON made once for a row holds for every
    equal row: pollers of long lists get it from memory.
    """
    scope = (id(view), frame.version, frame.granted, frame.self_base, frame.mark_base)
    known = memory.layer(scope)
    one = view.render_at(frame.version, frame.granted)
    shown = []
    hosts = frame.host_status
    wide = extras.user_data or extras.host
    for row in rows:
        if isinstance(row, Server):
            shown.append(msgspec.Raw(_encode(one(row, frame))))
            continue
        # What is shown beside the row itself is part of the key.
        key = (row[0], row[1], hosts.get(row[2])) if wide else row[0]
        raw = known.get(key)
        if raw is None:
            server = decode(row[0])
            if wide and row[1] is not None:
                server = msgspec.structs.replace(server, user_data=row[1])
            raw = known[key] = msgspec.Raw(_encode(one(server, frame)))
        shown.append(raw)
    return shown


def outline(
    call: Context, mapping: WhereItIs, spec: BuildSpec, created: dt.datetime
) -> dict[str, Any]:
    """`partial`, with what was asked for when the server was made."""
    assert spec.flavor is not None
    server = Server(
        id=mapping.server_id,
        project_id=mapping.project_id,
        user_id=mapping.user_id,
        name="",
        hostname="",
        vm_state="",
        flavor=spec.flavor,
        image=spec.image,
        created_at=created,
    )
    frame = Frame(call, granted(call))
    return {
        **partial(call, mapping.server_id, mapping.project_id, created),
        "user_id": mapping.user_id,
        "flavor": _flavor(server, frame),
        "image": _image(server, frame),
        "OS-EXT-AZ:availability_zone": spec.zone or "UNKNOWN",
        "OS-EXT-STS:power_state": 0,
    }


def partial(call: Context, server_id: str, project_id: str, created: dt.datetime) -> dict[str, Any]:
    """A server whose cell does not answer (2.69): the few things the API database knows."""
    return {
        "id": server_id,
        "status": "UNKNOWN",
        "tenant_id": project_id,
        "created": _seconds(created),
        "links": [
            {"rel": "self", "href": call.link("servers", server_id)},
            {"rel": "bookmark", "href": call.bookmark("servers", server_id)},
        ],
    }
