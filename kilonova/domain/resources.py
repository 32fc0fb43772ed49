"""Small things of compute beside servers: services, nodes, aggregates, groups, actions, keys."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Any

import msgspec

from kilonova.domain.guest import HostReport


class ShareStatus(enum.StrEnum):
    """Of a server's file share: ``active`` while the guest runs, ``inactive`` while it is off."""

    ATTACHING = "attaching"
    DETACHING = "detaching"
    ACTIVE = "active"
    INACTIVE = "inactive"
    ERROR = "error"


class Service(msgspec.Struct, frozen=True):
    """A daemon on a host."""

    id: int
    uuid: str
    host: str
    binary: str
    topic: str
    disabled: bool
    disabled_reason: str | None
    forced_down: bool
    last_seen_up: dt.datetime | None
    report_count: int
    version: int
    created_at: dt.datetime
    updated_at: dt.datetime | None

    def is_up(self, now: dt.datetime, seconds: float) -> bool:
        """Whether it gave a sign of life within ``seconds`` and is not forced down."""
        return not self.forced_down and self.is_alive(now, seconds)

    def is_alive(self, now: dt.datetime, seconds: float) -> bool:
        """The same, whatever it was forced to be."""
        seen = self.last_seen_up or self.created_at
        return abs((now - seen).total_seconds()) <= seconds


class Node(msgspec.Struct, frozen=True):
    """A hypervisor; ``uuid`` is also its resource provider's id."""

    id: int
    uuid: str
    host: str
    node: str
    report: HostReport
    running_vms: int
    workload: int
    created_at: dt.datetime
    updated_at: dt.datetime | None


class Aggregate(msgspec.Struct, frozen=True):
    """A named set of hosts; metadata ``availability_zone`` makes it a zone."""

    id: int
    uuid: str
    name: str
    metadata: dict[str, str]
    hosts: tuple[str, ...]
    created_at: dt.datetime
    updated_at: dt.datetime | None

    @property
    def zone(self) -> str | None:
        """The availability zone it makes, if any."""
        return self.metadata.get("availability_zone")


class Group(msgspec.Struct, frozen=True):
    """A server group."""

    id: str
    name: str
    project_id: str
    user_id: str
    policy: str
    rules: dict[str, int]
    members: tuple[str, ...] = ()


class KeyPair(msgspec.Struct, frozen=True):
    """A user's public key (``type`` ssh) or certificate (x509)."""

    id: int
    user_id: str
    name: str
    type: str
    fingerprint: str
    public_key: str
    created_at: dt.datetime


class ActionEvent(msgspec.Struct, frozen=True):
    """A part of an action; ``result`` is Success or Error."""

    name: str
    start: dt.datetime | None
    finish: dt.datetime | None = None
    result: str | None = None
    traceback: str | None = None
    host: str | None = None
    details: str | None = None


class Action(msgspec.Struct, frozen=True):
    """Something done to a server, and by whom."""

    id: int
    action: str
    server_id: str
    request_id: str
    user_id: str | None
    project_id: str | None
    start: dt.datetime
    finish: dt.datetime | None
    updated_at: dt.datetime | None
    message: str | None
    events: tuple[ActionEvent, ...] = ()


class Migration(msgspec.Struct, frozen=True):
    """A move of a server from host to host."""

    id: int
    uuid: str
    server_id: str
    type: str
    status: str
    project_id: str | None
    user_id: str | None
    source_host: str | None
    source_node: str | None
    dest_host: str | None
    dest_node: str | None
    old_flavor_id: int | None
    new_flavor_id: int | None
    created_at: dt.datetime
    updated_at: dt.datetime | None
    data: dict[str, Any] = {}


class ShareMapping(msgspec.Struct, frozen=True):
    """A file share of a server; ``status`` is a `ShareStatus`."""

    uuid: str
    server_id: str
    share_id: str
    tag: str
    export_location: str
    share_proto: str
    status: str = ShareStatus.ATTACHING


class ConsoleToken(msgspec.Struct, frozen=True):
    """Who may connect to which console until when."""

    server_id: str
    kind: str
    host: str
    port: int
    internal_path: str | None
    url_base: str
    expires_at: dt.datetime
    tls_port: int | None = None


class CellRow(msgspec.Struct, frozen=True):
    """A cell as the API database knows it."""

    uuid: str
    name: str | None
    transport_url: str
    database: str
    disabled: bool = False
