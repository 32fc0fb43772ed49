"""Moves of servers from host to host: their kinds, their statuses, what must be known of one."""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from kilonova.domain.guest import Disk, FlavorSpec, Nic, PowerState
from kilonova.domain.resources import Migration


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
    """What a server was before its move, to make it so again. Volumes are left out of ``disks``."""

    vm_state: str
    power: PowerState
    flavor: FlavorSpec
    zone: str | None = None
    disks: tuple[Disk, ...] = ()


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
        return self.before.power != PowerState.SHUTDOWN


class Wish(msgspec.Struct, frozen=True):
    """What is wanted of a destination.

    ``host``: that one, checked by the filters; with ``force`` unchecked. ``ignore``: none of these.
    """

    flavor: FlavorSpec
    ignore: tuple[str, ...] = ()
    host: str | None = None
    force: bool = False


def kept(before: Before) -> dict[str, Any]:
    """As the migration's row keeps it."""
    data: dict[str, Any] = msgspec.to_builtins(before)
    return data


def read(row: Migration) -> Before | None:
    """What is kept in a migration's row; None in one without."""
    return msgspec.convert(row.data, Before) if "flavor" in row.data else None
