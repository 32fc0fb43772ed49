"""What payloads are made of: facts gathered by whoever notifies, and nothing computed."""

from __future__ import annotations

import datetime as dt

import msgspec

from kilonova.domain.guest import Disk, FlavorSpec, Nic
from kilonova.domain.request import RequestSpec
from kilonova.domain.resources import Aggregate, Group, KeyPair, Service, ShareMapping
from kilonova.domain.server import Server


class Who(msgspec.Struct, frozen=True):
    """Who asked for what is told; all empty for what the cloud does by itself."""

    request_id: str = ""
    user_id: str = ""
    project_id: str = ""


class Cause(msgspec.Struct, frozen=True):
    """Why something failed: the error's class, its text, the step it happened in, and where."""

    kind: str
    message: str
    step: str = ""
    host: str = ""


class Period(msgspec.Struct, frozen=True):
    """An audit period: from ``begin`` up to ``end`` (UTC)."""

    begin: dt.datetime
    end: dt.datetime


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A server and what just happened to it.

    ``before`` is what it was (``instance.update``); ``nics``, ``disks`` and ``shares`` its cards,
    volumes and file shares; ``volume_id``/``new_volume_id`` the volume in question.
    """

    server: Server
    who: Who
    nics: tuple[Nic, ...] = ()
    disks: tuple[Disk, ...] = ()
    shares: tuple[ShareMapping, ...] = ()
    cause: Cause | None = None
    before: Server | None = None
    period: Period | None = None
    keys: tuple[KeyPair, ...] = ()
    volume_id: str | None = None
    new_volume_id: str | None = None
    message: str = ""
    more: dict[str, object] = {}


class FlavorFacts(msgspec.Struct, frozen=True):
    """A flavor and who may use it (None: not looked at)."""

    flavor: FlavorSpec
    projects: tuple[str, ...] | None = None


class AggregateFacts(msgspec.Struct, frozen=True):
    """An aggregate; ``id`` is None while it is being made. ``host``: which one comes or goes."""

    uuid: str
    name: str
    id: int | None = None
    hosts: tuple[str, ...] | None = None
    metadata: dict[str, str] | None = None
    host: str = ""

    @classmethod
    def of(cls, found: Aggregate, host: str = "") -> AggregateFacts:
        """The facts of a row."""
        return cls(found.uuid, found.name, found.id, found.hosts, found.metadata, host)


class CacheFacts(msgspec.Struct, frozen=True):
    """One host of an aggregate has (or has not) fetched images; ``index`` of ``total`` hosts."""

    aggregate: Aggregate
    host: str
    cached: tuple[str, ...]
    failed: tuple[str, ...]
    index: int
    total: int


class GroupFacts(msgspec.Struct, frozen=True):
    """A server group; ``added`` are new members."""

    group: Group
    added: tuple[str, ...] = ()


class TaskFacts(msgspec.Struct, frozen=True):
    """Work on a server that no host takes: the server, its state by now, what was asked for."""

    server_id: str
    state: str
    cause: Cause
    request: RequestSpec | None = None


class Metric(msgspec.Struct, frozen=True):
    """One measured value."""

    name: str
    value: float
    timestamp: dt.datetime


class MetricsFacts(msgspec.Struct, frozen=True):
    """What the monitors of a host measured."""

    host: str
    host_ip: str
    node: str
    metrics: tuple[Metric, ...]


class VolumeUsage(msgspec.Struct, frozen=True):
    """Counters of a volume in use; bytes."""

    volume_id: str
    project_id: str | None
    user_id: str | None
    zone: str | None
    server_id: str | None
    refreshed: dt.datetime | None
    reads: int
    read_bytes: int
    writes: int
    write_bytes: int
    host: str = ""


class LibvirtError(msgspec.Struct, frozen=True):
    """No connection to the hypervisor of the host with this address."""

    ip: str
    cause: Cause
    host: str = ""


Facts = (
    ServerFacts
    | FlavorFacts
    | AggregateFacts
    | CacheFacts
    | GroupFacts
    | TaskFacts
    | MetricsFacts
    | VolumeUsage
    | LibvirtError
    | KeyPair
    | Service
    | RequestSpec
    | Cause
)
