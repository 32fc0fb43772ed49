"""Moves of servers from host to host: their kinds, their statuses, what must be known of one."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any

import msgspec

from kilonova.domain.guest import Disk, FlavorSpec, Nic, PowerState
from kilonova.domain.resources import Migration
from kilonova.domain.server import Private, Server
from kilonova.domain.states import VmState


class Kind(enum.StrEnum):
    """``migration_type`` of a migration."""

    RESIZE = "resize"
    MIGRATION = "migration"
    LIVE = "live-migration"
    EVACUATION = "evacuation"


class Status(enum.StrEnum):
    """``status`` of a migration; a live one goes by the words of the second half as well."""

    PRE_MIGRATING = "pre-migrating"
    MIGRATING = "migrating"
    POST_MIGRATING = "post-migrating"
    FINISHED = "finished"
    CONFIRMING = "confirming"
    CONFIRMED = "confirmed"
    REVERTING = "reverting"
    REVERTED = "reverted"
    ERROR = "error"
    ACCEPTED = "accepted"
    QUEUED = "queued"
    PREPARING = "preparing"
    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    DONE = "done"


COLD = frozenset({Kind.RESIZE, Kind.MIGRATION})


class Before(msgspec.Struct, frozen=True):
    """What a server was before its move, to make it so again.

    ``disks`` are the local ones; ``order``: the ids of all.
    """

    vm_state: str
    power: PowerState
    flavor: FlavorSpec
    zone: str | None = None
    disks: tuple[Disk, ...] = ()
    order: tuple[str, ...] = ()

    @property
    def ran(self) -> bool:
        """Whether the guest ran when the move began."""
        return self.vm_state != VmState.STOPPED

    def with_volumes(self, volumes: Iterable[Disk]) -> list[Disk]:
        """All disks as they were, with the volumes as they are now; new ones come last."""
        place = {disk_id: number for number, disk_id in enumerate(self.order)}
        return sorted((*self.disks, *volumes), key=lambda disk: place.get(disk.id, len(place)))


class Moving(msgspec.Struct, frozen=True):
    """A move under way. ``uuid`` and ``number`` are the migration's.

    ``flavor``: what the server is to have; ``nics`` and ``volumes`` as they were on the source.
    """

    uuid: str
    number: int
    kind: str
    source: str
    node: str
    flavor: FlavorSpec
    before: Before
    nics: tuple[Nic, ...] = ()
    volumes: tuple[Disk, ...] = ()
    dest: str | None = None

    @property
    def ran(self) -> bool:
        """Whether the guest ran when the move began."""
        return self.before.ran

    @property
    def away(self) -> bool:
        """Whether it goes, or went, to another host."""
        return self.dest != self.source


class Wish(msgspec.Struct, frozen=True):
    """What is wanted of a destination.

    ``host``: that one, checked by the filters; with ``force`` unchecked. ``ignore``: none of these.
    """

    flavor: FlavorSpec
    ignore: tuple[str, ...] = ()
    host: str | None = None
    force: bool = False


class Offer(msgspec.Struct, frozen=True):
    """Where another host fetches a guest's disks: NBD exports with TLS by a key (RFC 4279).

    ``disks``: device name → name of its export.
    """

    host: str
    port: int
    identity: str
    key: str
    disks: dict[str, str] = {}


def moving_of(row: Migration, server: Server, private: Private, before: Before) -> Moving:
    """The move that a migration's row tells of, the server being on its source still."""
    source = server.host or ""
    return Moving(
        uuid=row.uuid,
        number=row.id,
        kind=row.type,
        source=source,
        node=server.node or source,
        flavor=server.flavor,
        before=before,
        nics=private.nics,
        volumes=tuple(disk for disk in private.disks if disk.source == "volume"),
    )


def kept(before: Before) -> dict[str, Any]:
    """As the migration's row keeps it."""
    data: dict[str, Any] = msgspec.to_builtins(before)
    return data


def read(row: Migration) -> Before | None:
    """What is kept in a migration's row; None in one without."""
    return msgspec.convert(row.data, Before) if "flavor" in row.data else None
