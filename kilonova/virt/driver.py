"""What a virt driver is: a core of few methods, and small Protocols for further capabilities."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

from kilonova.base.clock import Clock
from kilonova.config.settings import Settings
from kilonova.domain.diagnostics import Diagnostics
from kilonova.domain.guest import (
    ConsoleTarget,
    Disk,
    GuestSpec,
    GuestStatus,
    HostReport,
    ImageRef,
    Nic,
)
from kilonova.domain.live import LiveProgress, LiveShape, LiveTarget
from kilonova.domain.moves import Offer
from kilonova.domain.operations import Snapped

GuestEvent = Callable[[GuestStatus], Awaitable[None]]


class ImageSource(Protocol):
    """Where image bytes come from (the image service, given by the agent)."""

    def download(self, image: ImageRef) -> AsyncIterator[bytes]:
        """The image's data in chunks; raises NotFound, Unavailable."""


class ImageSink(Protocol):
    """Where image bytes go to (the image service, given by the agent)."""

    async def upload(
        self, image_id: str, disk_format: str, data: Callable[[], AsyncIterator[bytes]]
    ) -> None:
        """Fill a queued image; one that has its data already is left as it is.

        ``data`` gives the bytes from their beginning, each time it is called. NotFound when the
        image is gone, Unavailable.
        """


class VifPlugger(Protocol):
    """Makes and removes the host's end of a guest's network card."""

    async def plug(self, nic: Nic) -> None:
        """Make the tap and put it where the port was bound; repeated calls are harmless."""

    async def unplug(self, nic: Nic) -> None:
        """Remove it; nothing there is success."""


Content = Callable[[GuestSpec], Awaitable[dict[str, bytes]]]
"""What goes onto a guest's config drive: path → bytes."""

