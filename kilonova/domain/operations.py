"""What a compute agent can be asked to do: one row per operation, with its types and time limit."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from kilonova.base.registry import Registry
from kilonova.domain.diagnostics import Diagnostics
from kilonova.domain.guest import ConsoleTarget, Disk, GuestSpec, GuestStatus, Nic
from kilonova.domain.moves import Offer

A = TypeVar("A", bound=msgspec.Struct)
R = TypeVar("R")

OPERATIONS: Registry[Operation[Any, Any]] = Registry("operation")


class Operation(Generic[A, R]):
    """A kind of work on a host: its name on the bus, types, and how long it may take (seconds)."""

    def __init__(self, name: str, args: type[A], result: type[R], *, seconds: float) -> None:
        self.name = name
        self.args = args
        self.result = result
        self.seconds = seconds
        OPERATIONS.add(name, self)

    def __repr__(self) -> str:
        return f"Operation({self.name})"


class OperationId(msgspec.Struct, frozen=True):
    """Who asks: the same saga and step is the same work, a higher epoch speaks for it now."""

    saga: str
    step: str
    epoch: int


class OperationRequest(msgspec.Struct, frozen=True):
    """The argument of the agents' bus method ``operate``. ``args`` is msgpack of the row's type."""

    id: OperationId
    name: str
    server_id: str
    args: bytes
    seconds: float


def request_of(
    operation: Operation[A, R], id_: OperationId, server_id: str, args: A
) -> OperationRequest:
    """The request for an operation that may take all of its time."""
    packed = msgspec.msgpack.encode(args)
    return OperationRequest(id_, operation.name, server_id, packed, operation.seconds)


class OperationReply(msgspec.Struct, frozen=True):
    """``state``: done (``result`` is msgpack), failed (``error`` class, ``message``) or running.

    A caller that reads *running* asks again with the same id and is joined to the work.
    """

    state: str
    result: bytes = b""
    error: str = ""
    message: str = ""


class Spawn(msgspec.Struct, frozen=True):
    """Make the guest; ``paused`` leaves it frozen until Resume (ports are not plugged yet)."""

    guest: GuestSpec
    paused: bool = False


class GuestArgs(msgspec.Struct, frozen=True):
    """An operation on a guest that is fully described by its spec."""

    guest: GuestSpec


class Destroy(msgspec.Struct, frozen=True):
    """Remove the guest, its disks and its taps; nothing there is success."""

    guest: GuestSpec
    keep_disks: bool = False
    # Also what is aside of it. Not written when not: journals hold the hash as it was before.
    aside: bool | msgspec.UnsetType = msgspec.UNSET


class PowerOff(msgspec.Struct, frozen=True):
    """Shut down politely for up to ``seconds``, then cut the power (0: at once)."""

    guest: GuestSpec
    seconds: int = 60


class Reboot(msgspec.Struct, frozen=True):
    """``hard`` re-makes the guest from its spec; soft asks the guest, then falls back to hard."""

    guest: GuestSpec
    hard: bool = False


class HostSwitch(msgspec.Struct, frozen=True):
    """What a host shall do: ``reboot``, ``shutdown``, ``startup``, ``maintain`` or ``serve``."""

    action: str


class ConsoleLog(msgspec.Struct, frozen=True):
    """Read the end of the serial console; ``length`` lines, None for all that is kept."""

    server_id: str
    length: int | None = None


class ConsoleText(msgspec.Struct, frozen=True):
    """Console output as text."""

    output: str


class ConsoleAsk(msgspec.Struct, frozen=True):
    """Ask where a console of that kind is served."""

    server_id: str
    kind: str


class DiskArgs(msgspec.Struct, frozen=True):
    """A volume to plug into the guest, to unplug, or one that has another size (``size_mb``).

    ``guest`` is as it shall be afterwards.
    """

    guest: GuestSpec
    disk: Disk


class SwapDisk(msgspec.Struct, frozen=True):
    """Copy a volume's data to another one while the guest runs, and go on with that one."""

    guest: GuestSpec
    old: Disk
    new: Disk


class Rebuild(msgspec.Struct, frozen=True):
    """Make the guest's local disks anew, from the spec as it is now; cards and volumes stay.

    A guest that runs may take ``seconds`` to shut down first. ``paused`` leaves the new one frozen.
    """

    guest: GuestSpec
    seconds: int = 60
    paused: bool = False
    preserve_ephemeral: bool = False


class Rescue(msgspec.Struct, frozen=True):
    """Start the guest as ``guest`` describes it: from its rescue disk, see ``domain.rescue``.

    A guest that runs may take ``seconds`` to shut down first.
    """

    guest: GuestSpec
    seconds: int = 60


class SetPassword(msgspec.Struct, frozen=True):
    """Have the guest's agent give its administrator another password."""

    guest: GuestSpec
    password: str


class SnapshotVolume(msgspec.Struct, frozen=True):
    """New data of a volume that is a file goes to another one beside it, which is there already.

    ``guest`` and ``disk`` are as they shall be afterwards; ``file`` is the other one's name.
    """

    guest: GuestSpec
    disk: Disk
    file: str


class MergeVolume(msgspec.Struct, frozen=True):
    """Files below a volume's own become one.

    With ``into``: the data of ``file`` goes into the one below it, ``into``. Without: all data
    above ``file`` (None: all there is) goes into the volume's own file.
    """

    guest: GuestSpec
    disk: Disk
    file: str | None = None
    into: str | None = None


