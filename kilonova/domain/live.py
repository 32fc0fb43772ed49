"""Moving a running guest to another host: what its two hosts are asked and tell each other."""

from __future__ import annotations

import msgspec

from kilonova.domain.guest import GuestSpec, GuestStatus
from kilonova.domain.operations import GuestName, Operation

DAY = 86_400.0
SENT_AWAY = "sent away"
"""The detail of a guest's status that stands still because another host has all of it."""


class LiveDisk(msgspec.Struct, frozen=True):
    """A disk that lies on the source host alone. Sizes in bytes; ``used`` is what it takes there.

    ``base``: only what was written over the image moves, the image is fetched by the other host.
    """

    size: int
    used: int = 0
    base: bool = False


class LiveShape(msgspec.Struct, frozen=True):
    """What the destination must know of a guest as it runs on its source, to make its like.

    ``store`` names the directory of guests: hosts with the same one share their disks. ``disks``:
    device → disk. ``places``: device → (bus, address) inside the machine; ``cards``: port → device.
    """

    store: str = ""
    disks: dict[str, LiveDisk] = {}
    machine: str = ""
    cpu: str = ""
    places: dict[str, tuple[str, str]] = {}
    cards: dict[str, str] = {}


class LiveTarget(msgspec.Struct, frozen=True):
    """Where a guest waits for its memory; ``disks``: the devices whose data has to come as well.

    ``disk_port`` 0: none of them does. ``whole``: those of which the image's data has to come too.
    ``name`` is the host's, as its certificate has it. ``mark`` tells one try from another.
    """

    address: str = ""
    port: int = 0
    disk_port: int = 0
    disks: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    name: str = ""
    mark: str = ""


class LiveProgress(msgspec.Struct, frozen=True):
    """Counters in bytes of a move that is under way."""

    memory_total: int = 0
    memory_processed: int = 0
    memory_remaining: int = 0
    disk_total: int = 0
    disk_processed: int = 0
    disk_remaining: int = 0

    @property
    def counters(self) -> dict[str, int]:
        """By the names users know."""
        return {
            f"{what}_{part}_bytes": getattr(self, f"{what}_{part}")
            for what in ("memory", "disk")
            for part in ("total", "processed", "remaining")
        }


class LiveCheck(msgspec.Struct, frozen=True):
    """Describe the running guest; ``guest`` is as it is now."""

    guest: GuestSpec


class LiveSuits(msgspec.Struct, frozen=True):
    """Look whether a guest could come here.

    ``block``: whether local disks are copied, None: where they are not shared. ``over_commit``:
    there need be no room for more than the disks take now.
    """

    guest: GuestSpec
    shape: LiveShape
    block: bool | None = None
    over_commit: bool = True


class LivePrepare(msgspec.Struct, frozen=True):
    """Have a guest wait for its memory; ``guest`` is as it will be here, ``block`` as above."""

    guest: GuestSpec
    shape: LiveShape
    block: bool | None = None


class LiveMove(msgspec.Struct, frozen=True):
    """Send disks and memory; afterwards the guest stands still here, and can still go on here."""

    guest: GuestSpec
    target: LiveTarget


class LiveSettle(msgspec.Struct, frozen=True):
    """Let the guest be here alone; ``running`` unless its CPUs are to stand still."""

    guest: GuestSpec
    running: bool = True


LIVE_CHECK = Operation("live_check", LiveCheck, LiveShape, seconds=120)
LIVE_SUITS = Operation("live_suits", LiveSuits, GuestName, seconds=120)
LIVE_PREPARE = Operation("live_prepare", LivePrepare, LiveTarget, seconds=3600)
LIVE_MOVE = Operation("live_move", LiveMove, GuestStatus, seconds=DAY)
LIVE_ARRIVE = Operation("live_arrive", LiveSettle, GuestStatus, seconds=300)
LIVE_STAY = Operation("live_stay", LiveSettle, GuestStatus, seconds=300)
LIVE_FORCE = Operation("live_force", GuestName, GuestName, seconds=60)
LIVE_LOOK = Operation("live_look", GuestName, LiveProgress, seconds=30)