MetadataServer = Callable[[GuestSpec, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Answers the HTTP requests of one connection a guest made to 169.254.169.254."""


async def no_content(guest: GuestSpec) -> dict[str, bytes]:
    """An empty config drive."""
    return {}


class Host:
    """What a driver is given to work with.

    ``state_dir`` is the driver's own (``instances_path``). ``config_drive`` fills config drives;
    ``metadata`` serves guests that have user-mode networking (None: they get no answer). ``sink``
    takes the images that are made of guests.
    """

    def __init__(
        self,
        *,
        name: str,
        state_dir: Path,
        images: ImageSource,
        vifs: VifPlugger,
        clock: Clock,
        on_event: GuestEvent,
        settings: Settings | None = None,
        config_drive: Content = no_content,
        metadata: MetadataServer | None = None,
        sink: ImageSink | None = None,
    ) -> None:
        self.name = name
        self.state_dir = state_dir
        self.images = images
        self.vifs = vifs
        self.clock = clock
        self.on_event = on_event
        self.settings = settings or Settings()
        self.config_drive = config_drive
        self.metadata = metadata
        self.sink = sink


class VirtDriver(Protocol):
    """The core every driver has. All methods on a guest are idempotent.

    Errors are ``kilonova.base.errors`` Faults whose text may reach the server's owner.
    """

    name: str

    async def start(self) -> list[GuestStatus]:
        """Connect, take up every guest that lived on, and begin to report events."""

    async def stop(self) -> None:
        """Let go of the guests without touching them."""

    async def report(self) -> HostReport:
        """Capacity and abilities of the hypervisor."""

    async def guests(self) -> list[GuestStatus]:
        """Every guest of ours on the host, running or not."""

    async def status(self, server_id: str) -> GuestStatus:
        """One guest; NOSTATE when there is none."""

    async def spawn(self, guest: GuestSpec, *, paused: bool) -> GuestStatus:
        """Make disks and guest and start it. A half-made guest is completed or made anew."""

    async def resume(self, guest: GuestSpec) -> GuestStatus:
        """Let a paused guest run."""

    async def destroy(self, guest: GuestSpec, *, keep_disks: bool) -> None:
        """Remove guest, taps, and disks; nothing there is success."""

    async def power_on(self, guest: GuestSpec) -> GuestStatus:
        """Start a guest that is off; disks are kept, cards are plugged again."""

    async def power_off(self, guest: GuestSpec, *, seconds: int) -> GuestStatus:
        """Ask the guest to shut down, after ``seconds`` cut the power."""

    async def reboot(self, guest: GuestSpec, *, hard: bool) -> GuestStatus:
        """Restart. Soft raises Conflict when the guest does not react (the caller goes hard)."""

    async def console_log(self, server_id: str) -> bytes:
        """What is kept of the serial console, at most the last MiB."""

    async def leftovers(self, known: frozenset[str]) -> list[str]:
        """Everything of ours on the host that belongs to no server of ``known``, one line each."""


@runtime_checkable
class HasConsoles(Protocol):
    """Drivers with graphical or serial consoles one can connect to."""

    async def console(self, server_id: str, kind: str) -> ConsoleTarget:
        """Where that console listens; NotFound when the guest has none, Conflict when it is off."""


@runtime_checkable
class SwitchesHost(Protocol):
    """Drivers that can switch their host off and on, or take it out of use to be worked on."""

    async def switch_host(self, action: str) -> None:
        """``reboot``, ``shutdown``, ``startup``, ``maintain`` or ``serve`` (the end of that)."""


@runtime_checkable
class AttachesDisks(Protocol):
    """Drivers that plug volumes in and out, of guests that run and of guests that are off.

    All are idempotent. ``guest`` is as it shall be afterwards.
    """

    async def attach_disk(self, guest: GuestSpec, disk: Disk) -> GuestStatus:
        """Plug a volume in."""

    async def detach_disk(self, guest: GuestSpec, disk: Disk) -> GuestStatus:
        """Unplug it; Conflict when the guest does not let go of it."""

    async def resize_disk(self, guest: GuestSpec, disk: Disk) -> GuestStatus:
        """Let a guest see the new size of its volume."""

    async def swap_disk(self, guest: GuestSpec, old: Disk, new: Disk) -> GuestStatus:
        """Copy the data to another volume, and let the guest go on with that."""


@runtime_checkable
class SnapshotsVolumes(Protocol):
    """Drivers that help a volume service with snapshots of volumes that are files.

    All are idempotent; NotFound when the volume has no such file below it.
    """

    async def snapshot_volume(self, guest: GuestSpec, disk: Disk, file: str) -> GuestStatus:
        """Let new data go to another file; ``guest`` and ``disk`` have it already."""

    async def merge_volume(
        self, guest: GuestSpec, disk: Disk, file: str | None, into: str | None
    ) -> GuestStatus:
        """Make one of two files; see ``operations.MergeVolume``."""


@runtime_checkable
class RemembersGuests(Protocol):
    """Drivers that know, without being told, which guests ran when the host went down."""

    async def interrupted(self) -> list[GuestSpec]:
        """Guests that are off only because the host was restarted."""


@runtime_checkable
class CachesImages(Protocol):
    """Drivers that keep base images on the host."""

    async def prune_images(self, *, unused_seconds: float) -> list[str]:
        """Remove images no guest uses, unused for that long; the ids of those removed."""

    async def cache_image(self, image: ImageRef) -> bool:
        """Have the base image of ``image`` here; False when it was here already."""


@runtime_checkable
class Pauses(Protocol):
    """Drivers that can stop a guest's CPUs for a while; ``resume`` lets them run again."""

    async def pause(self, guest: GuestSpec) -> GuestStatus:
        """Freeze a running guest; Conflict when it is off."""


@runtime_checkable
class Suspends(Protocol):
    """Drivers that can keep a guest's memory on disk, and let it go on from there later.

    A suspended guest's power is SUSPENDED, also after the host was restarted. Both are idempotent.
    """

    async def suspend(self, guest: GuestSpec) -> GuestStatus:
        """Save a running guest and end it; Conflict when it is off. It goes on if that fails."""

    async def wake(self, guest: GuestSpec) -> GuestStatus:
        """Let it go on; it stays suspended if that fails. Who has no memory is started."""


@runtime_checkable
class InjectsNmi(Protocol):
    """Drivers that can make a guest's kernel dump its memory."""

    async def inject_nmi(self, guest: GuestSpec) -> GuestStatus:
        """Send a non-maskable interrupt; Conflict when the guest is off."""


@runtime_checkable
class TakesSnapshots(Protocol):
    """Drivers that can copy a guest's root disk, of guests that run and of guests that are off.

    The copy is named after the image it is for; all are idempotent, and a new copy takes the place
    of any other of the guest.
    """

    async def snapshot(self, guest: GuestSpec, image_id: str) -> Snapped:
        """Copy the disk as it is now, complete in itself, and keep the copy.

        Guests whose image wants it are quiesced for that moment (``hw_qemu_guest_agent``); when
        that fails, Conflict if ``os_require_quiesce``.
        """

    async def send_snapshot(self, guest: GuestSpec, image_id: str) -> Snapped:
        """Send the copy to the host's ``sink``, then remove it; NotFound when there is none."""

    async def drop_snapshot(self, guest: GuestSpec, image_id: str) -> None:
        """Remove the copy, whole or half; nothing there is success."""


@runtime_checkable
class Quiesces(Protocol):
    """Drivers that can have a guest write everything to its disks and stand still."""

    async def quiesce(self, guest: GuestSpec) -> None:
        """Freeze its file systems for a while; NotSupported when there is nobody to ask there."""

    async def unquiesce(self, guest: GuestSpec) -> None:
        """Let them go on; one that does is success."""


@runtime_checkable
class PlugsNics(Protocol):
    """Drivers whose guests take network cards while they run."""

    async def attach_nic(self, guest: GuestSpec, nic: Nic) -> GuestStatus:
        """Plug the card into the guest; one that is off has it at its next start."""

    async def detach_nic(self, guest: GuestSpec, nic: Nic) -> GuestStatus:
        """Take the card out; not there is success. Conflict when the guest does not let go."""


@runtime_checkable
class MovesGuests(Protocol):
    """Drivers whose guests can be put aside, and made again here or elsewhere from their disks.

    ``move`` names the move: what is aside for another one is not touched. All are idempotent. A
    guest that is aside is told among ``guests``, as switched off, unless another took its place.
    """

    async def depart(
        self, guest: GuestSpec, move: str, *, seconds: int, offer: bool
    ) -> Offer | None:
        """Switch the guest off (see ``power_off``) and put it aside with its disks.

        ``offer``: export them to be read by another host; where.
        """

    async def arrive(
        self, guest: GuestSpec, move: str, offer: Offer | None, *, start: bool, paused: bool
    ) -> GuestStatus:
        """Make the guest from the disks of the one that is aside: here, or as ``offer`` says.

        They grow to the sizes of ``guest``; what is aside stays as it is.
        """

    async def come_back(
        self, guest: GuestSpec, move: str, *, start: bool, paused: bool
    ) -> GuestStatus:
        """Put the guest in its place again; what arrived there is removed."""

    async def end_offer(self, guest: GuestSpec, move: str) -> None:
        """Export its disks no longer."""

    async def forget_aside(self, guest: GuestSpec, move: str) -> None:
        """Remove what is aside (for any move when it is not named); nothing there is success."""


@runtime_checkable
class HasDiagnostics(Protocol):
    """Drivers that count what their guests do."""

    async def diagnostics(self, server_id: str) -> Diagnostics:
        """Counters of a guest; NotFound when there is none."""


@runtime_checkable
class Rebuilds(Protocol):
    """Drivers that make a guest anew where it is."""

    async def rebuild(self, guest: GuestSpec, *, paused: bool) -> GuestStatus:
        """End the guest, make its local disks anew and start it with the cards and volumes of
        ``guest``. A guest that is not there, or was left half-made, is made."""


@runtime_checkable
class Rescues(Protocol):
    """Drivers whose guests can start from another disk for a while, with their own beside it."""

    async def rescue(self, guest: GuestSpec) -> GuestStatus:
        """Make the rescue disk of ``guest`` anew and start from it; the other disks are kept.

        What fails before the guest is started leaves it off, as it was before.
        """

    async def unrescue(self, guest: GuestSpec) -> GuestStatus:
        """Start from the guest's own disks again, and remove the rescue disk."""


@runtime_checkable
class SetsPasswords(Protocol):
    """Drivers that reach an agent inside their guests."""

    async def set_password(self, guest: GuestSpec, user: str, password: str) -> GuestStatus:
        """Give a user of the guest's system another password.

        Conflict when the guest has no agent, is off, or its agent refuses; NotSupported when the
        agent does not answer.
        """


@runtime_checkable
class MovesLive(Protocol):
    """Drivers that move guests to another host while they run. All but the last two idempotent.

    Never both ends run: a guest that was sent stands still on either host until one of them is told
    that it is its own, by ``live_arrive`` or by ``live_stay``.
    """

    async def live_check(self, guest: GuestSpec) -> LiveShape:
        """What the destination must know of a guest here; Conflict when it is off."""

    async def live_suits(
        self, guest: GuestSpec, shape: LiveShape, *, block: bool | None, over_commit: bool
    ) -> None:
        """Conflict when the two hosts do not go together for this guest, or it has no room."""

    async def live_prepare(
        self, guest: GuestSpec, shape: LiveShape, *, block: bool | None
    ) -> LiveTarget:
        """Make the guest's like, which waits."""

    async def live_move(self, guest: GuestSpec, target: LiveTarget) -> GuestStatus:
        """Send disks and memory, then let the guest stand still. A failure leaves it running."""

    async def live_arrive(self, guest: GuestSpec, *, running: bool) -> GuestStatus:
        """The guest that was sent here goes on here; Conflict when nothing came."""

    async def live_stay(self, guest: GuestSpec, *, running: bool) -> GuestStatus:
        """End a move from here, or take it back; the guest goes on here."""

    async def live_force(self, server_id: str) -> None:
        """Let a move end soon, whatever it costs the guest; Conflict when there is none."""

    async def live_progress(self, server_id: str) -> LiveProgress:
        """Counters of a move from here; Conflict when there is none."""