class NicArgs(msgspec.Struct, frozen=True):
    """A network card that comes to a guest or leaves it; ``guest`` is described without it."""

    guest: GuestSpec
    nic: Nic


class SnapshotArgs(msgspec.Struct, frozen=True):
    """A copy of the guest's root disk, named after the image that shall be made of it."""

    guest: GuestSpec
    image_id: str


class Snapped(msgspec.Struct, frozen=True):
    """A copy that is kept on the host; ``size`` in bytes."""

    disk_format: str
    size: int


class GuestName(msgspec.Struct, frozen=True):
    """A guest that is only asked something."""

    server_id: str


class Depart(msgspec.Struct, frozen=True):
    """Switch the guest off and put it aside for the move of that name, with its disks.

    ``seconds``: patience with its shutdown. ``offer``: another host will fetch the disks.
    """

    guest: GuestSpec
    move: str
    seconds: int = 60
    offer: bool = False


class Departed(msgspec.Struct, frozen=True):
    """The guest is aside; ``offer`` tells where its disks are to be fetched."""

    status: GuestStatus
    offer: Offer | None = None


class Arrive(msgspec.Struct, frozen=True):
    """Make the guest from the disks of one that is aside: here, or where ``offer`` says.

    ``start``: let it run, ``paused`` as yet; else it stays off.
    """

    guest: GuestSpec
    move: str
    offer: Offer | None = None
    start: bool = True
    paused: bool = False


class ComeBack(msgspec.Struct, frozen=True):
    """The guest that is aside takes its place again; what arrived in it is removed."""

    guest: GuestSpec
    move: str
    start: bool = True
    paused: bool = False


class Aside(msgspec.Struct, frozen=True):
    """The guest that was put aside for a move."""

    guest: GuestSpec
    move: str


SPAWN = Operation("spawn", Spawn, GuestStatus, seconds=3600)
RESUME = Operation("resume", GuestArgs, GuestStatus, seconds=120)
DESTROY = Operation("destroy", Destroy, GuestStatus, seconds=600)
POWER_ON = Operation("power_on", GuestArgs, GuestStatus, seconds=600)
POWER_OFF = Operation("power_off", PowerOff, GuestStatus, seconds=4000)
REBOOT = Operation("reboot", Reboot, GuestStatus, seconds=1200)
ATTACH_DISK = Operation("attach_disk", DiskArgs, GuestStatus, seconds=300)
DETACH_DISK = Operation("detach_disk", DiskArgs, GuestStatus, seconds=600)
RESIZE_DISK = Operation("resize_disk", DiskArgs, GuestStatus, seconds=300)
SWAP_DISK = Operation("swap_disk", SwapDisk, GuestStatus, seconds=7200)
SNAPSHOT_VOLUME = Operation("snapshot_volume", SnapshotVolume, GuestStatus, seconds=600)
MERGE_VOLUME = Operation("merge_volume", MergeVolume, GuestStatus, seconds=7200)
SWITCH_HOST = Operation("switch_host", HostSwitch, HostSwitch, seconds=60)
CONSOLE_LOG = Operation("console_log", ConsoleLog, ConsoleText, seconds=30)
CONSOLE = Operation("console", ConsoleAsk, ConsoleTarget, seconds=30)
PAUSE = Operation("pause", GuestArgs, GuestStatus, seconds=120)
SUSPEND = Operation("suspend", GuestArgs, GuestStatus, seconds=1800)
WAKE = Operation("wake", GuestArgs, GuestStatus, seconds=1800)
INJECT_NMI = Operation("inject_nmi", GuestArgs, GuestStatus, seconds=60)
ATTACH_NIC = Operation("attach_nic", NicArgs, GuestStatus, seconds=120)
DETACH_NIC = Operation("detach_nic", NicArgs, GuestStatus, seconds=120)
SNAPSHOT = Operation("snapshot", SnapshotArgs, Snapped, seconds=4 * 3600)
SEND_SNAPSHOT = Operation("send_snapshot", SnapshotArgs, Snapped, seconds=6 * 3600)
DROP_SNAPSHOT = Operation("drop_snapshot", SnapshotArgs, GuestStatus, seconds=300)
QUIESCE = Operation("quiesce", GuestArgs, GuestStatus, seconds=120)
UNQUIESCE = Operation("unquiesce", GuestArgs, GuestStatus, seconds=120)
DIAGNOSTICS = Operation("diagnostics", GuestName, Diagnostics, seconds=30)
DEPART = Operation("depart", Depart, Departed, seconds=4200)
ARRIVE = Operation("arrive", Arrive, GuestStatus, seconds=36_000)
COME_BACK = Operation("come_back", ComeBack, GuestStatus, seconds=600)
END_OFFER = Operation("end_offer", Aside, GuestStatus, seconds=120)
FORGET_ASIDE = Operation("forget_aside", Aside, GuestStatus, seconds=600)
REBUILD = Operation("rebuild", Rebuild, GuestStatus, seconds=7200)
RESCUE = Operation("rescue", Rescue, GuestStatus, seconds=7200)
UNRESCUE = Operation("unrescue", GuestArgs, GuestStatus, seconds=4000)
SET_PASSWORD = Operation("set_password", SetPassword, GuestStatus, seconds=60)
FENCE = Operation("fence", GuestArgs, GuestStatus, seconds=60)
